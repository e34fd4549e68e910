//! Why an operation failed, in fields that a program can match on.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::phase::Phase;

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

/// A capability that a process lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LackedCapability {
    /// Its name: `CAP_SYS_ADMIN`.
    pub name: String,
    /// What it is needed for: `mounts and namespaces`.
    pub purpose: String,
}

impl LackedCapability {
    pub(crate) fn new(name: impl Into<String>, purpose: impl Into<String>) -> LackedCapability {
        LackedCapability { name: name.into(), purpose: purpose.into() }
    }
}

/// A container that has something for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Holder {
    /// Its id.
    pub container: String,
    /// What it has: `processors 0-1`, `1073741824 bytes`.
    pub has: String,
}

impl Holder {
    pub(crate) fn new(container: impl Into<String>, has: impl Into<String>) -> Holder {
        Holder { container: container.into(), has: has.into() }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "container '{}' has {}", self.container, self.has)
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProcessEnd {
    /// It returned this exit code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// In what respect a file is not as expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FileAspect {
    /// It is missing, or there although nothing should be.
    Presence,
    /// It is of another type (a symbolic link, a directory, a device).
    Type,
    /// Its owner or mode give access to somebody who must not have it, or deny it.
    Access,
    /// What is in it.
    Content,
    /// The file system that it lies on, or what is mounted there.
    Mount,
}

/// Why an operation failed.
///
/// [`fmt::Display`] prints it for people. Texts named `meaning` are for people too, and may change;
/// the other fields are what a program decides by, or shows.
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
    /// An error of libcontainer, its chain of causes joined. It has no errno to give: it crosses a
    /// socket as text in that crate.
    Libcontainer(String),
    /// systemd refused, or the message bus did.
    Systemd {
        /// The D-Bus name of the error (`org.freedesktop.systemd1.UnitExists`), where there is one.
        name: Option<String>,
        /// Its text.
        text: String,
    },
    /// The container is in another phase than the operation needs.
    WrongPhase {
        /// The phase that it was found in.
        found: Phase,
        /// The phase that is needed.
        needed: Phase,
    },
    /// A cgroup is frozen: nothing in it runs, or dies of a signal, until it is thawed.
    Frozen {
        /// The frozen cgroup, below the cgroup root. It may lie above the container's own.
        cgroup: String,
    },
    /// Another process holds the object at this moment.
    InUse {
        /// Who holds it: `its launch process`, `another container`.
        by: String,
    },
    /// The id belongs to a container already.
    IdTaken {
        /// That container's first process, as the host sees it; `None` while it is being launched.
        init_pid: Option<i32>,
    },
    /// There is no container of this id.
    NoContainer,
    /// The container of this id has ended and was removed.
    Removed {
        /// How it ended; `None` where that is not known any more.
        end: Option<ProcessEnd>,
    },
    /// What was searched for is in none of these places.
    NotFoundIn {
        /// The files or directories looked at, in that order.
        places: Vec<String>,
    },
    /// A file is not as it has to be.
    WrongFile {
        /// In what respect.
        aspect: FileAspect,
        /// What was found: `a directory of uid 5 with mode 0777`.
        found: String,
        /// What was expected: `a directory of uid 0 that nobody else can write to`.
        expected: String,
    },
    /// The host, its kernel or this build lacks something.
    Lacking {
        /// What, by its own name: `AppArmor`, `SELinux`, `systemd`, `project quota`,
        /// `cgroup controller memory`, `cgroup v2`, `/proc`.
        feature: String,
        /// What it is needed for, or how to get it.
        meaning: String,
    },
    /// This process lacks capabilities.
    LackingCapabilities(Vec<LackedCapability>),
    /// This program has more than one thread, and must not fork itself.
    SeveralThreads {
        /// What to do instead.
        meaning: String,
    },
    /// Two programs or files are of versions that do not understand each other.
    Version {
        /// What has the version: `schema`, `protocol`.
        of: String,
        /// The version that was found.
        found: u64,
        /// The version that this library has.
        known: u64,
        /// What could not be done for it, where that is known.
        meaning: Option<String>,
    },
    /// A deadline passed.
    TimedOut {
        /// How long was waited, in milliseconds.
        after_ms: u64,
        /// The process that was waited for, where it is known.
        pid: Option<i32>,
        /// What did not happen, and why perhaps.
        meaning: String,
    },
    /// The caller gave the operation up before it was done.
    GivenUp,
    /// A process ended before it had done, or said, what it had to.
    ProcessEnded {
        /// How it ended, where that is known.
        end: Option<ProcessEnd>,
        /// When it ended, and what that means.
        meaning: String,
    },
    /// Others were faster, each time.
    LostRace {
        /// How often it was tried.
        attempts: u32,
        /// What others took: `the free loop device`.
        prize: String,
    },
    /// All of a limited number are in use.
    LimitReached {
        /// What is limited: `uids of 200000-200999`.
        limit: String,
        /// How many there are.
        value: u64,
    },
    /// Containers have what is asked for.
    Taken {
        /// What is asked for: `processors`, `processors of one memory node`, `bytes of memory`.
        what: String,
        /// How many are asked for.
        asked: u64,
        /// How many nobody has.
        free: u64,
        /// Who has the others.
        holders: Vec<Holder>,
    },
    /// A file or message of ours cannot be read: it is damaged, or from another version.
    Malformed {
        /// The parser's words.
        reason: String,
    },
    /// Anything else, in words. Also a cause of a later version, which this one does not know.
    Found(String),
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProcessEnd::Code(code) => write!(f, "code {code}"),
            ProcessEnd::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Errno { errno, meaning } => errno_words(f, *errno, meaning.as_deref()),
            Cause::Problems(problems) => joined(f, problems, "; "),
            Cause::Libcontainer(text) | Cause::Found(text) | Cause::Systemd { text, .. } => f.write_str(text),
            Cause::WrongPhase { found, .. } => f.write_str(phase_words(*found)),
            Cause::Frozen { cgroup } => {
                write!(f, "cgroup '{cgroup}' is frozen: nothing in it runs until it is thawed")
            }
            Cause::InUse { by } => write!(f, "in use by {by}"),
            Cause::IdTaken { init_pid: None } => f.write_str("there is a container of this id"),
            Cause::IdTaken { init_pid: Some(pid) } => write!(f, "there is a container of this id (pid {pid})"),
            Cause::NoContainer => f.write_str("there is no container of this id"),
            Cause::Removed { end: None } => f.write_str("it has ended and was removed"),
            Cause::Removed { end: Some(ProcessEnd::Code(code)) } => {
                write!(f, "it has ended with code {code}, and was removed")
            }
            Cause::Removed { end: Some(ProcessEnd::Signal(signal)) } => {
                write!(f, "it has ended by signal {signal}, and was removed")
            }
            Cause::NotFoundIn { places } => {
                f.write_str("not found in ")?;
                joined(f, places, ", ")
            }
            Cause::WrongFile { found, expected, .. } => write!(f, "it is {found}, expected {expected}"),
            Cause::Lacking { meaning, .. } => f.write_str(meaning),
            Cause::LackingCapabilities(missing) => {
                f.write_str("it lacks ")?;
                joined(f, missing, ", ")?;
                f.write_str("; run it as root, with sudo for example")
            }
            Cause::SeveralThreads { meaning } => write!(f, "this program has more than one thread: {meaning}"),
            Cause::Version { of, found, known, meaning } => {
                let order = if found > known { "newer" } else { "older" };
                write!(f, "{of} {found} is {order} than this program's {known}")?;
                meaning.iter().try_for_each(|meaning| write!(f, ": {meaning}"))
            }
            Cause::TimedOut { after_ms, meaning, .. } => {
                write!(f, "timed out after {} s: {meaning}", *after_ms as f64 / 1000.0)
            }
            Cause::GivenUp => f.write_str("the caller has given it up"),
            Cause::ProcessEnded { end, meaning } => {
                f.write_str(meaning)?;
                end.iter().try_for_each(|end| write!(f, ": {end}"))
            }
            Cause::LostRace { attempts, prize } => write!(f, "others took {prize}, {attempts} times in a row"),
            Cause::LimitReached { limit, value } => write!(f, "all {value} {limit} are in use"),
            Cause::Taken { what, asked, free, holders } => {
                write!(f, "{asked} {what} are asked for, free are {free}")?;
                f.write_str(if holders.is_empty() { ", and no container has the others" } else { ": " })?;
                joined(f, holders, ", ")
            }
            Cause::Malformed { reason } => f.write_str(reason),
        }
    }
}

impl fmt::Display for LackedCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.purpose)
    }
}

fn errno_words(f: &mut fmt::Formatter<'_>, errno: i32, meaning: Option<&str>) -> fmt::Result {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    match meaning {
        Some(meaning) => write!(f, "{text}: {meaning}"),
        None => f.write_str(text),
    }
}

fn phase_words(found: Phase) -> &'static str {
    match found {
        Phase::Launching => "it is being launched",
        Phase::Created => "it is created and not started",
        Phase::Running => "it runs",
        Phase::Paused => "it is paused",
        Phase::Exited | Phase::Lost => "it has ended",
    }
}

fn joined(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display], separator: &str) -> fmt::Result {
    items.iter().enumerate().try_for_each(|(index, item)| {
        let separator = if index == 0 { "" } else { separator };
        write!(f, "{separator}{item}")
    })
}
