//! Waiting for a container's end, and looking at what has become of it.

use std::cell::OnceCell;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Container, Created, Ended, Exited, Lost, Running, no_such, removed};
use crate::cgroup::Layout;
use crate::crash::{self, Role};
use crate::error::{Context, Result};
use crate::host::{boot_id, pid_namespace};
use crate::stage::Stage;
use crate::state::claim;
use crate::state::record::{self, Exit, ExitRecord, OpenExit, RemovedExits};
use crate::sys;
use crate::wait::is_readable_by;

impl Running {
    /// A pidfd that becomes readable when it is time to look again: the monitor's, or without one
    /// init's. `None` when both are gone.
    ///
    /// A monitor that has been killed and not been waited for is still a process, whose pidfd is
    /// readable for ever: it does not count.
    #[must_use]
    pub fn process(&self) -> Option<OwnedFd> {
        let monitor = if self.is_watched() { self.record.monitor.open() } else { None };
        monitor.or_else(|| self.record.init.open())
    }

    /// The container as it is now, with the limits that are in force now.
    ///
    /// The exit record is looked for a second time after monitor and init were found dead: the
    /// monitor writes it before it ends.
    pub fn refresh(&self) -> Result<Container> {
        self.newest().refresh_among(&OnceCell::new())
    }

    /// With its record as it is now; limits in it may have been changed.
    fn newest(&self) -> Running {
        let found = record::read_launch(&self.directory).ok().flatten();
        let same = |found: &record::LaunchRecord| {
            found.init == self.record.init && found.created_unix_ns == self.record.created_unix_ns
        };
        found.filter(same).map_or_else(|| self.clone(), |found| Running::new(self.directory.clone(), found))
    }

    /// As [`Running::refresh`], one of several.
    pub(super) fn refresh_among(&self, layout: &OnceCell<Layout>) -> Result<Container> {
        self.look(|running| running.alive(layout))
    }

    /// What has become of it; one that lives is told by `alive`.
    fn look(&self, alive: impl Fn(&Running) -> Result<Container>) -> Result<Container> {
        if let Some(exit) = self.own_exit()? {
            return Ok(Container::Exited(self.exited(exit)));
        }
        if boot_id()? != self.record.boot_id {
            return Ok(Container::Lost(self.lost_with(None)));
        }
        // Pids of another pid namespace tell nothing here, so nothing is concluded from them.
        let foreign = pid_namespace()? != self.record.pid_namespace;
        if foreign || self.is_watched() || self.is_alive() {
            return alive(self);
        }
        let gone = self.is_gone()?;
        if !gone && claim::is_held(&self.directory)? {
            return alive(self);
        }
        match self.own_exit()? {
            Some(exit) => Ok(Container::Exited(self.exited(exit))),
            None if gone || !self.directory.exists() => Err(removed(&self.record.id)),
            None => Ok(Container::Lost(self.lost_with(None))),
        }
    }

    /// Running or paused, or created where nobody has started it.
    fn alive(&self, layout: &OnceCell<Layout>) -> Result<Container> {
        match self.started() {
            Some(running) => running.running_or_paused(layout),
            None => Ok(Container::Created(Created(self.clone()))),
        }
    }

    /// Whether its directory has been removed; what has its id now is another container.
    fn is_gone(&self) -> Result<bool> {
        let found = record::read_launch(&self.directory)?;
        Ok(found.map_or(!self.directory.exists(), |found| found.init != self.record.init))
    }

    /// Its exit record: in its directory or, once that is gone, where the ends of removed
    /// containers are.
    fn own_exit(&self) -> Result<Option<ExitRecord>> {
        let here = record::read_exit(&self.directory)?.filter(|exit| record::is_end_of(exit, &self.record));
        let removed = || RemovedExits::of_container(&self.directory).read(&self.record.id);
        Ok(here.or_else(|| removed().filter(|exit| record::is_end_of(exit, &self.record))))
    }

    fn exited(&self, exit: ExitRecord) -> Exited {
        Exited { directory: self.directory.clone(), record: self.record.clone(), exit: Box::new(exit) }
    }

    /// Waits until the container has ended and its record is written. Any number of programs may
    /// wait.
    pub fn wait(&self) -> Result<Ended> {
        match self.wait_until(None)? {
            Some(ended) => Ok(ended),
            None => unreachable!("without a deadline, only the end ends the wait"),
        }
    }

    /// Waits as [`Running::wait`] does, at most this long; nothing means that it is still running.
    pub fn wait_for(&self, span: Duration) -> Result<Option<Ended>> {
        self.wait_until(Some(Instant::now() + span))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<Option<Ended>> {
        crash::point(Role::Caller, Stage::Watch);
        // Open from here on, so that the end is learned whoever removes the container, and however
        // soon.
        let open = OpenExit::of(&self.directory);
        loop {
            let found = self.look(|running| Ok(Container::Running(running.clone())));
            if !matches!(found, Ok(Container::Running(_) | Container::Exited(_)))
                && let Some(exit) = open.as_ref().and_then(|open| open.read(&self.record))
            {
                return Ok(Some(Ended::Exited(self.exited(exit))));
            }
            match found? {
                Container::Created(_) | Container::Running(_) | Container::Paused(_) => {}
                Container::Exited(exited) => return Ok(Some(Ended::Exited(exited))),
                Container::Lost(lost) => return Ok(Some(Ended::Lost(lost))),
                Container::Launching(launching) => return Err(no_such(&launching.id)),
            }
            let watched = self.is_watched();
            let Some(process) = self.process() else { continue };
            if !wait_readable(&process, deadline)? {
                return Ok(None);
            }
            // What has ended may have been the monitor, between the two looks: then the next turn
            // knows better.
            if !watched && !self.record.init.is_alive() {
                return Ok(Some(Ended::Lost(self.lost_with(known_end(&process)?))));
            }
        }
    }

    fn lost_with(&self, known: Option<Exit>) -> Lost {
        Lost { directory: self.directory.clone(), record: self.record.clone(), known }
    }
}

/// A wait status, as wait(2) encodes it.
fn exit_of(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code { code: (status >> 8) as u8 },
        signal => Exit::Signal { signal: signal as u8, core_dumped: status & 0x80 != 0 },
    }
}

/// The exit status of a process that somebody else reaps: the kernel keeps it for whoever holds a
/// pidfd, from the moment of the reaping.
fn known_end(pidfd: &OwnedFd) -> Result<Option<Exit>> {
    // A reaped process hangs up; that of a host's init takes a moment.
    let mut fds = [PollFd::new(pidfd, PollFlags::empty())];
    let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
    poll(&mut fds, Some(&patience)).at(Stage::Watch, "init", "poll")?;
    Ok(sys::pidfd_wait_status(pidfd.as_fd()).map(exit_of))
}

/// Waits until a descriptor can be read; false when the deadline came first. Of a pidfd that is a
/// reason to look at its process, and no proof that it has ended.
pub(super) fn wait_readable(fd: &OwnedFd, deadline: Option<Instant>) -> Result<bool> {
    is_readable_by(fd.as_fd(), deadline).at(Stage::Watch, "descriptor", "poll")
}
