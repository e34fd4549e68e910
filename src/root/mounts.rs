//! Carries out a mount plan below the new root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{fstat, symlinkat};
use rustix::mount::MountAttrFlags;

use super::plan::{MountStep, What};
use super::target::{Links, TargetKind, open_target};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fsmount::{NewFilesystem, attach};
use crate::launch::binds::{BindSource, Sources};
use crate::stage::Stage;
use crate::sys::{self, MountAttr};

/// Makes every mount of the plan, in order.
pub(crate) fn mount_all(root: BorrowedFd<'_>, steps: &[MountStep], sources: &Sources) -> Result<()> {
    let mut system = SystemMounts::default();
    steps.iter().try_for_each(|step| mount_one(root, step, sources, &mut system))
}

/// The devices of the file systems that make up `/proc`, `/dev` and `/sys`. An image may lead a caller's mount anywhere by a link, but not
/// onto these: what libcontainer makes in them afterwards would be made in the caller's directory.
#[derive(Default)]
struct SystemMounts(Vec<u64>);

impl SystemMounts {
    /// Opens the mount point of a step, and minds what a step mounts by itself.
    fn target(&self, root: BorrowedFd<'_>, step: &MountStep, kind: TargetKind) -> Result<OwnedFd> {
        let target = open_target(root, &step.destination, kind, step.links)?;
        let identity = |fd: BorrowedFd<'_>| {
            fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).at(Stage::Mounts, &step.destination, "fstat")
        };
        let (found, top) = (identity(target.as_fd())?, identity(root)?);
        let led_to = match step.links {
            Links::Follow if self.0.contains(&found.0) => "into /proc, /dev or /sys",
            Links::Follow if found == top => "to its root",
            _ => return Ok(target),
        };
        let object = format!("mount point '{}'", step.destination);
        let text = format!("a symbolic link of the image leads it {led_to}");
        Err(Error::found(ErrorKind::System, Stage::Mounts, object, "fstat", text))
    }

    fn mind(&mut self, step: &MountStep, mount: BorrowedFd<'_>) -> Result<()> {
        // Nothing is made in what lies below /dev, so a link may lead there.
        if step.links == Links::Refuse && !step.destination.starts_with("/dev/") {
            self.0.push(fstat(mount).at(Stage::Mounts, &step.destination, "fstat")?.st_dev);
        }
        Ok(())
    }
}

fn mount_one(root: BorrowedFd<'_>, step: &MountStep, sources: &Sources, system: &mut SystemMounts) -> Result<()> {
    match &step.what {
        What::New { kind, source, options, attributes } => {
            let target = system.target(root, step, TargetKind::Directory)?;
            let mut filesystem = NewFilesystem::open(Stage::Mounts, &step.destination, kind)?.set("source", source)?;
            for (key, value) in options {
                filesystem = match value {
                    Some(value) => filesystem.set(key, value)?,
                    None => filesystem.flag(key)?,
                };
            }
            let mount = filesystem.create(*attributes)?;
            system.mind(step, mount.as_fd())?;
            attach(mount.as_fd(), target.as_fd()).at(Stage::Mounts, &step.destination, "move_mount")
        }
        What::Bind { index } => bind(root, step, &sources.binds[*index], system),
        What::Cgroup { index } => {
            let source = &sources.cgroups[*index];
            system.mind(step, source.mount.as_fd())?;
            bind(root, step, source, system)
        }
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

fn bind(root: BorrowedFd<'_>, step: &MountStep, source: &BindSource, system: &SystemMounts) -> Result<()> {
    let target = system.target(root, step, source.kind)?;
    attach(source.mount.as_fd(), target.as_fd()).at(Stage::Mounts, &step.destination, "move_mount")
}
