//! A compressor for images, of which the library has none.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use squall::squashfs::{Compress, CompressorId};

/// zlib, at level 6.
#[derive(Debug)]
pub struct Zlib;

impl Compress for Zlib {
    fn id(&self) -> CompressorId {
        CompressorId::Gzip
    }

    /// Level 6, window of 15 bits, default strategy.
    fn options(&self) -> Option<Vec<u8>> {
        Some(vec![6, 0, 0, 0, 15, 0, 1, 0])
    }

    fn compress(&self, block: &[u8]) -> Option<Vec<u8>> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(6));
        encoder.write_all(block).ok()?;
        encoder.finish().ok()
    }
}
