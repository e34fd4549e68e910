//! The monitor: the process that watches one container. It owns the container's end: the only wait for init, the exit record,
//! the removal of the container's cgroups.
//!
//! It never allocates, never waits for a client, never polls, and never touches anything that its [`Handover`] does not name.
//! It is a program of its own ([`PROGRAM`], `main.rs` in this directory) without libc or standard library, which the launch
//! process becomes by `execveat` and which therefore is the parent of init from its first instruction on. The modules
//! `counters`, `decimal`, `handover`, `list`, `oom`, `protocol`, `record` and `step` are pure, use nothing but `core`, and are part of both the
//! program and this library.
//!
//! To become the monitor, a launch process with the fds of the handover open (numbers above 3, not close-on-exec):
//! 1. writes [`PROGRAM`] into a memfd (`MFD_CLOEXEC | MFD_EXEC`);
//! 2. writes [`Handover::encode`] into another and makes that fd 3, not close-on-exec;
//! 3. calls `execveat(program, "", argv, empty environment, AT_EMPTY_PATH)`.
//!
//! Exit codes of the monitor: 0 record written, 1 it could not be written, 64 malformed handover, 70 a bug.

pub mod counters;
pub mod decimal;
pub mod exit;
pub mod handover;
pub mod list;
pub mod oom;
pub mod protocol;
pub mod record;
pub mod step;

use crate::error::{Error, ErrorKind, Result};
use crate::stage::Stage;
use handover::Handover;

/// The program, for the architecture that this library is built for.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/squall-monitor"));

impl Handover<'_> {
    /// The content of the memfd.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where the monitor would not read back what is meant: a NUL in a text, an empty id, an fd that is none or below 4,
    /// a relative cgroup path, a text of more than [`handover::MAX_BYTES`] in total.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut text = String::new();
        let written = self.write(&mut text);
        if written.is_err() || Handover::decode(text.as_bytes()) != Some(*self) {
            let object = format!("handover of container '{}'", self.id);
            return Err(Error::found(ErrorKind::Invalid, Stage::Monitor, object, "encode", "cannot be said in its format"));
        }
        Ok(text.into_bytes())
    }
}

#[cfg(test)]
mod tests;
