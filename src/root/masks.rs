//! What of `/proc` and `/sys` a worker does not see, or sees and cannot write.
//!
//! A mount is laid over each: the container's own null device over a file, an empty read-only tmpfs
//! over a directory, the thing itself, but read-only, over what may be read. Every place is found
//! below the descriptor of the file system that shows it, by the kernel, without any link: neither
//! the image nor a mount of the caller's leads a mask anywhere else. Runs in the container's first
//! process, after every other mount.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::devices;
use super::mounts::Mounted;
use crate::error::{Context, Error, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::fsmount::{NewFilesystem, attach};
use crate::stage::Stage;
use crate::sys::{self, MountAttr};

/// Lays a mount over each of these paths; what the kernel does not show is left out.
pub(crate) fn protect(mounted: &Mounted<'_>, read_only: &[&str], masked: &[String]) -> Result<()> {
    for path in read_only {
        if let Some(place) = find(mounted, path)? {
            let itself = read_only_clone(place.as_fd(), path)?;
            cover(itself.as_fd(), place.as_fd(), path)?;
        }
    }
    let null = devices::null(mounted.dev())?;
    let mut emptiness = Emptiness::default();
    for path in masked {
        let Some(place) = find(mounted, path)? else { continue };
        match FileType::from_raw_mode(fstat(&place).at(Stage::Mounts, object(path), "fstat")?.st_mode) {
            FileType::Directory => emptiness.cover(place.as_fd(), path)?,
            _ => cover(clone(null.as_fd(), path)?.as_fd(), place.as_fd(), path)?,
        }
    }
    Ok(())
}

/// What is there, if anything is. A link is an error: no path of the kernel's has one, and a mask
/// that is left out is none.
fn find(mounted: &Mounted<'_>, path: &str) -> Result<Option<OwnedFd>> {
    let (top, rest) = mounted.below(path);
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(top, rest, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).at(Stage::Mounts, object(path), "openat2(RESOLVE_NO_SYMLINKS)"),
    }
}

/// An empty file system: made with the first directory that needs it, and the same for every
/// further one.
#[derive(Default)]
struct Emptiness(Option<OwnedFd>);

impl Emptiness {
    /// A detached mount can be cloned only since kernel 6.15, so the first use is the mount itself
    /// and the others are clones of it.
    fn cover(&mut self, place: BorrowedFd<'_>, path: &str) -> Result<()> {
        match &self.0 {
            Some(empty) => cover(clone(empty.as_fd(), path)?.as_fd(), place, path),
            None => {
                let empty = NewFilesystem::open(Stage::Mounts, "empty file system", "tmpfs")?
                    .set("source", "tmpfs")?
                    .flag("ro")?
                    .create(MountAttrFlags::MOUNT_ATTR_RDONLY)?;
                cover(empty.as_fd(), place, path)?;
                self.0 = Some(empty);
                Ok(())
            }
        }
    }
}

fn read_only_clone(place: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    let set = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let itself = clone(place, path)?;
    let attr = MountAttr { set: set.bits().into(), ..MountAttr::default() };
    sys::mount_setattr(itself.as_fd(), false, attr).at(Stage::Mounts, object(path), "mount_setattr(ro)")?;
    Ok(itself)
}

fn clone(of: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(of, "", flags).at(Stage::Mounts, object(path), "open_tree")
}

fn cover(mount: BorrowedFd<'_>, place: BorrowedFd<'_>, path: &str) -> Result<()> {
    attach(mount, place).map_err(|errno| {
        Error::system(Stage::Mounts, object(path), "move_mount", errno).at_limit(libc::ENOSPC, Limit::Mounts)
    })
}

fn object(path: &str) -> String {
    format!("protected path '{path}'")
}
