//! Host paths to be bound, cloned as detached mounts before the container has a mount namespace of
//! its own.
//!
//! Runs in the launch process. What a path names is settled once, by the descriptor: here, or
//! before the launch where the files came with the job; inside the container no host path exists.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::mount_steps::shows_cgroups;
use super::target::TargetKind;
use crate::cgroup::{CgroupPath, Layout};
use crate::error::{Context, Error, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::host_files::HostFile;
use crate::opened::HostFiles;
use crate::request::{Access, Bind, BindOptions, LaunchSpec, Mount, MountFlag, Propagation, Recursion};
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
    /// The container's cgroup in each hierarchy of the layout, in its order; none where the spec
    /// hides them.
    pub(crate) cgroups: Vec<BindSource>,
}

impl Sources {
    /// Clones every host path of the spec, by the files that came with the job where they did, and
    /// the container's cgroups, which have to exist.
    pub(crate) fn clone_all(spec: &LaunchSpec, files: Option<&HostFiles>, layout: &Layout) -> Result<Sources> {
        let cgroups = match shows_cgroups(spec) {
            true => clone_cgroups(layout, &spec.cgroup)?,
            false => Vec::new(),
        };
        Ok(Sources { binds: clone_binds(spec, files)?, cgroups })
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
        let mount = clone_tree(rustix::fs::CWD, &directory, Recursion::Single)
            .at(Stage::Binds, &object, "open_tree")
            .at_limit(libc::ENOSPC, Limit::DetachedMounts)?;
        sys::mount_setattr(mount.as_fd(), false, attr).at(Stage::Binds, &object, "mount_setattr")?;
        Ok(BindSource { mount, kind: TargetKind::Directory })
    };
    layout.hierarchies().iter().map(|hierarchy| clone(hierarchy.directory(path))).collect()
}

fn clone_binds(spec: &LaunchSpec, files: Option<&HostFiles>) -> Result<Vec<BindSource>> {
    let binds = spec.mounts.iter().filter_map(|mount| match mount {
        Mount::Bind(bind) => Some(bind),
        Mount::Tmpfs(_) => None,
    });
    match files {
        None => binds.map(clone_path).collect(),
        Some(files) => binds.zip(&files.binds).map(|(bind, source)| clone_opened(bind, source)).collect(),
    }
}

fn clone_path(bind: &Bind) -> Result<BindSource> {
    let mount = clone(bind, rustix::fs::CWD, bind.source.as_str())?;
    let stat = fstat(&mount).at(Stage::Binds, object(bind), "fstat")?;
    Ok(BindSource { mount, kind: kind_of(FileType::from_raw_mode(stat.st_mode) == FileType::Directory) })
}

/// By the descriptor alone; what it is was seen when it was opened, and nothing is asked of its
/// file system again.
fn clone_opened(bind: &Bind, source: &HostFile) -> Result<BindSource> {
    let mount = clone(bind, source.as_fd(), "")?;
    Ok(BindSource { mount, kind: kind_of(source.is_directory()) })
}

fn clone(bind: &Bind, at: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    let object = object(bind);
    let mount = clone_tree(at, path, bind.options.recursion).map_err(|errno| match errno {
        Errno::NOENT => {
            Error::system(Stage::Binds, &object, "open_tree", errno).explain("it does not exist on the host")
        }
        _ => Error::system(Stage::Binds, &object, "open_tree", errno).at_limit(libc::ENOSPC, Limit::DetachedMounts),
    })?;
    let recursive = bind.options.recursion == Recursion::Recursive;
    sys::mount_setattr(mount.as_fd(), recursive, attributes(&bind.options)).at(
        Stage::Binds,
        object,
        "mount_setattr",
    )?;
    Ok(mount)
}

fn object(bind: &Bind) -> String {
    format!("bind source '{}'", bind.source.as_str())
}

fn kind_of(is_directory: bool) -> TargetKind {
    if is_directory { TargetKind::Directory } else { TargetKind::File }
}

/// A detached copy of the mount, or mount tree, at a host path, or of the descriptor itself where
/// the path is empty.
fn clone_tree(at: BorrowedFd<'_>, path: &str, recursion: Recursion) -> rustix::io::Result<OwnedFd> {
    let recursive = match recursion {
        Recursion::Recursive => OpenTreeFlags::AT_RECURSIVE,
        Recursion::Single => OpenTreeFlags::empty(),
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(at, path, flags | recursive)
}

/// Read-only reaches every mount below the source, as for `docker run -v` since version 25: a
/// submount of the host must not stay writable because nobody thought of it. Devices and setuid
/// stay off unless asked for by name.
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
    // Kernel 5.14; an older one refuses the bind, rather than to follow links that were not to be
    // followed.
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

/// The two that cannot be given are refused with the request: what is mounted in a container is to
/// stay there, and the kernel leaves what is unbindable out of the copy that becomes the root.
fn propagation(asked: Propagation) -> u64 {
    match asked {
        Propagation::Slave | Propagation::RecursiveSlave => libc::MS_SLAVE,
        _ => libc::MS_PRIVATE,
    }
}
