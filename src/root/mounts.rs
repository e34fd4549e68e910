//! Carries out a mount plan below the new root.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::symlinkat;
use rustix::mount::MountAttrFlags;

use super::plan::{MountStep, What};
use super::target::{Links, TargetKind, open_target};
use crate::error::{Context, Result};
use crate::fsmount::{NewFilesystem, attach};
use crate::launch::binds::{BindSource, Sources};
use crate::stage::Stage;
use crate::sys::{self, MountAttr};

/// Makes every mount of the plan, in order.
pub(crate) fn mount_all(root: BorrowedFd<'_>, steps: &[MountStep], sources: &Sources) -> Result<()> {
    steps.iter().try_for_each(|step| mount_one(root, step, sources))
}

fn mount_one(root: BorrowedFd<'_>, step: &MountStep, sources: &Sources) -> Result<()> {
    match &step.what {
        What::New { kind, source, options, attributes } => {
            let target = open_target(root, &step.destination, TargetKind::Directory, step.links)?;
            let mut filesystem = NewFilesystem::open(Stage::Mounts, &step.destination, kind)?.set("source", source)?;
            for (key, value) in options {
                filesystem = match value {
                    Some(value) => filesystem.set(key, value)?,
                    None => filesystem.flag(key)?,
                };
            }
            let mount = filesystem.create(*attributes)?;
            attach(mount.as_fd(), target.as_fd()).at(Stage::Mounts, &step.destination, "move_mount")
        }
        What::Bind { index } => bind(root, step, &sources.binds[*index]),
        What::Cgroup { index } => bind(root, step, &sources.cgroups[*index]),
        What::Link { to } => {
            let (parent, name) = step.destination.rsplit_once('/').unwrap_or(("", &step.destination));
            let parent = open_target(root, parent, TargetKind::Directory, Links::Refuse)?;
            symlinkat(to, parent, name).at(Stage::Mounts, &step.destination, "symlinkat")
        }
        What::MakeReadOnly => {
            let mount = open_target(root, &step.destination, TargetKind::Directory, step.links)?;
            let attr = MountAttr { set: u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits()), ..MountAttr::default() };
            sys::mount_setattr(mount.as_fd(), false, attr).at(Stage::Mounts, &step.destination, "mount_setattr(ro)")
        }
    }
}

fn bind(root: BorrowedFd<'_>, step: &MountStep, source: &BindSource) -> Result<()> {
    let target = open_target(root, &step.destination, source.kind, step.links)?;
    attach(source.mount.as_fd(), target.as_fd()).at(Stage::Mounts, &step.destination, "move_mount")
}
