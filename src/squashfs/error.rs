//! Why an image could not be written: the object is an entry or the image, the fault says what is
//! wrong with it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::ErrorKind;

/// What a [`SquashfsError`] is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Object {
    /// The image as a whole.
    Image,
    /// The entry of this path, as the caller gave it.
    Entry(PathBuf),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Image => f.write_str("squashfs image"),
            Object::Entry(path) => write!(f, "squashfs entry {path:?}"),
        }
    }
}

/// A failed call of [`super::Writer`]. `Display` names the object; the [`Fault`] is the source.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {object}")]
pub struct SquashfsError {
    object: Object,
    #[source]
    fault: Fault,
}

impl SquashfsError {
    pub(super) fn image(fault: Fault) -> SquashfsError {
        SquashfsError { object: Object::Image, fault }
    }

    pub(super) fn entry(path: &Path, fault: Fault) -> SquashfsError {
        SquashfsError { object: Object::Entry(path.to_owned()), fault }
    }

    /// What the call was about.
    #[must_use]
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// What a caller can do about it: [`ErrorKind::Invalid`] for entries and options that no image
    /// can hold, [`ErrorKind::Exhausted`] for a limit of the format or a full disk,
    /// [`ErrorKind::System`] for other failed reads and writes.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &self.fault {
            Fault::TooManyIds | Fault::TooManyInodes | Fault::TableTooLarge | Fault::DirectoryTooLarge => {
                ErrorKind::Exhausted
            }
            Fault::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => ErrorKind::Exhausted,
            Fault::Read { .. } | Fault::Write { .. } | Fault::Broken => ErrorKind::System,
            _ => ErrorKind::Invalid,
        }
    }
}

/// What is wrong with an entry or an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// [`super::Options::block_size`] is not a power of two from 4096 to 1048576.
    #[error("block size {0} is not a power of two from 4096 to 1048576")]
    BlockSize(u32),
    /// [`super::Compress::options`] gave more than one metadata block.
    #[error("compressor options of {0} bytes, where the format holds 8192")]
    CompressorOptions(usize),
    /// A path starts or ends with `/` or has `//` in it.
    #[error("the path has an empty component")]
    EmptyComponent,
    /// A path leads upwards.
    #[error("the path has the component '..'")]
    ParentComponent,
    /// A path or the target of a symlink contains a NUL byte.
    #[error("a NUL byte in the path or target")]
    Nul,
    /// A component is longer than 256 bytes.
    #[error("a name of {0} bytes, where the format holds 256")]
    NameTooLong(usize),
    /// A path is longer than 4095 bytes.
    #[error("a path of {0} bytes, where the kernel takes 4095")]
    PathTooLong(usize),
    /// A component on the way is an entry other than a directory; a symlink too, as none is
    /// followed.
    #[error("{0:?} is not a directory")]
    NotDirectory(PathBuf),
    /// Something other than a directory is to be the root.
    #[error("the root can only be a directory")]
    Root,
    /// There is no entry at the path.
    #[error("there is no such entry")]
    Missing,
    /// The entry to link to does not exist.
    #[error("no entry {0:?} to link to")]
    LinkTargetMissing(PathBuf),
    /// The entry to link to is a directory.
    #[error("the entry {0:?} to link to is a directory")]
    LinkTargetDirectory(PathBuf),
    /// The path of the entry to link to is not a valid path.
    #[error("the path {0:?} to link to")]
    LinkTargetPath(PathBuf, #[source] Box<Fault>),
    /// A symlink without target, which Linux does not know.
    #[error("the target of the symlink is empty")]
    EmptyTarget,
    /// A target longer than 4095 bytes: the kernel refuses to read it.
    #[error("a symlink target of {0} bytes, where the kernel takes 4095")]
    TargetTooLong(usize),
    /// More than the twelve permission bits.
    #[error("mode {0:#o} has bits beyond 0o7777")]
    Mode(u32),
    /// 4294967295 means "no id" to the kernel.
    #[error("4294967295 is not a user or group id")]
    Owner,
    /// A device number beyond the format's 12 bits for the major and 20 bits for the minor number.
    #[error("device {major}:{minor}, where major numbers end at 4095 and minor numbers at 1048575")]
    Device {
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
    /// An extended attribute outside `user.`, `trusted.` and `security.`; the format has no code
    /// for others.
    #[error("extended attribute {0:?} is not one of user., trusted. and security.")]
    XattrPrefix(String),
    /// An extended attribute with an empty, a too long (over 255 bytes in all) or a NUL-containing
    /// name.
    #[error("extended attribute {0:?} has a name that the kernel does not take")]
    XattrName(String),
    /// A value over 65536 bytes.
    #[error("extended attribute {name:?} has {length} bytes, where the kernel takes 65536")]
    XattrValue {
        /// The attribute's full name.
        name: String,
        /// The length of its value in bytes.
        length: usize,
    },
    /// One entry has the attribute twice.
    #[error("extended attribute {0:?} is given twice")]
    XattrRepeated(String),
    /// More than 65535 different user and group ids.
    #[error("more than 65535 different user and group ids")]
    TooManyIds,
    /// Inode numbers have 32 bits.
    #[error("more than 4294967295 inodes")]
    TooManyInodes,
    /// A table of the format would pass 4 GiB.
    #[error("a table of inodes, directories or extended attributes over 4 GiB")]
    TableTooLarge,
    /// The listing of one directory would pass 4 GiB.
    #[error("a directory listing over 4 GiB")]
    DirectoryTooLarge,
    /// The content of a file could not be read from its source.
    #[error("read content at byte {offset}")]
    Read {
        /// How many bytes had been read before, rounded down to a block.
        offset: u64,
        /// The reader's error.
        source: io::Error,
    },
    /// The image could not be written to the output.
    #[error("{call} at byte {offset} of the image")]
    Write {
        /// `write`, `seek` or `flush`.
        call: &'static str,
        /// Where in the image.
        offset: u64,
        /// The output's error.
        source: io::Error,
    },
    /// An earlier write failed, so that nobody knows what the output holds.
    #[error("an earlier write to the image failed")]
    Broken,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn an_error_names_its_object_and_the_source_says_why() {
        let error = SquashfsError::entry(Path::new("a/../b"), Fault::ParentComponent);
        assert_eq!(error.to_string(), "cannot write squashfs entry \"a/../b\"");
        assert_eq!(error.source().unwrap().to_string(), "the path has the component '..'");
    }

    #[test]
    fn the_kind_tells_bad_input_from_limits_and_from_failed_calls() {
        let write = |kind: io::ErrorKind| Fault::Write { call: "write", offset: 0, source: kind.into() };
        for (fault, kind) in [
            (Fault::Nul, ErrorKind::Invalid),
            (Fault::BlockSize(1), ErrorKind::Invalid),
            (Fault::TooManyIds, ErrorKind::Exhausted),
            (write(io::ErrorKind::StorageFull), ErrorKind::Exhausted),
            (write(io::ErrorKind::BrokenPipe), ErrorKind::System),
            (Fault::Broken, ErrorKind::System),
        ] {
            let error = SquashfsError::image(fault);
            assert_eq!(error.kind(), kind, "{error:?}");
        }
    }
}
