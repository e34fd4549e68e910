//! Signals: dispositions, masks, and signals as something to read.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::{Io, check};

/// Puts every signal's disposition back to the default.
pub(crate) fn reset_dispositions() {
    // SAFETY: an all-zero sigaction is SIG_DFL without flags or mask. The raw calls reach the two realtime
    // signals that glibc keeps for itself, too; those on SIGKILL and SIGSTOP fail, and nobody can have changed these.
    unsafe {
        let default: KernelSigaction = std::mem::zeroed();
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, ptr::null::<u8>(), size_of::<u64>());
        }
    }
}

/// Unblocks every signal.
pub(crate) fn unblock_signals() {
    let none: u64 = 0;
    // SAFETY: the mask is eight valid bytes.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            ptr::null::<u8>(),
            size_of::<u64>(),
        );
    }
}

/// Blocks every signal in this process.
pub(crate) fn block_signals() {
    let all: u64 = u64::MAX;
    // SAFETY: the mask is eight valid bytes.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, ptr::null::<u8>(), size_of::<u64>());
    }
}

/// Forgets a blocked signal that is pending.
pub(crate) fn forget_pending(signal: i32) {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `set` is initialised by sigemptyset before use; nothing is written but the signal's end of being pending.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::sigtimedwait(&set, ptr::null_mut(), &now);
    }
}

/// A descriptor from which the given signals can be read; they are blocked from here on.
pub(crate) fn signal_fd(signals: &[i32]) -> Io<OwnedFd> {
    // SAFETY: `set` is initialised by sigemptyset before use; the descriptor returned is new and owned here.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, &set, ptr::null_mut()) as libc::c_long)?;
        let fd = check(libc::signalfd(-1, &set, libc::SFD_CLOEXEC) as libc::c_long)?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Lets the kernel reap the children of this process by itself, as the spawner wants it.
pub(crate) fn ignore_children() {
    // SAFETY: SIG_IGN is a valid disposition for SIGCHLD.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Lets this process wait for its children again, after [`ignore_children`].
pub(crate) fn reap_children_again() {
    // SAFETY: SIG_DFL is a valid disposition for SIGCHLD.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// The kernel's own `struct sigaction`: handler, flags, restorer, mask. Zero is the default action on every architecture.
#[repr(C)]
struct KernelSigaction {
    words: [u64; 8],
}
