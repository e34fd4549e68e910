//! A mount namespace of our own.

use std::fs;

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::Outcome;

/// Leaves the machine's mount namespace for a copy of it, without the layers that others have mounted: their loop devices are not ours to
/// hold. To be called while this process has one thread.
pub fn leave_the_machines() -> Outcome<()> {
    // SAFETY: only the file system context of this thread, the only one, is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    for line in mounts.lines().filter(|line| line.starts_with("/dev/loop")) {
        if let Some(path) = line.split(' ').nth(1) {
            let _ = unmount(path, UnmountFlags::DETACH);
        }
    }
    Ok(())
}
