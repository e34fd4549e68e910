//! Host paths to be bound, cloned as detached mounts before the container has a mount namespace of its own.
//!
//! Runs in the launch process. What a path names is settled here once, by the descriptor; inside the container no host path exists.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use crate::cgroup::{CgroupPath, Layout};
use crate::error::{Context, Error, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::request::{Access, BindOptions, LaunchSpec, Mount, MountFlag, Propagation, Recursion};
use crate::root::plan::shows_cgroups;
use crate::root::target::TargetKind;
use crate::stage::Stage;
use crate::sys::{self, MountAttr};

/// A detached clone of a host path.
pub(crate) struct BindSource {
    pub(crate) mount: OwnedFd,
    pub(crate) kind: TargetKind,
}

/// Everything of the host that the container will see.
pub(crate) struct Sources {
    /// The spec's binds, in its order.
    pub(crate) binds: Vec<BindSource>,
    /// The container's cgroup in each hierarchy of the layout, in its order; none where the spec hides them.
    pub(crate) cgroups: Vec<BindSource>,
}

impl Sources {
    /// Clones every host path of the spec, and the container's cgroups, which have to exist.
    pub(crate) fn clone_all(spec: &LaunchSpec, layout: &Layout) -> Result<Sources> {
        let cgroups = match shows_cgroups(spec) {
            true => clone_cgroups(layout, &spec.cgroup)?,
            false => Vec::new(),
        };
        Ok(Sources { binds: clone_binds(spec)?, cgroups })
    }
}

/// Read-only, and without anything that a cgroup directory has no use for.
pub(crate) fn cgroup_attributes() -> MountAttr {
    let set = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    MountAttr { set: set.bits().into(), propagation: libc::MS_PRIVATE, ..MountAttr::default() }
}

fn clone_cgroups(layout: &Layout, path: &CgroupPath) -> Result<Vec<BindSource>> {
    let attr = cgroup_attributes();
    let clone = |directory: String| {
        let object = format!("cgroup directory '{directory}'");
        let mount = clone_tree(&directory, Recursion::Single)
            .at(Stage::Binds, &object, "open_tree")
            .at_limit(libc::ENOSPC, Limit::DetachedMounts)?;
        sys::mount_setattr(mount.as_fd(), false, attr).at(Stage::Binds, &object, "mount_setattr")?;
        Ok(BindSource { mount, kind: TargetKind::Directory })
    };
    layout.hierarchies().iter().map(|hierarchy| clone(hierarchy.directory(path))).collect()
}

fn clone_binds(spec: &LaunchSpec) -> Result<Vec<BindSource>> {
    let binds = spec.mounts.iter().filter_map(|mount| match mount {
        Mount::Bind(bind) => Some(clone_path(bind.source.as_str(), &bind.options)),
        Mount::Tmpfs(_) => None,
    });
    binds.collect()
}

fn clone_path(source: &str, options: &BindOptions) -> Result<BindSource> {
    let object = format!("bind source '{source}'");
    let mount = clone_tree(source, options.recursion).map_err(|errno| match errno {
        Errno::NOENT => {
            Error::system(Stage::Binds, &object, "open_tree", errno).meaning("it does not exist on the host")
        }
        _ => Error::system(Stage::Binds, &object, "open_tree", errno).at_limit(libc::ENOSPC, Limit::DetachedMounts),
    })?;
    let recursive = options.recursion == Recursion::Recursive;
    sys::mount_setattr(mount.as_fd(), recursive, attributes(options)).at(Stage::Binds, &object, "mount_setattr")?;
    let kind = match FileType::from_raw_mode(fstat(&mount).at(Stage::Binds, &object, "fstat")?.st_mode) {
        FileType::Directory => TargetKind::Directory,
        _ => TargetKind::File,
    };
    Ok(BindSource { mount, kind })
}

/// A detached copy of the mount, or mount tree, at a host path.
pub(crate) fn clone_tree(path: &str, recursion: Recursion) -> rustix::io::Result<OwnedFd> {
    let recursive = match recursion {
        Recursion::Recursive => OpenTreeFlags::AT_RECURSIVE,
        Recursion::Single => OpenTreeFlags::empty(),
    };
    open_tree(rustix::fs::CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | recursive)
}

/// Read-only reaches every mount below the source, as for `docker run -v` since version 25: a submount of the host must not stay writable
/// because nobody thought of it. Devices and setuid stay off unless asked for by name.
pub(crate) fn attributes(options: &BindOptions) -> MountAttr {
    let asks = |flag| options.flags.contains(flag) || options.flags_below.contains(flag);
    let mut set = MountAttrFlags::empty();
    let mut clear = MountAttrFlags::empty();
    let mut decide = |flag: MountAttrFlags, on: bool| if on { set |= flag } else { clear |= flag };
    if options.access == Access::ReadOnly || options.access_below == Some(Access::ReadOnly) {
        decide(MountAttrFlags::MOUNT_ATTR_RDONLY, true);
    }
    decide(MountAttrFlags::MOUNT_ATTR_NODEV, !asks(MountFlag::Dev));
    decide(MountAttrFlags::MOUNT_ATTR_NOSUID, !asks(MountFlag::Suid));
    if asks(MountFlag::NoExec) {
        decide(MountAttrFlags::MOUNT_ATTR_NOEXEC, true);
    }
    // Kernel 5.14; an older one refuses the bind, rather than to follow links that were not to be followed.
    if asks(MountFlag::NoSymFollow) {
        decide(MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, true);
    }
    if asks(MountFlag::NoDirAtime) {
        decide(MountAttrFlags::MOUNT_ATTR_NODIRATIME, true);
    }
    let access_times = [
        (MountFlag::NoAtime, MountAttrFlags::MOUNT_ATTR_NOATIME),
        (MountFlag::StrictAtime, MountAttrFlags::MOUNT_ATTR_STRICTATIME),
        (MountFlag::RelAtime, MountAttrFlags::MOUNT_ATTR_RELATIME),
    ];
    // The three share a field, which has to be cleared as a whole to be changed.
    if let Some((_, attribute)) = access_times.into_iter().find(|(flag, _)| asks(*flag)) {
        clear |= MountAttrFlags::MOUNT_ATTR__ATIME;
        set |= attribute;
    }
    MountAttr {
        set: set.bits().into(),
        clear: clear.bits().into(),
        propagation: propagation(options.propagation),
        userns_fd: 0,
    }
}

/// The two that cannot be given are refused with the request: what is mounted in a container is to stay there, and the kernel leaves what is
/// unbindable out of the copy that becomes the root.
fn propagation(asked: Propagation) -> u64 {
    match asked {
        Propagation::Slave | Propagation::RecursiveSlave => libc::MS_SLAVE,
        _ => libc::MS_PRIVATE,
    }
}
