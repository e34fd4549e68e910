//! The encoding of directory listings.
//!
//! A listing is a sequence of runs. A run has a header (how many entries, the block of the inode
//! table that all its inodes begin in, an inode number) and entries that give what is left: offset
//! in the block, difference to the number, kind, name.

use super::error::Fault;
use super::inode::Kind;
use super::metadata::{BLOCK, MetadataWriter, Position};

/// `SQUASHFS_DIR_COUNT`: the kernel refuses a longer run.
const RUN_ENTRIES: usize = 256;
const HEADER_LENGTH: u64 = 12;
/// What an entry has besides its name.
const ENTRY_LENGTH: u64 = 8;
/// The inode counts the entries of its index in 16 bits. A directory with more blocks is searched
/// without index at its end.
const INDEX_ENTRIES: usize = u16::MAX as usize;

/// One name in a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirectoryEntry<'a> {
    pub(super) name: &'a [u8],
    pub(super) kind: Kind,
    pub(super) number: u32,
    pub(super) inode: Position,
}

/// A written listing: what the directory's inode says of it.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    pub(super) start: Position,
    /// In bytes.
    pub(super) length: u64,
    /// The first run of each metadata block but the first. The kernel starts there instead of
    /// reading from the beginning.
    pub(super) index: Vec<IndexEntry<'a>>,
}

/// A place to start reading from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IndexEntry<'a> {
    /// Of the run's header, in bytes from the start of the listing.
    pub(super) at: u32,
    /// The metadata block of that header, relative to the directory table.
    pub(super) block: u32,
    /// The first name of the run.
    pub(super) name: &'a [u8],
}

/// Writes a listing. The entries have to be in the order of their names' bytes: the kernel stops
/// searching at a greater name.
pub(super) fn write_listing<'a>(
    table: &mut MetadataWriter<'_>,
    entries: &[DirectoryEntry<'a>],
) -> Result<Listing<'a>, Fault> {
    let mut listing = Listing { start: table.position(), length: 0, index: Vec::new() };
    let mut indexed_block = listing.start.block;
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let at = table.position();
        if at.block != indexed_block && listing.index.len() < INDEX_ENTRIES {
            indexed_block = at.block;
            let offset = u32::try_from(listing.length).map_err(|_| Fault::DirectoryTooLarge)?;
            listing.index.push(IndexEntry { at: offset, block: at.block, name: first.name });
        }
        let (run, later) = rest.split_at(run_length(rest, u64::from(at.offset)));
        let bytes = encode_run(run, first);
        listing.length += bytes.len() as u64;
        table.write(&bytes)?;
        rest = later;
    }
    Ok(listing)
}

/// How many of the entries fit into one run whose header begins at `offset` of a metadata block.
///
/// A run also ends where the next block begins, so that there is a header for the index to point
/// to.
fn run_length(entries: &[DirectoryEntry<'_>], offset: u64) -> usize {
    let first = &entries[0];
    let mut end = offset + HEADER_LENGTH + ENTRY_LENGTH + first.name.len() as u64;
    let mut count = 1;
    for entry in entries.iter().take(RUN_ENTRIES).skip(1) {
        let number_fits = i16::try_from(i64::from(entry.number) - i64::from(first.number)).is_ok();
        if end >= BLOCK as u64 || entry.inode.block != first.inode.block || !number_fits {
            break;
        }
        end += ENTRY_LENGTH + entry.name.len() as u64;
        count += 1;
    }
    count
}

fn encode_run(run: &[DirectoryEntry<'_>], first: &DirectoryEntry<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [run.len() as u32 - 1, first.inode.block, first.number] {
        bytes.extend(field.to_le_bytes());
    }
    for entry in run {
        bytes.extend(entry.inode.offset.to_le_bytes());
        bytes.extend((entry.number.wrapping_sub(first.number) as i16).to_le_bytes());
        bytes.extend((entry.kind as u16).to_le_bytes());
        bytes.extend((entry.name.len() as u16 - 1).to_le_bytes());
        bytes.extend(entry.name);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::squashfs::compress::Stored;
    use proptest::prelude::*;

    /// Name, inode number, place, kind.
    type Read = (Vec<u8>, u32, Position, u16);

    /// A listing read back as the kernel reads it: position and entries of each run.
    fn read_runs(listing: &[u8]) -> Vec<(usize, Vec<Read>)> {
        let word = |at: usize| u32::from_le_bytes(listing[at..at + 4].try_into().unwrap());
        let half = |at: usize| u16::from_le_bytes(listing[at..at + 2].try_into().unwrap());
        let (mut at, mut runs) = (0, Vec::new());
        while at < listing.len() {
            let (start, count, block, base) = (at, word(at) + 1, word(at + 4), word(at + 8));
            assert!(count <= 256);
            at += 12;
            let mut entries = Vec::new();
            for _ in 0..count {
                let number = base.wrapping_add_signed(i32::from(half(at + 2) as i16));
                let end = at + 8 + usize::from(half(at + 6)) + 1;
                entries.push((
                    listing[at + 8..end].to_vec(),
                    number,
                    Position { block, offset: half(at) },
                    half(at + 4),
                ));
                at = end;
            }
            runs.push((start, entries));
        }
        runs
    }

    /// The listing's bytes without the blocks' headers.
    fn unpack(blocks: &[u8], start: Position) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut at = start.block as usize;
        while at < blocks.len() {
            let length = usize::from(u16::from_le_bytes([blocks[at], blocks[at + 1]]) & 0x7fff);
            bytes.extend(&blocks[at + 2..at + 2 + length]);
            at += 2 + length;
        }
        bytes.split_off(usize::from(start.offset))
    }

    fn entry(name: &[u8], number: u32, block: u32) -> DirectoryEntry<'_> {
        DirectoryEntry { name, kind: Kind::File, number, inode: Position { block, offset: 7 } }
    }

    #[test]
    fn a_run_is_a_header_and_its_entries() {
        let mut table = MetadataWriter::new(&Stored);
        let listing = write_listing(&mut table, &[entry(b"a", 10, 3), entry(b"bc", 9, 3)]).unwrap();
        let expected = b"\x01\0\0\0\x03\0\0\0\x0a\0\0\0\x07\0\0\0\x02\0\0\0a\x07\0\xff\xff\x02\0\x01\0bc";
        assert_eq!(table.finish().unwrap().bytes[2..], expected[..]);
        assert_eq!(listing.length, expected.len() as u64);
        assert!(listing.index.is_empty());
    }

    #[test]
    fn a_run_ends_where_the_header_no_longer_fits_its_entries() {
        let names: Vec<[u8; 3]> = (0..600_u32).map(|i| [b'a', (i / 256) as u8, i as u8]).collect();
        let run = |change: &dyn Fn(usize) -> (u32, u32)| {
            let entries: Vec<_> =
                names.iter().enumerate().map(|(i, name)| entry(name, change(i).0, change(i).1)).collect();
            run_length(&entries, 0)
        };
        for (why, expected, length) in [
            ("256 entries", 256, run(&|i| (i as u32, 0))),
            ("another block of inodes", 5, run(&|i| (i as u32, u32::from(i > 4)))),
            ("number too high", 9, run(&|i| (if i < 9 { 1 } else { 32769 }, 0))),
            ("number just not too high", 256, run(&|i| (if i < 9 { 1 } else { 32768 }, 0))),
            ("number too low", 9, run(&|i| (if i < 9 { 32770 } else { 1 }, 0))),
            ("number just not too low", 256, run(&|i| (if i < 9 { 32769 } else { 1 }, 0))),
            ("far numbers", 1, run(&|i| (if i == 0 { 0 } else { u32::MAX }, 0))),
        ] {
            assert_eq!(length, expected, "{why}");
        }
    }

    proptest! {
        #[test]
        fn a_listing_reads_back_and_its_index_points_at_first_runs_of_blocks(
            names in prop::collection::btree_set(prop::collection::vec(1_u8..=255, 1..200), 0..700),
            numbers in prop::collection::vec((1_u32..70000, 0_u32..2), 700),
            before in 0_usize..9000,
        ) {
            let entries: Vec<_> =
                names.iter().zip(numbers).map(|(name, (number, block))| entry(name, number, block * 8194)).collect();
            let mut table = MetadataWriter::new(&Stored);
            table.write(&vec![0xee; before]).unwrap();
            let listing = write_listing(&mut table, &entries).unwrap();
            let blocks = table.finish().unwrap().bytes;
            let bytes = unpack(&blocks, listing.start);
            prop_assert_eq!(bytes.len() as u64, listing.length);
            let runs = read_runs(&bytes);
            let read: Vec<_> = runs.iter().flat_map(|(_, entries)| entries.clone()).collect();
            let written: Vec<_> = entries.iter().map(|e| (e.name.to_vec(), e.number, e.inode, e.kind as u16)).collect();
            prop_assert_eq!(read, written);
            let last = listing.start.offset as u64 + listing.length.saturating_sub(1);
            prop_assert!(listing.index.len() as u64 + 1 >= last / BLOCK as u64, "a block has no run of its own");
            for index in &listing.index {
                let run = runs.iter().find(|(at, _)| *at as u32 == index.at).expect("a header there");
                prop_assert_eq!(&run.1[0].0, index.name);
                let block = (u32::from(listing.start.offset) + index.at) / BLOCK as u32;
                prop_assert_eq!(listing.start.block + block * 8194, index.block);
            }
        }
    }
}
