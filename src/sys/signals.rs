//! Signals: dispositions, masks, and signals as something to read.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::{Io, check};

/// Puts every signal's disposition back to the default.
pub(crate) fn reset_dispositions() {
    // SAFETY: an all-zero sigaction is SIG_DFL without flags or mask. The raw calls reach the two
    // realtime signals that glibc keeps for itself, too; those on SIGKILL and SIGSTOP fail, and
    // nobody can have changed these.
    unsafe {
        let default: KernelSigaction = std::mem::zeroed();
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, ptr::null::<u8>(), size_of::<u64>());
        }
    }
}

/// Ignores a signal.
pub(crate) fn ignore(signal: i32) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
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

/// Keeps the calling thread, and no other, from running the handler of any signal.
pub(crate) fn block_every_signal_of_this_thread() {
    // SAFETY: the set is initialised by the call that fills it; only the calling thread's mask
    // changes.
    unsafe {
        let mut every: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut every);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const every, std::ptr::null_mut());
    }
}

/// Forgets a blocked signal that is pending.
pub(crate) fn forget_pending(signal: i32) {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `set` is initialised by sigemptyset before use; nothing is written but the signal's
    // end of being pending.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::sigtimedwait(&set, ptr::null_mut(), &now);
    }
}

/// A descriptor from which the signals of a set can be read (bit 0 is signal 1); they are blocked
/// from here on.
pub(crate) fn signal_fd(set: u64) -> Io<OwnedFd> {
    // SAFETY: the set is eight valid bytes; the descriptor returned is new and owned here. The raw
    // calls reach the two realtime signals that glibc keeps for itself, too.
    unsafe {
        let blocked = libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            &raw const set,
            ptr::null_mut::<u8>(),
            size_of::<u64>(),
        );
        check(blocked)?;
        let fd = check(libc::syscall(libc::SYS_signalfd4, -1, &raw const set, size_of::<u64>(), libc::SFD_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Whom a signal is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Addressee {
    Process,
    /// Every member of the process group that this process leads.
    Group,
}

/// Sends any signal, the realtime ones too. For a group the pidfd is that of its leader. Kernel 6.9
/// finds the group by the pidfd; before, it is found by the number, which stays the group's as long
/// as it has a member.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, leader: i32, signal: i32, to: Addressee) -> Io<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 1 << 2;
    let flags = if to == Addressee::Group { PIDFD_SIGNAL_PROCESS_GROUP } else { 0 };
    let info = ptr::null::<u8>();
    // SAFETY: plain numbers; without a siginfo the kernel makes one.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, flags) };
    match check(sent) {
        Err(error) if to == Addressee::Group && error.raw_os_error() == Some(libc::EINVAL) => {
            // SAFETY: plain numbers.
            check(unsafe { libc::kill(-leader, signal) } as libc::c_long).map(drop)
        }
        other => other.map(drop),
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

/// The kernel's own `struct sigaction`: handler, flags, restorer, mask. Zero is the default action
/// on every architecture.
#[repr(C)]
struct KernelSigaction {
    words: [u64; 8],
}
