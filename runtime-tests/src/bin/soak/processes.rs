//! Processes that are known to be ours, held by pidfd: what is killed here is never somebody
//! else's.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use runtime_tests::host;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// In the environment of every program that a cycle starts: the bed's tag and the container's id.
/// Workers and monitors do not inherit it. A spawner program has no environment: there it is in the
/// name that it is started by.
pub const MARK: &str = "SQUALL_SOAK";

/// A child of a process of ours. Its pidfd is opened first; then it has to be that process's child
/// still.
#[derive(Debug)]
pub struct Known {
    pub pid: u32,
    pub pidfd: OwnedFd,
}

impl Known {
    /// The children of this process's main thread, oldest first. The process is ours and has not
    /// been waited for.
    pub fn children_of(parent: u32) -> Vec<Known> {
        let pids = host::children(parent).into_iter();
        pids.filter_map(|pid| Known::open(pid, parent)).collect()
    }

    /// The oldest of them.
    pub fn child_of(parent: u32) -> Option<Known> {
        Known::children_of(parent).into_iter().next()
    }

    fn open(pid: u32, parent: u32) -> Option<Known> {
        let pidfd = pidfd_open(Pid::from_raw(pid.try_into().ok()?)?, PidfdFlags::empty()).ok()?;
        (host::status(pid, "PPid") == parent.to_string()).then_some(Known { pid, pidfd })
    }

    /// Kills it and waits until it is dead; false if it was dead already.
    pub fn kill(&self) -> bool {
        kill(&self.pidfd)
    }
}

/// Kills a process and waits until it is dead; false if it was so already.
pub fn kill(pidfd: &OwnedFd) -> bool {
    let was_alive = !has_ended(pidfd, Duration::ZERO);
    was_alive && pidfd_send_signal(pidfd, Signal::KILL).is_ok() && has_ended(pidfd, Duration::from_secs(10))
}

/// Whether a process ends within this span. That its pidfd can be read is no proof: for an instant
/// it can be while a thread executes a program.
pub fn has_ended(pidfd: &OwnedFd, span: Duration) -> bool {
    let deadline = Instant::now() + span;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        if !poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)).is_ok_and(|count| count > 0) {
            return false;
        }
        match pid_of(pidfd) {
            Some(pid) if host::is_alive(pid) => {}
            _ => return true,
        }
    }
}

/// The pid of a process that has not been reaped.
fn pid_of(pidfd: &OwnedFd) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}

/// The processes that carry this mark, in their environment or their name.
pub fn marked(mark: &str) -> Vec<u32> {
    let variable = format!("{MARK}={mark}");
    let strings = |pid: &u32, file: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).split('\0').map(str::to_owned).collect::<Vec<_>>()
    };
    let carries = |pid: &u32| {
        strings(pid, "cmdline").first().is_some_and(|name| name.contains(mark))
            || strings(pid, "environ").iter().any(|it| it.starts_with(&variable))
    };
    host::processes().into_iter().filter(carries).collect()
}

/// Looks until there is an answer, at most this long.
pub fn look<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = std::time::Instant::now() + patience;
    loop {
        if let Some(answer) = look() {
            return Some(answer);
        }
        if std::time::Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
