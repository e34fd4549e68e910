//! The worker's standard streams, so that opening one again gives no more than it has.
//!
//! A regular file that is open for reading can be opened for writing by `/proc/self/fd/0`, if the
//! worker is its owner or may write to it: the host's root by a worker of uid 0. Such a file is
//! opened once more from a read-only clone of its mount, where the kernel answers EROFS to every
//! change, whoever asks. The worker then has a position of its own in the file, which begins where
//! the caller's is.
//!
//! Runs in the launch process, in its caller's mount namespace.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::fchown;

use rustix::fs::{Mode, OFlags, SeekFrom, open, seek};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use crate::error::{Context, Error, Result};
use crate::host_files::may_be_reopened_for_writing;
use crate::request::Identity;
use crate::stage::Stage;
use crate::sys::{self, MountAttr};

/// The streams, with a read-only file in the place of each that the worker could change, and may
/// not by the descriptor it is given.
///
/// # Errors
/// Where such a file has no mount that could be cloned (a file in memory, one of another mount
/// namespace).
pub(super) fn protect<'a>(streams: &'a [OwnedFd; 3], worker: &Identity) -> Result<[Stream<'a>; 3]> {
    let [stdin, stdout, stderr] = streams;
    Ok([protected(stdin, 0, worker)?, protected(stdout, 1, worker)?, protected(stderr, 2, worker)?])
}

/// Makes the worker the owner of these streams' files.
pub(super) fn give(streams: &[OwnedFd; 3], numbers: &[usize], worker: &Identity) -> Result<()> {
    numbers.iter().filter_map(|number| Some((number, streams.get(*number)?))).try_for_each(|(number, stream)| {
        fchown(stream, Some(worker.uid()), Some(worker.gid())).at(
            Stage::Claim,
            format!("standard stream {number}"),
            "fchown",
        )
    })
}

/// The streams, with others for standard output and error.
pub(super) fn with_output<'a>(streams: &'a [Stream<'_>; 3], output: [BorrowedFd<'a>; 2]) -> [BorrowedFd<'a>; 3] {
    let [stdout, stderr] = output;
    [streams[0].as_fd(), stdout, stderr]
}

/// A stream of the worker's.
pub(super) enum Stream<'a> {
    /// The caller's.
    Given(BorrowedFd<'a>),
    /// The same file, read-only.
    ReadOnly(OwnedFd),
}

impl AsFd for Stream<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Given(stream) => *stream,
            Stream::ReadOnly(file) => file.as_fd(),
        }
    }
}

fn protected<'a>(stream: &'a OwnedFd, number: usize, worker: &Identity) -> Result<Stream<'a>> {
    let object = format!("standard stream {number}");
    match may_be_reopened_for_writing(stream.as_fd(), worker).at(Stage::Request, &object, "fstat")? {
        true => read_only(stream.as_fd(), &object).map(Stream::ReadOnly),
        false => Ok(Stream::Given(stream.as_fd())),
    }
}

fn read_only(stream: BorrowedFd<'_>, object: &str) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(stream, "", flags).map_err(|errno| {
        Error::system(Stage::Request, object, "open_tree", errno)
            .explain("the worker could open the file again and write to it, and its mount cannot be made read-only: hand over a pipe")
    })?;
    let attributes = MountAttr { set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(), ..MountAttr::default() };
    sys::mount_setattr(mount.as_fd(), false, attributes).at(Stage::Request, object, "mount_setattr")?;
    let link = format!("/proc/self/fd/{}", mount.as_raw_fd());
    let file = open(link, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at(Stage::Request, object, "open")?;
    let position = seek(stream, SeekFrom::Current(0)).at(Stage::Request, object, "lseek")?;
    seek(&file, SeekFrom::Start(position)).at(Stage::Request, object, "lseek")?;
    Ok(file)
}
