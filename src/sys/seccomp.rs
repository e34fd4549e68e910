//! Filters for system calls.

use std::io;

use super::{Io, check};

/// seccomp(2): from now on the calling thread's system calls go through this program too.
pub(crate) fn install_seccomp_filter(program: &[super::instruction::Instruction], flags: u32) -> Io<()> {
    // The kernel refuses what is longer than 4096.
    let len = u16::try_from(program.len()).unwrap_or(u16::MAX);
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `Instruction` has the layout of `struct sock_filter` (repr(C), the same four fields),
    // `len` of them are there, and the kernel only reads them, during the call.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    match check(done)? {
        0 => Ok(()),
        // With TSYNC: the id of a thread that has another filter already.
        _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}
