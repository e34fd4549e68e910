//! A process that is known beyond its pid.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

/// A process: its pid plus its start time, because pids are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The pid in the host's pid namespace.
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks since boot.
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this pid now.
    #[must_use]
    pub fn of(pid: i32) -> Option<ProcessId> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(ProcessId { pid, start_time: start_time(&stat)? })
    }

    /// Whether the process lives. A zombie does not: it has ended. One whose first thread has ended
    /// lives on with the others.
    #[must_use]
    pub fn is_alive(self) -> bool {
        for _ in 0..LOOKS {
            let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", self.pid)) else { return false };
            if start_time(&stat) != Some(self.start_time) {
                return false;
            }
            match life(&stat) {
                Life::Lives => return true,
                Life::Ended => return false,
                Life::Leaving => {}
            }
        }
        false
    }

    /// A pidfd of exactly this process: opened first, then checked, so that the pid cannot have
    /// changed hands in between.
    #[must_use]
    pub fn open(self) -> Option<OwnedFd> {
        self.try_open().ok().flatten()
    }

    /// As [`ProcessId::open`], with `None` only where the process is gone.
    pub(crate) fn try_open(self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            // Reaped; or a thread's id by now.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Ok(None),
            other => other?,
        };
        let stat = match fs::read_to_string(format!("/proc/{}/stat", self.pid)) {
            Err(error) if LIMITS.map(Some).contains(&error.raw_os_error()) => return Err(error),
            other => other.ok(),
        };
        Ok(stat.and_then(|stat| (start_time(&stat) == Some(self.start_time)).then_some(pidfd)))
    }
}

/// What open(2) answers where this process, or the machine, has no descriptor or memory left.
const LIMITS: [i32; 3] = [libc::EMFILE, libc::ENFILE, libc::ENOMEM];

/// How often a process is looked at that is just leaving the kernel's table: the next look finds it
/// gone, or finds the thread that has executed a program and taken its place.
const LOOKS: usize = 8;

/// What `/proc/<pid>/stat` says of a process.
#[derive(Debug, PartialEq, Eq)]
enum Life {
    /// Some thread of it lives.
    Lives,
    /// A zombie without another thread.
    Ended,
    /// Its first thread is on the way out, reaped or replaced.
    Leaving,
}

/// The state is that of the first thread alone, which may have ended before the others. The kernel
/// counts a thread until it is gone, and the first one until it is reaped.
fn life(stat: &str) -> Life {
    match (state(stat), threads(stat)) {
        (Some('Z'), 0 | 1) => Life::Ended,
        (Some('X'), 0 | 1) => Life::Leaving,
        _ => Life::Lives,
    }
}

/// What a process does with signals, by its main thread: bit 0 is signal 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignalSets {
    pub(crate) blocked: u64,
    pub(crate) ignored: u64,
    pub(crate) caught: u64,
}

impl SignalSets {
    /// This process's own.
    pub(crate) fn of_this_process() -> Option<SignalSets> {
        SignalSets::parse(&fs::read_to_string("/proc/self/status").ok()?)
    }

    /// Those of exactly this process; nothing when it has ended.
    pub(crate) fn of(process: ProcessId) -> Option<SignalSets> {
        let sets = SignalSets::parse(&fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?);
        // Looked at afterwards, so that the pid cannot have changed hands in between.
        sets.filter(|_| process.is_alive())
    }

    fn parse(status: &str) -> Option<SignalSets> {
        let set = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            u64::from_str_radix(line.trim(), 16).ok()
        };
        Some(SignalSets { blocked: set("SigBlk:")?, ignored: set("SigIgn:")?, caught: set("SigCgt:")? })
    }

    /// Whether the kernel would carry out the default action. A blocked signal waits, and is mostly
    /// read with sigwait(3) or signalfd(2).
    pub(crate) fn leaves_to_default(&self, signal: i32) -> bool {
        (self.blocked | self.ignored | self.caught) & (1 << (signal - 1)) == 0
    }
}

/// The fields after the command name, which is in parentheses and may hold anything, parentheses
/// too. The first of them is field 3 of proc_pid_stat(5).
pub(crate) fn after_name(stat: &str) -> Option<&str> {
    stat.rsplit_once(") ").map(|(_, rest)| rest)
}

fn state(stat: &str) -> Option<char> {
    after_name(stat)?.chars().next()
}

fn threads(stat: &str) -> u64 {
    // Field 20.
    after_name(stat).and_then(|fields| fields.split(' ').nth(20 - 3)?.parse().ok()).unwrap_or(0)
}

fn start_time(stat: &str) -> Option<u64> {
    // State is field 3, the start time field 22.
    after_name(stat)?.split(' ').nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let fields: Vec<String> = (4..=30).map(|field| field.to_string()).collect();
        let stat = format!("42 (a) S (b)) Z {}", fields.join(" "));
        assert_eq!((state(&stat), threads(&stat), start_time(&stat)), (Some('Z'), 20, Some(22)));
    }

    #[test]
    fn a_process_lives_as_long_as_one_of_its_threads() {
        let table = [
            ('R', 1, Life::Lives),
            ('T', 1, Life::Lives),
            ('Z', 1, Life::Ended),
            ('Z', 2, Life::Lives),
            ('X', 2, Life::Lives),
            ('X', 0, Life::Leaving),
        ];
        for (state, threads, expected) in table {
            let zeros = "0 ".repeat(16);
            let stat = format!("7 (a) {state} {zeros}{threads} 0 99 0");
            assert_eq!((life(&stat), start_time(&stat)), (expected, Some(99)), "{state} {threads}");
        }
    }

    #[test]
    fn signals_that_are_caught_ignored_or_blocked_are_not_left_to_the_default() {
        let status =
            "Name:\tx\nSigPnd:\t0\nSigBlk:\t0000000000000001\nSigIgn:\t8000000000000002\nSigCgt:\t0000000000004000\n";
        let sets = SignalSets::parse(status).unwrap();
        let left: Vec<i32> = [1, 2, 3, 15, 64].into_iter().filter(|signal| sets.leaves_to_default(*signal)).collect();
        assert_eq!(left, [3]);
        assert_eq!(SignalSets::parse("Name:\tx\n"), None);
        assert!(SignalSets::of(ProcessId::of(std::process::id() as i32).unwrap()).is_some());
    }

    #[test]
    fn this_process_is_alive_and_another_start_time_is_another_process() {
        let own = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(own.is_alive());
        assert!(own.open().is_some());
        let stranger = ProcessId { start_time: own.start_time + 1, ..own };
        assert!(!stranger.is_alive());
        assert!(stranger.open().is_none());
    }
}
