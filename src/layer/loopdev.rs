//! Loop devices: finding the one that a layer is bound to, and binding a new one.
//!
//! A device is bound read-only and with autoclear: the kernel frees it with its last user, so nothing here ever detaches one.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};

use super::OpenLayer;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::limit::{AtLimit, Limit};
use crate::stage::Stage;
use crate::sys;

/// How often a free device may be snatched away before the launch gives up. Each loss means that somebody else made progress.
const ATTEMPTS: u32 = 256;

/// An open loop device that is bound to the layer. While it is open, autoclear cannot free it.
pub(super) struct LoopDevice {
    pub(super) number: u32,
    _open: OwnedFd,
}

impl LoopDevice {
    pub(super) fn path(number: u32) -> String {
        format!("/dev/loop{number}")
    }

    /// The device with this number, if it is bound to this layer's file. Opening comes first: only then can it not go away.
    pub(super) fn bound_to(number: u32, layer: &OpenLayer) -> Option<LoopDevice> {
        LoopDevice::with_file(number, layer.identity.device, layer.identity.inode)
    }

    /// Whether the device with this number is bound to this file.
    pub(super) fn is_bound_to(number: u32, device: u64, inode: u64) -> bool {
        LoopDevice::with_file(number, device, inode).is_some()
    }

    fn with_file(number: u32, device: u64, inode: u64) -> Option<LoopDevice> {
        let open = open(LoopDevice::path(number), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        // ENXIO: not bound (any more).
        let status = sys::loop_get_status(open.as_fd()).ok()?;
        (status.device == device && status.inode == inode && status.as_ours)
            .then_some(LoopDevice { number, _open: open })
    }

    /// Binds a free device to the layer. Asking for a free number and taking it are two steps, so losing the race is normal.
    pub(super) fn bind(layer: &OpenLayer) -> Result<LoopDevice> {
        let object = layer.label();
        let control = open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at(
            Stage::Layers,
            "/dev/loop-control",
            "open",
        )?;
        for _ in 0..ATTEMPTS {
            let number = match sys::loop_get_free(control.as_fd()) {
                Ok(number) => number,
                Err(error) => return Err(exhausted(&object, "ioctl(LOOP_CTL_GET_FREE)", error)),
            };
            let device = match open(LoopDevice::path(number), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
                Ok(device) => device,
                Err(rustix::io::Errno::NXIO | rustix::io::Errno::BUSY) => continue,
                Err(errno) => {
                    let error = Error::system(Stage::Layers, LoopDevice::path(number), "open", errno);
                    return Err(error.at_limit(libc::ENOENT, Limit::LoopNodes));
                }
            };
            match sys::loop_configure(device.as_fd(), layer.file.as_fd(), layer.path.as_str().as_bytes()) {
                Ok(()) => return Ok(LoopDevice { number, _open: device }),
                Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENXIO)) => continue,
                Err(error) => return Err(Error::system(Stage::Layers, &object, "ioctl(LOOP_CONFIGURE)", error)),
            }
        }
        Err(Error::found(
            ErrorKind::Exhausted,
            Stage::Layers,
            object,
            "ioctl(LOOP_CONFIGURE)",
            format!("{ATTEMPTS} free loop devices in a row were taken by others"),
        ))
    }
}

fn exhausted(object: &str, call: &str, error: std::io::Error) -> Error {
    Error::system(Stage::Layers, object, call, error)
        .with_kind(ErrorKind::Exhausted)
        .meaning(Limit::LoopDevices.words())
}
