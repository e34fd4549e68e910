//! How blocks are compressed: the place where a compressor is plugged in.

use std::fmt;

/// The compressors that the format numbers and that image builders use; each needs its
/// `CONFIG_SQUASHFS_…` in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[non_exhaustive]
pub enum CompressorId {
    /// zlib streams (RFC 1950). `CONFIG_SQUASHFS_ZLIB`, in every kernel that has squashfs in
    /// practice.
    Gzip = 1,
    /// xz streams. `CONFIG_SQUASHFS_XZ`, since 2.6.38.
    Xz = 4,
    /// Bare LZ4 blocks. `CONFIG_SQUASHFS_LZ4`, since 3.19. [`Compress::options`] is mandatory for
    /// it.
    Lz4 = 5,
    /// Zstandard frames. `CONFIG_SQUASHFS_ZSTD`, since 4.14.
    Zstd = 6,
}

/// A block compressor. It has to be a pure function of the block, or images are not reproducible.
///
/// It can be shared between threads, so that blocks may be compressed in parallel.
pub trait Compress: fmt::Debug + Send + Sync {
    /// What the kernel decompresses with.
    fn id(&self) -> CompressorId;

    /// The compressor's own record behind the superblock (the level of gzip or zstd, the mandatory
    /// version of lz4), encoded as the format defines for [`Compress::id`]; at most 8192 bytes.
    fn options(&self) -> Option<Vec<u8>> {
        None
    }

    /// The compressed block, or nothing if it is better stored as it is. A result that is not
    /// smaller than `block` is not used.
    ///
    /// `block` is content of up to [`super::Options::block_size`] bytes, or metadata of up to 8192.
    fn compress(&self, block: &[u8]) -> Option<Vec<u8>>;
}

/// Compresses nothing.
///
/// The image names gzip, as it has to name a compressor that the kernel knows, and marks every
/// block as uncompressed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stored;

impl Compress for Stored {
    fn id(&self) -> CompressorId {
        CompressorId::Gzip
    }

    fn compress(&self, _block: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// A block as it goes to the output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packed<'a> {
    /// Unchanged.
    Stored(&'a [u8]),
    /// Compressed, and shorter than it was.
    Compressed(Vec<u8>),
}

impl<'a> Packed<'a> {
    /// Compresses a block if that makes it shorter.
    pub(super) fn new(compressor: &dyn Compress, block: &'a [u8]) -> Packed<'a> {
        match compressor.compress(block) {
            // The format reads a length of 0 as a hole.
            Some(bytes) if !bytes.is_empty() && bytes.len() < block.len() => Packed::Compressed(bytes),
            _ => Packed::Stored(block),
        }
    }

    /// What goes to the output.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Packed::Stored(bytes) => bytes,
            Packed::Compressed(bytes) => bytes,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Shortens a block to a constant number of bytes; nothing can be decompressed, but positions
    /// can be checked.
    #[derive(Debug)]
    pub(in crate::squashfs) struct To(pub usize);

    impl Compress for To {
        fn id(&self) -> CompressorId {
            CompressorId::Zstd
        }

        fn options(&self) -> Option<Vec<u8>> {
            Some(vec![3, 0, 0, 0])
        }

        fn compress(&self, _block: &[u8]) -> Option<Vec<u8>> {
            Some(vec![0xcc; self.0])
        }
    }

    #[test]
    fn a_block_that_does_not_shrink_is_stored() {
        assert_eq!(Packed::new(&To(3), b"abcd"), Packed::Compressed(vec![0xcc; 3]));
        assert_eq!(Packed::new(&To(4), b"abcd"), Packed::Stored(b"abcd"));
        assert_eq!(Packed::new(&To(0), b"abcd"), Packed::Stored(b"abcd"));
        assert_eq!(Packed::new(&Stored, b"abcd"), Packed::Stored(b"abcd"));
    }
}
