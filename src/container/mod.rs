//! A container as its handle: the phases are types, so what cannot be done cannot be called.
//!
//! A handle holds nothing of the container: any number of programs may have one, and dropping it
//! changes nothing. All that is known is read from the container's directory, and from the kernel
//! by pidfd; pids are never believed without their start time.

mod created;
mod delivery;
mod exec;
mod launching;
mod logs;
mod pause;
mod processes;
mod remove;
mod signal;
mod stats;
mod stop;
mod terminal;
mod update;
mod wait;
#[cfg(feature = "tokio")]
mod wait_async;

pub use created::Created;
pub use delivery::Delivery;
pub use exec::{ExecEnd, ExecSession};
pub use logs::ContainerLog;
pub use pause::Paused;
pub use processes::ContainerProcess;
pub use stats::ContainerUsage;
pub use terminal::{LentTerminal, TerminalKeeper};
pub(crate) use wait::{Next, Waiting};

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cgroup::{CgroupPath, Layout};
use crate::error::{Cause, Error, ErrorKind, ProcessEnd, Result};
use crate::phase::Phase;
use crate::stage::Stage;
use crate::state::claim;
use crate::state::record::{self, Exit, ExitRecord, LaunchRecord, RemovedExits};

/// How long to wait for a container to be gone after it has been killed: the kernel has to tear
/// down its memory and namespaces.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// A container of a run root, in the phase in which it was found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Container {
    /// Being launched, or its launch was killed half way: there is no record yet.
    Launching(Launching),
    /// Its workload waits to be started.
    Created(Created),
    /// Its workload runs.
    Running(Running),
    /// Its workload has been started, and all its processes stand still.
    Paused(Paused),
    /// Its workload has ended, and how is known.
    Exited(Exited),
    /// It has ended while nobody watched, or the machine was restarted: how is not known.
    Lost(Lost),
}

/// A container without a record.
#[derive(Debug, Clone)]
pub struct Launching {
    id: String,
    directory: PathBuf,
}

/// A container whose workload runs.
#[derive(Debug, Clone)]
pub struct Running {
    directory: PathBuf,
    record: Arc<LaunchRecord>,
}

/// A container whose end is on record.
#[derive(Debug, Clone)]
pub struct Exited {
    directory: PathBuf,
    record: Arc<LaunchRecord>,
    exit: Box<ExitRecord>,
}

/// A container that ended unwatched.
#[derive(Debug, Clone)]
pub struct Lost {
    directory: PathBuf,
    record: Arc<LaunchRecord>,
    known: Option<Exit>,
}

/// How a container ended, as far as it can be known.
#[derive(Debug, Clone)]
#[must_use = "a container that has ended is kept until it is removed"]
pub enum Ended {
    /// The monitor wrote it down.
    Exited(Exited),
    /// Nobody did.
    Lost(Lost),
}

impl Container {
    /// The container with this directory, in its present phase.
    pub(crate) fn open(id: &str, directory: PathBuf) -> Result<Container> {
        Container::open_among(id, directory, &OnceCell::new())
    }

    /// As [`Container::open`], one of several: the layout of the cgroups is read once for all.
    pub(crate) fn open_among(id: &str, directory: PathBuf, layout: &OnceCell<Layout>) -> Result<Container> {
        if !directory.is_dir() {
            return Err(no_such(id));
        }
        let Some(record) = record::read_launch(&directory)? else {
            // Removed while we looked, or being removed by its monitor, or not (yet) launched. A
            // monitor that was killed while it removed leaves what a launch that was killed leaves.
            let removing = claim::is_held(&directory)? || !directory.is_dir();
            return if let Some(exit) = RemovedExits::of_container(&directory).read(id).filter(|_| removing) {
                Err(removed_with(id, &exit))
            } else if directory.is_dir() {
                Ok(Container::Launching(Launching { id: id.into(), directory }))
            } else {
                Err(no_such(id))
            };
        };
        Running { directory, record: Arc::new(record) }.refresh_among(layout)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Container::Launching(launching) => &launching.id,
            other => &other.record().expect("every other phase has a record").id,
        }
    }

    /// Its phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Container::Launching(_) => Phase::Launching,
            Container::Created(_) => Phase::Created,
            Container::Running(_) => Phase::Running,
            Container::Paused(_) => Phase::Paused,
            Container::Exited(_) => Phase::Exited,
            Container::Lost(_) => Phase::Lost,
        }
    }

    /// What was recorded at its launch.
    #[must_use]
    pub fn record(&self) -> Option<&LaunchRecord> {
        match self {
            Container::Launching(_) => None,
            Container::Created(created) => Some(created.record()),
            Container::Running(running) => Some(&running.record),
            Container::Paused(paused) => Some(paused.record()),
            Container::Exited(exited) => Some(&exited.record),
            Container::Lost(lost) => Some(&lost.record),
        }
    }
}

fn no_such(id: &str) -> Error {
    not_found(id, Cause::NoContainer)
}

/// It was removed with its end.
pub(crate) fn removed_with(id: &str, exit: &ExitRecord) -> Error {
    let end = match exit.exit {
        Exit::Code { code } => ProcessEnd::Code(code.into()),
        Exit::Signal { signal, .. } => ProcessEnd::Signal(signal.into()),
    };
    not_found(id, Cause::Removed { end: Some(end) })
}

/// It has been removed, and how it ended is not known (any more).
fn removed(id: &str) -> Error {
    not_found(id, Cause::Removed { end: None })
}

fn not_found(id: &str, cause: Cause) -> Error {
    Error::new(ErrorKind::NotFound, Stage::Watch, format!("container '{id}'"), "open", cause)
}

fn recorded_cgroup(record: &LaunchRecord) -> Result<CgroupPath> {
    CgroupPath::new(record.cgroup.clone()).map_err(|problem| {
        Error::malformed(Stage::Watch, format!("container '{}'", record.id), "parse(cgroup)", problem)
    })
}

impl Running {
    pub(crate) fn new(directory: PathBuf, record: LaunchRecord) -> Running {
        Running { directory, record: Arc::new(record) }
    }

    /// Its record.
    #[must_use]
    pub fn record(&self) -> &LaunchRecord {
        &self.record
    }

    pub(super) fn object(&self) -> String {
        let is_session = self.directory.parent().is_some_and(|parent| parent.ends_with(claim::EXEC));
        let what = if is_session { "exec session" } else { "container" };
        format!("{what} '{}'", self.record.id)
    }

    pub(crate) fn directory(&self) -> &PathBuf {
        &self.directory
    }

    /// Whether its workload lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.record.init.is_alive()
    }

    /// Whether its monitor lives.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.record.monitor.is_alive()
    }

    pub(super) fn cgroup(&self) -> Result<CgroupPath> {
        recorded_cgroup(&self.record)
    }
}

impl Exited {
    /// Its record.
    #[must_use]
    pub fn record(&self) -> &LaunchRecord {
        &self.record
    }

    /// How it ended.
    #[must_use]
    pub fn exit(&self) -> &ExitRecord {
        &self.exit
    }
}

impl Lost {
    /// Its record.
    #[must_use]
    pub fn record(&self) -> &LaunchRecord {
        &self.record
    }

    /// Its exit status where a kernel from 6.15 on told it to a waiter that held init's pidfd. The
    /// monitor's counters are lost in any case.
    #[must_use]
    pub fn known(&self) -> Option<&Exit> {
        self.known.as_ref()
    }
}

impl Ended {
    /// Its record.
    #[must_use]
    pub fn record(&self) -> &LaunchRecord {
        match self {
            Ended::Exited(exited) => exited.record(),
            Ended::Lost(lost) => lost.record(),
        }
    }
}
