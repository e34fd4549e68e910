//! Work in a child process, with a deadline: what hangs or dies there does not reach us.
//!
//! Who we are: the program's only process, with one thread; without that (in somebody's program
//! with threads) what only looks is done here, unbounded, and what acts is not done. The child may
//! take namespaces and filters upon itself; they end with it.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::{self, Fork};
use crate::wait::{child_ends_by, is_readable_by};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// It took too long, and was killed.
    Late(Duration),
    /// It ended without one.
    Died,
    /// It could not be begun.
    NotBegun(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Late(patience) => write!(f, "no answer within {} s", patience.as_secs()),
            Failure::Died => f.write_str("the process that looked died"),
            Failure::NotBegun(why) => write!(f, "no process to look with: {why}"),
        }
    }
}

/// Does the work in a child if that can be, else here: for work that only looks.
pub fn run<T: Serialize + DeserializeOwned>(patience: Duration, work: impl FnOnce() -> T) -> Result<T, Failure> {
    if sys::is_single_threaded() { apart(patience, work) } else { Ok(work()) }
}

/// Does the work in a child, and gives back what it came to; never here, because it changes the
/// process that does it.
pub fn apart<T: Serialize + DeserializeOwned>(patience: Duration, work: impl FnOnce() -> T) -> Result<T, Failure> {
    if !sys::is_single_threaded() {
        return Err(Failure::NotBegun("this program has more than one thread, or no /proc".to_owned()));
    }
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Failure::NotBegun(errno.to_string()))?;
    match sys::fork().map_err(|error| Failure::NotBegun(error.to_string()))? {
        Fork::Child => {
            drop(reading);
            std::panic::set_hook(Box::new(|_| sys::exit_now(101)));
            let answer = serde_json::to_vec(&work()).unwrap_or_default();
            let _ = File::from(writing).write_all(&answer);
            sys::exit_now(0)
        }
        Fork::Parent(child) => {
            drop(writing);
            let answer = read_until(reading, Instant::now() + patience);
            end(child);
            match answer {
                None => Err(Failure::Late(patience)),
                Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| Failure::Died),
            }
        }
    }
}

/// Everything up to the end of the pipe; nothing when that does not come in time.
fn read_until(pipe: OwnedFd, deadline: Instant) -> Option<Vec<u8>> {
    let mut file = File::from(pipe);
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        if !is_readable_by(file.as_fd(), Some(deadline)).unwrap_or(false) {
            return None;
        }
        match file.read(&mut part) {
            Ok(0) => return Some(bytes),
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Kills the child, if it does not end by itself now, and does not wait for one that even that does
/// not end.
fn end(child: i32) {
    const PATIENCE: Duration = Duration::from_millis(100);
    let Some(pid) = Pid::from_raw(child) else { return };
    if !collect(pid, PATIENCE) {
        let _ = kill_process(pid, Signal::KILL);
        collect(pid, PATIENCE);
    }
}

/// Waits for a child of ours to end, but not for one that hangs. Whether it has ended.
pub(crate) fn collect(child: Pid, patience: Duration) -> bool {
    if let Ok(pidfd) = pidfd_open(child, PidfdFlags::empty()) {
        let _ = child_ends_by(pidfd.as_fd(), Instant::now() + patience);
    }
    !matches!(waitpid(Some(child), WaitOptions::NOHANG), Ok(None))
}
