//! What can be done with a container that runs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{
    Container, Ended, Exited, KILL_PATIENCE, Lost, Running, known_end, no_such, recorded_cgroup, removed, wait_readable,
};
use crate::cgroup::{self, Cgroup, CgroupPath, KillMeans, Layout, Usage};
use crate::crash::{self, Role};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::host::{boot_id, pid_namespace};
use crate::monitor::client;
use crate::monitor::client::Reply;
use crate::stage::Stage;
use crate::state::claim;
use crate::state::record;
use crate::state::record::{Exit, ExitRecord, LaunchRecord, OpenExit, RemovedExits};
use crate::sys::{self, Addressee};

/// How long after the grace the caller leaves the killing to the monitor, before it looks whether that lives.
const MONITORS_TURN: Duration = Duration::from_secs(1);

impl Running {
    pub(crate) fn new(directory: PathBuf, record: LaunchRecord) -> Running {
        Running { directory, record: Box::new(record) }
    }

    /// Its record.
    pub fn record(&self) -> &LaunchRecord {
        &self.record
    }

    fn object(&self) -> String {
        format!("container '{}'", self.record.id)
    }

    /// Whether its workload lives.
    pub fn is_alive(&self) -> bool {
        self.record.init.is_alive()
    }

    /// Whether its monitor lives.
    pub fn is_watched(&self) -> bool {
        self.record.monitor.is_alive()
    }

    /// A pidfd that becomes readable when it is time to look again: the monitor's, or without one init's. `None` when both are gone.
    ///
    /// A monitor that has been killed and not been waited for is still a process, whose pidfd is readable for ever: it does not count.
    pub fn process(&self) -> Option<OwnedFd> {
        let monitor = if self.is_watched() { self.record.monitor.open() } else { None };
        monitor.or_else(|| self.record.init.open())
    }

    /// The container as it is now.
    ///
    /// The exit record is looked for a second time after monitor and init were found dead: the monitor writes it before it ends.
    pub fn refresh(self) -> Result<Container> {
        if let Some(exit) = self.own_exit()? {
            return Ok(Container::Exited(self.exited(exit)));
        }
        if boot_id()? != self.record.boot_id {
            return Ok(Container::Lost(self.lost_with(None)));
        }
        // Pids of another pid namespace tell nothing here, so nothing is concluded from them.
        let foreign = pid_namespace()? != self.record.pid_namespace;
        if foreign || self.is_watched() || self.is_alive() {
            return Ok(Container::Running(self));
        }
        let gone = self.is_gone()?;
        if !gone && claim::is_held(&self.directory)? {
            return Ok(Container::Running(self));
        }
        match self.own_exit()? {
            Some(exit) => Ok(Container::Exited(self.exited(exit))),
            None if gone || !self.directory.exists() => Err(removed(&self.record.id)),
            None => Ok(Container::Lost(self.lost_with(None))),
        }
    }

    /// Whether its directory has been removed; what has its id now is another container.
    fn is_gone(&self) -> Result<bool> {
        let found = record::read_launch(&self.directory)?;
        Ok(found.map_or(!self.directory.exists(), |found| found.init != self.record.init))
    }

    /// Its exit record: in its directory or, once that is gone, where the ends of removed containers are.
    fn own_exit(&self) -> Result<Option<ExitRecord>> {
        let here = record::read_exit(&self.directory)?.filter(|exit| record::is_end_of(exit, &self.record));
        let removed = || RemovedExits::of_container(&self.directory).read(&self.record.id);
        Ok(here.or_else(|| removed().filter(|exit| record::is_end_of(exit, &self.record))))
    }

    fn exited(self, exit: ExitRecord) -> Exited {
        Exited { directory: self.directory, record: self.record, exit: Box::new(exit) }
    }

    /// Waits until the container has ended and its record is written. Any number of programs may wait.
    pub fn wait(self) -> Result<Ended> {
        match self.wait_until(None)? {
            Some(ended) => Ok(ended),
            None => unreachable!("without a deadline, only the end ends the wait"),
        }
    }

    /// Waits as [`Running::wait`] does, at most this long; nothing means that it is still running.
    pub fn wait_for(self, span: Duration) -> Result<Option<Ended>> {
        self.wait_until(Some(Instant::now() + span))
    }

    fn wait_until(mut self, deadline: Option<Instant>) -> Result<Option<Ended>> {
        crash::point(Role::Caller, Stage::Watch);
        // Open from here on, so that the end is learned whoever removes the container, and however soon.
        let open = OpenExit::of(&self.directory);
        loop {
            let last = self.clone();
            let found = self.refresh();
            if !matches!(found, Ok(Container::Running(_) | Container::Exited(_)))
                && let Some(exit) = open.as_ref().and_then(|open| open.read(&last.record))
            {
                return Ok(Some(Ended::Exited(last.exited(exit))));
            }
            self = match found? {
                Container::Running(running) => running,
                Container::Exited(exited) => return Ok(Some(Ended::Exited(exited))),
                Container::Lost(lost) => return Ok(Some(Ended::Lost(lost))),
                Container::Created(created) => return Err(no_such(&created.id)),
            };
            let watched = self.is_watched();
            let Some(process) = self.process() else { continue };
            if !wait_readable(&process, deadline)? {
                return Ok(None);
            }
            // What has ended may have been the monitor, between the two looks: then the next turn knows better.
            if !watched && !self.record.init.is_alive() {
                return Ok(Some(Ended::Lost(self.lost_with(known_end(&process)?))));
            }
        }
    }

    fn lost_with(self, known: Option<Exit>) -> Lost {
        Lost { directory: self.directory, record: self.record, known }
    }

    /// Sends a signal to init. SIGKILL thaws a container that is frozen.
    ///
    /// # Errors
    /// [`ErrorKind::Phase`] when it has ended, or is frozen and the signal would wait until it is thawed; [`ErrorKind::TimedOut`] when its monitor
    /// does not answer.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let kills = signal == libc::SIGKILL;
        self.refuse_frozen(if kills { cgroup::frozen_above } else { cgroup::frozen })?;
        match client::signal(&self.directory, signal)? {
            Reply::Done => return Ok(()),
            Reply::Silent if !kills => return Err(self.silent_monitor()),
            Reply::Silent => self.continue_monitor(),
            Reply::Gone => {}
        }
        self.signal_init(signal)?;
        if kills { self.thaw() } else { Ok(()) }
    }

    fn silent_monitor(&self) -> Error {
        let text = format!("its monitor (pid {}) does not answer: it is stopped, perhaps", self.record.monitor.pid);
        Error::found(ErrorKind::TimedOut, Stage::Stop, self.object(), "recv", text)
    }

    /// Whatever stopped the monitor: it has the container's end to write down.
    fn continue_monitor(&self) {
        if let Some(monitor) = self.record.monitor.open() {
            let _ = sys::pidfd_send_signal(monitor.as_fd(), self.record.monitor.pid, libc::SIGCONT, Addressee::Process);
        }
    }

    fn refuse_frozen(&self, frozen: impl Fn(&Layout, &CgroupPath) -> Option<CgroupPath>) -> Result<()> {
        match frozen(&Layout::detect()?, &self.cgroup()?) {
            None => Ok(()),
            Some(found) => {
                let text = cgroup::frozen_words(&found);
                Err(Error::found(ErrorKind::Phase, Stage::Stop, self.object(), "read(freezer state)", text))
            }
        }
    }

    /// Lets what is frozen run, where there is no monitor to do it.
    fn thaw(&self) -> Result<()> {
        if let Some(cgroup) = self.own_cgroup()? {
            cgroup.thaw();
        }
        Ok(())
    }

    /// The container's cgroup; `None` where another one has its name.
    fn own_cgroup(&self) -> Result<Option<Cgroup>> {
        let (layout, path) = (Layout::detect()?, self.cgroup()?);
        let is_own = cgroup::inode_of(&layout, &path) == self.record.cgroup_inode;
        is_own.then(|| Cgroup::open(&layout, &path)).transpose()
    }

    /// Without a monitor, by pidfd.
    pub(super) fn signal_init(&self, signal: i32) -> Result<()> {
        self.signal_by_pidfd(signal, Addressee::Process)
    }

    pub(super) fn signal_by_pidfd(&self, signal: i32, to: Addressee) -> Result<()> {
        let init = self.record.init.open().ok_or_else(|| self.has_ended())?;
        match sys::pidfd_send_signal(init.as_fd(), self.record.init.pid, signal, to) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(self.has_ended()),
            other => other.at(Stage::Stop, self.object(), "pidfd_send_signal"),
        }
    }

    fn has_ended(&self) -> Error {
        Error::found(ErrorKind::Phase, Stage::Stop, self.object(), "signal", "it has ended")
    }

    /// Ends the container: the signal now, and after the grace the whole tree is killed. A frozen one is thawed for it. The monitor sees to it
    /// even if the caller is gone before the grace is over; one that has been killed or does not answer is done without.
    ///
    /// # Errors
    /// [`ErrorKind::Phase`] when a cgroup above the container's is frozen and keeps it from ending (cgroup v1); [`ErrorKind::TimedOut`] when it was
    /// killed and is not gone.
    pub fn stop(self, signal: i32, grace: Duration) -> Result<Ended> {
        crash::point(Role::Caller, Stage::Stop);
        self.refuse_frozen(cgroup::frozen_above)?;
        let reply = client::stop(&self.directory, signal, grace)?;
        if reply == Reply::Silent {
            self.continue_monitor();
        }
        if reply != Reply::Done {
            self.signal_if_alive(signal)?;
            self.thaw()?;
        }
        let still_running = self.clone();
        let turn = if reply == Reply::Done { MONITORS_TURN } else { Duration::ZERO };
        match self.wait_for(grace.saturating_add(turn))? {
            Some(ended) => Ok(ended),
            None => still_running.kill_tree(),
        }
    }

    fn signal_if_alive(&self, signal: i32) -> Result<()> {
        match self.signal_init(signal) {
            Err(error) if error.kind() != ErrorKind::Phase => Err(error),
            _ => Ok(()),
        }
    }

    /// Kills everything in the container, at once, and without its monitor's help.
    pub fn kill_tree(self) -> Result<Ended> {
        crash::point(Role::Caller, Stage::Stop);
        self.refuse_frozen(cgroup::frozen_above)?;
        if let Some(cgroup) = self.own_cgroup()? {
            cgroup.kill_all(KillMeans::Best)?;
        }
        // On a hybrid host init may be where the kill does not reach; its pid namespace goes with it.
        self.signal_if_alive(libc::SIGKILL)?;
        self.continue_monitor();
        let killed = self.clone();
        self.wait_for(KILL_PATIENCE)?.ok_or_else(|| killed.late())
    }

    fn late(&self) -> Error {
        let text = match self.is_alive() {
            true => "it was killed and is not gone yet".to_owned(),
            false => format!("it is dead, and its monitor (pid {}) does not say how it ended", self.record.monitor.pid),
        };
        Error::found(ErrorKind::TimedOut, Stage::Stop, self.object(), "wait", text)
    }

    fn cgroup(&self) -> Result<CgroupPath> {
        recorded_cgroup(&self.record)
    }

    /// What it uses now.
    pub fn usage(&self) -> Result<Usage> {
        Ok(Usage::read(&Layout::detect()?, &self.cgroup()?))
    }
}
