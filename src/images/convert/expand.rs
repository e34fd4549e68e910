//! From a blob to the tar in it: digests of both, and a limit to what the blob may expand to.

use std::fmt;
use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use squall::squashfs::SquashfsError;

use crate::digest::{Digest, Hashing};
use crate::error::{Cause, Error, Result, Step};

/// What errors are about: which layer it is, the caller knows.
pub(super) const LAYER: &str = "layer";
/// The longest magic number, that of xz.
const MAGIC: usize = 6;
/// Read from the blob at a time.
const PIECE: usize = 1 << 16;
/// zstd's own default for a decoder: frames of `zstd --ultra` and less ask for no more. 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;

/// What was read.
#[derive(Debug)]
pub(super) struct Digests {
    pub(super) diff_id: Digest,
    pub(super) expanded_size: u64,
    pub(super) blob_digest: Digest,
    pub(super) blob_size: u64,
}

/// Reads the tar in a blob.
pub(super) struct Expander<R: Read>(Bounded<Decoder<R>>);

/// The blob, its first bytes, which were looked at, read again.
type Blob<R> = BufReader<Chain<Cursor<Vec<u8>>, Hashing<Source<R>>>>;

/// A plain tar is its blob: one digest does for both.
enum Decoder<R: Read> {
    Plain(Blob<R>),
    Gzip(Box<Hashing<MultiGzDecoder<Blob<R>>>>),
    Zstd(Box<Hashing<zstd::Decoder<'static, Blob<R>>>>),
}

impl<R: Read> Expander<R> {
    /// Finds out what the blob is compressed with, by its first bytes, as docker does.
    pub(super) fn new(blob: R, limit: u64) -> Result<Expander<R>> {
        let mut blob = Hashing::new(Source(blob));
        let mut start = Vec::new();
        blob.by_ref().take(MAGIC as u64).read_to_end(&mut start).map_err(failed)?;
        let magic = start.clone();
        let blob = BufReader::with_capacity(PIECE, Cursor::new(start).chain(blob));
        let decoder = match magic.as_slice() {
            [0x1f, 0x8b, ..] => Decoder::Gzip(Box::new(Hashing::new(MultiGzDecoder::new(blob)))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Decoder::zstd(blob)?,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => return Err(unsupported("xz")),
            [b'B', b'Z', b'h', ..] => return Err(unsupported("bzip2")),
            _ => Decoder::Plain(blob),
        };
        Ok(Expander(Bounded { inner: decoder, left: limit, limit }))
    }

    /// Reads the rest, so that the digests are those of everything.
    pub(super) fn finish(mut self) -> Result<Digests> {
        io::copy(&mut self.0, &mut io::sink()).map_err(failed)?;
        let (tar, blob) = self.0.inner.finish();
        let (_, mut blob) = blob.into_inner().into_inner();
        // The decoders read to the end; a plain tar is read to it above.
        io::copy(&mut blob, &mut io::sink()).map_err(failed)?;
        let (blob_digest, blob_size, _) = blob.finish();
        let (diff_id, expanded_size) = tar.unwrap_or((blob_digest, blob_size));
        Ok(Digests { diff_id, expanded_size, blob_digest, blob_size })
    }
}

impl<R: Read> Read for Expander<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Decoder<R> {
    fn zstd(blob: Blob<R>) -> Result<Decoder<R>> {
        let decoder = zstd::Decoder::with_buffer(blob).and_then(|mut decoder| {
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Ok(decoder)
        });
        decoder.map(|decoder| Decoder::Zstd(Box::new(Hashing::new(decoder)))).map_err(failed)
    }

    /// Digest and length of the tar where they are not the blob's, and the blob.
    fn finish(self) -> (Option<(Digest, u64)>, Blob<R>) {
        match self {
            Decoder::Plain(blob) => (None, blob),
            Decoder::Gzip(tar) => {
                let (digest, length, decoder) = tar.finish();
                (Some((digest, length)), decoder.into_inner())
            }
            Decoder::Zstd(tar) => {
                let (digest, length, decoder) = tar.finish();
                (Some((digest, length)), decoder.finish())
            }
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (format, result) = match self {
            Decoder::Plain(blob) => return blob.read(buffer),
            Decoder::Gzip(decoder) => ("gzip", decoder.read(buffer)),
            Decoder::Zstd(decoder) => ("zstd", decoder.read(buffer)),
        };
        result.map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<Stop>() => error,
            _ => Stop::Damaged(format, error).into(),
        })
    }
}

/// What ends the reading of a blob, inside an `io::Error`.
#[derive(Debug)]
pub(super) enum Stop {
    /// The caller's reader failed.
    Source(io::Error),
    /// The compressed data is not what it has to be.
    Damaged(&'static str, io::Error),
    /// There is more than this many bytes.
    Limit(u64),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Source(error) => write!(f, "read: {error}"),
            Stop::Damaged(format, error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                write!(f, "the {format} data is cut off")
            }
            Stop::Damaged(format, error) => write!(f, "the {format} data is damaged: {error}"),
            Stop::Limit(limit) => write!(f, "more than {limit} bytes"),
        }
    }
}

impl std::error::Error for Stop {}

impl From<Stop> for io::Error {
    fn from(stop: Stop) -> io::Error {
        let kind = match &stop {
            Stop::Source(error) => error.kind(),
            Stop::Damaged(..) => io::ErrorKind::InvalidData,
            Stop::Limit(_) => io::ErrorKind::FileTooLarge,
        };
        io::Error::new(kind, stop)
    }
}

/// The caller's reader, its errors told from the decoders'.
struct Source<R>(R);

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(|error| Stop::Source(error).into()),
            }
        }
    }
}

struct Bounded<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or(Stop::Limit(self.limit))?;
        Ok(read)
    }
}

/// The error of a failed read, wherever it failed.
pub(super) fn failed(error: io::Error) -> Error {
    let cause = match error.downcast::<Stop>() {
        Ok(Stop::Source(source)) => match source.downcast::<Error>() {
            Ok(own) => return own,
            Err(source) => Cause::System { call: "read", source },
        },
        Ok(Stop::Limit(limit)) => Cause::Limit { what: "bytes of the expanded layer".to_owned(), limit },
        Ok(damaged) => Cause::Invalid(damaged.to_string()),
        Err(source) => Cause::System { call: "read", source },
    };
    Error::new(Step::Convert, LAYER, cause)
}

/// The error of a writer that refused something other than an entry.
pub(super) fn squashfs(error: SquashfsError) -> Error {
    Error::new(Step::Convert, LAYER, error.into())
}

fn unsupported(format: &str) -> Error {
    let reason = format!("a layer compressed with {format}; image formats have gzip and zstd");
    Error::new(Step::Convert, LAYER, Cause::Unsupported(reason))
}
