//! What a launch process is given, and what it answers.

use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupPath;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::OpenLayer;
use crate::record::LaunchRecord;
use crate::request::LaunchSpec;
use crate::run_root::RunRoot;
use crate::seccomp::Filter;
use crate::stage::Stage;

/// What does not change from launch to launch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) run_root: RunRoot,
    /// How many idle layers stay mounted.
    pub(crate) keep_layers: usize,
    /// The cgroup in which monitors live.
    pub(crate) monitors: CgroupPath,
}

/// One container to be launched.
#[derive(Debug)]
pub(crate) struct Job {
    /// When the caller asked for it, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) called_ns: u64,
    pub(crate) spec: LaunchSpec,
    pub(crate) layers: Vec<OpenLayer>,
    pub(crate) stdio: [OwnedFd; 3],
    /// The spec's seccomp profile, compiled.
    pub(crate) filter: Option<Filter>,
    /// What the caller should know and the record keeps.
    pub(crate) notes: Vec<String>,
    pub(crate) settings: Settings,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Running(Box<LaunchRecord>),
    Failed(Error),
}

/// Sends an answer: its length, then its text, so that the reader need not wait for the other end to close.
pub(crate) fn send(stream: BorrowedFd<'_>, answer: &Answer) {
    let text = serde_json::to_vec(answer).expect("an answer is plain data");
    let mut message = (text.len() as u32).to_le_bytes().to_vec();
    message.extend(text);
    let mut rest = message.as_slice();
    while !rest.is_empty() {
        match rustix::io::write(stream, rest) {
            Ok(written) => rest = &rest[written..],
            Err(rustix::io::Errno::INTR) => {}
            // The caller has gone: SIGPIPE is blocked here, and the container lives on without it.
            Err(_) => return,
        }
    }
}

/// Waits for the answer of a launch process. Its death without one is an error of its own.
pub(crate) fn receive(stream: OwnedFd) -> Result<LaunchRecord> {
    let died = |_| {
        Error::found(
            ErrorKind::System,
            Stage::Clone,
            "launch process",
            "read",
            "it died without an answer; `squall reap` clears what it left",
        )
    };
    let mut stream = std::fs::File::from(stream);
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(died)?;
    let mut text = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut text).map_err(died)?;
    match serde_json::from_slice(&text) {
        Ok(Answer::Running(record)) => Ok(*record),
        Ok(Answer::Failed(error)) => Err(error),
        Err(error) => Err(Error::found(ErrorKind::System, Stage::Clone, "launch process", "parse", error.to_string())),
    }
}
