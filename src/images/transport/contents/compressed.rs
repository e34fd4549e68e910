//! Content that may be compressed.

use std::io::{self, BufReader, Read};

/// How content is compressed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// How many bytes tell.
pub(crate) const MAGIC_LENGTH: usize = 6;

impl Compression {
    /// By the first bytes, [`MAGIC_LENGTH`] or all that there are.
    ///
    /// # Errors
    /// The name of a compression that is not read here.
    pub(crate) fn of(first: &[u8]) -> Result<Compression, &'static str> {
        match first {
            [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
            // A skippable frame, with which zstd:chunked may begin.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err("xz"),
            [b'B', b'Z', b'h', ..] => Err("bzip2"),
            _ => Ok(Compression::None),
        }
    }

    /// Looks at the first bytes of a reader, and gives a reader of what was compressed.
    pub(crate) fn undo<'a>(
        mut content: Box<dyn Read + Send + 'a>,
    ) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
        let mut first = Vec::new();
        content.by_ref().take(MAGIC_LENGTH as u64).read_to_end(&mut first)?;
        let unsupported = |name| io::Error::new(io::ErrorKind::Unsupported, format!("compressed with {name}"));
        let compression = Compression::of(&first).map_err(unsupported)?;
        let content = Box::new(io::Cursor::new(first).chain(content));
        Ok((compression, compression.decoder(content)?))
    }

    /// A reader of what was compressed.
    pub(crate) fn decoder<'a>(self, content: Box<dyn Read + Send + 'a>) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Compression::None => content,
            // Several members are one content, as pigz and estargz write it.
            Compression::Gzip => {
                Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(1 << 16, content)))
            }
            Compression::Zstd => Box::new(zstd::Decoder::new(content)?),
        })
    }
}
