//! A mount namespace of a program's own.

use std::io;

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Leaves the machine's mount namespace for a copy of it, without the layers that others have mounted: their loop devices are not ours to
/// hold. To be called while this process, or a thread that ends soon, does nothing else.
pub fn leave_the_machines() -> io::Result<()> {
    // SAFETY: of what threads share, only the file system context of this one is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    make_private()?;
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts")?;
    for line in mounts.lines().filter(|line| line.starts_with("/dev/loop")) {
        if let Some(path) = line.split(' ').nth(1) {
            let _ = unmount(path, UnmountFlags::DETACH);
        }
    }
    Ok(())
}

/// Lets nothing that happens to mounts from here on propagate to other namespaces. In a chroot that is no mount each is named by itself.
pub fn make_private() -> io::Result<()> {
    if mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).is_ok() {
        return Ok(());
    }
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts")?;
    for path in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        // One that lies outside of the chroot, or below another mount, cannot be named.
        let _ = mount_change(path, MountPropagationFlags::PRIVATE);
    }
    Ok(())
}
