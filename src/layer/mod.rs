//! Layers: read-only file systems in files, mounted once each and shared by every container that uses them.
//!
//! The kernel's superblock is the user count. Mounting a loop device that is mounted already gives the same superblock, an overlay keeps
//! its lower superblocks alive by itself, and autoclear frees the device with the last user. So there are no leases here, and nothing that
//! is in use can be pulled away. What this module keeps below `layers/` is a cache, which anybody may take away at any time:
//!
//! - `<layer-id>/mnt`, the *pin*: a mount that keeps an idle layer warm;
//! - `<layer-id>/loop`, a hint: the number of the loop device last seen bound to the file;
//! - `<layer-id>/lock`, held only while a device is bound.
//!
//! Runs in the launch process, as root, in the host's mount namespace.

mod forecast;
mod loopdev;
mod pins;
mod unmountable;

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Timestamps, UTIME_NOW};
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use self::loopdev::LoopDevice;
pub use self::pins::{Trim, TrimmedLayer};
pub(crate) use self::unmountable::explain_unread;
use crate::error::{Context, Result};
use crate::fsmount::NewFilesystem;
pub use crate::request::{LayerFormat, LayerIdentity, OpenLayer};
use crate::stage::Stage;

/// How a layer's mount was come by, as the record tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
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
        format!("{:x}-{:x}-{:x}-{:x}", self.device, self.inode, self.size_bytes, self.mtime_ns)
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

    /// A detached mount of each layer, in their order. Where a device was bound for one, there may be pins too many afterwards.
    pub(crate) fn mount_all<'l>(&self, layers: impl IntoIterator<Item = &'l OpenLayer>) -> Result<Vec<LayerMount>> {
        let mounts: Vec<LayerMount> = layers.into_iter().map(|layer| self.mount(layer)).collect::<Result<_>>()?;
        if mounts.iter().any(|layer| layer.source == LayerSource::Attached) {
            self.trim_after_attach();
        }
        Ok(mounts)
    }

    /// A detached mount of the layer, by the cheapest way there is: clone the pin, mount the bound device, bind a device.
    fn mount(&self, layer: &OpenLayer) -> Result<LayerMount> {
        let slot = Slot { directory: self.directory.join(layer.identity.layer_id()), layer };
        let mounted = match slot.clone_pin() {
            Some(mount) => LayerMount { mount, source: LayerSource::Pin },
            None => match slot.mount_bound_device()? {
                Some(mount) => LayerMount { mount, source: LayerSource::LoopDevice },
                None => self.attach(&slot)?,
            },
        };
        slot.mark_used();
        Ok(mounted)
    }

    /// Binds a device under the layer's own lock; whoever waited for the lock usually finds the work done.
    fn attach(&self, slot: &Slot<'_>) -> Result<LayerMount> {
        let lock = slot.lock()?;
        if let Some(mount) = slot.clone_pin() {
            return Ok(LayerMount { mount, source: LayerSource::Pin });
        }
        if let Some(mount) = slot.mount_bound_device()? {
            return Ok(LayerMount { mount, source: LayerSource::LoopDevice });
        }
        let device = LoopDevice::bind(slot.layer)?;
        let mount = slot.mount_device(&device)?;
        slot.write_hint(device.number);
        let mount = slot.pin(mount, &device)?;
        drop(lock);
        Ok(LayerMount { mount, source: LayerSource::Attached })
    }

    /// Unmounts what is too much. Looking at every layer costs a dozen calls each, so they are counted first: no more layers than may stay
    /// means no more pins. Failing to unmount an idle one is no reason to fail this launch; `squall reap` reports it.
    fn trim_after_attach(&self) {
        if fs::read_dir(&self.directory).is_ok_and(|layers| layers.count() <= self.keep) {
            return;
        }
        match self.trim(self.keep, Trim::Do) {
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "idle layers stay mounted"),
        }
    }
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
        self.directory.join("mnt")
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

    /// A mount of the device that the hint names, if that is still bound to this file.
    fn mount_bound_device(&self) -> Result<Option<OwnedFd>> {
        let Ok(hint) = fs::read_to_string(self.directory.join("loop")) else { return Ok(None) };
        let Ok(number) = hint.trim().parse() else { return Ok(None) };
        match LoopDevice::bound_to(number, self.layer) {
            Some(device) => self.mount_device(&device).map(Some),
            None => Ok(None),
        }
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

    /// Leaves a pin behind and gives back a clone of it. Cloning a detached mount needs kernel 6.15, so the mount itself becomes the pin;
    /// if somebody unmounts it in between, the device, which is still open, is simply mounted once more.
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

    /// Takes the layer's lock, making its directory where needed. A reaper may remove directory and lock file while we wait: then the
    /// file we hold has no name any more, and the next turn makes both anew.
    fn lock(&self) -> Result<File> {
        let object = self.layer.label();
        let lock_path = self.directory.join("lock");
        loop {
            create_private_directory(&self.directory).at(Stage::Layers, &object, "mkdir(layer directory)")?;
            create_private_directory(&self.pin_path())
                .at(Stage::Layers, &object, "mkdir(mnt)")
                .or_else(ignore_missing)?;
            let lock = match File::options().write(true).create(true).truncate(false).open(&lock_path) {
                Ok(lock) => lock,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).at(Stage::Layers, &object, "open(lock)"),
            };
            rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).at(Stage::Layers, &object, "flock")?;
            if lock.metadata().at(Stage::Layers, &object, "fstat(lock)")?.nlink() > 0 {
                return Ok(lock);
            }
        }
    }

    /// A lost hint costs a second device for the same file at worst, so a failure to write it is only logged.
    fn write_hint(&self, number: u32) {
        if let Err(error) = fs::write(self.directory.join("loop"), number.to_string()) {
            tracing::warn!(layer = self.layer.path.as_str(), %error, "cannot write the loop hint");
        }
    }

    /// The directory's modification time is the layer's last use, which decides who is reaped first.
    fn mark_used(&self) {
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        let _ = rustix::fs::utimensat(rustix::fs::CWD, &self.directory, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    }
}

/// The pin's directory vanished under a reaper: the loop that called sees it by the lock file.
fn ignore_missing(error: crate::error::Error) -> Result<()> {
    if error.errno() == Some(libc::ENOENT) { Ok(()) } else { Err(error) }
}

/// Makes a directory that only root can look into; one that is there already will do.
pub(crate) fn create_private_directory(path: &Path) -> std::io::Result<()> {
    match rustix::fs::mkdir(path, rustix::fs::Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
