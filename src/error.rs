//! The one error of the library: which stage, which object, which call, and why.
//!
//! An error has to cross process borders (init → launch process → caller) without losing anything,
//! so it is plain data that serialises. Callers decide by [`Error::kind`]; people read the line
//! that [`fmt::Display`] prints:
//!
//! ```text
//! layers: layer 2 '/srv/images/base.sqsh': mount(squashfs): Invalid argument: not a squashfs file or a damaged one
//! ```

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::one_line::OneLine;
use crate::stage::Stage;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request itself is wrong; nothing was touched. [`Error::problems`] lists every reason.
    Invalid,
    /// No container of that id.
    NotFound,
    /// A container of that id, or a file that must not exist, is there already.
    Exists,
    /// The container is not in the phase that the operation needs.
    Phase,
    /// The caller lacks a privilege; the message says which.
    Privilege,
    /// This kernel or machine lacks something; the message says what.
    Unsupported,
    /// A limit of the system is reached (loop devices, mounts, memory, pids).
    Exhausted,
    /// The workload's program does not exist in the image.
    ProgramNotFound,
    /// The workload's program exists but cannot be executed.
    ProgramNotExecutable,
    /// A deadline passed.
    TimedOut,
    /// A system call failed for another reason.
    System,
}

/// One thing wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The field and its place in the document: `ociRuntimeConfig.mounts[3].options`, `--memory`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Cause {
    /// The kernel's answer, with what it means here where that is known.
    Errno {
        /// The number.
        errno: i32,
        /// What it means at this call, where that is known.
        meaning: Option<String>,
    },
    /// The request is refused for these reasons.
    Problems(Vec<Problem>),
    /// A check of ours failed: what was found, and what was expected.
    Found(String),
    /// An error of libcontainer, its chain of causes joined. It has no errno to give: it crosses a
    /// socket as text in that crate.
    Libcontainer(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Errno { errno, meaning } => {
                let text = io::Error::from_raw_os_error(*errno).to_string();
                let text = text.split(" (os error").next().unwrap_or_default();
                match meaning {
                    Some(meaning) => write!(f, "{text}: {meaning}"),
                    None => f.write_str(text),
                }
            }
            Cause::Problems(problems) => {
                for (index, problem) in problems.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{problem}")?;
                }
                Ok(())
            }
            Cause::Found(text) | Cause::Libcontainer(text) => f.write_str(text),
        }
    }
}

/// A failed operation. `Display` prints one line: stage, object, call, cause; whatever names it
/// holds, a terminal only shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    kind: ErrorKind,
    stage: Stage,
    object: String,
    call: String,
    cause: Cause,
    /// Errors of taking back what had been done before this one.
    #[serde(default)]
    left: Vec<Error>,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { stage, object, call, cause, left, .. } = self;
        write!(f, "{}", OneLine(format_args!("{stage}: {object}: {call}: {cause}")))?;
        left.iter().try_for_each(|error| write!(f, " (and left behind: {error})"))
    }
}

/// The result of everything that can fail in Squall.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A system call's failure. The kind follows from the errno; [`Error::with_kind`] overrides it.
    pub fn system(stage: Stage, object: impl Into<String>, call: impl Into<String>, errno: impl Into<Errno>) -> Error {
        let errno = errno.into().0;
        Error {
            kind: kind_of(errno),
            stage,
            object: object.into(),
            call: call.into(),
            cause: Cause::Errno { errno, meaning: limit_of_any_call(errno).map(str::to_owned) },
            left: Vec::new(),
        }
    }

    /// A check of ours that failed.
    pub fn found(
        kind: ErrorKind,
        stage: Stage,
        object: impl Into<String>,
        call: impl Into<String>,
        text: impl Into<String>,
    ) -> Error {
        Error {
            kind,
            stage,
            object: object.into(),
            call: call.into(),
            cause: Cause::Found(text.into()),
            left: Vec::new(),
        }
    }

    /// A request with these problems; `object` names the door it came through.
    pub fn invalid(object: impl Into<String>, problems: Vec<Problem>) -> Error {
        Error {
            kind: ErrorKind::Invalid,
            stage: Stage::Request,
            object: object.into(),
            call: "check".into(),
            cause: Cause::Problems(problems),
            left: Vec::new(),
        }
    }

    /// An error of libcontainer.
    pub fn libcontainer(object: impl Into<String>, call: impl Into<String>, error: &dyn std::error::Error) -> Error {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let line = cause.to_string();
            if !text.ends_with(&line) {
                text.push_str(": ");
                text.push_str(&line);
            }
            source = cause.source();
        }
        Error {
            kind: ErrorKind::System,
            stage: Stage::Init,
            object: object.into(),
            call: call.into(),
            cause: Cause::Libcontainer(text),
            left: Vec::new(),
        }
    }

    /// The same error with another kind.
    pub fn with_kind(mut self, kind: ErrorKind) -> Error {
        self.kind = kind;
        self
    }

    /// The same error with what the errno means here.
    pub fn explain(mut self, text: impl Into<String>) -> Error {
        if let Cause::Errno { meaning, .. } = &mut self.cause {
            *meaning = Some(text.into());
        }
        self
    }

    /// The same error with what could not be taken back after it.
    pub(crate) fn leaving(mut self, error: Error) -> Error {
        self.left.push(error);
        self
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where it happened.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What it happened to.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The call that failed.
    pub fn call(&self) -> &str {
        &self.call
    }

    /// Why it failed.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The errno, where a system call failed.
    pub fn errno(&self) -> Option<i32> {
        match self.cause {
            Cause::Errno { errno, .. } => Some(errno),
            _ => None,
        }
    }

    /// Every problem of a refused request; empty for other kinds.
    pub fn problems(&self) -> &[Problem] {
        match &self.cause {
            Cause::Problems(problems) => problems,
            _ => &[],
        }
    }
}

/// An errno from any of the libraries that report one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Errno {
        Errno(errno.raw_os_error())
    }
}

impl From<nix::errno::Errno> for Errno {
    fn from(errno: nix::errno::Errno) -> Errno {
        Errno(errno as i32)
    }
}

impl From<io::Error> for Errno {
    /// An `io::Error` that no system call made (a short write, bad UTF-8) counts as EIO.
    fn from(error: io::Error) -> Errno {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// Adds stage, object and call to a bare errno. The object is only formatted on failure.
pub trait Context<T> {
    /// The value, or an [`Error`] with this stage, object and system call.
    ///
    /// # Errors
    /// The one that came, by the kind that its errno has: [`Error::system`].
    fn at(self, stage: Stage, object: impl fmt::Display, call: &str) -> Result<T>;
}

impl<T, E: Into<Errno>> Context<T> for std::result::Result<T, E> {
    fn at(self, stage: Stage, object: impl fmt::Display, call: &str) -> Result<T> {
        self.map_err(|errno| Error::system(stage, object.to_string(), call, errno))
    }
}

/// Limits that an errno means whatever the call.
fn limit_of_any_call(errno: i32) -> Option<&'static str> {
    match errno {
        libc::EMFILE => Some("this process has as many open files as RLIMIT_NOFILE allows (ulimit -n)"),
        libc::ENFILE => Some("the machine has as many open files as sysctl fs.file-max allows"),
        _ => None,
    }
}

fn kind_of(errno: i32) -> ErrorKind {
    match errno {
        libc::EPERM => ErrorKind::Privilege,
        libc::ENOSYS | libc::EOPNOTSUPP | libc::ENODEV => ErrorKind::Unsupported,
        libc::ENOMEM | libc::ENOSPC | libc::EMFILE | libc::ENFILE | libc::EAGAIN => ErrorKind::Exhausted,
        libc::ETIMEDOUT => ErrorKind::TimedOut,
        _ => ErrorKind::System,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_of_stage_object_call_and_cause() {
        let error = Error::system(Stage::Layers, "layer '/a.sqsh'", "mount(squashfs)", Errno(libc::EINVAL))
            .explain("not a squashfs file");
        assert_eq!(
            error.to_string(),
            "layers: layer '/a.sqsh': mount(squashfs): Invalid argument: not a squashfs file"
        );
    }

    #[test]
    fn a_name_in_an_error_cannot_reach_the_terminal() {
        let error = Error::found(ErrorKind::System, Stage::Root, "layer '/\x1b[2J\n'", "open", "\u{9b}");
        let inner = Error::system(Stage::Remove, "\x07", "rmdir", Errno(libc::EBUSY));
        let text = error.leaving(inner).to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(text.contains("layer '/\\u001b[2J\\n'"), "{text}");
    }

    #[test]
    fn an_error_crosses_a_process_border_unchanged() {
        let error =
            Error::invalid("command line", vec![Problem { field: "--memory".into(), reason: "not a size".into() }]);
        let back: Error = serde_json::from_slice(&serde_json::to_vec(&error).unwrap()).unwrap();
        assert_eq!(back, error);
        assert_eq!(back.problems().len(), 1);
    }

    #[test]
    fn open_files_are_a_limit_whatever_the_call() {
        for (errno, named) in [(libc::EMFILE, "RLIMIT_NOFILE"), (libc::ENFILE, "fs.file-max")] {
            let error = Error::system(Stage::Watch, "container 'a'", "call", Errno(errno));
            assert_eq!(error.kind(), ErrorKind::Exhausted);
            assert!(error.to_string().contains(named));
        }
    }
}
