//! What a container's worker wrote, where the launch asked for a log.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::{Container, Created, Ended, Exited, Lost, Running};
use crate::error::{ErrorKind, Result};
use crate::log::{Entry, LogStatus, Mending, Place, Query, Reader, StateFile, numbered};
use crate::request::Log;
use crate::state::record::LaunchRecord;

/// The log of a container. Holds nothing open.
#[derive(Debug, Clone)]
pub struct ContainerLog {
    container: Running,
    log: Log,
    place: Place,
}

impl Container {
    /// Its log; `None` where the launch asked for none
    /// ([`Builder::log`](crate::request::Builder::log)).
    #[must_use]
    pub fn log(&self) -> Option<ContainerLog> {
        match self {
            Container::Launching(_) => None,
            Container::Created(Created(running)) => running.log(),
            Container::Running(running) => running.log(),
            Container::Paused(paused) => paused.clone().into_running().log(),
            Container::Exited(exited) => exited.log(),
            Container::Lost(lost) => lost.log(),
        }
    }
}

impl Running {
    /// Its log, as [`Container::log`].
    #[must_use]
    pub fn log(&self) -> Option<ContainerLog> {
        let log: Log = serde_json::from_value(self.record.spec.get("log")?.clone()).ok()?;
        let place = Place::of(&self.directory, &log);
        Some(ContainerLog { container: self.clone(), log, place })
    }
}

impl Exited {
    /// Its log, as [`Container::log`].
    #[must_use]
    pub fn log(&self) -> Option<ContainerLog> {
        Running { directory: self.directory.clone(), record: self.record.clone() }.log()
    }
}

impl Lost {
    /// Its log, as [`Container::log`].
    #[must_use]
    pub fn log(&self) -> Option<ContainerLog> {
        Running { directory: self.directory.clone(), record: self.record.clone() }.log()
    }
}

impl Ended {
    /// Its log, as [`Container::log`].
    #[must_use]
    pub fn log(&self) -> Option<ContainerLog> {
        match self {
            Ended::Exited(exited) => exited.log(),
            Ended::Lost(lost) => lost.log(),
        }
    }
}

impl ContainerLog {
    /// What the launch asked for.
    #[must_use]
    pub fn spec(&self) -> &Log {
        &self.log
    }

    /// The newest file; older ones are beside it, as `FILE.1` and so on.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.place.file
    }

    /// How far it is written, and what was lost; `None` for a log that the worker writes itself,
    /// and once the container has been removed.
    #[must_use]
    pub fn status(&self) -> Option<LogStatus> {
        StateFile::status(&self.place.state()).filter(|_| self.log.is_copied())
    }

    /// Has the log copied again, if both processes that do it were killed at one instant; whether
    /// that was so. Until it is, the worker waits once a pipe is full. Needs root with
    /// CAP_SYS_PTRACE, and a program with one thread.
    ///
    /// # Errors
    /// [`Phase`](ErrorKind::Phase) in a program with several threads.
    pub fn mend(&self) -> Result<bool> {
        let LaunchRecord { init, monitor, spec, .. } = &*self.container.record;
        if !self.log.is_copied() {
            return Ok(false);
        }
        let object = format!("log of {}", self.container.object());
        let removal = spec.get("on_exit").is_some_and(|on_exit| on_exit == "remove");
        Mending { place: &self.place, log: &self.log, object, init: *init, monitor: *monitor, removal }.mend()
    }

    /// Reads what is there, the oldest first, and hands over each line.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for instants where the log has no timestamps; what the
    /// kernel says of a file that cannot be read; the first error of `each`.
    pub fn read(&self, query: &Query, mut each: impl FnMut(&Entry<'_>) -> Result<()>) -> Result<()> {
        self.reader().read(query, &mut each)
    }

    /// Reads what is there and what is added, and returns when the container has ended and all of
    /// it is read. The answer is how often files were removed before they were read: 0 unless the
    /// log is rotated faster than `each` takes it. Waits by inotify and pidfd; one inotify
    /// instance.
    ///
    /// # Errors
    /// As [`ContainerLog::read`]; a file that is not there (yet) is none.
    pub fn follow(&self, query: &Query, mut each: impl FnMut(&Entry<'_>) -> Result<()>) -> Result<u64> {
        self.reader().follow(query, &|| self.process(), &mut each)
    }

    fn reader(&self) -> Reader<'_> {
        Reader::new(self.place.clone(), &self.log, &self.container.record.id)
    }

    /// What to wait for until the container has ended.
    fn process(&self) -> Result<Option<OwnedFd>> {
        match self.container.refresh() {
            Ok(Container::Exited(_) | Container::Lost(_)) => Ok(None),
            Ok(_) => Ok(self.container.process()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The files that there are, the oldest first.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let named = |number: u32| PathBuf::from(numbered(self.path().as_os_str(), number));
        (0..self.log.files()).rev().map(named).filter(|path| path.exists()).collect()
    }
}
