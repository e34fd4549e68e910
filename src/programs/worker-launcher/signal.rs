//! `signal`: one signal to a worker, sent as the user.

use std::ffi::{OsStr, OsString};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process, test_kill_process_group};

use crate::exit::{Code, Failure, Result};
use crate::{Launcher, Outcome, ids};

/// Signals the process group of this number, or else the process.
pub(crate) fn signal(launcher: &Launcher, arguments: &[OsString]) -> Outcome {
    let [pid, signal] = arguments else { return Err(Failure::new(Code::Arguments, "signal: wrong arguments")) };
    let (pid, wanted) = parsed(pid, signal)?;
    ids::become_user(&launcher.user.identity)?;
    send(pid, wanted)
}

/// Whom to signal, and with what.
fn parsed(pid: &OsStr, signal: &OsStr) -> Result<(Pid, Wanted)> {
    let (pid, signal) = (number(pid, "pid")?, number(signal, "signal")?);
    let positive = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw);
    let pid = positive.ok_or_else(|| Failure::new(Code::NoSuchProcess, format!("{pid}: no process has this pid")))?;
    Ok((pid, Wanted::of(signal)?))
}

/// The numbers of a pid and a signal, as they are sent.
pub fn numbers(pid: &OsStr, signal: &OsStr) -> Result<(i32, i32)> {
    let (pid, wanted) = parsed(pid, signal)?;
    Ok((pid.as_raw_nonzero().get(), wanted.number()))
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Signal 0: nothing, only asks whether it could be.
    Nothing,
    Signal(Signal),
}

impl Wanted {
    /// Realtime signals mean nothing to a worker.
    fn of(number: i64) -> Result<Wanted> {
        let named = i32::try_from(number).ok().and_then(Signal::from_named_raw).map(Wanted::Signal);
        let wanted = if number == 0 { Some(Wanted::Nothing) } else { named };
        wanted.ok_or_else(|| Failure::new(Code::SignalRefused, format!("{number} is no signal that can be sent")))
    }

    fn number(self) -> i32 {
        match self {
            Wanted::Nothing => 0,
            Wanted::Signal(signal) => signal.as_raw(),
        }
    }
}

/// A decimal number with or without a sign. One that is out of every range keeps to the end of it.
fn number(text: &OsStr, what: &str) -> Result<i64> {
    let wrong = || Failure::new(Code::Arguments, format!("{what} '{}' is no number", text.display()));
    let digits = text.to_str().ok_or_else(wrong)?;
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let magnitude = digits.parse().unwrap_or(i64::MAX);
    Ok(if negative { -magnitude } else { magnitude })
}

fn send(pid: Pid, wanted: Wanted) -> Outcome {
    // To kill(2) the group of number 1 is every process that the caller may signal.
    let is_group = pid != Pid::INIT && test_kill_process_group(pid).is_ok();
    if !is_group {
        test_kill_process(pid).map_err(|errno| unsent(pid, Code::Other, errno))?;
    }
    let sent = match (wanted, is_group) {
        (Wanted::Nothing, _) => Ok(()),
        (Wanted::Signal(signal), true) => kill_process_group(pid, signal),
        (Wanted::Signal(signal), false) => kill_process(pid, signal),
    };
    sent.map_err(|errno| unsent(pid, Code::SignalRefused, errno))?;
    say!("Killing process {}{} with {}", if is_group { "group " } else { "" }, pid.as_raw_nonzero(), wanted.number());
    Ok(0)
}

fn unsent(pid: Pid, otherwise: Code, errno: Errno) -> Failure {
    let code = if errno == Errno::SRCH { Code::NoSuchProcess } else { otherwise };
    Failure::new(code, format!("process {}: kill: {errno}", pid.as_raw_nonzero()))
}

#[cfg(test)]
mod tests;
