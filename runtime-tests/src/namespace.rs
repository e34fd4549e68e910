//! A mount namespace of a program's own.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, open, statx};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{fchdir, pivot_root};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Leaves the machine's mount namespace for one of its own ([`own`]), without the layers that
/// others have mounted: their loop devices are not ours to hold.
///
/// Only for a process with one thread, or for a thread that ends soon.
pub fn leave_the_machines() -> io::Result<()> {
    own()?;
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts")?;
    for line in mounts.lines().filter(|line| line.starts_with("/dev/loop")) {
        if let Some(path) = line.split(' ').nth(1) {
            let _ = unmount(path, UnmountFlags::DETACH);
        }
    }
    Ok(())
}

/// Moves this thread into a copy of its mount namespace that shares no mount events with any other.
///
/// The copy's root is what `/` is here. In a chroot that is a directory below the root of the old
/// one, perhaps no mount. Made the root, it is like that of every machine: its propagation can be
/// changed, user namespaces can be made, and the kernel names mounts and descriptors by the paths
/// that the tests know. Launches from a chroot have a test that makes its own.
///
/// Only for a process with one thread, or for a thread that ends soon. Takes `CAP_SYS_ADMIN` and
/// `CAP_SYS_CHROOT`.
pub fn own() -> io::Result<()> {
    let directory = std::env::current_dir()?;
    // SAFETY: of what threads share, only the file system context of this one is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    let callers_root = open_root()?;
    // Who enters a mount namespace stands at its root, also one that he is in.
    let namespace = File::open("/proc/thread-self/ns/mnt")?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    if place_of(&callers_root)? != place_of(&open_root()?)? {
        make_root(&callers_root)?;
    }
    std::env::set_current_dir(directory)
}

/// Makes a directory the root of this mount namespace, with all that is mounted below it, and
/// detaches everything else.
fn make_root(directory: &OwnedFd) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let new = open_tree(directory, "", flags)?;
    // Only what is a mount, and attached, can become the root.
    let whole = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&new, "", directory, "", whole)?;
    let old = open_root()?;
    fchdir(&new)?;
    pivot_root(".", ".")?;
    // The old root lies over the new one now.
    fchdir(&old)?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(())
}

fn open_root() -> io::Result<OwnedFd> {
    Ok(open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The mount that a directory is on, and its inode.
fn place_of(directory: &OwnedFd) -> io::Result<(u64, u64)> {
    let found = statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID | StatxFlags::INO)?;
    Ok((found.stx_mnt_id, found.stx_ino))
}
