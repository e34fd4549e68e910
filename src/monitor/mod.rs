//! The monitor: the process that watches one container. It owns the container's end: the only wait
//! for init, the exit record, the removal of the container's cgroups.
//!
//! It never allocates, never waits for a client, never polls, and never touches anything that its
//! [`Handover`] does not name. It forks once, at its end, where an exit file is asked for. It is a program of its own ([`PROGRAM`], `main.rs` in this
//! directory) without libc or standard library, which the launch process becomes by `execveat` and
//! which therefore is the parent of init from its first instruction on. The modules `counters`,
//! `decimal`, `handover`, `kernel_log`, `list`, `oom_cause`, `protocol`, `record` and `step` are pure, use nothing but
//! `core`, and are part of both the program and this library.
//!
//! To become the monitor, a launch process with the fds of the handover open (numbers above 3, not
//! close-on-exec):
//! 1. writes [`PROGRAM`] into a memfd (`MFD_CLOEXEC`, and `MFD_EXEC` from Linux 6.3 on: hosts may
//!    forbid it otherwise);
//! 2. writes [`Handover::encode`] into another and makes that fd 3, not close-on-exec;
//! 3. calls `execveat(program, "", argv, empty environment, AT_EMPTY_PATH)`.
//!
//! Exit codes of the monitor: 0 record written, 1 it could not be written, 64 malformed handover,
//! 70 a bug.

pub(crate) mod client;
pub(crate) mod exit;

// Of the program: what the library itself has no use for is here for its tests.
#[cfg(test)]
mod counters;
mod decimal;
#[cfg_attr(not(feature = "testing"), allow(dead_code))]
pub mod handover;
#[cfg(test)]
mod kernel_log;
#[cfg_attr(not(feature = "testing"), allow(dead_code))]
pub mod list;
#[cfg(test)]
mod oom_cause;
#[cfg_attr(not(feature = "testing"), allow(dead_code))]
pub mod protocol;
#[cfg(test)]
mod record;
#[cfg_attr(not(feature = "testing"), allow(dead_code))]
pub mod step;

use crate::error::{Error, ErrorKind, Result};
use crate::stage::Stage;
use handover::Handover;

/// The grace of a stop by deadline, and of one that names none, in milliseconds; podman's and
/// docker's default.
pub const DEFAULT_GRACE_MS: u32 = 10_000;

/// The program, for the architecture that this library is built for.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/squall-monitor"));

impl Handover<'_> {
    /// The content of the memfd.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where the monitor would not read back what is meant: a NUL in a text,
    /// an empty id, an fd that is none or below 4, a relative cgroup path, a text of more than
    /// [`handover::MAX_BYTES`] in total.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut text = String::new();
        let written = self.write(&mut text);
        if written.is_err() || Handover::decode(text.as_bytes()) != Some(*self) {
            let object = format!("handover of container '{}'", self.id);
            let error = Error::malformed(Stage::Monitor, object, "encode", "cannot be said in its format");
            return Err(error.with_kind(ErrorKind::Invalid));
        }
        Ok(text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program_contains(text: &[u8]) -> bool {
        PROGRAM.windows(text.len()).any(|window| window == text)
    }

    #[test]
    fn the_program_has_no_way_to_panic() {
        // The linker keeps the handler, and with it its message, only if something can reach it.
        assert!(
            program_contains(b"exit.json") && program_contains(b"memory.max_usage_in_bytes"),
            "messages can be found"
        );
        assert!(!program_contains(b"squall-monitor: panicked"));
    }

    #[test]
    fn the_program_is_small_static_and_has_no_executable_stack() {
        const PT_INTERP: u32 = 3;
        const PT_GNU_STACK: u32 = 0x6474_e551;
        const EXECUTABLE: u32 = 1;
        assert!(PROGRAM.len() <= 34 * 1024, "{} bytes", PROGRAM.len());
        assert_eq!((&PROGRAM[..4], PROGRAM[16]), (&b"\x7fELF"[..], 2), "ET_EXEC: at a fixed address");
        let word = |offset: usize| u32::from_le_bytes(PROGRAM[offset..offset + 4].try_into().unwrap());
        let (first, count) = (word(32) as usize, usize::from(PROGRAM[56]));
        let segments: Vec<_> =
            (0..count).map(|index| (word(first + index * 56), word(first + index * 56 + 4))).collect();
        assert!(segments.iter().all(|(kind, _)| *kind != PT_INTERP));
        assert!(segments.iter().any(|(kind, flags)| *kind == PT_GNU_STACK && flags & EXECUTABLE == 0), "{segments:x?}");
    }
}
