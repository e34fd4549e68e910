//! Mount namespaces, held by descriptors: a thread makes one and is gone.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;

use runtime_tests::namespace::leave_the_machines;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::Outcome;

/// The cgroup v2 tree of a hybrid host.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// A copy of our mount namespace, changed by `change`.
pub fn copy_with(change: impl FnOnce() -> Outcome<()> + Send) -> Outcome<OwnedFd> {
    let make = || -> Outcome<OwnedFd> {
        leave_the_machines()?;
        change()?;
        Ok(File::open("/proc/thread-self/ns/mnt")?.into())
    };
    std::thread::scope(|scope| scope.spawn(make).join().unwrap_or_else(|_| Err("a thread panicked".into())))
}

/// Without the unified hierarchy of a hybrid host, which Debian's crun refuses.
pub fn without_unified() -> Outcome<Option<OwnedFd>> {
    if !Path::new(UNIFIED).join("cgroup.procs").exists() {
        return Ok(None);
    }
    copy_with(take_unified_off).map(Some)
}

/// Unmounts it here.
pub fn take_unified_off() -> Outcome<()> {
    Ok(unmount(UNIFIED, UnmountFlags::DETACH)?)
}

/// Makes so many mounts here, in this directory.
pub fn add_mounts(count: usize, directory: &Path) -> Outcome<()> {
    (0..count).try_for_each(|index| {
        let point = directory.join(index.to_string());
        fs::create_dir_all(&point)?;
        Ok(mount("tmpfs", &point, "tmpfs", MountFlags::empty(), c"size=4k")?)
    })
}
