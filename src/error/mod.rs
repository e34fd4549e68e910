//! The one error of the library: which stage, which object, which call, and why.
//!
//! An error has to cross process borders (init → launch process → caller) without losing anything,
//! so it is plain data that serialises. Callers decide by [`Error::kind`]; people read the line
//! that [`fmt::Display`] prints:
//!
//! ```text
//! layers: layer 2 '/srv/images/base.sqsh': mount(squashfs): Invalid argument: not a squashfs file or a damaged one
//! ```

mod cause;
mod written;

use std::fmt;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::one_line::OneLine;
use crate::phase::Phase;
use crate::stage::Stage;
pub use cause::{Cause, FileAspect, Holder, LackedCapability, Problem, ProcessEnd};

/// What a caller can do about an error. A kind of a later version reads as [`ErrorKind::System`].
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

/// A failed operation. `Display` prints one line: stage, object, call, cause; whatever names it
/// holds, a terminal only shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    stage: Stage,
    object: String,
    call: String,
    cause: Box<Cause>,
    /// Errors of taking back what had been done before this one.
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
    /// An error of this kind and cause.
    pub fn new(
        kind: ErrorKind,
        stage: Stage,
        object: impl Into<String>,
        call: impl Into<String>,
        cause: Cause,
    ) -> Error {
        Error { kind, stage, object: object.into(), call: call.into(), cause: Box::new(cause), left: Vec::new() }
    }

    /// A system call's failure. The kind follows from the errno; [`Error::with_kind`] overrides it.
    pub fn system(stage: Stage, object: impl Into<String>, call: impl Into<String>, errno: impl Into<Errno>) -> Error {
        let errno = errno.into().0;
        let cause = Cause::Errno { errno, meaning: limit_of_any_call(errno).map(str::to_owned) };
        Error::new(kind_of(errno), stage, object, call, cause)
    }

    /// A failure that no other cause says, in words.
    pub fn found(
        kind: ErrorKind,
        stage: Stage,
        object: impl Into<String>,
        call: impl Into<String>,
        text: impl Into<String>,
    ) -> Error {
        Error::new(kind, stage, object, call, Cause::Found(text.into()))
    }

    /// A request with these problems; `object` names the door it came through.
    pub fn invalid(object: impl Into<String>, problems: Vec<Problem>) -> Error {
        Error::new(ErrorKind::Invalid, Stage::Request, object, "check", Cause::Problems(problems))
    }

    /// A request of which one field is wrong.
    pub(crate) fn invalid_field(
        object: impl Into<String>,
        field: impl Into<String>,
        reason: impl fmt::Display,
    ) -> Error {
        Error::invalid(object, vec![Problem { field: field.into(), reason: reason.to_string() }])
    }

    /// A container in another phase than is needed.
    pub fn wrong_phase(
        stage: Stage,
        object: impl Into<String>,
        call: impl Into<String>,
        found: Phase,
        needed: Phase,
    ) -> Error {
        Error::new(ErrorKind::Phase, stage, object, call, Cause::WrongPhase { found, needed })
    }

    /// A frozen cgroup in the way.
    pub(crate) fn frozen(stage: Stage, object: impl Into<String>, cgroup: impl fmt::Display) -> Error {
        let cause = Cause::Frozen { cgroup: cgroup.to_string() };
        Error::new(ErrorKind::Phase, stage, object, "read(freezer state)", cause)
    }

    /// Something that another process holds.
    pub(crate) fn in_use(kind: ErrorKind, stage: Stage, object: impl Into<String>, by: impl Into<String>) -> Error {
        Error::new(kind, stage, object, "flock", Cause::InUse { by: by.into() })
    }

    /// A deadline that passed, this long after the waiting began.
    pub(crate) fn timed_out(
        stage: Stage,
        object: impl Into<String>,
        call: impl Into<String>,
        after: Duration,
        meaning: impl Into<String>,
    ) -> Error {
        let after_ms = after.as_millis().try_into().unwrap_or(u64::MAX);
        let cause = Cause::TimedOut { after_ms, pid: None, meaning: meaning.into() };
        Error::new(ErrorKind::TimedOut, stage, object, call, cause)
    }

    /// A process that ended too early.
    pub(crate) fn process_ended(
        stage: Stage,
        object: impl Into<String>,
        call: impl Into<String>,
        end: Option<ProcessEnd>,
        meaning: impl Into<String>,
    ) -> Error {
        let cause = Cause::ProcessEnded { end, meaning: meaning.into() };
        Error::new(ErrorKind::System, stage, object, call, cause)
    }

    /// A file that is not as it has to be; the kind is [`ErrorKind::System`] until
    /// [`Error::with_kind`].
    pub(crate) fn wrong_file(
        stage: Stage,
        object: impl Into<String>,
        call: impl Into<String>,
        aspect: FileAspect,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Error {
        let cause = Cause::WrongFile { aspect, found: found.into(), expected: expected.into() };
        Error::new(ErrorKind::System, stage, object, call, cause)
    }

    /// Something that the host or its kernel lacks.
    pub(crate) fn lacking(
        stage: Stage,
        object: impl Into<String>,
        call: impl Into<String>,
        feature: impl Into<String>,
        meaning: impl Into<String>,
    ) -> Error {
        let cause = Cause::Lacking { feature: feature.into(), meaning: meaning.into() };
        Error::new(ErrorKind::Unsupported, stage, object, call, cause)
    }

    /// Something that is there although it must not be.
    pub(crate) fn there_already(
        kind: ErrorKind,
        stage: Stage,
        object: impl Into<String>,
        call: impl Into<String>,
    ) -> Error {
        Error::wrong_file(stage, object, call, FileAspect::Presence, "there already", "nothing").with_kind(kind)
    }

    /// Capabilities that this process lacks.
    pub(crate) fn lacking_capabilities(
        stage: Stage,
        object: impl Into<String>,
        call: impl Into<String>,
        missing: Vec<LackedCapability>,
    ) -> Error {
        Error::new(ErrorKind::Privilege, stage, object, call, Cause::LackingCapabilities(missing))
    }

    /// A file or message of ours that cannot be read.
    pub(crate) fn malformed(
        stage: Stage,
        object: impl Into<String>,
        call: impl Into<String>,
        reason: impl fmt::Display,
    ) -> Error {
        Error::new(ErrorKind::System, stage, object, call, Cause::Malformed { reason: reason.to_string() })
    }

    /// A fork that is refused, because this program has more than one thread.
    pub(crate) fn several_threads(object: impl Into<String>, meaning: impl Into<String>) -> Error {
        let cause = Cause::SeveralThreads { meaning: meaning.into() };
        Error::new(ErrorKind::Phase, Stage::Request, object, "fork", cause)
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
        Error::new(ErrorKind::System, Stage::Init, object, call, Cause::Libcontainer(text))
    }

    /// The same error with another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Error {
        self.kind = kind;
        self
    }

    /// The same error with what the errno means here.
    pub fn explain(mut self, text: impl Into<String>) -> Error {
        if let Cause::Errno { meaning, .. } = &mut *self.cause {
            *meaning = Some(text.into());
        }
        self
    }

    /// The same error with one thing more to say about it.
    pub(crate) fn adding(mut self, text: &str) -> Error {
        match &mut *self.cause {
            Cause::Errno { meaning: Some(meaning), .. } | Cause::Lacking { meaning, .. } => {
                *meaning = format!("{meaning}; {text}");
            }
            Cause::Errno { meaning, .. } => *meaning = Some(text.to_owned()),
            _ => {}
        }
        self
    }

    /// The same error with the process that was waited for in vain.
    pub(crate) fn of_process(mut self, waited_for: Option<i32>) -> Error {
        if let Cause::TimedOut { pid, .. } = &mut *self.cause {
            *pid = waited_for;
        }
        self
    }

    /// The same error with what could not be taken back after it.
    pub(crate) fn leaving(mut self, error: Error) -> Error {
        self.left.push(error);
        self
    }

    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where it happened.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What it happened to.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The call that failed.
    #[must_use]
    pub fn call(&self) -> &str {
        &self.call
    }

    /// Why it failed.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The errno, where a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match *self.cause {
            Cause::Errno { errno, .. } => Some(errno),
            _ => None,
        }
    }

    /// Every problem of a refused request; empty for other kinds.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match &*self.cause {
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
