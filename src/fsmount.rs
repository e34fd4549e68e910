//! New file systems, made detached: nothing is visible anywhere until the descriptor is moved to a
//! mount point, and dropping it undoes it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, move_mount,
};

use crate::error::{Context, Error, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::stage::Stage;

/// A file system about to be made. Errors carry what the kernel wrote into the context's log.
pub(crate) struct NewFilesystem<'a> {
    stage: Stage,
    object: &'a str,
    kind: &'a str,
    context: OwnedFd,
}

impl<'a> NewFilesystem<'a> {
    /// Opens a context for a file system of this kind; `object` is what errors name.
    pub(crate) fn open(stage: Stage, object: &'a str, kind: &'a str) -> Result<NewFilesystem<'a>> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).at(stage, object, &format!("fsopen({kind})"))?;
        Ok(NewFilesystem { stage, object, kind, context })
    }

    /// Sets an option with a value.
    pub(crate) fn set(self, key: &str, value: &str) -> Result<NewFilesystem<'a>> {
        match fsconfig_set_string(self.context.as_fd(), key, value) {
            Ok(()) => Ok(self),
            Err(errno) => Err(self.explain(errno, &format!("{key}={value}"))),
        }
    }

    /// Sets an option without a value.
    pub(crate) fn flag(self, key: &str) -> Result<NewFilesystem<'a>> {
        match fsconfig_set_flag(self.context.as_fd(), key) {
            Ok(()) => Ok(self),
            Err(errno) => Err(self.explain(errno, key)),
        }
    }

    /// Makes the file system and a detached mount of it with these attributes.
    pub(crate) fn create(self, attributes: MountAttrFlags) -> Result<OwnedFd> {
        if let Err(errno) = fsconfig_create(self.context.as_fd()) {
            return Err(self.explain(errno, "create"));
        }
        fsmount(self.context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .at(self.stage, self.object, &format!("fsmount({})", self.kind))
            .at_limit(libc::ENOSPC, Limit::DetachedMounts)
    }

    fn explain(&self, errno: rustix::io::Errno, what: &str) -> Error {
        let error = Error::system(self.stage, self.object, format!("fsconfig({}, {what})", self.kind), errno);
        match self.log() {
            text if text.is_empty() => error,
            text => error.explain(text),
        }
    }

    /// What the kernel says about the failure: one message a read, ENODATA when there are no more.
    fn log(&self) -> String {
        let mut lines = Vec::new();
        let mut buffer = [0; 512];
        while lines.len() < 8 {
            match rustix::io::read(self.context.as_fd(), &mut buffer) {
                Ok(length) if length > 2 => lines.push(String::from_utf8_lossy(&buffer[2..length]).trim().to_owned()),
                _ => break,
            }
        }
        lines.join("; ")
    }
}

/// Attaches a detached mount at the directory or file that `target` is open on.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}
