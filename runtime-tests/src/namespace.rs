//! A mount namespace of a program's own.

use std::io;

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Leaves the machine's mount namespace for a copy of it, without the layers that others have mounted: their loop devices are not ours to
/// hold. To be called while this process, or a thread that ends soon, does nothing else.
pub fn leave_the_machines() -> io::Result<()> {
    // SAFETY: of what threads share, only the file system context of this one is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts")?;
    for line in mounts.lines().filter(|line| line.starts_with("/dev/loop")) {
        if let Some(path) = line.split(' ').nth(1) {
            let _ = unmount(path, UnmountFlags::DETACH);
        }
    }
    Ok(())
}
