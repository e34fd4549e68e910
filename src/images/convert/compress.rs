//! The compressors behind [`super::Compression`], each a pure function of the block.
//!
//! The core links none of them. Contexts are kept and used again, as making one costs more than
//! compressing a small block: there are never more of them than threads.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use flate2::{Compress as Deflate, Compression as Level, FlushCompress, Status};
use liblzma::stream::{Action, Check, Filters, LzmaOptions, Stream};
use squall::squashfs::{Compress, CompressorId};

/// Contexts that no thread uses at the moment.
struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    fn new() -> Pool<T> {
        Pool(Mutex::new(Vec::new()))
    }

    /// Works with a context of the pool, or with a new one. A context whose work failed is not kept.
    fn with<R>(&self, make: impl FnOnce() -> Option<T>, work: impl FnOnce(&mut T) -> Option<R>) -> Option<R> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut context = kept.or_else(make)?;
        let result = work(&mut context)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(context);
        Some(result)
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

/// Zstandard frames.
#[derive(Debug)]
pub(super) struct Zstd {
    level: u8,
    contexts: Pool<zstd::bulk::Compressor<'static>>,
}

impl Zstd {
    pub(super) fn new(level: u8) -> Zstd {
        Zstd { level, contexts: Pool::new() }
    }
}

impl Compress for Zstd {
    fn id(&self) -> CompressorId {
        CompressorId::Zstd
    }

    /// The level, for tools; the kernel does not need it.
    fn options(&self) -> Option<Vec<u8>> {
        Some(u32::from(self.level).to_le_bytes().to_vec())
    }

    fn compress(&self, block: &[u8]) -> Option<Vec<u8>> {
        let make = || zstd::bulk::Compressor::new(i32::from(self.level)).ok();
        // Without room for as much as the block has, the compressor gives up early.
        let mut packed = Vec::with_capacity(block.len());
        let length = self.contexts.with(make, |context| match context.compress_to_buffer(block, &mut packed) {
            Ok(length) => Some(Some(length)),
            Err(_) => Some(None),
        })??;
        packed.truncate(length);
        Some(packed)
    }
}

/// zlib streams, which squashfs calls gzip.
#[derive(Debug)]
pub(super) struct Gzip {
    level: u8,
    contexts: Pool<Deflate>,
}

impl Gzip {
    pub(super) fn new(level: u8) -> Gzip {
        Gzip { level, contexts: Pool::new() }
    }
}

impl Compress for Gzip {
    fn id(&self) -> CompressorId {
        CompressorId::Gzip
    }

    /// The level, a window of 15 bits, the default strategy.
    fn options(&self) -> Option<Vec<u8>> {
        Some(vec![self.level, 0, 0, 0, 15, 0, 1, 0])
    }

    fn compress(&self, block: &[u8]) -> Option<Vec<u8>> {
        let make = || Some(Deflate::new(Level::new(u32::from(self.level)), true));
        self.contexts.with(make, |context| {
            context.reset();
            let mut packed = Vec::with_capacity(block.len());
            match context.compress_vec(block, &mut packed, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => Some(Some(packed)),
                // It does not fit into the length of the block.
                Ok(_) => Some(None),
                Err(_) => None,
            }
        })?
    }
}

/// Bare LZ4 blocks. The compressor has a path for processors of 32 bits that gives other bytes.
#[derive(Debug)]
pub(super) struct Lz4;

impl Compress for Lz4 {
    fn id(&self) -> CompressorId {
        CompressorId::Lz4
    }

    /// Version 1 of the block format, no flags. The kernel refuses images without this record.
    fn options(&self) -> Option<Vec<u8>> {
        Some(vec![1, 0, 0, 0, 0, 0, 0, 0])
    }

    fn compress(&self, block: &[u8]) -> Option<Vec<u8>> {
        Some(lz4_flex::block::compress(block))
    }
}

/// xz streams.
#[derive(Debug)]
pub(super) struct Xz {
    block_size: u32,
}

impl Xz {
    pub(super) fn new(block_size: u32) -> Xz {
        Xz { block_size }
    }

    /// An encoder whose dictionary is as large as a block: without a record of options the kernel
    /// takes no larger one. It checks CRC32 and knows no other check.
    fn encoder(&self) -> Option<Stream> {
        let mut options = LzmaOptions::new_preset(6).ok()?;
        options.dict_size(self.block_size.max(8192));
        Stream::new_stream_encoder(Filters::new().lzma2(&options), Check::Crc32).ok()
    }
}

impl Compress for Xz {
    fn id(&self) -> CompressorId {
        CompressorId::Xz
    }

    fn compress(&self, block: &[u8]) -> Option<Vec<u8>> {
        let mut packed = Vec::with_capacity(block.len());
        match self.encoder()?.process_vec(block, &mut packed, Action::Finish) {
            Ok(liblzma::stream::Status::StreamEnd) => Some(packed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn all() -> Vec<Box<dyn Compress>> {
        vec![Box::new(Zstd::new(3)), Box::new(Gzip::new(6)), Box::new(Lz4), Box::new(Xz::new(131_072))]
    }

    fn expand(id: CompressorId, packed: &[u8], length: usize) -> Vec<u8> {
        let mut block = Vec::new();
        match id {
            CompressorId::Zstd => block = zstd::bulk::decompress(packed, length).unwrap(),
            CompressorId::Gzip => {
                flate2::read::ZlibDecoder::new(packed).read_to_end(&mut block).unwrap();
            }
            CompressorId::Lz4 => block = lz4_flex::block::decompress(packed, length).unwrap(),
            _ => {
                liblzma::read::XzDecoder::new(packed).read_to_end(&mut block).unwrap();
            }
        }
        block
    }

    fn text(length: usize) -> Vec<u8> {
        (0..).flat_map(|line: u32| format!("line {line}\n").into_bytes()).take(length).collect()
    }

    #[test]
    fn blocks_come_back_and_contexts_leave_no_trace() {
        for compressor in all() {
            let mut first = Vec::new();
            for round in 0..3 {
                for length in [1000, 8192, 131_072] {
                    let packed = compressor.compress(&text(length)).expect("text shrinks");
                    assert!(packed.len() < length, "{compressor:?}");
                    assert_eq!(expand(compressor.id(), &packed, length), text(length), "{compressor:?}");
                    if round == 0 {
                        first.push(packed);
                    } else {
                        assert!(first.contains(&packed), "{compressor:?}: other bytes the second time");
                    }
                }
            }
        }
    }

    #[test]
    fn a_block_that_does_not_shrink_is_given_up_or_comes_out_longer() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(4096)
        .collect();
        for compressor in all() {
            let packed = compressor.compress(&noise);
            assert!(packed.is_none_or(|packed| packed.len() >= noise.len()), "{compressor:?}");
            // The context is sound after that.
            assert!(compressor.compress(&text(5000)).is_some_and(|packed| packed.len() < 5000), "{compressor:?}");
        }
    }
}
