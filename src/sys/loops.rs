//! Loop devices (<linux/loop.h>).

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Io, check};

/// What `LOOP_GET_STATUS64` says of a bound loop device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoopStatus {
    /// Device number of the file system that holds the backing file, as `stat` gives it.
    pub(crate) device: u64,
    /// Inode number of the backing file.
    pub(crate) inode: u64,
    /// The text that it was bound with.
    pub(crate) label: Vec<u8>,
    /// Whether it shows the whole file, read-only, as a device of ours does and an administrator's
    /// may not.
    pub(crate) as_ours: bool,
}

mod loop_abi {
    /// `struct loop_info64` of <linux/loop.h>.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(super) struct LoopInfo64 {
        pub(super) lo_device: u64,
        pub(super) lo_inode: u64,
        pub(super) lo_rdevice: u64,
        pub(super) lo_offset: u64,
        pub(super) lo_sizelimit: u64,
        pub(super) lo_number: u32,
        pub(super) lo_encrypt_type: u32,
        pub(super) lo_encrypt_key_size: u32,
        pub(super) lo_flags: u32,
        pub(super) lo_file_name: [u8; 64],
        pub(super) lo_crypt_name: [u8; 64],
        pub(super) lo_encrypt_key: [u8; 32],
        pub(super) lo_init: [u64; 2],
    }

    /// `struct loop_config` of <linux/loop.h>.
    #[repr(C)]
    pub(super) struct LoopConfig {
        pub(super) fd: u32,
        pub(super) block_size: u32,
        pub(super) info: LoopInfo64,
        pub(super) reserved: [u64; 8],
    }

    pub(super) const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
    pub(super) const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
    pub(super) const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
    pub(super) const LO_FLAGS_READ_ONLY: u32 = 1;
    pub(super) const LO_FLAGS_AUTOCLEAR: u32 = 4;
}

/// The number of a loop device that was free a moment ago; one is made where none is.
pub(crate) fn loop_get_free(control: BorrowedFd<'_>) -> Io<u32> {
    // SAFETY: the call takes no argument and returns a number.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), loop_abi::LOOP_CTL_GET_FREE) };
    check(number as libc::c_long).map(|number| number as u32)
}

/// Binds `file` to a free loop device: read-only, and freed by the kernel with its last user.
/// Kernel 5.8.
pub(crate) fn loop_configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>, label: &[u8]) -> Io<()> {
    // SAFETY: both structures are plain integers, for which zero is valid; the kernel reads them
    // during the call only.
    unsafe {
        let mut config: loop_abi::LoopConfig = std::mem::zeroed();
        config.fd = file.as_raw_fd() as u32;
        config.info.lo_flags = loop_abi::LO_FLAGS_READ_ONLY | loop_abi::LO_FLAGS_AUTOCLEAR;
        let length = label.len().min(config.info.lo_file_name.len() - 1);
        config.info.lo_file_name[..length].copy_from_slice(&label[..length]);
        check(libc::ioctl(device.as_raw_fd(), loop_abi::LOOP_CONFIGURE, &raw const config) as libc::c_long).map(drop)
    }
}

/// Asks for a binding to a descriptor that nobody has open, which cannot come about. EBADF from a
/// kernel that knows the request.
pub(crate) fn loop_configure_nothing(device: BorrowedFd<'_>) -> Io<()> {
    // SAFETY: as for `loop_configure`; the descriptor's number is none, which the kernel looks at
    // first.
    unsafe {
        let mut config: loop_abi::LoopConfig = std::mem::zeroed();
        config.fd = u32::MAX;
        check(libc::ioctl(device.as_raw_fd(), loop_abi::LOOP_CONFIGURE, &raw const config) as libc::c_long).map(drop)
    }
}

/// Which file a loop device is bound to; ENXIO when it is not bound.
pub(crate) fn loop_get_status(device: BorrowedFd<'_>) -> Io<LoopStatus> {
    // SAFETY: the kernel fills the structure, for which zero is valid as well.
    unsafe {
        let mut info: loop_abi::LoopInfo64 = std::mem::zeroed();
        check(libc::ioctl(device.as_raw_fd(), loop_abi::LOOP_GET_STATUS64, &raw mut info) as libc::c_long)?;
        let whole = info.lo_offset == 0 && info.lo_sizelimit == 0;
        let read_only = info.lo_flags & loop_abi::LO_FLAGS_READ_ONLY != 0;
        let label = info.lo_file_name.into_iter().take_while(|byte| *byte != 0).collect();
        Ok(LoopStatus { device: info.lo_device, inode: info.lo_inode, label, as_ours: whole && read_only })
    }
}
