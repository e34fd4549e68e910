//! The writer: content as it comes, everything else at the end.

use std::ffi::OsStr;
use std::io::{Read, Seek, Write};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::attributes::{Attributes, Checked, DeviceKind};
use super::compress::{Compress, Stored};
use super::content::ContentWriter;
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
/// Images end at a multiple of this, so that a loop device, which counts in sectors, shows all of
/// the image.
const PADDING: u64 = 4096;
/// Every symlink on Linux shows this mode.
const SYMLINK_MODE: u16 = 0o777;
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
    /// How many threads compress content, the caller's among them; 1 by default: then no thread is
    /// made. Further ones end with the [`Writer`], and each has at most six blocks in memory at a
    /// time. The image does not depend on their number, and where the system gives fewer, there are
    /// fewer.
    pub threads: NonZeroUsize,
}

impl Default for Options {
    fn default() -> Options {
        Options { block_size: 1 << 17, modification_time: 0, compression: Box::new(Stored), threads: NonZeroUsize::MIN }
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The length of the image with its padding, in bytes: a multiple of 4096. The output may be
    /// longer, see [`Writer::file`].
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
/// * The content of a replaced file stays in the image as dead bytes: it had been written. Later
///   files with the same content use it.
/// * Nothing is looked up through a symlink: an entry below one is refused.
///
/// They fail with [`crate::error::ErrorKind::Invalid`] and change nothing if the path is absolute,
/// has an empty component, `..` or NUL, has a name over 256 bytes or is over 4095 bytes itself,
/// leads through something other than a directory, or if the attributes are not what [`Attributes`]
/// describes. After a failed write of the output ([`Fault::Write`]) every later call that writes
/// fails. With [`Options::threads`] content is written some time after the call that gave it, so
/// that a failed write is an error of a later call, at the latest of [`Writer::finish`], and may
/// name that call's entry.
#[derive(Debug)]
pub struct Writer<W> {
    output: Output<W>,
    settings: Settings,
    tree: Tree,
    content: ContentWriter,
}

/// What of [`Options`] is needed to the end.
#[derive(Debug)]
struct Settings {
    block_size: u32,
    modification_time: u32,
    compression: Arc<dyn Compress>,
}

/// What is at a path of an image that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present<'a> {
    /// A directory.
    Directory,
    /// A symlink with its target.
    Symlink(&'a Path),
    /// Any other entry.
    Other,
}

impl<W: Write + Seek> Writer<W> {
    /// Starts an image at byte 0 of `out`, which should be empty: what lies behind the image's end
    /// is not cut off. A buffer in front of `out` gains nothing.
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
        output.settle()?;
        let Options { block_size, modification_time, compression, threads } = options;
        let compression: Arc<dyn Compress> = compression.into();
        Ok(Writer {
            output,
            tree: Tree::new(modification_time),
            content: ContentWriter::new(block_size, threads, Arc::clone(&compression)),
            settings: Settings { block_size, modification_time, compression },
        })
    }

    /// Adds a directory, or gives one that is there (the root too) these attributes.
    pub fn directory(&mut self, path: impl AsRef<Path>, attributes: &Attributes) -> Result<(), SquashfsError> {
        about(path.as_ref(), |path| self.tree.insert_directory(&EntryPath::parse(path)?, attributes.try_into()?))
    }

    /// Adds a regular file with all that `content` yields; gives how many bytes that were. Blocks
    /// of zeros become holes.
    ///
    /// Content that the image has already, of a file before this one, is not stored again: the
    /// output goes back to where it began and continues from there. If that happens to a large file
    /// near the end, the output is longer than the image: cut it to [`Summary::bytes`].
    ///
    /// The path and the attributes are checked before anything is read. If `content` fails
    /// ([`Fault::Read`]), the entry is not added, the output goes back in the same way, and the
    /// writer can go on.
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
            let size = self.content.read(content, &mut self.output, &mut self.tree)?;
            let node = self.tree.insert(&place, Node { attributes, content: Content::File(FileData::default()) })?;
            self.content.end(node, &mut self.output, &mut self.tree)?;
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
            self.insert(path, Node { attributes, content: Content::Symlink(target.into()) })
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
            self.insert(path, Node { attributes: attributes.try_into()?, content })
        })
    }

    /// Adds a fifo.
    pub fn fifo(&mut self, path: impl AsRef<Path>, attributes: &Attributes) -> Result<(), SquashfsError> {
        about(path.as_ref(), |path| {
            let node = Node { attributes: attributes.try_into()?, content: Content::Fifo };
            self.insert(path, node)
        })
    }

    /// Adds a socket.
    pub fn socket(&mut self, path: impl AsRef<Path>, attributes: &Attributes) -> Result<(), SquashfsError> {
        about(path.as_ref(), |path| {
            let node = Node { attributes: attributes.try_into()?, content: Content::Socket };
            self.insert(path, node)
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

    /// Gives the entry at `path`, which has to be there, one more extended attribute; it replaces one
    /// of its name. All names of the entry have it.
    pub fn set_xattr(&mut self, path: impl AsRef<Path>, name: &[u8], value: &[u8]) -> Result<(), SquashfsError> {
        about(path.as_ref(), |path| {
            let node = self.tree.find(&EntryPath::parse(path)?).ok_or(Fault::Missing)?;
            self.tree.set_xattr(node, name, value)
        })
    }

    /// What is at a path, which is taken as by the other methods; no symlink is followed.
    pub fn present(&self, path: impl AsRef<Path>) -> Option<Present<'_>> {
        let node = self.tree.find(&EntryPath::parse(path.as_ref()).ok()?)?;
        Some(match &self.tree.node(node).content {
            Content::Directory(_) => Present::Directory,
            Content::Symlink(target) => Present::Symlink(Path::new(OsStr::from_bytes(target))),
            _ => Present::Other,
        })
    }

    /// How many entries are kept in memory: all that were added, replaced ones and directories that
    /// are only implied too, but no further names of hard links.
    pub fn entries(&self) -> u64 {
        self.tree.len() as u64
    }

    fn insert(&mut self, path: &Path, node: Node) -> Result<(), Fault> {
        self.tree.insert(&EntryPath::parse(path)?, node).map(|_| ())
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
        self.content.flush(&mut self.output, &mut self.tree)?;
        let tables = Tables::encode(&self.tree, self.settings.compression.as_ref())?;
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
            modification_time: self.settings.modification_time,
            block_size: self.settings.block_size,
            compressor: self.settings.compression.id(),
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
            (Flags::DATA_STORED, self.content.compressed_blocks() == 0),
            (Flags::NO_FRAGMENTS, true),
            (Flags::EXPORTABLE, true),
            (Flags::XATTRS_STORED, xattrs == 0),
            (Flags::COMPRESSOR_OPTIONS, self.settings.compression.options().is_some()),
            (Flags::IDS_STORED, tables.ids.compressed == 0),
        ])
    }
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
mod tests;
