//! A further program in a running container, as its handle.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::stop::MONITORS_TURN;
use super::wait::{Waiting, wait_readable};
use super::{Container, Ended, KILL_PATIENCE, Running};
use crate::cgroup::{self, Layout};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::monitor::client::{self, Reply};
use crate::signal_stream::{Sender, TakenSignal};
use crate::stage::Stage;
use crate::state::claim;
use crate::state::record::{self, Exit, ExitRecord, LaunchRecord};
use crate::sys::Addressee;

/// A program that was executed in a running container ([`Squall::exec`](crate::Squall::exec)), and
/// has perhaps ended since. It ends with its container at the latest.
///
/// Like a container's, this handle holds nothing: dropping it changes nothing, and any number of
/// programs may have one. What is known of its end is kept until it is removed, or its container
/// is.
#[derive(Debug, Clone)]
pub struct ExecSession(pub(super) Running);

/// How an exec session ended, as far as it can be known.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ExecEnd {
    /// Its monitor wrote it down. Counters of cgroups are the container's, and not in this record.
    Exited(Box<ExitRecord>),
    /// Its monitor was killed before: what the kernel still knew of it, from Linux 6.15 on.
    Lost(Option<Exit>),
}

impl ExecSession {
    pub(crate) fn new(container: &Path, record: LaunchRecord) -> ExecSession {
        ExecSession(Running::new(container.join(claim::EXEC).join(&record.id), record))
    }

    /// Its id, which no other session of this container has.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.record.id
    }

    /// What was executed. The fields are those of a container's record: [`LaunchRecord::init`] is
    /// the program, [`LaunchRecord::monitor`] its own monitor, [`LaunchRecord::cgroup`] the
    /// container's, and [`LaunchRecord::spec`] the container's with this program in its place.
    #[must_use]
    pub fn record(&self) -> &LaunchRecord {
        &self.0.record
    }

    /// The program's pid, as the host sees it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.0.record.init.pid
    }

    /// Whether the program lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.is_alive()
    }

    /// Whether its monitor lives.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.0.is_watched()
    }

    /// A pidfd that becomes readable when it is time to look again, as [`Running::process`].
    #[must_use]
    pub fn process(&self) -> Option<OwnedFd> {
        self.0.process()
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it has been removed, with its container perhaps.
    pub fn end(&self) -> Result<Option<ExecEnd>> {
        Ok(match self.0.refresh()? {
            Container::Exited(exited) => Some(Ended::Exited(exited).into()),
            Container::Lost(lost) => Some(Ended::Lost(lost).into()),
            _ => None,
        })
    }

    /// Waits until the program has ended and its end is written down. Any number of programs may
    /// wait.
    ///
    /// # Errors
    /// As [`ExecSession::end`].
    pub fn wait(&self) -> Result<ExecEnd> {
        self.0.wait().map(ExecEnd::from)
    }

    /// As [`ExecSession::wait`], at most this long; `None`: it runs on.
    ///
    /// # Errors
    /// As [`ExecSession::end`].
    pub fn wait_for(&self, span: Duration) -> Result<Option<ExecEnd>> {
        Ok(self.0.wait_for(span)?.map(ExecEnd::from))
    }

    /// Sends a signal to the program.
    ///
    /// # Errors
    /// [`ErrorKind::Phase`] when it has ended, or the container is frozen: the signal would wait.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.signal_to(signal, Addressee::Process)
    }

    /// Passes on a signal that this program was sent. One that a terminal sent goes to the whole
    /// process group, as a terminal would have it.
    ///
    /// # Errors
    /// As [`ExecSession::signal`].
    pub fn pass_on(&self, signal: TakenSignal) -> Result<()> {
        let to = if signal.sender == Sender::Kernel { Addressee::Group } else { Addressee::Process };
        self.signal_to(signal.number, to)
    }

    fn signal_to(&self, signal: i32, to: Addressee) -> Result<()> {
        self.0.refuse_frozen(&Layout::detect()?, cgroup::frozen)?;
        self.0.signal_by_pidfd(signal, to)
    }

    /// Ends the program: the signal now, and SIGKILL after the grace. Its monitor sees to it even
    /// if the caller is gone by then. What the program has left running belongs to the container.
    ///
    /// # Errors
    /// [`ErrorKind::Phase`] when the container is frozen; [`ErrorKind::TimedOut`] when the program
    /// was killed and is not gone.
    pub fn stop(&self, signal: i32, grace: Duration) -> Result<ExecEnd> {
        self.0.refuse_frozen(&Layout::detect()?, cgroup::frozen)?;
        // From before it is asked: its container may be removed with its end.
        let mut waiting = Waiting::of(&self.0);
        let reply = client::stop(&self.0.directory, signal, grace)?;
        if reply != Reply::Done {
            self.0.continue_monitor();
            self.signal_if_alive(signal)?;
        }
        if let Some(end) = waiting.within(grace.saturating_add(MONITORS_TURN))? {
            return Ok(end.into());
        }
        self.signal_if_alive(libc::SIGKILL)?;
        self.0.continue_monitor();
        waiting.within(KILL_PATIENCE)?.map(ExecEnd::from).ok_or_else(|| self.0.late())
    }

    fn signal_if_alive(&self, signal: i32) -> Result<()> {
        match self.0.signal_by_pidfd(signal, Addressee::Process) {
            Err(error) if error.kind() != ErrorKind::Phase => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes what is kept of a session that has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Phase`] while the program runs.
    pub fn remove(self) -> Result<()> {
        if let Some(monitor) = self.0.record.monitor.open().filter(|_| !self.is_alive()) {
            wait_readable(&monitor, Some(Instant::now() + KILL_PATIENCE))?;
        }
        let directory = &self.0.directory;
        match claim::hold(directory)? {
            Some(_held) => claim::remove_directory(directory),
            None if !directory.exists() => Ok(()),
            None => Err(Error::in_use(ErrorKind::Phase, Stage::Remove, self.0.object(), "its monitor")),
        }
    }
}

impl From<Ended> for ExecEnd {
    fn from(ended: Ended) -> ExecEnd {
        match ended {
            Ended::Exited(exited) => ExecEnd::Exited(exited.exit),
            Ended::Lost(lost) => ExecEnd::Lost(lost.known),
        }
    }
}

impl Container {
    /// The exec sessions that are kept of it, oldest first: those that run, and those that have
    /// ended and were not removed.
    ///
    /// # Errors
    /// [`ErrorKind::System`] when its directory cannot be read.
    pub fn exec_sessions(&self) -> Result<Vec<ExecSession>> {
        let directory = self.directory();
        let path = directory.join(claim::EXEC);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).at(Stage::Watch, path.display(), "opendir"),
        };
        let mut sessions = Vec::new();
        for entry in entries {
            let entry = entry.at(Stage::Watch, path.display(), "readdir")?.path();
            if claim::is_unnamed(&entry.file_name().unwrap_or_default().to_string_lossy()) {
                continue;
            }
            // Without a record it is being executed, or was not.
            sessions.extend(record::read_launch(&entry)?.map(|record| ExecSession::new(directory, record)));
        }
        sessions.sort_by_key(|session| session.0.record.created_unix_ns);
        Ok(sessions)
    }

    /// Removes the exec sessions that have ended.
    ///
    /// # Errors
    /// Those of [`ExecSession::remove`].
    pub fn remove_ended_exec_sessions(&self) -> Result<()> {
        let mut ended = self.exec_sessions()?.into_iter().filter(|session| !matches!(session.end(), Ok(None)));
        ended.try_for_each(ExecSession::remove)
    }

    fn directory(&self) -> &PathBuf {
        match self {
            Container::Launching(launching) => &launching.directory,
            Container::Created(created) => &created.0.directory,
            Container::Running(running) => &running.directory,
            Container::Paused(paused) => &paused.0.directory,
            Container::Exited(exited) => &exited.directory,
            Container::Lost(lost) => &lost.directory,
        }
    }
}
