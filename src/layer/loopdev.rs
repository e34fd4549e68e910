//! Loop devices: finding the one that a layer is bound to, and binding a new one.
//!
//! A device is bound read-only and with autoclear: the kernel frees it with its last user, so
//! nothing here ever detaches one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::OpenLayer;
use super::pins::file_in_id;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::stage::Stage;
use crate::sys::{self, LoopStatus};

/// How long free devices may be snatched away before the launch gives up. Each loss means that
/// somebody else made progress, and thousands of devices are bound in a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest rest after a loss; all who lost would ask for the same free device again otherwise.
const MAX_REST_US: u64 = 4000;

/// An open loop device that is bound to the layer. While it is open, autoclear cannot free it.
pub(super) struct LoopDevice {
    pub(super) number: u32,
    _open: OwnedFd,
}

impl LoopDevice {
    pub(super) fn path(number: u32) -> String {
        format!("/dev/loop{number}")
    }

    /// The device with this number, if it is bound to the file of this layer id. Opening comes
    /// first: only then can it not go away.
    ///
    /// The kernel knows device and inode. Size and time of change are in the text that the device
    /// was bound with: a file that has been written to since is another layer.
    pub(super) fn bound_to(number: u32, layer_id: &str) -> Option<LoopDevice> {
        let open = open(LoopDevice::path(number), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        // ENXIO: not bound (any more).
        let status = sys::loop_get_status(open.as_fd()).ok()?;
        let is_bound = layer_of(&status).is_some_and(|bound| bound == layer_id);
        is_bound.then_some(LoopDevice { number, _open: open })
    }

    /// The layer id of the file that the device shows, if it is bound at all; what sysfs says first
    /// spares the free ones the opening.
    fn layer_id(number: u32) -> Option<String> {
        rustix::fs::access(format!("/sys/block/loop{number}/loop"), rustix::fs::Access::EXISTS).ok()?;
        let open = open(LoopDevice::path(number), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        layer_of(&sys::loop_get_status(open.as_fd()).ok()?)
    }

    /// Binds a free device to the layer; one is made where none is free. Asking for a free number
    /// and taking it are two steps, so losing the race is normal.
    pub(super) fn bind(layer: &OpenLayer) -> Result<LoopDevice> {
        let object = layer.label();
        let control = open_control()?;
        let deadline = Instant::now() + PATIENCE;
        let mut losses = 0;
        while Instant::now() < deadline {
            let number = match sys::loop_get_free(control.as_fd()) {
                Ok(number) => number,
                Err(error) => return Err(exhausted(&object, "ioctl(LOOP_CTL_GET_FREE)", error)),
            };
            if let Some(device) = LoopDevice::take(number, layer)? {
                return Ok(device);
            }
            losses += 1;
            rest(losses);
        }
        let cause = Cause::LostRace { attempts: losses, prize: "the free loop device".to_owned() };
        Err(Error::new(ErrorKind::Exhausted, Stage::Layers, object, "ioctl(LOOP_CONFIGURE)", cause))
    }

    /// Binds this device, unless somebody else was faster.
    fn take(number: u32, layer: &OpenLayer) -> Result<Option<LoopDevice>> {
        let device = match open(LoopDevice::path(number), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(device) => device,
            Err(Errno::NXIO | Errno::BUSY) => return Ok(None),
            Err(errno) => {
                let error = Error::system(Stage::Layers, LoopDevice::path(number), "open", errno);
                return Err(error.at_limit(libc::ENOENT, Limit::LoopNodes));
            }
        };
        match sys::loop_configure(device.as_fd(), layer.file.as_fd(), layer.identity.layer_id().as_bytes()) {
            Ok(()) => Ok(Some(LoopDevice { number, _open: device })),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENXIO)) => Ok(None),
            Err(error) => Err(Error::system(Stage::Layers, layer.label(), "ioctl(LOOP_CONFIGURE)", error)),
        }
    }
}

fn open_control() -> Result<OwnedFd> {
    const PATH: &str = "/dev/loop-control";
    open(PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
        let error = Error::system(Stage::Layers, PATH, "open", errno);
        if errno != Errno::NOENT {
            return error;
        }
        error.explain(
            "the kernel has no loop driver (modprobe loop), or /dev is not the machine's: \
             in a chroot mount it there (mount --rbind), in a container pass its loop devices in",
        )
    })
}

/// Lets those go first who won, and parts those who lost.
fn rest(losses: u32) {
    let longest = (50_u64 << losses.min(16)).min(MAX_REST_US);
    // Forked processes share what seeds this, so each adds its pid.
    let chance = RandomState::new().hash_one((std::process::id(), losses));
    std::thread::park_timeout(Duration::from_micros(chance % longest));
}

/// What a device that is bound as ours are was bound for. Nobody else names the file's own numbers.
fn layer_of(status: &LoopStatus) -> Option<String> {
    let label = std::str::from_utf8(&status.label).ok()?;
    let names_its_file = file_in_id(label) == Some((status.device, status.inode));
    (status.as_ours && names_its_file).then(|| label.to_owned())
}

/// Every loop device that is bound for a layer, by the layer's id. Looked for at most once a
/// launch, and only by one that finds no hint: it takes a system call for each device of the
/// machine.
#[derive(Debug, Default)]
pub(super) struct BoundDevices(OnceLock<HashMap<String, u32>>);

impl BoundDevices {
    /// One that is bound to this layer's file.
    pub(super) fn find(&self, layer_id: &str) -> Option<LoopDevice> {
        LoopDevice::bound_to(self.number(layer_id)?, layer_id)
    }

    /// Its number.
    pub(super) fn number(&self, layer_id: &str) -> Option<u32> {
        self.all().get(layer_id).copied()
    }

    fn all(&self) -> &HashMap<String, u32> {
        self.0.get_or_init(|| {
            let numbers = Path::new("/sys/block").read_dir().into_iter().flatten().flatten();
            let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("loop")?.parse().ok());
            numbers.filter_map(|number| Some((LoopDevice::layer_id(number)?, number))).collect()
        })
    }
}

fn exhausted(object: &str, call: &str, error: std::io::Error) -> Error {
    Error::system(Stage::Layers, object, call, error)
        .with_kind(ErrorKind::Exhausted)
        .explain(Limit::LoopDevices.words())
}
