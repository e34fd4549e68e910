//! What takes the writes of a writable root: a file system in memory, or a directory of the host.
//!
//! In a directory of the host the overlay's upper and work directories lie one level down, in a
//! directory of root's that nobody else can enter (0700): the upper has owner and mode of the
//! image's root, and what a worker leaves in it belongs to the worker, setuid bits and all. The
//! caller's directory is opened by its path once, here or before the launch; everything after that
//! goes by descriptors and follows no link. Runs in the launch process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, open, openat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::{mount_steps, upper_quota};
use crate::error::{Context, Error, ErrorKind, FileAspect, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::fsmount::NewFilesystem;
use crate::host::file_with_access;
use crate::host_files::HostFile;
use crate::opened::HostFiles;
use crate::request::{HostDirectory, LaunchSpec, RootMode};
use crate::stage::Stage;

/// The level in between, in a directory of the host.
const LEVEL: &str = "overlay";

/// What takes the writes of a writable root.
pub(crate) struct Above {
    /// Detached; init puts it below the overlay.
    pub(crate) mount: OwnedFd,
    /// What the monitor holds to say in the end how full it was: of a directory, also the lock,
    /// because two overlays on one directory spoil each other.
    pub(crate) upper: OwnedFd,
}

/// A file system for the writes of a writable root, if that is what the spec asks for. The launch
/// process leaves it to the monitor. A directory that came with the job is used by its descriptor.
pub(crate) fn above_overlay(spec: &LaunchSpec, files: Option<&HostFiles>) -> Result<Option<Above>> {
    match &spec.root {
        RootMode::ReadOnly => Ok(None),
        RootMode::Writable { size_bytes } => in_memory(*size_bytes).map(Some),
        RootMode::Directory(directory) => {
            in_directory(directory, files.and_then(|files| files.writable.as_ref())).map(Some)
        }
    }
}

fn in_memory(size_bytes: Option<u64>) -> Result<Above> {
    let mut tmpfs = NewFilesystem::open(Stage::Root, "writable layer", "tmpfs")?;
    for (key, value) in mount_steps::tmpfs_options(0o755, size_bytes) {
        tmpfs = tmpfs.set(&key, &value.unwrap_or_default())?;
    }
    let mount = tmpfs.create(MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    let upper = mount.try_clone().at(Stage::Root, "writable layer", "fcntl(F_DUPFD)")?;
    Ok(Above { mount, upper })
}

fn in_directory(HostDirectory { path, size_bytes }: &HostDirectory, opened: Option<&HostFile>) -> Result<Above> {
    let object = format!("writable directory '{}'", path.as_str());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Opened anew where it came with the job: a lock belongs to one opening, and this one is for
    // locks.
    let upper = match opened {
        None => open(path.as_str(), flags, Mode::empty()),
        Some(directory) => openat(directory, ".", flags, Mode::empty()),
    };
    let upper = upper.at(Stage::Root, &object, "open")?;
    if flock(&upper, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        return Err(Error::in_use(ErrorKind::Exists, Stage::Root, object, "another container, which writes to it"));
    }
    // The bound comes before the first entry, which inherits it.
    match size_bytes {
        Some(bytes) => upper_quota::bound(upper.as_fd(), *bytes, &object)?,
        None => upper_quota::lift(upper.as_fd(), &object)?,
    }
    let level = closed_level(upper.as_fd(), &format!("{object}, '{LEVEL}' in it"))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(&level, "", flags)
        .at(Stage::Root, &object, "open_tree")
        .at_limit(libc::ENOSPC, Limit::DetachedMounts)?;
    Ok(Above { mount, upper })
}

/// The level in between, made where it is not there; one that somebody else made is refused.
fn closed_level(directory: BorrowedFd<'_>, object: &str) -> Result<OwnedFd> {
    match mkdirat(directory, LEVEL, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).at(Stage::Root, object, "mkdirat"),
    }
    // By path alone until it is known to be what it should: nothing else is opened.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let level = openat(directory, LEVEL, flags, Mode::empty()).at(Stage::Root, object, "openat")?;
    let stat = fstat(&level).at(Stage::Root, object, "fstat")?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let own = rustix::process::geteuid().as_raw();
    if kind == FileType::Directory && stat.st_uid == own && stat.st_mode & 0o077 == 0 {
        return Ok(level);
    }
    let found = file_with_access(stat.st_mode, stat.st_uid);
    let expected = format!("a directory of uid {own} that nobody else can enter (0700), in which upper and work lie");
    let aspect = if kind == FileType::Directory { FileAspect::Access } else { FileAspect::Type };
    let error = Error::wrong_file(Stage::Root, object, "fstat", aspect, found, expected);
    Err(error.with_kind(ErrorKind::Exists))
}
