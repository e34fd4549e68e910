//! Waiting: on descriptors, with a deadline, and for the end of a process.
//!
//! A pidfd that can be read is no proof of an end: the kernel reports one for an instant while a
//! thread other than the first one executes a program (seen on Linux 6.18), and for as long as a
//! debugger holds a dead process back. Here a child's end is what `waitid` says.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, Result};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

/// Between two looks at a process whose pidfd can be read although it has not ended: there is
/// nothing to wait on.
const DOUBT_PAUSE: Duration = Duration::from_millis(1);

/// Waits until a descriptor can be read; false when the deadline came first.
pub(crate) fn is_readable_by(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<bool> {
    is_ready_by(fd, PollFlags::IN, deadline)
}

/// Waits until a file of the kernel says something else than when it was read last; false when the
/// deadline came first.
pub(crate) fn changes_by(fd: BorrowedFd<'_>, deadline: Instant) -> Result<bool> {
    is_ready_by(fd, PollFlags::PRI, Some(deadline))
}

/// Waits until nobody is left who could write to a pipe; false when the deadline came first.
pub(crate) fn hangs_up_by(fd: BorrowedFd<'_>, deadline: Instant) -> Result<bool> {
    is_ready_by(fd, PollFlags::empty(), Some(deadline))
}

fn is_ready_by(fd: BorrowedFd<'_>, events: PollFlags, deadline: Option<Instant>) -> Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout =
            left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) });
        match poll(&mut [PollFd::from_borrowed_fd(fd, events)], timeout.as_ref()) {
            Err(Errno::INTR) => {}
            other => return other.map(|ready| ready > 0),
        }
    }
}

/// How a child ended, if it has; its status is left for whoever reaps it.
///
/// # Errors
/// `CHILD` where it is no child of this process, or has been reaped.
pub(crate) fn end_of_child(pidfd: BorrowedFd<'_>) -> Result<Option<WaitIdStatus>> {
    waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG)
}

/// Waits until a child has ended and can be reaped; false when the deadline came first. One that
/// was reaped already has ended.
pub(crate) fn child_ends_by(pidfd: BorrowedFd<'_>, deadline: Instant) -> Result<bool> {
    loop {
        match end_of_child(pidfd) {
            Ok(Some(_)) | Err(Errno::CHILD) => return Ok(true),
            Ok(None) => {}
            Err(errno) => return Err(errno),
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        if is_readable_by(pidfd, Some(deadline))? && end_of_child(pidfd).is_ok_and(|end| end.is_none()) {
            std::thread::park_timeout(DOUBT_PAUSE);
        }
    }
}

/// The shortest and the longest pause between two tries for a lock, which has no descriptor to wait
/// on.
const LOCK_PAUSE_MIN: Duration = Duration::from_micros(50);
const LOCK_PAUSE_MAX: Duration = Duration::from_millis(2);

/// Locks a file for this process alone; false when somebody had it until the deadline. Whoever
/// holds it may be stopped, so no lock is waited for without a bound.
pub(crate) fn lock_by(file: BorrowedFd<'_>, deadline: Instant) -> Result<bool> {
    let mut pause = LOCK_PAUSE_MIN;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() >= deadline => return Ok(false),
            Err(Errno::WOULDBLOCK) => {}
            other => return other.map(|()| true),
        }
        std::thread::park_timeout(pause);
        pause = (pause * 2).min(LOCK_PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    fn a_childs_end_is_waited_for_and_left_to_be_reaped() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert!(!child_ends_by(pidfd.as_fd(), Instant::now()).unwrap());
        drop(child.stdin.take());
        assert!(child_ends_by(pidfd.as_fd(), Instant::now() + Duration::from_secs(30)).unwrap());
        assert!(end_of_child(pidfd.as_fd()).unwrap().is_some());
        assert!(child.wait().unwrap().success());
        assert!(child_ends_by(pidfd.as_fd(), Instant::now()).unwrap());
    }
}
