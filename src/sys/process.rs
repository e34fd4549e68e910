//! Processes: made, executed, ended.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::{Io, check};

/// Whether this process has one thread: the link count of the task directory is two plus the number
/// of threads. One that has been joined is counted for a moment still, which is waited for.
pub(crate) fn is_single_threaded() -> bool {
    const LOOKS: u32 = 10;
    let threads = || rustix::fs::stat("/proc/self/task").map_or(0, |stat| stat.st_nlink.saturating_sub(2));
    for _ in 1..LOOKS {
        match threads() {
            0 => return false,
            1 => return true,
            _ => std::thread::park_timeout(std::time::Duration::from_millis(1)),
        }
    }
    threads() == 1
}

/// Which side of a fork this is.
pub(crate) enum Fork<P> {
    Parent(P),
    Child,
}

/// A child just cloned: its pid as seen from here, and a pidfd from its birth.
pub(crate) struct Cloned {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// `clone3` without sharing anything but what `flags` say; the child gets a pidfd from birth and,
/// on cgroup v2, may be born in a cgroup.
///
/// The caller has a single thread.
pub(crate) fn clone3(flags: u64, into_cgroup: Option<BorrowedFd<'_>>) -> Io<Fork<Cloned>> {
    #[repr(C, align(8))]
    #[derive(Default)]
    struct CloneArgs {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = into_cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid `struct clone_args` of the size given, living across the call; the
    // kernel writes one int to `pidfd`. Without CLONE_VM the child has a copy of this address space
    // and, the caller being single-threaded, goes on as after fork(2).
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(Fork::Child);
    }
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that nobody else
    // owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Fork::Parent(Cloned { pid: pid as i32, pidfd }))
}

/// `fork`, from a process with a single thread.
pub(crate) fn fork() -> Io<Fork<i32>> {
    // SAFETY: with one thread, the child may use everything that its parent could.
    match check(unsafe { libc::fork() } as libc::c_long)? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as i32)),
    }
}

/// Ends this process at once, without destructors, atexit handlers or flushing what the parent had
/// buffered.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit does not return and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// `execveat` of an open file; returns only on failure.
pub(crate) fn execveat(file: BorrowedFd<'_>, argv: &[CString], envp: &[CString]) -> io::Error {
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: both arrays are NULL-terminated and point to NUL-terminated strings that outlive the
    // call; the empty path with AT_EMPTY_PATH names the descriptor itself.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// The wait status of a process that has been reaped, by whomever, from a pidfd held since before.
/// Kernel 6.15; nothing below.
pub(crate) fn pidfd_wait_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    /// `struct pidfd_info` of <linux/pidfd.h>, in its first published size.
    #[repr(C)]
    #[derive(Default)]
    struct PidfdInfo {
        mask: u64,
        cgroup_id: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    /// `_IOWR(0xFF, 11, struct pidfd_info)`.
    const PIDFD_GET_INFO: libc::Ioctl = (3 << 30) | ((size_of::<PidfdInfo>() as libc::Ioctl) << 16) | (0xff << 8) | 11;
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the kernel reads and writes one structure of the size that the request number
    // carries.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (done == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

/// Empties this process's environment, so that nothing of it reaches libcontainer (`LISTEN_FDS`) or
/// any program executed later.
pub(crate) fn clear_environment() {
    // SAFETY: the process has a single thread, so nobody reads the environment meanwhile.
    unsafe { libc::clearenv() };
}

/// What happens to this process when its parent dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParentDeath {
    Kill,
    Survive,
}

/// Sets what happens to this process when its parent dies. Changing ids sets it back, an exec does
/// not.
pub(crate) fn on_parent_death(fate: ParentDeath) -> Io<()> {
    let signal = match fate {
        ParentDeath::Kill => libc::SIGKILL,
        ParentDeath::Survive => 0,
    };
    // SAFETY: plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) } as libc::c_long).map(drop)
}
