//! Metadata: a byte stream cut into blocks of 8 KiB, each behind a header of two bytes.

use super::compress::{Compress, Packed};
use super::error::Fault;

/// `SQUASHFS_METADATA_SIZE`.
pub(super) const BLOCK: usize = 8192;
/// Set in a block's header when it is not compressed (`SQUASHFS_COMPRESSED_BIT`).
const STORED: u16 = 1 << 15;

/// A place in a metadata stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    /// Where the block begins, in bytes from the start of its table in the image.
    pub(super) block: u32,
    /// Bytes into the uncompressed block, below [`BLOCK`].
    pub(super) offset: u16,
}

impl Position {
    /// The form used in 64-bit references.
    pub(super) fn reference(self) -> u64 {
        u64::from(self.block) << 16 | u64::from(self.offset)
    }
}

/// Encodes one metadata stream in memory.
pub(super) struct MetadataWriter<'a> {
    compressor: &'a dyn Compress,
    open: Vec<u8>,
    done: Metadata,
}

/// A finished stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    /// The blocks with their headers.
    pub(super) bytes: Vec<u8>,
    starts: Vec<u32>,
    /// How many of the blocks are compressed.
    pub(super) compressed: usize,
}

impl Metadata {
    /// The positions of the blocks in an image that has the stream at `at`: the second level of a
    /// look-up table.
    pub(super) fn index(&self, at: u64) -> Vec<u8> {
        self.starts.iter().flat_map(|start| (at + u64::from(*start)).to_le_bytes()).collect()
    }
}

impl<'a> MetadataWriter<'a> {
    pub(super) fn new(compressor: &'a dyn Compress) -> MetadataWriter<'a> {
        MetadataWriter { compressor, open: Vec::with_capacity(BLOCK), done: Metadata::default() }
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> Position {
        // `close` keeps both within their types: a full block is never left open, the stream never
        // passes 4 GiB.
        Position { block: self.done.bytes.len() as u32, offset: self.open.len() as u16 }
    }

    /// Appends bytes; they may cross blocks.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.open.len()));
            self.open.extend_from_slice(now);
            bytes = later;
            if self.open.len() == BLOCK {
                self.close()?;
            }
        }
        Ok(())
    }

    /// Ends the stream.
    pub(super) fn finish(mut self) -> Result<Metadata, Fault> {
        if !self.open.is_empty() {
            self.close()?;
        }
        Ok(self.done)
    }

    fn close(&mut self) -> Result<(), Fault> {
        let packed = Packed::new(self.compressor, &self.open);
        let length = packed.bytes().len() as u16;
        let header = match packed {
            Packed::Stored(_) => length | STORED,
            Packed::Compressed(_) => length,
        };
        self.done.starts.push(self.done.bytes.len() as u32);
        self.done.compressed += usize::from(matches!(packed, Packed::Compressed(_)));
        self.done.bytes.extend(header.to_le_bytes());
        self.done.bytes.extend(packed.bytes());
        self.open.clear();
        u32::try_from(self.done.bytes.len()).map(|_| ()).map_err(|_| Fault::TableTooLarge)
    }
}

/// A block that is never compressed, with its header; for the compressor's options.
pub(super) fn stored_block(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16 | STORED).to_le_bytes(), bytes].concat()
}

/// A whole stream at once.
pub(super) fn pack(compressor: &dyn Compress, bytes: &[u8]) -> Result<Metadata, Fault> {
    let mut writer = MetadataWriter::new(compressor);
    writer.write(bytes)?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::squashfs::compress::Stored;
    use crate::squashfs::compress::tests::To;

    #[test]
    fn positions_pass_to_the_next_block_as_soon_as_one_is_full() {
        for (length, stored, compressed) in [
            (0, (0, 0), (0, 0)),
            (8191, (0, 8191), (0, 8191)),
            (8192, (8194, 0), (102, 0)),
            (16385, (16388, 1), (204, 1)),
        ] {
            for (compressor, (block, offset)) in [(&Stored as &dyn Compress, stored), (&To(100), compressed)] {
                let mut writer = MetadataWriter::new(compressor);
                writer.write(&vec![1; length]).unwrap();
                assert_eq!(writer.position(), Position { block, offset }, "{length}");
            }
        }
    }

    #[test]
    fn stored_and_compressed_blocks_differ_in_the_header() {
        let stored = pack(&Stored, b"abc").unwrap();
        assert_eq!(stored.bytes, b"\x03\x80abc");
        assert_eq!(stored.compressed, 0);
        let compressed = pack(&To(2), b"abc").unwrap();
        assert_eq!(compressed.bytes, b"\x02\0\xcc\xcc");
        assert_eq!(compressed.compressed, 1);
    }

    #[test]
    fn the_index_has_the_position_of_each_block() {
        let metadata = pack(&Stored, &[0; 8193]).unwrap();
        assert_eq!(metadata.bytes.len(), 2 + 8192 + 2 + 1);
        assert_eq!(metadata.bytes[..2], [0x00, 0xa0]);
        assert_eq!(
            metadata.index(1 << 40),
            [(1_u64 << 40).to_le_bytes(), ((1_u64 << 40) + 8194).to_le_bytes()].concat()
        );
        assert_eq!(pack(&Stored, b"").unwrap(), Metadata::default());
    }
}
