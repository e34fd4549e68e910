//! Leases of files: the kernel's word that nobody else has a file open.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Io, check};

/// `F_SETSIG` of <asm-generic/fcntl.h>.
const F_SETSIG: libc::c_int = 10;

/// Whether some process has the file open for writing. It takes a lease to read for a moment, which
/// the kernel refuses while somebody has; whoever opens the file for writing in that moment waits
/// until it is given up. `file` is open for reading alone.
///
/// Errors: EACCES without CAP_LEASE for a file of another user, EINVAL where the file system has no
/// leases.
pub(crate) fn is_open_for_writing(file: BorrowedFd<'_>) -> Io<bool> {
    // The signal of a lease that is broken would end this process otherwise; nobody notices this
    // one who does not want to.
    fcntl(file, F_SETSIG, libc::SIGURG)?;
    let taken = match fcntl(file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => fcntl(file, libc::F_SETLEASE, libc::F_UNLCK).map(|()| false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    };
    fcntl(file, F_SETSIG, 0)?;
    taken
}

fn fcntl(file: BorrowedFd<'_>, command: libc::c_int, argument: libc::c_int) -> Io<()> {
    // SAFETY: these commands take a number.
    check(unsafe { libc::fcntl(file.as_raw_fd(), command, argument) }.into()).map(drop)
}
