//! How a layer is converted: compression, block size, threads, limits.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::thread;

use squall::squashfs::{Compress, Stored};

use super::compress::{Gzip, Lz4, Xz, Zstd};
use crate::error::{Error, Result, Step};

/// The writer's name and version. The version changes whenever the same layer gives other bytes: by
/// a change of this package, of the core's writer or of a compression library.
const WRITER: &str = "squall-squashfs/1";
const ZSTD_LEVELS: RangeInclusive<u8> = 1..=22;
const GZIP_LEVELS: RangeInclusive<u8> = 1..=9;

/// What the blocks of a layer are compressed with.
///
/// Written `zstd[:N]`, `gzip[:N]`, `lz4`, `xz` or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Zstandard, levels 1 to 22. Level 3 is the default: as small as gzip's level 9 in a twentieth
    /// of the time.
    Zstd(u8),
    /// zlib, levels 1 to 9: for kernels without zstd (before 4.14).
    Gzip(u8),
    /// LZ4: fastest, a third larger than zstd.
    Lz4,
    /// LZMA2: smallest, slow to write and to read.
    Xz,
    /// Blocks as they are.
    None,
}

impl Compression {
    /// Fails for a level that the compressor does not have.
    fn check(self) -> Result<(), String> {
        let levels = |name: &str, level: u8, levels: RangeInclusive<u8>| {
            let (least, most) = (levels.start(), levels.end());
            let message = format!("{name} has levels {least} to {most}, not {level}");
            levels.contains(&level).then_some(()).ok_or(message)
        };
        match self {
            Compression::Zstd(level) => levels("zstd", level, ZSTD_LEVELS),
            Compression::Gzip(level) => levels("gzip", level, GZIP_LEVELS),
            Compression::Lz4 | Compression::Xz | Compression::None => Ok(()),
        }
    }

    fn compressor(self, block_size: u32) -> Box<dyn Compress> {
        match self {
            Compression::Zstd(level) => Box::new(Zstd::new(level)),
            Compression::Gzip(level) => Box::new(Gzip::new(level)),
            Compression::Lz4 => Box::new(Lz4),
            Compression::Xz => Box::new(Xz::new(block_size)),
            Compression::None => Box::new(Stored),
        }
    }
}

impl Default for Compression {
    fn default() -> Compression {
        Compression::Zstd(3)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::Zstd(level) => write!(f, "zstd:{level}"),
            Compression::Gzip(level) => write!(f, "gzip:{level}"),
            Compression::Lz4 => f.write_str("lz4"),
            Compression::Xz => f.write_str("xz"),
            Compression::None => f.write_str("none"),
        }
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Compression, String> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let number = |default: u8| match level {
            None => Ok(default),
            Some(digits) => digits.parse().map_err(|_| format!("{digits:?} is not a compression level")),
        };
        let compression = match (name, level) {
            ("zstd", _) => Compression::Zstd(number(3)?),
            ("gzip", _) => Compression::Gzip(number(6)?),
            ("lz4", None) => Compression::Lz4,
            ("xz", None) => Compression::Xz,
            ("none", None) => Compression::None,
            ("lz4" | "xz" | "none", Some(_)) => return Err(format!("{name} has no levels")),
            _ => return Err(format!("{text:?} is not one of zstd[:N], gzip[:N], lz4, xz and none")),
        };
        compression.check().map(|()| compression)
    }
}

/// What a layer may bring at most. A layer is a stranger's: each number bounds memory, disk or
/// time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries, with directories that are only implied by paths, and replaced entries. 4194304 by
    /// default: a file system of 1 TiB has that many. An entry takes about 300 bytes of memory.
    pub entries: u64,
    /// Bytes of the uncompressed tar, and of the files in it (holes of sparse files too). 256 GiB by
    /// default: ten times the largest images in use. A bomb of zeros takes time, but no disk.
    pub expanded: u64,
    /// Bytes of one extension header: a long name, PAX records, a map of a sparse file. 1 MiB by
    /// default, as Go's tar reader has it, which decides what is in registries.
    pub header: u64,
    /// Bytes of all names, targets and extended attributes together, which stay in memory until the
    /// end. 512 MiB by default.
    pub metadata: u64,
    /// Components of a path. 512 by default; real trees end below 100.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { entries: 1 << 22, expanded: 256 << 30, header: 1 << 20, metadata: 512 << 20, depth: 512 }
    }
}

/// How a layer is converted.
///
/// Compression and block size decide the bytes of the result; threads and limits do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvertOptions {
    /// What blocks are compressed with.
    pub compression: Compression,
    /// Bytes of content per block: a power of two from 4096 to 1048576; 131072 by default.
    pub block_size: u32,
    /// Threads that compress; by default as many as the machine has processors for this process.
    pub threads: NonZeroUsize,
    /// What is refused as too large.
    pub limits: Limits,
}

impl Default for ConvertOptions {
    fn default() -> ConvertOptions {
        ConvertOptions {
            compression: Compression::default(),
            block_size: 1 << 17,
            threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            limits: Limits::default(),
        }
    }
}

impl ConvertOptions {
    /// The writer, its version and the options that decide the bytes of the result:
    /// `squall-squashfs/1 zstd:3 block=131072`. The same layer with the same writer gives the same
    /// bytes, on any 64-bit machine.
    #[must_use]
    pub fn writer(&self) -> String {
        format!("{WRITER} {} block={}", self.compression, self.block_size)
    }

    /// The options for the core's writer.
    pub(super) fn for_writer(&self) -> Result<squall::squashfs::Options> {
        self.compression.check().map_err(|reason| Error::invalid(Step::Request, "compression", reason))?;
        Ok(squall::squashfs::Options {
            block_size: self.block_size,
            compression: self.compression.compressor(self.block_size),
            threads: self.threads,
            ..squall::squashfs::Options::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compression_is_written_as_it_is_read() {
        for (text, compression) in [
            ("zstd:3", Compression::Zstd(3)),
            ("zstd:22", Compression::Zstd(22)),
            ("gzip:9", Compression::Gzip(9)),
            ("lz4", Compression::Lz4),
            ("xz", Compression::Xz),
            ("none", Compression::None),
        ] {
            assert_eq!(text.parse::<Compression>().unwrap(), compression);
            assert_eq!(compression.to_string(), text);
        }
        assert_eq!("zstd".parse(), Ok(Compression::Zstd(3)));
        assert_eq!("gzip".parse(), Ok(Compression::Gzip(6)));
    }

    #[test]
    fn other_texts_are_refused_with_what_would_be_right() {
        for (text, message) in [
            ("", "\"\" is not one of zstd[:N], gzip[:N], lz4, xz and none"),
            ("bzip2", "\"bzip2\" is not one of zstd[:N], gzip[:N], lz4, xz and none"),
            ("zstd:", "\"\" is not a compression level"),
            ("zstd:300", "\"300\" is not a compression level"),
            ("zstd:0", "zstd has levels 1 to 22, not 0"),
            ("gzip:10", "gzip has levels 1 to 9, not 10"),
            ("lz4:1", "lz4 has no levels"),
        ] {
            assert_eq!(text.parse::<Compression>().unwrap_err(), message);
        }
    }

    #[test]
    fn the_writer_names_what_decides_the_bytes() {
        assert_eq!(ConvertOptions::default().writer(), "squall-squashfs/1 zstd:3 block=131072");
        let one = ConvertOptions { threads: NonZeroUsize::MIN, ..ConvertOptions::default() };
        assert_eq!(one.writer(), ConvertOptions::default().writer());
    }
}
