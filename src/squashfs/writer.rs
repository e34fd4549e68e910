//! The writer: content as it comes, everything else at the end.

use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::attributes::{Attributes, Checked, DeviceKind};
use super::compress::{Compress, Packed, Stored};
use super::entry_path::{EntryPath, PATH_LENGTH};
use super::error::{Fault, SquashfsError};
use super::inode::device_number;
use super::metadata::{BLOCK, stored_block};
use super::output::Output;
use super::superblock::{ABSENT, Flags, LENGTH, Superblock};
use super::tables::Tables;
use super::tree::{Content, FileData, Node, Tree};

/// The kernel's limits of the block size: a page (of 4 KiB) and `SQUASHFS_FILE_MAX_SIZE`.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 4096..=1 << 20;
/// In a file's list of blocks: this one is not compressed (`SQUASHFS_COMPRESSED_BIT_BLOCK`).
const BLOCK_STORED: u32 = 1 << 24;
/// Images end at a multiple of this, so that a loop device, which counts in sectors, shows all of
/// the image.
const PADDING: u64 = 4096;
/// Every symlink on Linux shows this mode.
const SYMLINK_MODE: u16 = 0o777;
/// For comparing, a piece at a time.
const ZEROS: [u8; 4096] = [0; 4096];

/// How an image is made. The same options and the same calls give the same image.
#[derive(Debug)]
pub struct Options {
    /// Bytes of content per block: a power of two from 4096 to 1048576. A kernel mounts only images
    /// whose blocks are at least as large as its pages. 131072 by default, as `mksquashfs` has it.
    pub block_size: u32,
    /// The time of the image and of directories that are only implied, in seconds since 1970; 0 by
    /// default.
    pub modification_time: u32,
    /// What blocks are compressed with; [`Stored`] by default.
    pub compression: Box<dyn Compress>,
}

impl Default for Options {
    fn default() -> Options {
        Options { block_size: 1 << 17, modification_time: 0, compression: Box::new(Stored) }
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The length of the image with its padding, in bytes: a multiple of 4096.
    pub bytes: u64,
    /// How many inodes the image has; hard links count once.
    pub inodes: u32,
}

/// Writes one image.
///
/// Entries come in any order. All methods that add one take a path relative to the root; the empty
/// path and `.` are the root itself, components `.` are ignored. They share these rules:
///
/// * Directories on the way that do not exist are made with mode 0755, root:root and
///   [`Options::modification_time`]. So is the root.
/// * A directory at a path that already is one keeps what is in it and gets the later attributes.
///   Every other entry replaces what has its path, a directory with all that is in it too. Other
///   hard links to a replaced file stay.
/// * The content of a replaced file stays in the image as dead bytes: it had been written.
/// * Nothing is looked up through a symlink: an entry below one is refused.
///
/// They fail with [`crate::error::ErrorKind::Invalid`] and change nothing if the path is absolute,
/// has an empty component, `..` or NUL, has a name over 256 bytes or is over 4095 bytes itself,
/// leads through something other than a directory, or if the attributes are not what [`Attributes`]
/// describes. After a failed write of the output ([`Fault::Write`]) every later call fails.
#[derive(Debug)]
pub struct Writer<W> {
    output: Output<W>,
    options: Options,
    tree: Tree,
    /// One block of content while it is read; always of the block size.
    block: Vec<u8>,
    /// Of content.
    compressed_blocks: u64,
}

impl<W: Write + Seek> Writer<W> {
    /// Starts an image at byte 0 of `out`, which should be empty: what lies behind the image's end
    /// is not cut off. Writes are as large as a block, small ones at the end; a buffer in front of
    /// `out` gains nothing.
    ///
    /// Fails with [`crate::error::ErrorKind::Invalid`] for a block size that no kernel mounts, else
    /// as `out` does.
    pub fn new(out: W, options: Options) -> Result<Writer<W>, SquashfsError> {
        Writer::start(out, options).map_err(SquashfsError::image)
    }

    fn start(out: W, options: Options) -> Result<Writer<W>, Fault> {
        if !options.block_size.is_power_of_two() || !BLOCK_SIZES.contains(&options.block_size) {
            return Err(Fault::BlockSize(options.block_size));
        }
        let mut output = Output::new(out)?;
        output.append(&[0; LENGTH])?;
        if let Some(record) = options.compression.options() {
            if record.len() > BLOCK {
                return Err(Fault::CompressorOptions(record.len()));
            }
            output.append(&stored_block(&record))?;
        }
        let tree = Tree::new(options.modification_time);
        let block = vec![0; options.block_size as usize];
        Ok(Writer { output, options, tree, block, compressed_blocks: 0 })
    }

    /// Adds a directory, or gives one that is there (the root too) these attributes.
    pub fn directory(&mut self, path: impl AsRef<Path>, attributes: &Attributes) -> Result<(), SquashfsError> {
        about(path.as_ref(), |path| self.tree.insert_directory(&EntryPath::parse(path)?, attributes.try_into()?))
    }

    /// Adds a regular file with all that `content` yields; gives how many bytes that were. Blocks
    /// of zeros become holes.
    ///
    /// The path and the attributes are checked before anything is read. If `content` fails
    /// ([`Fault::Read`]), the entry is not added; the blocks already written stay as dead bytes and
    /// the writer can go on.
    pub fn file(
        &mut self,
        path: impl AsRef<Path>,
        attributes: &Attributes,
        content: impl Read,
    ) -> Result<u64, SquashfsError> {
        about(path.as_ref(), |path| {
            let place = EntryPath::parse(path)?;
            let attributes = Checked::try_from(attributes)?;
            self.tree.check_place(&place)?;
            let data = self.store(content)?;
            let size = data.size;
            self.tree.insert(&place, Node { attributes, content: Content::File(data) })?;
            Ok(size)
        })
    }

    /// Adds a symlink. Its mode is always 0777. The target is any text from 1 to 4095 bytes without
    /// NUL.
    pub fn symlink(
        &mut self,
        path: impl AsRef<Path>,
        attributes: &Attributes,
        target: impl AsRef<Path>,
    ) -> Result<(), SquashfsError> {
        about(path.as_ref(), |path| {
            let target = check_target(target.as_ref().as_os_str().as_bytes())?;
            let mut attributes = Checked::try_from(&Attributes { mode: 0, ..attributes.clone() })?;
            attributes.mode = SYMLINK_MODE;
            self.tree.insert(&EntryPath::parse(path)?, Node { attributes, content: Content::Symlink(target.into()) })
        })
    }

    /// Adds a device node; `major` up to 4095, `minor` up to 1048575. Character device 0:0 is a
    /// whiteout of overlayfs.
    pub fn device(
        &mut self,
        path: impl AsRef<Path>,
        attributes: &Attributes,
        kind: DeviceKind,
        major: u32,
        minor: u32,
    ) -> Result<(), SquashfsError> {
        about(path.as_ref(), |path| {
            let content = Content::Device { kind, number: device_number(major, minor)? };
            self.tree.insert(&EntryPath::parse(path)?, Node { attributes: attributes.try_into()?, content })
        })
    }

    /// Adds a fifo.
    pub fn fifo(&mut self, path: impl AsRef<Path>, attributes: &Attributes) -> Result<(), SquashfsError> {
        about(path.as_ref(), |path| {
            let node = Node { attributes: attributes.try_into()?, content: Content::Fifo };
            self.tree.insert(&EntryPath::parse(path)?, node)
        })
    }

    /// Adds a socket.
    pub fn socket(&mut self, path: impl AsRef<Path>, attributes: &Attributes) -> Result<(), SquashfsError> {
        about(path.as_ref(), |path| {
            let node = Node { attributes: attributes.try_into()?, content: Content::Socket };
            self.tree.insert(&EntryPath::parse(path)?, node)
        })
    }

    /// Gives the entry at `existing`, of any kind but a directory, another name. It has to be there
    /// already; if `existing` is replaced later, this name keeps the entry as it is now.
    pub fn hard_link(&mut self, path: impl AsRef<Path>, existing: impl AsRef<Path>) -> Result<(), SquashfsError> {
        about(path.as_ref(), |path| {
            let shown = existing.as_ref();
            let existing =
                EntryPath::parse(shown).map_err(|fault| Fault::LinkTargetPath(shown.to_owned(), Box::new(fault)))?;
            self.tree.link(&EntryPath::parse(path)?, &existing, shown)
        })
    }

    /// Writes the tables and the superblock, flushes, and hands the output back. Nothing is synced
    /// to a disk.
    ///
    /// Fails with [`crate::error::ErrorKind::Exhausted`] for more than 65535 different user and
    /// group ids, more than 2^32 - 1 inodes or a table over 4 GiB, else as the output does. Without
    /// this call there is no image: it starts with zeros.
    pub fn finish(self) -> Result<(W, Summary), SquashfsError> {
        self.complete().map_err(SquashfsError::image)
    }

    fn complete(mut self) -> Result<(W, Summary), Fault> {
        let tables = Tables::encode(&self.tree, self.options.compression.as_ref())?;
        let superblock = self.append_tables(&tables)?;
        self.output.pad(PADDING)?;
        let summary = Summary { bytes: self.output.position(), inodes: tables.inode_count };
        let out = self.output.finish(&superblock.encode())?;
        Ok((out, summary))
    }

    /// Appends the tables. The kernel checks that ids and attributes lie directly one behind the
    /// other, up to the image's end.
    fn append_tables(&mut self, tables: &Tables) -> Result<Superblock, Fault> {
        let output = &mut self.output;
        let inode_table = output.append(&tables.inodes.bytes)?;
        let directory_table = output.append(&tables.directories.bytes)?;
        let exports = output.append(&tables.exports.bytes)?;
        let export_table = output.append(&tables.exports.index(exports))?;
        let ids = output.append(&tables.ids.bytes)?;
        let id_table = output.append(&tables.ids.index(ids))?;
        let xattr_table = match &tables.xattrs {
            Some(xattrs) => {
                let sets = output.append(&xattrs.sets.bytes)?;
                let descriptors = output.append(&xattrs.descriptors.bytes)?;
                output.append(&xattrs.header(sets, descriptors))?
            }
            None => ABSENT,
        };
        Ok(Superblock {
            inodes: tables.inode_count,
            modification_time: self.options.modification_time,
            block_size: self.options.block_size,
            compressor: self.options.compression.id(),
            flags: self.flags(tables),
            ids: tables.id_count,
            root: tables.root.reference(),
            length: self.output.position(),
            id_table,
            xattr_table,
            inode_table,
            directory_table,
            export_table,
        })
    }

    fn flags(&self, tables: &Tables) -> Flags {
        let xattrs = tables.xattrs.as_ref().map_or(0, |xattrs| xattrs.sets.compressed + xattrs.descriptors.compressed);
        Flags::of(&[
            (Flags::INODES_STORED, tables.inodes.compressed + tables.directories.compressed == 0),
            (Flags::DATA_STORED, self.compressed_blocks == 0),
            (Flags::NO_FRAGMENTS, true),
            (Flags::EXPORTABLE, true),
            (Flags::XATTRS_STORED, xattrs == 0),
            (Flags::COMPRESSOR_OPTIONS, self.options.compression.options().is_some()),
            (Flags::IDS_STORED, tables.ids.compressed == 0),
        ])
    }

    /// Writes content block by block.
    fn store(&mut self, mut content: impl Read) -> Result<FileData, Fault> {
        let mut data = FileData::default();
        loop {
            let read = fill(&mut content, &mut self.block);
            let length = read.map_err(|source| Fault::Read { offset: data.size, source })?;
            if length > 0 {
                self.store_block(length, &mut data)?;
            }
            if length < self.block.len() {
                return Ok(data);
            }
        }
    }

    /// Writes the first `length` bytes of the buffer.
    fn store_block(&mut self, length: usize, data: &mut FileData) -> Result<(), Fault> {
        let block = &self.block[..length];
        data.size += length as u64;
        if block.chunks(ZEROS.len()).all(|piece| *piece == ZEROS[..piece.len()]) {
            data.holes += length as u64;
            data.blocks.push(0);
            return Ok(());
        }
        let packed = Packed::new(self.options.compression.as_ref(), block);
        let start = self.output.append(packed.bytes())?;
        if data.start == 0 {
            data.start = start;
        }
        let length = packed.bytes().len() as u32;
        match packed {
            Packed::Stored(_) => data.blocks.push(length | BLOCK_STORED),
            Packed::Compressed(_) => {
                data.blocks.push(length);
                self.compressed_blocks += 1;
            }
        }
        Ok(())
    }
}

/// Reads until the block is full or the content ends; gives how much there was. As few reads as the
/// source allows.
fn fill(content: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < block.len() {
        match content.read(&mut block[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn about<T>(path: &Path, act: impl FnOnce(&Path) -> Result<T, Fault>) -> Result<T, SquashfsError> {
    act(path).map_err(|fault| SquashfsError::entry(path, fault))
}

fn check_target(target: &[u8]) -> Result<&[u8], Fault> {
    match target {
        [] => Err(Fault::EmptyTarget),
        _ if target.len() > PATH_LENGTH => Err(Fault::TargetTooLong(target.len())),
        _ if target.contains(&0) => Err(Fault::Nul),
        _ => Ok(target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::squashfs::CompressorId;
    use crate::squashfs::compress::tests::To;
    use crate::squashfs::output::tests::Full;
    use crate::squashfs::tree::NodeId;
    use std::io::Cursor;

    fn writer(options: Options) -> Writer<Cursor<Vec<u8>>> {
        Writer::new(Cursor::new(Vec::new()), options).unwrap()
    }

    fn small_blocks() -> Options {
        Options { block_size: 4096, ..Options::default() }
    }

    fn half(image: &[u8], at: usize) -> u16 {
        u16::from_le_bytes(image[at..at + 2].try_into().unwrap())
    }

    fn blocks(writer: &Writer<Cursor<Vec<u8>>>, index: usize) -> FileData {
        match &writer.tree.node(NodeId(index)).content {
            Content::File(data) => data.clone(),
            other => panic!("not a file: {other:?}"),
        }
    }

    #[test]
    fn content_is_cut_into_blocks_and_zeros_become_holes() {
        let mut writer = writer(small_blocks());
        let mut content = vec![1; 4096];
        content.extend([0; 4096]);
        content.extend([2; 100]);
        assert_eq!(writer.file("a", &Attributes::new(0o644), &content[..]).unwrap(), 8292);
        let expected = [4096 | BLOCK_STORED, 0, 100 | BLOCK_STORED].to_vec();
        assert_eq!(blocks(&writer, 1), FileData { start: 96, size: 8292, holes: 4096, blocks: expected });
        for (length, holes) in [(0, vec![]), (4096, vec![0]), (4097, vec![0, 0])] {
            let index = writer.tree.len();
            writer.file("b", &Attributes::new(0o644), &vec![0; length][..]).unwrap();
            let length = length as u64;
            assert_eq!(blocks(&writer, index), FileData { start: 0, size: length, holes: length, blocks: holes });
        }
        writer.file("c", &Attributes::new(0o644), &[3; 4096][..]).unwrap();
        let last = blocks(&writer, writer.tree.len() - 1);
        assert_eq!((last.start, last.blocks), (96 + 4196, vec![4096 | BLOCK_STORED]));
    }

    #[test]
    fn a_compressor_leaves_its_id_its_options_and_shorter_blocks() {
        let mut writer = writer(Options { compression: Box::new(To(9)), ..small_blocks() });
        writer.file("a", &Attributes::new(0o644), &[1; 5000][..]).unwrap();
        assert_eq!(blocks(&writer, 1), FileData { start: 102, size: 5000, holes: 0, blocks: vec![9, 9] });
        let image = writer.finish().unwrap().0.into_inner();
        assert_eq!(half(&image, 20), CompressorId::Zstd as u16);
        assert_eq!(half(&image, 24), 1 << 4 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11, "flags");
        assert_eq!(image[96..102], [4, 0x80, 3, 0, 0, 0]);
    }

    #[test]
    fn stored_images_say_that_everything_is_stored() {
        let (image, summary) = writer(Options::default()).finish().unwrap();
        let image = image.into_inner();
        assert_eq!(half(&image, 20), CompressorId::Gzip as u16);
        assert_eq!(half(&image, 24), 0x993);
        assert_eq!(summary, Summary { bytes: 4096, inodes: 1 });
        assert_eq!(image.len(), 4096);
    }

    #[test]
    fn an_unfinished_image_has_no_superblock() {
        let mut writer = writer(Options::default());
        writer.file("a", &Attributes::new(0o644), &b"content"[..]).unwrap();
        assert_eq!(writer.output.finish(b"").unwrap().into_inner()[..96], [0; 96]);
    }

    #[test]
    fn the_same_calls_give_the_same_bytes() {
        let image = || {
            let mut writer = writer(small_blocks());
            for index in 0..2000_u32 {
                let xattrs = vec![(b"user.n".to_vec(), vec![(index % 97) as u8]), (b"user.m".to_vec(), vec![1])];
                let attributes = Attributes { uid: index % 300, xattrs, ..Attributes::new(0o600) };
                writer.file(format!("{}/{index}", index % 7), &attributes, &index.to_le_bytes()[..]).unwrap();
            }
            writer.finish().unwrap().0.into_inner()
        };
        assert!(image() == image());
    }

    #[test]
    fn bad_entries_are_refused_by_name_and_change_nothing() {
        let mut writer = writer(Options::default());
        writer.file("f", &Attributes::new(0o644), &b""[..]).unwrap();
        let (plain, wrong) = (Attributes::new(0o644), Attributes::new(0o10000));
        let long = "t".repeat(4096);
        let nodes = writer.tree.len();
        let refused = [
            ("../a", writer.fifo("../a", &plain)),
            ("a", writer.socket("a", &wrong)),
            ("a", writer.directory("a", &wrong)),
            ("f/a", writer.file("f/a", &plain, &b""[..]).map(|_| ())),
            ("", writer.file("", &plain, &b""[..]).map(|_| ())),
            ("a", writer.symlink("a", &plain, "")),
            ("a", writer.symlink("a", &plain, "t\0")),
            ("a", writer.symlink("a", &plain, &long)),
            ("a", writer.device("a", &plain, DeviceKind::Block, 4096, 0)),
            ("a", writer.hard_link("a", "b")),
            ("a", writer.hard_link("a", "../f")),
        ];
        for (path, result) in refused {
            let error = result.unwrap_err();
            assert_eq!(error.object(), &crate::squashfs::Object::Entry(path.into()), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
        }
        assert_eq!(writer.tree.len(), nodes);
        assert_eq!(writer.output.position(), 96);
    }

    #[test]
    fn a_symlink_has_the_mode_that_linux_shows() {
        let mut writer = writer(Options::default());
        writer.symlink("l", &Attributes::new(0o120777), "t".repeat(4095)).unwrap();
        assert_eq!(writer.tree.node(NodeId(1)).attributes.mode, 0o777);
    }

    #[test]
    fn block_sizes_that_no_kernel_mounts_are_refused() {
        for (block_size, fits) in [
            (0, false),
            (2048, false),
            (4096, true),
            (5000, false),
            (1 << 20, true),
            (1 << 21, false),
            (u32::MAX, false),
        ] {
            let result = Writer::new(Cursor::new(Vec::new()), Options { block_size, ..Options::default() });
            assert_eq!(result.is_ok(), fits, "{block_size}");
        }
    }

    #[test]
    fn a_failed_source_loses_its_entry_only() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let mut writer = writer(small_blocks());
        let content = Read::chain(&[1; 4096][..], Fails);
        let error = writer.file("new/a", &Attributes::new(0o644), content).unwrap_err();
        assert!(matches!(error.fault(), Fault::Read { offset: 4096, .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::System);
        writer.file("b", &Attributes::new(0o644), &b"b"[..]).unwrap();
        assert_eq!(writer.finish().unwrap().1.inodes, 2);
    }

    #[test]
    fn a_source_of_single_bytes_and_interruptions_gives_full_blocks() {
        struct Drips(u64);
        impl Read for Drips {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    turn if turn % 3 == 0 => Err(io::ErrorKind::Interrupted.into()),
                    turn if turn > 9000 => Ok(0),
                    _ => {
                        into[0] = 1;
                        Ok(1)
                    }
                }
            }
        }
        let mut writer = writer(small_blocks());
        assert_eq!(writer.file("a", &Attributes::new(0o644), Drips(0)).unwrap(), 6000);
        assert_eq!(blocks(&writer, 1).blocks, [4096 | BLOCK_STORED, 1904 | BLOCK_STORED]);
    }

    #[test]
    fn a_full_disk_ends_the_image() {
        let mut writer = Writer::new(Full { room: 100 }, Options::default()).unwrap();
        let error = writer.file("a", &Attributes::new(0o644), &b"12345"[..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        let error = writer.finish().unwrap_err();
        assert!(matches!(error.fault(), Fault::Broken), "{error:?}");
    }
}
