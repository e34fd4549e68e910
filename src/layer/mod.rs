//! Layers: read-only file systems in files, mounted once each and shared by every container that
//! uses them.
//!
//! The kernel's superblock is the user count. Mounting a loop device that is mounted already gives
//! the same superblock, an overlay keeps its lower superblocks alive by itself, and autoclear frees
//! the device with the last user. So there are no leases here, and nothing that is in use can be
//! pulled away. What this module keeps below `layers/` is a cache, which anybody may take away at
//! any time:
//!
//! - `<layer-id>/mnt`, the *pin*: a mount that keeps an idle layer warm;
//! - `<layer-id>/loop`, a hint: the number of the loop device last seen bound to the file;
//! - `<layer-id>/lock`, held only while a device is bound, and waited for no longer than that
//!   should take.
//!
//! A layer is known by what its file is ([`LayerIdentity`]), never by a path and never by a digest
//! in its name, which would let one file stand in for another on its name's word. If all of the
//! cache is taken away while containers run, the next launch finds the bound device by asking every
//! bound one.
//!
//! The time in it is that of the last change: an image that is copied over another with its time of
//! writing kept (`cp -p`) is another layer. Nothing here changes the file. Who gives it another
//! mode, owner or name while containers run makes the next launch mount it once more, beside the
//! mount that they have, which goes with the last of them.
//!
//! Runs in the launch process, as root, in the host's mount namespace. It has one thread but for
//! the time in which devices are bound: several layers are attached at a time then, because the
//! kernel spends most of that time waiting.

pub(crate) mod file;
pub(crate) mod image_roots;
mod lock;
mod loopdev;
mod pins;
mod preview;
mod status;
mod unmountable;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Timestamps, UTIME_NOW};
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::error::Result;
use crate::fsmount::NewFilesystem;
use crate::stage::Stage;
pub use file::{LayerFormat, LayerIdentity, OpenLayer};
pub(crate) use file::{check_layers, without_repeats};
pub(crate) use image_roots::ImageRoots;
use loopdev::{BoundDevices, LoopDevice};
pub(crate) use pins::Look;
pub use pins::{Trim, TrimmedLayer};
pub use status::LayerStatus;
pub(crate) use status::{Use, digest_in_name};
pub(crate) use unmountable::explain_unread;

/// What is in a layer's directory.
const PIN: &str = "mnt";
const HINT: &str = "loop";
const LOCK: &str = "lock";

/// Layers attached at a time by one launch. On two CPUs, 40 layers took 73 ms one by one, 23 by two
/// or four threads, and 28 by sixteen, which get in each other's way for free devices.
const AT_A_TIME: usize = 4;

/// Attaching takes a few kilobytes of stack.
const HELPER_STACK: usize = 128 << 10;

/// How a layer's mount was obtained, as the record has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LayerSource {
    /// The pin was cloned.
    Pin,
    /// The loop device was bound already and has been mounted once more.
    LoopDevice,
    /// A loop device was bound for this launch.
    Attached,
}

/// A detached read-only mount of one layer. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct LayerMount {
    pub(crate) mount: OwnedFd,
    pub(crate) source: LayerSource,
}

impl OpenLayer {
    pub(crate) fn label(&self) -> String {
        format!("layer '{}'", self.path.as_str())
    }
}

impl LayerFormat {
    /// The kernel's name for the file system.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LayerFormat::Squashfs => "squashfs",
            LayerFormat::Erofs => "erofs",
        }
    }

    /// What statfs(2) calls it (<linux/magic.h>).
    fn magic(self) -> u64 {
        match self {
            LayerFormat::Squashfs => 0x7371_7368,
            LayerFormat::Erofs => 0xe0f5_e1e2,
        }
    }
}

impl LayerIdentity {
    /// The name of the layer's directory: what the file *is*, never its path.
    pub fn layer_id(&self) -> String {
        format!("{:x}-{:x}-{:x}-{:x}", self.device, self.inode, self.size_bytes, self.ctime_ns)
    }
}

/// The mounted layers below a run root.
#[derive(Debug, Clone)]
pub(crate) struct LayerStore {
    directory: PathBuf,
    keep: usize,
}

impl LayerStore {
    /// The store in this directory, which keeps at most this many idle layers mounted.
    pub(crate) fn new(directory: PathBuf, keep: usize) -> LayerStore {
        LayerStore { directory, keep }
    }

    /// A detached mount of each layer, in their order. Where a device was bound for one, there may
    /// be pins too many afterwards ([`LayerStore::trim_after`]). `progress` is called after each
    /// layer that took time.
    pub(crate) fn mount_all(&self, layers: &[OpenLayer], progress: impl Fn() + Sync) -> Result<Vec<LayerMount>> {
        let slots: Vec<Slot<'_>> = layers.iter().map(|layer| self.slot(layer)).collect();
        let mut mounts = slots.iter().map(Slot::mount_shared).collect::<Result<Vec<_>>>()?;
        let missing: Vec<usize> = (0..slots.len()).filter(|index| mounts[*index].is_none()).collect();
        let attaching = Attaching { bound: BoundDevices::default(), pins: AtomicUsize::new(0), keep: self.keep };
        let attach = |index: &usize| {
            let mount = slots[*index].attach(&attaching);
            progress();
            mount
        };
        for (index, mount) in missing.iter().zip(in_parallel(&missing, AT_A_TIME, attach)) {
            mounts[*index] = Some(mount?);
        }
        Ok(mounts.into_iter().flatten().collect())
    }

    fn slot<'l>(&self, layer: &'l OpenLayer) -> Slot<'l> {
        Slot { directory: self.directory.join(layer.identity.layer_id()), layer }
    }

    /// Unmounts pins beyond the number to keep, after layers were mounted in these ways. Each takes
    /// the kernel some 10 ms. Failing to unmount an idle one is no reason to fail a launch; `squall
    /// reap` reports it.
    pub(crate) fn trim_after(&self, sources: &[LayerSource]) {
        if !sources.contains(&LayerSource::Attached) {
            return;
        }
        // Who uses which layer would have to be asked of every container.
        match self.trim(self.keep, Trim::Do, Look::AtPins, &BTreeMap::new()) {
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "idle layers stay mounted"),
        }
    }
}

/// What the layers that one launch attaches have in common.
struct Attaching {
    bound: BoundDevices,
    /// Pins allowed so far.
    pins: AtomicUsize,
    /// More pins than may stay would only be taken away again.
    keep: usize,
}

impl Attaching {
    fn may_pin(&self) -> bool {
        self.pins.fetch_add(1, Ordering::Relaxed) < self.keep
    }
}

/// Does the work for each item, several at a time, and gives the answers in the items' order. Where
/// no thread can be made, this one does all of it.
fn in_parallel<I: Sync, T: Send>(items: &[I], at_a_time: usize, work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        while let Some((index, item)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, items.get(n)?)))
        {
            done.push((index, work(item)));
        }
        done
    };
    let mut done = std::thread::scope(|scope| {
        let spawn = |_| std::thread::Builder::new().stack_size(HELPER_STACK).spawn_scoped(scope, take).ok();
        let helpers: Vec<_> = (1..items.len().min(at_a_time)).map_while(spawn).collect();
        let mut done = take();
        for helper in helpers {
            done.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, answer)| answer).collect()
}

/// One layer's directory in the store.
struct Slot<'a> {
    directory: PathBuf,
    layer: &'a OpenLayer,
}

/// Layers never bring devices or privileges with them, whatever they contain.
fn layer_attributes() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID
}

impl Slot<'_> {
    fn pin_path(&self) -> PathBuf {
        self.directory.join(PIN)
    }

    /// A clone of the pin; nothing where there is no pin (any more).
    fn clone_pin(&self) -> Option<OwnedFd> {
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        let mount = open_tree(rustix::fs::CWD, self.pin_path(), flags).ok()?;
        // Without a mount on it, the directory itself was cloned.
        let kind = rustix::fs::fstatfs(&mount).ok()?.f_type as u64;
        (kind == self.layer.format.magic()).then_some(mount)
    }

    /// A mount of what is there already: the pin, cloned, or the device that the hint names, if
    /// that is still bound to this file.
    fn mount_shared(&self) -> Result<Option<LayerMount>> {
        let mounted = match self.clone_pin() {
            Some(mount) => LayerMount { mount, source: LayerSource::Pin },
            None => match self.hinted_device() {
                None => return Ok(None),
                Some(device) => match self.mount_device(&device) {
                    Ok(mount) => LayerMount { mount, source: LayerSource::LoopDevice },
                    // Its last user is just letting go of it, or somebody has it for something
                    // else.
                    Err(error) if error.errno() == Some(libc::EBUSY) => return Ok(None),
                    Err(error) => return Err(error),
                },
            },
        };
        self.mark_used();
        Ok(Some(mounted))
    }

    /// A mount of the layer, with a device bound for it under the layer's own lock; whoever waited
    /// for the lock usually finds the work done. Of a layer that cannot be had nothing stays in the
    /// store.
    fn attach(&self, attaching: &Attaching) -> Result<LayerMount> {
        let Some(_lock) = lock::take(&self.directory, &self.layer.label())? else { return self.attach_alone() };
        self.attach_locked(attaching).inspect_err(|_| {
            if self.hinted_device().is_none() {
                let _ = pins::remove_directory(&self.directory, Stage::Layers, &self.layer.label());
            }
        })
    }

    /// Without the lock: nothing is left in the store.
    fn attach_alone(&self) -> Result<LayerMount> {
        if let Some(mount) = self.mount_shared()? {
            return Ok(mount);
        }
        let device = LoopDevice::bind(self.layer)?;
        Ok(LayerMount { mount: self.mount_device(&device)?, source: LayerSource::Attached })
    }

    fn attach_locked(&self, attaching: &Attaching) -> Result<LayerMount> {
        if let Some(mount) = self.mount_shared()? {
            return Ok(mount);
        }
        let (device, source) = match attaching.bound.find(&self.layer.identity.layer_id()) {
            Some(device) => (device, LayerSource::LoopDevice),
            None => (LoopDevice::bind(self.layer)?, LayerSource::Attached),
        };
        let mount = match self.mount_device(&device) {
            // As above: then a device of our own is the answer.
            Err(error) if error.errno() == Some(libc::EBUSY) && source == LayerSource::LoopDevice => {
                let device = LoopDevice::bind(self.layer)?;
                let mount = self.mount_device(&device)?;
                return Ok(LayerMount { mount: self.keep(mount, &device, attaching)?, source: LayerSource::Attached });
            }
            other => other?,
        };
        Ok(LayerMount { mount: self.keep(mount, &device, attaching)?, source })
    }

    /// Leaves hint and pin behind for those who come after.
    fn keep(&self, mount: OwnedFd, device: &LoopDevice, attaching: &Attaching) -> Result<OwnedFd> {
        self.write_hint(device.number);
        let mount = if attaching.may_pin() { self.pin(mount, device)? } else { mount };
        self.mark_used();
        Ok(mount)
    }

    fn hinted_device(&self) -> Option<LoopDevice> {
        let hint = fs::read_to_string(self.directory.join(HINT)).ok()?;
        LoopDevice::bound_to(hint.trim().parse().ok()?, &self.layer.identity.layer_id())
    }

    fn mount_device(&self, device: &LoopDevice) -> Result<OwnedFd> {
        let object = self.layer.label();
        NewFilesystem::open(Stage::Layers, &object, self.layer.format.name())?
            .set("source", &LoopDevice::path(device.number))?
            .flag("ro")?
            .create(layer_attributes())
            .map_err(|error| unmountable::explain(error, self.layer.format))
            .and_then(|mount| unmountable::with_directory(mount, &object, self.layer.format))
    }

    /// Leaves a pin behind and gives back a clone of it. Cloning a detached mount needs kernel
    /// 6.15, so the mount itself becomes the pin; if somebody unmounts it in between, the device,
    /// which is still open, is simply mounted once more.
    fn pin(&self, mount: OwnedFd, device: &LoopDevice) -> Result<OwnedFd> {
        match move_mount(mount.as_fd(), "", rustix::fs::CWD, self.pin_path(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH) {
            Ok(()) => match self.clone_pin() {
                Some(clone) => Ok(clone),
                None => self.mount_device(device),
            },
            // No pin then: it is only a cache.
            Err(errno) => {
                tracing::warn!(layer = self.layer.path.as_str(), %errno, "cannot pin the layer");
                Ok(mount)
            }
        }
    }

    /// A lost hint costs a second device for the same file at worst, so a failure to write it is
    /// only logged.
    fn write_hint(&self, number: u32) {
        if let Err(error) = fs::write(self.directory.join(HINT), number.to_string()) {
            tracing::warn!(layer = self.layer.path.as_str(), %error, "cannot write the loop hint");
        }
    }

    /// The directory's modification time is the layer's last use, which decides who is reaped
    /// first.
    fn mark_used(&self) {
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        let _ = rustix::fs::utimensat(rustix::fs::CWD, &self.directory, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    }
}
