//! Carries out the mount steps below the new root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2, statat, symlinkat};
use rustix::mount::{MountAttrFlags, MoveMountFlags, move_mount};

use super::binds::Sources;
use super::devices::{self, DEV};
use super::mount_steps::{MountStep, What};
use super::target::{Links, Place, Target, TargetKind, open_target};
use crate::error::{Context, Error, FileAspect, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::fsmount::{NewFilesystem, attach};
use crate::stage::Stage;
use crate::sys::{self, MountAttr};

/// Makes every mount of the plan, in order, and the devices in `/dev`.
pub(crate) fn mount_all<'a>(root: BorrowedFd<'a>, steps: &[MountStep], sources: &Sources) -> Result<Mounted<'a>> {
    let mut mounted = Mounted::on(root)?;
    steps.iter().try_for_each(|step| mounted.carry_out(step, sources))?;
    if statat(mounted.root, "proc/kcore", AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        devices::link_kcore(mounted.dev())?;
    }
    Ok(mounted)
}

/// The root, and what is mounted below it so far.
pub(crate) struct Mounted<'a> {
    root: BorrowedFd<'a>,
    /// Device and inode of the root.
    top: (u64, u64),
    /// The devices of the file systems that make up `/proc`, `/dev` and `/sys`. An image may lead a
    /// caller's mount anywhere by a link, but not onto these.
    system: Vec<u64>,
    /// The devices of the root and of every file system that was made for this container.
    own: Vec<u64>,
    /// The mounts among these in which mount points are made, as long as nothing covers them. What
    /// is below them is reached from their descriptors, past everything that the image has on the
    /// way.
    ours: Vec<(String, OwnedFd)>,
}

impl<'a> Mounted<'a> {
    fn on(root: BorrowedFd<'a>) -> Result<Mounted<'a>> {
        let top = identity(root, "/")?;
        Ok(Mounted { root, top, system: Vec::new(), own: vec![top.0], ours: Vec::new() })
    }

    /// The nearest of our own mounts above the path, and the way from there.
    pub(crate) fn below<'p>(&self, path: &'p str) -> (BorrowedFd<'_>, &'p str) {
        let above = self.ours.iter().filter_map(|(top, mount)| Some((mount.as_fd(), way_below(top, path)?)));
        above.min_by_key(|(_, way)| way.len()).unwrap_or((self.root, path.trim_start_matches('/')))
    }

    /// The file system that is `/dev`: no mount of a caller's can cover it.
    pub(crate) fn dev(&self) -> BorrowedFd<'_> {
        self.below("/dev/null").0
    }

    /// The same below a copy of the whole tree, which is what is seen from now on. Each of our own
    /// mounts has its copy where it was, or this is an error.
    pub(crate) fn in_copy<'c>(self, copy: BorrowedFd<'c>) -> Result<Mounted<'c>> {
        let find = |(path, mount): (String, OwnedFd)| -> Result<(String, OwnedFd)> {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let found = openat2(copy, path.trim_start_matches('/'), flags, Mode::empty(), resolve);
            let found = found.at(Stage::Mounts, &path, "openat2(RESOLVE_NO_SYMLINKS)")?;
            if identity(found.as_fd(), &path)? == identity(mount.as_fd(), &path)? {
                return Ok((path, found));
            }
            let (found, expected) = ("another file system", "the one that was mounted there");
            Err(Error::wrong_file(Stage::Mounts, path, "fstat", FileAspect::Mount, found, expected))
        };
        let ours = self.ours.into_iter().map(find).collect::<Result<_>>()?;
        Ok(Mounted { root: copy, top: self.top, system: self.system, own: self.own, ours })
    }

    fn carry_out(&mut self, step: &MountStep, sources: &Sources) -> Result<()> {
        match &step.what {
            What::New { kind, source, options, attributes } => {
                let mut filesystem =
                    NewFilesystem::open(Stage::Mounts, &step.destination, kind)?.set("source", source)?;
                for (key, value) in options {
                    filesystem = match value {
                        Some(value) => filesystem.set(key, value)?,
                        None => filesystem.flag(key)?,
                    };
                }
                let mount = filesystem.create(*attributes)?;
                if step.destination == DEV {
                    devices::make(mount.as_fd())?;
                }
                self.attach(step, TargetKind::Directory, mount.as_fd())?;
                self.own.push(identity(mount.as_fd(), &step.destination)?.0);
                self.mind(step, mount)
            }
            What::Bind { index } => {
                let source = &sources.binds[*index];
                self.attach(step, source.kind, source.mount.as_fd())
            }
            What::Cgroup { index } => {
                let source = &sources.cgroups[*index];
                self.attach(step, source.kind, source.mount.as_fd())?;
                self.mind_device(step, source.mount.as_fd())
            }
            What::Link { to } => {
                let (parent, name) = self.below(&step.destination);
                symlinkat(to, parent, name).at(Stage::Mounts, &step.destination, "symlinkat")
            }
            What::MakeReadOnly => {
                let mount = self.ours.iter().find(|(top, _)| *top == step.destination);
                let mount = mount.map(|(_, mount)| mount.as_fd()).ok_or_else(|| covered(step))?;
                let set = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
                let attr = MountAttr { set, ..MountAttr::default() };
                sys::mount_setattr(mount, false, attr).at(Stage::Mounts, &step.destination, "mount_setattr(ro)")
            }
        }
    }

    /// Attaches a detached mount at the step's destination, and forgets what it covers.
    fn attach(&mut self, step: &MountStep, kind: TargetKind, mount: BorrowedFd<'_>) -> Result<()> {
        if !self.attach_in_ours(step, kind, mount)? {
            let target = self.target(step, kind)?;
            attach(mount, target.fd.as_fd())
                .at(Stage::Mounts, &step.destination, "move_mount")
                .at_limit(libc::ENOSPC, Limit::Mounts)?;
        }
        self.ours.retain(|(top, _)| *top != step.destination && way_below(&step.destination, top).is_none());
        Ok(())
    }

    /// The short way for a directory that one of our own file systems lacks: what was made this
    /// instant, where nobody else has ever been, need not be looked at.
    fn attach_in_ours(&self, step: &MountStep, kind: TargetKind, mount: BorrowedFd<'_>) -> Result<bool> {
        let (top, name) = self.below(&step.destination);
        let within_ours = self.ours.iter().any(|(above, _)| way_below(above, &step.destination).is_some());
        if !within_ours || step.links == Links::Follow || kind != TargetKind::Directory || name.contains('/') {
            return Ok(false);
        }
        if mkdirat(top, name, Mode::from_raw_mode(0o755)).is_err() {
            return Ok(false);
        }
        move_mount(mount, "", top, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .at(Stage::Mounts, &step.destination, "move_mount")
            .at_limit(libc::ENOSPC, Limit::Mounts)
            .map(|()| true)
    }

    /// Opens the mount point of a step. What a link has led to is looked at.
    fn target(&self, step: &MountStep, kind: TargetKind) -> Result<Target> {
        let (top, path) = match step.links {
            Links::Refuse => self.below(&step.destination),
            Links::Follow => (self.root, step.destination.as_str()),
        };
        let target = open_target(Place { top, path, name: &step.destination, own: &self.own }, kind, step.links)?;
        let led_to = match step.links {
            Links::Follow if self.system.contains(&target.device) => "into /proc, /dev or /sys",
            Links::Follow if (target.device, target.inode) == self.top => "to its root",
            _ => return Ok(target),
        };
        let object = format!("mount point '{}'", step.destination);
        let found = format!("behind a symbolic link of the image that leads {led_to}");
        let expected = "a place in the image itself";
        Err(Error::wrong_file(Stage::Mounts, object, "fstat", FileAspect::Mount, found, expected))
    }

    /// Keeps what the later steps have to know of a mount. Nothing is made in what lies below /dev,
    /// so a link may lead there.
    fn mind(&mut self, step: &MountStep, mount: OwnedFd) -> Result<()> {
        if step.links == Links::Refuse && !step.destination.starts_with("/dev/") {
            self.mind_device(step, mount.as_fd())?;
            self.ours.push((step.destination.clone(), mount));
        }
        Ok(())
    }

    fn mind_device(&mut self, step: &MountStep, mount: BorrowedFd<'_>) -> Result<()> {
        self.system.push(identity(mount, &step.destination)?.0);
        Ok(())
    }
}

/// Device and inode.
fn identity(fd: BorrowedFd<'_>, path: &str) -> Result<(u64, u64)> {
    fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).at(Stage::Mounts, path, "fstat")
}

/// The way from a directory to what is below it; nothing for a path that is not.
fn way_below<'p>(directory: &str, path: &'p str) -> Option<&'p str> {
    path.strip_prefix(directory)?.strip_prefix('/')
}

/// The plan makes read-only what it has just mounted.
fn covered(step: &MountStep) -> Error {
    let (found, expected) = ("covered by another mount", "the one that was just made");
    Error::wrong_file(Stage::Mounts, &step.destination, "mount_setattr(ro)", FileAspect::Mount, found, expected)
}
