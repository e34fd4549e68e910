//! The staging file system: a private tmpfs on which the overlay is put together, inside the
//! container's own mount namespace.
//!
//! Pivoting into it first detaches the whole of the host's mount tree, so nothing of the host can
//! be reached by path from here on, and the host's mount table never sees a container. A second
//! pivot leaves it for the finished root. Runs in the container's first process, before
//! libcontainer.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, fstat, mkdir, open};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, open_tree,
    unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Context, Error, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::fsmount::{NewFilesystem, attach};
use crate::layer::explain_unread;
use crate::request::RootMode;
use crate::stage::Stage;
use crate::sys::{self, MountAttr};

/// Where the container's root stands on the staging file system.
pub(crate) const ROOT: &str = "/root";

/// Room on the staging file system for the mount points that an image lacks, and for the upper of a
/// read-only root. Mount points are directories and empty files: a page and an inode each at most.
const STAGING_SIZE: &str = "4m";

/// Leaves the host's mount tree for an empty tmpfs.
pub(crate) fn enter() -> Result<()> {
    const OBJECT: &str = "staging file system";
    // In a chroot that is a mount the rest would work, and leave the host's root in the namespace.
    let left = leave_chroot();
    // Nothing that happens below may propagate to the host, nor the other way.
    match mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE) {
        Err(Errno::INVAL) => left.and(Err(Error::system(Stage::Root, "/", "mount(MS_PRIVATE)", Errno::INVAL)))?,
        other => other.at(Stage::Root, "/", "mount(MS_PRIVATE)")?,
    }
    let staging = NewFilesystem::open(Stage::Root, OBJECT, "tmpfs")?
        .set("size", STAGING_SIZE)?
        .set("mode", "700")?
        .create(MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    let host =
        open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at(Stage::Root, "/", "open")?;
    attach(staging.as_fd(), host.as_fd())
        .at(Stage::Root, OBJECT, "move_mount")
        .at_limit(libc::ENOSPC, Limit::Mounts)?;
    pivot(staging.as_fd(), Stage::Root, OBJECT)
}

/// Goes to the root of this mount namespace, wherever a chroot of the caller's is: there `/` is a
/// mount, and what is pivoted away from is all that the namespace holds. Who enters a mount
/// namespace stands at its root, also one that he is in. No path of the chroot is used after this.
/// Takes CAP_SYS_CHROOT.
fn leave_chroot() -> Result<()> {
    const OWN: &str = "/proc/thread-self/ns/mnt";
    let own = open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at(Stage::Root, OWN, "open")?;
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Mount)).at(Stage::Root, OWN, "setns")
}

/// The overlay's parts, all detached.
pub(crate) struct OverlayParts<'a> {
    /// Layer mounts, base first.
    pub(crate) layers: Vec<BorrowedFd<'a>>,
    /// What takes the writes of a writable root. Without it they go to the staging file system
    /// itself.
    pub(crate) above: Option<BorrowedFd<'a>>,
}

/// Puts the overlay together at [`ROOT`], from within the staging file system.
pub(crate) fn mount_overlay(parts: &OverlayParts<'_>) -> Result<OwnedFd> {
    for (index, layer) in parts.layers.iter().enumerate() {
        place(*layer, &index.to_string())?;
    }
    let above = match parts.above {
        Some(mount) => {
            place(mount, "above")?;
            "above/"
        }
        None => "",
    };
    let (upper, work) = (format!("{above}upper"), format!("{above}work"));
    make_upper(&upper, parts)?;
    make_directory(&work, 0o700)?;
    make_directory(ROOT, 0o755)?;
    let options = overlay_options(parts.layers.len(), &upper, &work);
    let data = CString::new(options.clone()).expect("numbers and names of ours hold no NUL");
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    mount("overlay", ROOT, "overlay", flags, data.as_c_str())
        .map_err(|errno| explain_unread(Error::system(Stage::Root, "overlay", format!("mount({options})"), errno)))?;
    open(ROOT, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at(Stage::Root, ROOT, "open")
}

/// Lays a copy of the whole tree below the root over it, which is what the worker will see; a
/// read-only root is read-only from here on.
///
/// The kernel lists mounts by the instant of their making, and binds are made before the root that
/// they lie on. In the copy every mount comes after the one below it, in the order of the plan, as
/// whoever reads the table expects.
pub(crate) fn copy_tree(root: BorrowedFd<'_>, mode: &RootMode) -> Result<OwnedFd> {
    const OBJECT: &str = "root";
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let copy = open_tree(root, "", flags).at(Stage::Mounts, OBJECT, "open_tree")?;
    if *mode == RootMode::ReadOnly {
        let attr = MountAttr { set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(), ..MountAttr::default() };
        sys::mount_setattr(copy.as_fd(), false, attr).at(Stage::Mounts, OBJECT, "mount_setattr(ro)")?;
    }
    attach(copy.as_fd(), root).at(Stage::Mounts, OBJECT, "move_mount").at_limit(libc::ENOSPC, Limit::Mounts)?;
    Ok(copy)
}

/// Makes the finished root the one of this process and its mount namespace. The staging file system
/// goes: what the overlay needs of it, the overlay keeps.
pub(crate) fn leave(root: BorrowedFd<'_>) -> Result<()> {
    pivot(root, Stage::Init, "root")
}

/// Makes a mount that is attached somewhere the root, and detaches all that was there before.
fn pivot(new: BorrowedFd<'_>, stage: Stage, object: &str) -> Result<()> {
    let old = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at(stage, "/", "open")?;
    fchdir(new).at(stage, object, "fchdir")?;
    pivot_root(".", ".").map_err(|errno| {
        Error::system(stage, object, "pivot_root", errno)
            .explain("the host's root is perhaps an initial ramdisk, which cannot be pivoted away from")
    })?;
    // The old root lies over the new one now.
    fchdir(&old).at(stage, "/", "fchdir")?;
    unmount(".", UnmountFlags::DETACH).at(stage, "/", "umount(MNT_DETACH)")?;
    chdir("/").at(stage, object, "chdir")
}

/// Relative names keep 500 layers within the page that mount(2) takes. The three features are named
/// because a kernel may have them on by default, and each makes the overlay believe attributes that
/// a hostile layer can write.
pub(crate) fn overlay_options(layers: usize, upper: &str, work: &str) -> String {
    let lower: Vec<String> = (0..layers).rev().map(|index| index.to_string()).collect();
    format!("lowerdir={},upperdir={upper},workdir={work},redirect_dir=nofollow,metacopy=off,index=off", lower.join(":"))
}

/// The merged root shows the upper directory's own attributes, so they are taken from the topmost
/// layer's root.
fn make_upper(upper: &str, parts: &OverlayParts<'_>) -> Result<()> {
    let Some(top) = parts.layers.last() else { return make_directory(upper, 0o755) };
    let top = fstat(top).at(Stage::Root, "topmost layer", "fstat")?;
    make_directory(upper, top.st_mode & 0o7777)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = open(upper, flags, Mode::empty()).at(Stage::Root, upper, "open")?;
    fchown(made, Some(Uid::from_raw(top.st_uid)), Some(Gid::from_raw(top.st_gid))).at(Stage::Root, upper, "fchown")
}

fn place(detached: BorrowedFd<'_>, name: &str) -> Result<()> {
    make_directory(name, 0o700)?;
    let target =
        open(name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at(Stage::Root, name, "open")?;
    attach(detached, target.as_fd()).at(Stage::Root, name, "move_mount").at_limit(libc::ENOSPC, Limit::Mounts)
}

/// Makes a directory on the staging file system; in a caller's own upper directory it may be there
/// from an earlier run.
fn make_directory(name: &str, mode: u32) -> Result<()> {
    match mkdir(name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).at(Stage::Root, name, "mkdir"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_directories_are_listed_top_first() {
        let options = overlay_options(3, "upper", "work");
        assert!(options.starts_with("lowerdir=2:1:0,upperdir=upper,workdir=work,"), "{options}");
    }

    #[test]
    fn five_hundred_layers_fit_into_the_page_that_mount_takes() {
        assert!(overlay_options(500, "above/upper", "above/work").len() < 4096);
    }
}
