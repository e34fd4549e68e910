//! A container as its handle: the phases are types, so what cannot be done cannot be called.
//!
//! A handle holds nothing of the container: any number of programs may have one, and dropping it changes nothing. All that is known is
//! read from the container's directory, and from the kernel by pidfd; pids are never believed without their start time.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::{Signal, pidfd_send_signal};
use serde::Serialize;

use crate::cgroup::{self, Cgroup, CgroupPath, KillMeans, Layout, Usage};
use crate::control;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::launch::{boot_id, claim, pid_namespace};
use crate::reap::{end_cgroup, remove_directory};
use crate::record::{self, Exit, ExitRecord, LaunchRecord};
use crate::stage::Stage;
use crate::sys;

/// How long to wait for a container to be gone after it has been killed: the kernel has to tear down its memory and namespaces.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// A container of a run root, in the phase in which it was found.
#[derive(Debug, Clone)]
pub enum Container {
    /// Being launched, or its launch was killed half way: there is no record yet.
    Created(Created),
    /// Its workload runs.
    Running(Running),
    /// Its workload has ended, and how is known.
    Exited(Exited),
    /// It has ended while nobody watched, or the machine was restarted: how is not known.
    Lost(Lost),
}

/// The name of a phase, as `ps` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// See [`Container::Created`].
    Created,
    /// See [`Container::Running`].
    Running,
    /// See [`Container::Exited`].
    Exited,
    /// See [`Container::Lost`].
    Lost,
}

/// A container without a record.
#[derive(Debug, Clone)]
pub struct Created {
    id: String,
    directory: PathBuf,
}

/// A container whose workload runs.
#[derive(Debug, Clone)]
pub struct Running {
    directory: PathBuf,
    record: Box<LaunchRecord>,
}

/// A container whose end is on record.
#[derive(Debug, Clone)]
pub struct Exited {
    directory: PathBuf,
    record: Box<LaunchRecord>,
    exit: Box<ExitRecord>,
}

/// A container that ended unwatched.
#[derive(Debug, Clone)]
pub struct Lost {
    directory: PathBuf,
    record: Box<LaunchRecord>,
    known: Option<Exit>,
}

/// How a container ended, as far as it can be known.
#[derive(Debug, Clone)]
pub enum Ended {
    /// The monitor wrote it down.
    Exited(Exited),
    /// Nobody did.
    Lost(Lost),
}

impl Container {
    /// The container with this directory, in its present phase.
    pub(crate) fn open(id: &str, directory: PathBuf) -> Result<Container> {
        if !directory.is_dir() {
            return Err(no_such(id));
        }
        let Some(record) = record::read_launch(&directory)? else {
            // Removed while we looked, or not (yet) launched.
            return if directory.is_dir() {
                Ok(Container::Created(Created { id: id.into(), directory }))
            } else {
                Err(no_such(id))
            };
        };
        let running = Running { directory, record: Box::new(record) };
        running.refresh()
    }

    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            Container::Created(created) => &created.id,
            other => &other.record().expect("every other phase has a record").id,
        }
    }

    /// Its phase.
    pub fn phase(&self) -> Phase {
        match self {
            Container::Created(_) => Phase::Created,
            Container::Running(_) => Phase::Running,
            Container::Exited(_) => Phase::Exited,
            Container::Lost(_) => Phase::Lost,
        }
    }

    /// What was recorded at its launch.
    pub fn record(&self) -> Option<&LaunchRecord> {
        match self {
            Container::Created(_) => None,
            Container::Running(running) => Some(&running.record),
            Container::Exited(exited) => Some(&exited.record),
            Container::Lost(lost) => Some(&lost.record),
        }
    }
}

fn no_such(id: &str) -> Error {
    Error::found(
        ErrorKind::NotFound,
        Stage::Watch,
        format!("container '{id}'"),
        "open",
        "there is no container of this id",
    )
}

fn removed(id: &str) -> Error {
    let text = "it has ended, and its record was not to be kept";
    Error::found(ErrorKind::NotFound, Stage::Watch, format!("container '{id}'"), "open", text)
}

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

    /// A pidfd that becomes readable when it is time to look again: the monitor's, or without one init's. Nothing when both are gone.
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
        if let Some(exit) = record::read_exit(&self.directory)? {
            return Ok(self.exited(exit));
        }
        if boot_id()? != self.record.boot_id {
            return Ok(Container::Lost(self.lost_with(None)));
        }
        // Pids of another pid namespace tell nothing here, so nothing is concluded from them.
        let foreign = pid_namespace()? != self.record.pid_namespace;
        if foreign || self.is_watched() || self.is_alive() || claim::is_held(&self.directory)? {
            return Ok(Container::Running(self));
        }
        match record::read_exit(&self.directory)? {
            Some(exit) => Ok(self.exited(exit)),
            // The monitor removed it, as it was told to.
            None if !self.directory.exists() => Err(removed(&self.record.id)),
            None => Ok(Container::Lost(self.lost_with(None))),
        }
    }

    fn exited(self, exit: ExitRecord) -> Container {
        Container::Exited(Exited { directory: self.directory, record: self.record, exit: Box::new(exit) })
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
        loop {
            self = match self.refresh()? {
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

    /// Sends a signal to init.
    pub fn signal(&self, signal: i32) -> Result<()> {
        if let Some(()) = control::signal(&self.directory, signal)? {
            return Ok(());
        }
        self.signal_init(signal)
    }

    /// Without a monitor, by pidfd.
    fn signal_init(&self, signal: i32) -> Result<()> {
        let init = self.record.init.open().ok_or_else(|| self.has_ended())?;
        let named = Signal::from_named_raw(signal).ok_or_else(|| {
            Error::found(
                ErrorKind::Invalid,
                Stage::Stop,
                self.object(),
                "signal",
                format!("{signal} is not a signal with a name"),
            )
        })?;
        match pidfd_send_signal(&init, named) {
            Err(rustix::io::Errno::SRCH) => Err(self.has_ended()),
            other => other.at(Stage::Stop, self.object(), "pidfd_send_signal"),
        }
    }

    fn has_ended(&self) -> Error {
        Error::found(ErrorKind::Phase, Stage::Stop, self.object(), "signal", "it has ended")
    }

    /// Ends the container: the signal now, and after the grace the whole tree is killed. The monitor sees to it even if the caller is gone
    /// before the grace is over.
    pub fn stop(self, signal: i32, grace: Duration) -> Result<Ended> {
        let monitored = control::stop(&self.directory, signal, grace)?.is_some();
        if !monitored {
            match self.signal_init(signal) {
                Err(error) if error.kind() != ErrorKind::Phase => return Err(error),
                _ => {}
            }
        }
        let patience = if monitored { grace.saturating_add(KILL_PATIENCE) } else { grace };
        let object = self.object();
        let still_running = self.clone();
        match self.wait_for(patience)? {
            Some(ended) => Ok(ended),
            None if !monitored => still_running.kill_tree(),
            None => {
                Err(Error::found(ErrorKind::TimedOut, Stage::Stop, object, "wait", "it was killed and is not gone yet"))
            }
        }
    }

    /// Kills everything in the container, at once, and without its monitor's help.
    pub fn kill_tree(self) -> Result<Ended> {
        let layout = Layout::detect()?;
        if cgroup::inode_of(&layout, &self.cgroup()?) == self.record.cgroup_inode {
            Cgroup::open(&layout, &self.cgroup()?)?.kill_all(KillMeans::Best)?;
        }
        // On a hybrid host init may be where the kill does not reach; its pid namespace goes with it.
        match self.signal_init(libc::SIGKILL) {
            Err(error) if error.kind() != ErrorKind::Phase => return Err(error),
            _ => {}
        }
        let object = self.object();
        match self.wait_for(KILL_PATIENCE)? {
            Some(ended) => Ok(ended),
            None => {
                Err(Error::found(ErrorKind::TimedOut, Stage::Stop, object, "wait", "it was killed and is not gone yet"))
            }
        }
    }

    fn cgroup(&self) -> Result<CgroupPath> {
        recorded_cgroup(&self.record)
    }

    /// What it uses now.
    pub fn usage(&self) -> Result<Usage> {
        Ok(Usage::read(&Layout::detect()?, &self.cgroup()?))
    }
}

fn recorded_cgroup(record: &LaunchRecord) -> Result<CgroupPath> {
    CgroupPath::new(record.cgroup.clone()).map_err(|problem| {
        Error::found(
            ErrorKind::System,
            Stage::Watch,
            format!("container '{}'", record.id),
            "parse(cgroup)",
            problem.to_string(),
        )
    })
}

impl Exited {
    /// Its record.
    pub fn record(&self) -> &LaunchRecord {
        &self.record
    }

    /// How it ended.
    pub fn exit(&self) -> &ExitRecord {
        &self.exit
    }

    /// Removes what is kept of it.
    pub fn remove(self) -> Result<()> {
        remove(&self.directory, &self.record)
    }
}

impl Lost {
    /// Its record.
    pub fn record(&self) -> &LaunchRecord {
        &self.record
    }

    /// Its exit status where a kernel from 6.15 on told it to a waiter that held init's pidfd. The monitor's counters are lost in any case.
    pub fn known(&self) -> Option<&Exit> {
        self.known.as_ref()
    }

    /// Removes what is kept of it.
    pub fn remove(self) -> Result<()> {
        remove(&self.directory, &self.record)
    }
}

impl Ended {
    /// Its record.
    pub fn record(&self) -> &LaunchRecord {
        match self {
            Ended::Exited(exited) => exited.record(),
            Ended::Lost(lost) => lost.record(),
        }
    }

    /// Removes what is kept of it.
    pub fn remove(self) -> Result<()> {
        match self {
            Ended::Exited(exited) => exited.remove(),
            Ended::Lost(lost) => lost.remove(),
        }
    }
}

impl Created {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits until its launch is over, at most this long, and gives the container in the phase in which it then is: still created, if the
    /// time was too short.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]: the launch failed, and took back what it had made.
    pub fn settle(self, span: Duration) -> Result<Container> {
        let object = format!("container '{}'", self.id);
        let deadline = Instant::now() + span;
        let changes = inotify::init(inotify::CreateFlags::CLOEXEC).at(Stage::Watch, &object, "inotify_init1")?;
        // The record is renamed into place; a failed launch removes the directory.
        let events = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::DELETE_SELF;
        match inotify::add_watch(&changes, &self.directory, events) {
            Ok(_) => {}
            Err(rustix::io::Errno::NOENT) => return Err(no_such(&self.id)),
            Err(errno) => return Err(errno).at(Stage::Watch, object, "inotify_add_watch"),
        }
        loop {
            let container = Container::open(&self.id, self.directory.clone())?;
            let Container::Created(_) = container else { return Ok(container) };
            if !wait_readable(&changes, Some(deadline))? {
                return Ok(container);
            }
            // Which event it was does not matter: the next look decides.
            let _ = rustix::io::read(&changes, &mut [0; 1024]);
        }
    }

    /// Removes what an unfinished launch has made. There is no record, but the claim says which cgroup was to be used.
    pub fn abandon(self) -> Result<()> {
        let object = format!("container '{}'", self.id);
        let Some(_held) = claim::hold(&self.directory)? else {
            return Err(Error::found(ErrorKind::Phase, Stage::Remove, object, "flock", "it is being launched"));
        };
        // Between the look and the lock it may have been launched, and even have ended.
        if record::read_launch(&self.directory)?.is_some() {
            return Err(Error::found(
                ErrorKind::Phase,
                Stage::Remove,
                object,
                "open",
                "it has been launched meanwhile",
            ));
        }
        if let Some((cgroup, inode)) = claim::cgroup_of(&self.directory)? {
            end_cgroup(&Layout::detect()?, &cgroup, inode)?;
        }
        remove_directory(&self.directory)
    }
}

/// Removes cgroup and directory. The monitor comes to its own end first: it may still be clearing away, by the same names. The directory goes
/// last: as long as it is there, removing can be tried again.
fn remove(directory: &Path, record: &LaunchRecord) -> Result<()> {
    if let Some(monitor) = record.monitor.open() {
        wait_readable(&monitor, Some(Instant::now() + KILL_PATIENCE))?;
    }
    let Some(_held) = claim::hold(directory)? else {
        return match directory.exists() {
            false => Ok(()),
            true => {
                let text = "its monitor, or somebody else who removes it, is still at work";
                Err(Error::found(ErrorKind::Phase, Stage::Remove, format!("container '{}'", record.id), "flock", text))
            }
        };
    };
    end_cgroup(&Layout::detect()?, &recorded_cgroup(record)?, record.cgroup_inode)?;
    remove_directory(directory)
}

/// A wait status, as wait(2) encodes it.
fn exit_of(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code { code: (status >> 8) as u8 },
        signal => Exit::Signal { signal: signal as u8, core_dumped: status & 0x80 != 0 },
    }
}

/// The exit status of a process that somebody else reaps: the kernel keeps it for whoever holds a pidfd, from the moment of the reaping.
fn known_end(pidfd: &OwnedFd) -> Result<Option<Exit>> {
    // A reaped process hangs up; that of a host's init takes a moment.
    let mut fds = [PollFd::new(pidfd, PollFlags::empty())];
    let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
    poll(&mut fds, Some(&patience)).at(Stage::Watch, "init", "poll")?;
    Ok(sys::pidfd_wait_status(pidfd.as_fd()).map(exit_of))
}

/// Waits for a process to end; false when the deadline came first.
fn wait_readable(pidfd: &OwnedFd, deadline: Option<Instant>) -> Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout =
            left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) });
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).at(Stage::Watch, "pidfd", "poll"),
        }
    }
}
