//! The superblock: 96 bytes at the start of the image that say where everything is.

use super::compress::CompressorId;

/// Its length.
pub(super) const LENGTH: usize = 96;
/// "hsqs" (`SQUASHFS_MAGIC`).
const MAGIC: u32 = 0x7371_7368;
/// "There is no such table" (`SQUASHFS_INVALID_BLK`).
pub(super) const ABSENT: u64 = u64::MAX;

/// The superblock's flags. The kernel reads only [`Flags::COMPRESSOR_OPTIONS`]; the others inform
/// tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags(u16);

impl Flags {
    pub(super) const INODES_STORED: Flags = Flags(1 << 0);
    pub(super) const DATA_STORED: Flags = Flags(1 << 1);
    pub(super) const NO_FRAGMENTS: Flags = Flags(1 << 4);
    pub(super) const EXPORTABLE: Flags = Flags(1 << 7);
    pub(super) const XATTRS_STORED: Flags = Flags(1 << 8);
    pub(super) const COMPRESSOR_OPTIONS: Flags = Flags(1 << 10);
    pub(super) const IDS_STORED: Flags = Flags(1 << 11);

    /// The flags of those facts that hold.
    pub(super) fn of(facts: &[(Flags, bool)]) -> Flags {
        Flags(facts.iter().filter(|(_, holds)| *holds).fold(0, |bits, (flag, _)| bits | flag.0))
    }
}

/// What the superblock says; positions in bytes from the start of the image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Superblock {
    pub(super) inodes: u32,
    pub(super) modification_time: u32,
    pub(super) block_size: u32,
    pub(super) compressor: CompressorId,
    pub(super) flags: Flags,
    pub(super) ids: u16,
    /// Reference to the root's inode.
    pub(super) root: u64,
    /// Without the padding.
    pub(super) length: u64,
    pub(super) id_table: u64,
    pub(super) xattr_table: u64,
    pub(super) inode_table: u64,
    pub(super) directory_table: u64,
    pub(super) export_table: u64,
}

impl Superblock {
    /// The bytes at the start of the image.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH);
        let fragments = 0;
        for field in [MAGIC, self.inodes, self.modification_time, self.block_size, fragments] {
            bytes.extend(field.to_le_bytes());
        }
        let block_log = self.block_size.trailing_zeros() as u16;
        for field in [self.compressor as u16, block_log, self.flags.0, self.ids, 4, 0] {
            bytes.extend(field.to_le_bytes());
        }
        let tables =
            [self.id_table, self.xattr_table, self.inode_table, self.directory_table, ABSENT, self.export_table];
        for field in [self.root, self.length].into_iter().chain(tables) {
            bytes.extend(field.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_superblock_is_laid_out_as_the_kernel_reads_it() {
        let superblock = Superblock {
            inodes: 1,
            modification_time: 2,
            block_size: 131072,
            compressor: CompressorId::Zstd,
            flags: Flags::of(&[(Flags::NO_FRAGMENTS, true), (Flags::IDS_STORED, false), (Flags::EXPORTABLE, true)]),
            ids: 4,
            root: 5,
            length: 6,
            id_table: 7,
            xattr_table: 8,
            inode_table: 9,
            directory_table: 10,
            export_table: 11,
        };
        let bytes = superblock.encode();
        assert_eq!(bytes.len(), LENGTH);
        #[rustfmt::skip]
        let head = [
            b'h', b's', b'q', b's', 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0,
            6, 0, 17, 0, 0x90, 0, 4, 0, 4, 0, 0, 0,
        ];
        assert_eq!(bytes[..32], head);
        let words: Vec<u64> = bytes[32..].chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
        assert_eq!(words, [5, 6, 7, 8, 9, 10, ABSENT, 11]);
    }
}
