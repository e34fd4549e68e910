//! The library's end of a container's control socket.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::protocol::{Answer, Request, Signal};
use crate::error::{Context, Error, Result};
use crate::packet_socket;
use crate::phase::Phase;
use crate::stage::Stage;
use crate::wait::is_readable_by;

/// The control socket's name in the container's directory.
pub(crate) const SOCKET: &str = "monitor.sock";

/// The monitor answers within microseconds; this long a silence means that it cannot run (it is
/// stopped, or the machine has too much to do).
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// What came of asking a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It does what it was asked.
    Done,
    /// There is no monitor (any more).
    Gone,
    /// There is one, and it does not answer.
    Silent,
}

/// Has the monitor start what was created; the answer comes when it runs. Gone: it has ended, or
/// ended over it.
pub(crate) fn start(directory: &Path, patience: Duration) -> Result<Reply> {
    match ask(directory, Request::Start, Stage::Become, "start", patience) {
        Err(error) if error.errno() == Some(libc::EALREADY) => {
            Err(Error::wrong_phase(Stage::Become, error.object(), "start", Phase::Running, Phase::Created))
        }
        other => other,
    }
}

/// Has the monitor signal init.
pub(crate) fn signal(directory: &Path, signal: i32) -> Result<Reply> {
    ask(directory, Request::Signal(named(directory, signal)?), Stage::Stop, "signal", PATIENCE)
}

/// Has the monitor stop the container.
pub(crate) fn stop(directory: &Path, signal: i32, grace: Duration) -> Result<Reply> {
    // The largest number means the container's own grace.
    let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX).min(u32::MAX - 1);
    let request = Request::Stop { signal: Some(named(directory, signal)?), grace_ms: Some(grace_ms) };
    ask(directory, request, Stage::Stop, "stop", PATIENCE)
}

fn named(directory: &Path, signal: i32) -> Result<Signal> {
    u8::try_from(signal)
        .ok()
        .and_then(Signal::new)
        .ok_or_else(|| Error::invalid_field(object(directory), "signal", format!("there is no signal {signal}")))
}

fn object(directory: &Path) -> String {
    format!("monitor of container '{}'", directory.file_name().unwrap_or_default().to_string_lossy())
}

fn ask(directory: &Path, request: Request, stage: Stage, call: &str, patience: Duration) -> Result<Reply> {
    let object = object(directory);
    let socket = match packet_socket::connect(directory, SOCKET) {
        // Its queue of connections is full.
        Err(Errno::AGAIN) => return Ok(Reply::Silent),
        other => other.at(stage, &object, "connect")?,
    };
    let Some(socket) = socket else { return Ok(Reply::Gone) };
    match exchange(&socket, request, patience) {
        Ok(Some(0)) => Ok(Reply::Done),
        Ok(Some(errno)) if errno == libc::ESRCH => Ok(Reply::Gone),
        Ok(Some(errno)) => Err(Error::system(stage, object, call, crate::error::Errno(errno))),
        Ok(None) | Err(Errno::CONNRESET | Errno::PIPE) => Ok(Reply::Gone),
        Err(Errno::TIMEDOUT) => Ok(Reply::Silent),
        Err(errno) => Err(errno).at(stage, object, call),
    }
}

/// The errno of the answer; nothing when the monitor ended instead of answering.
fn exchange(socket: &OwnedFd, request: Request, patience: Duration) -> rustix::io::Result<Option<i32>> {
    send(socket, &request.encode(), SendFlags::NOSIGNAL)?;
    if !is_readable_by(socket.as_fd(), Some(Instant::now() + patience))? {
        return Err(Errno::TIMEDOUT);
    }
    let mut packet = [0; 64];
    let (length, _) = recv(socket, &mut packet[..], RecvFlags::empty())?;
    Ok(Answer::decode(&packet[..length]).map(|answer| match answer {
        Answer::Done | Answer::Status(_) => 0,
        Answer::Failed(errno) => i32::from(errno),
    }))
}
