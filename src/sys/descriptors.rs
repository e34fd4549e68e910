//! Descriptors, by their numbers.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{Io, check};

/// Marks every descriptor from `first` on close-on-exec. Kernel 5.11.
pub(crate) fn close_on_exec_from(first: u32) -> Io<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC no descriptor is closed, so no owner is left with a dangling
    // one.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(done).map(drop)
}

/// Moves `fd` to the number `target`, which stays open across exec.
pub(crate) fn move_to(fd: BorrowedFd<'_>, target: RawFd) -> Io<()> {
    if fd.as_raw_fd() == target {
        // SAFETY: only the close-on-exec flag of an open descriptor changes.
        return check(unsafe { libc::fcntl(target, libc::F_SETFD, 0) } as libc::c_long).map(drop);
    }
    // SAFETY: called only in a process about to exec, with targets (0-2, or the numbers of the
    // handover) that no owner in it uses again.
    check(unsafe { libc::dup2(fd.as_raw_fd(), target) } as libc::c_long).map(drop)
}

/// Closes every descriptor but the standard streams and `kept`.
pub(crate) fn close_all_but<'fd>(kept: impl IntoIterator<Item = BorrowedFd<'fd>>) {
    let mut kept: Vec<u32> = kept.into_iter().map(|fd| fd.as_raw_fd() as u32).collect();
    kept.sort_unstable();
    let mut first = 3;
    for last in kept.into_iter().filter(|fd| *fd > 2).chain([u32::MAX]) {
        if first < last {
            // SAFETY: called by the spawner and by a container's init, forked copies of a program
            // that never return to that program's code, or by a program that has opened nothing but
            // `kept`: no owner of the closed descriptors runs again in it.
            unsafe { libc::syscall(libc::SYS_close_range, first, last - 1, 0) };
        }
        first = last.saturating_add(1);
    }
}

/// A close-on-exec copy of the descriptor with this number, if it is open.
pub(crate) fn duplicate(number: RawFd) -> Io<OwnedFd> {
    // SAFETY: the copy is new and owned here; the original is only read.
    unsafe {
        let copy = check(libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) as libc::c_long)?;
        Ok(OwnedFd::from_raw_fd(copy as RawFd))
    }
}
