//! Programs that the kernel runs for a cgroup (<linux/bpf.h>).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{Io, check};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;

/// The part of `union bpf_attr` that loads a program, up to its name.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The part that attaches one.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Has the kernel check and take a program that decides about devices.
pub(crate) fn load_device_program(instructions: &[u64]) -> Io<OwnedFd> {
    let attributes = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        // It calls no function of the kernel, so any will do.
        license: c"Apache-2.0".as_ptr() as u64,
        name: *b"squall_devices\0\0",
        ..Load::default()
    };
    // SAFETY: the structure has the layout of the kernel's and its own size is given; what it
    // points to lives across the call, in which the kernel reads it; the descriptor returned is new
    // and owned here.
    unsafe {
        let size = size_of::<Load>();
        let fd = check(libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attributes, size))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Puts a program into force at a cgroup, in place of the one that was there.
pub(crate) fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Io<()> {
    let number = |fd: BorrowedFd<'_>| fd.as_raw_fd().unsigned_abs();
    let attributes = Attach { target: number(cgroup), program: number(program), kind: BPF_CGROUP_DEVICE, flags: 0 };
    // SAFETY: the structure has the layout of the kernel's and its own size is given; the kernel
    // only reads it, during the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attributes, size_of::<Attach>()) };
    check(done).map(drop)
}
