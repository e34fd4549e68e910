//! A container as its handle: the phases are types, so what cannot be done cannot be called.
//!
//! A handle holds nothing of the container: any number of programs may have one, and dropping it changes nothing. All that is known is
//! read from the container's directory, and from the kernel by pidfd; pids are never believed without their start time.

mod delivery;
mod running;

pub use delivery::Delivery;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use serde::Serialize;

use crate::cgroup::{self, CgroupPath, Layout};
use crate::crash::{self, Role};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::host::boot_id;
use crate::launch::pid_file;
use crate::stage::Stage;
use crate::state::claim;
use crate::state::claim::Notes;
use crate::state::record;
use crate::state::record::{Exit, ExitRecord, LaunchRecord, RemovedExits};
use crate::sys;
use crate::wait::is_readable_by;

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
            // Removed while we looked, or being removed by its monitor, or not (yet) launched. A monitor that was killed while it removed leaves
            // what a launch that was killed leaves.
            let removing = claim::is_held(&directory)? || !directory.is_dir();
            return if let Some(exit) = RemovedExits::of_container(&directory).read(id).filter(|_| removing) {
                Err(removed_with(id, &exit))
            } else if directory.is_dir() {
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

/// It was removed with its end.
pub(crate) fn removed_with(id: &str, exit: &ExitRecord) -> Error {
    let how = match exit.exit {
        Exit::Code { code } => format!("with code {code}"),
        Exit::Signal { signal, .. } => format!("by signal {signal}"),
    };
    let text = format!("it has ended {how}, and was removed");
    Error::found(ErrorKind::NotFound, Stage::Watch, format!("container '{id}'"), "open", text)
}

/// It has been removed, and how it ended is not known (any more).
fn removed(id: &str) -> Error {
    let text = "it has ended and was removed";
    Error::found(ErrorKind::NotFound, Stage::Watch, format!("container '{id}'"), "open", text)
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
    /// time was too short or the launch process has been killed.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]: the launch failed, and took back what it had made.
    pub fn settle(self, span: Duration) -> Result<Container> {
        let object = format!("container '{}'", self.id);
        let deadline = Instant::now() + span;
        let changes = inotify::init(inotify::CreateFlags::CLOEXEC)
            .at(Stage::Watch, &object, "inotify_init1")
            .at_limit(libc::EMFILE, Limit::InotifyInstances)?;
        // The record is renamed into place; a failed launch removes the directory; one that is killed closes it.
        let events =
            inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::DELETE_SELF | inotify::WatchFlags::CLOSE_NOWRITE;
        // Open all the time, because closing it is one of these events.
        let Some(launch) = claim::Holder::of(&self.directory)? else { return Err(no_such(&self.id)) };
        match inotify::add_watch(&changes, &self.directory, events) {
            Ok(_) => {}
            Err(rustix::io::Errno::NOENT) => return Err(no_such(&self.id)),
            Err(errno) => {
                let error = Error::system(Stage::Watch, object, "inotify_add_watch", errno);
                return Err(error.at_limit(libc::ENOSPC, Limit::InotifyWatches));
            }
        }
        loop {
            let container = Container::open(&self.id, self.directory.clone())?;
            let Container::Created(_) = container else { return Ok(container) };
            if !launch.is_alive()? {
                // Unless it came to its end between the two looks.
                return Container::open(&self.id, self.directory.clone());
            }
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
        crash::point(Role::Caller, Stage::Remove);
        let notes = Notes::read(&self.directory)?;
        if let Some((cgroup, inode)) = notes.cgroup()? {
            cgroup::end(&Layout::detect()?, cgroup, inode)?;
        }
        pid_file::take_back(&notes, None)?;
        claim::remove_directory(&self.directory)
    }
}

/// Removes cgroup and directory. The monitor comes to its own end first: it may still be clearing away, by the same names. The directory goes
/// last: as long as it is there, removing can be tried again. Of a record from before the machine was restarted neither pid nor inode means
/// anything: they may be somebody else's now.
fn remove(directory: &Path, record: &LaunchRecord) -> Result<()> {
    crash::point(Role::Caller, Stage::Remove);
    let of_this_boot = record.boot_id == boot_id()?;
    if let Some(monitor) = of_this_boot.then(|| record.monitor.open()).flatten() {
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
    let inode = record.cgroup_inode.filter(|_| of_this_boot);
    cgroup::end(&Layout::detect()?, &recorded_cgroup(record)?, inode)?;
    crash::point(Role::Caller, Stage::Remove);
    claim::remove_directory(directory)
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

/// Waits until a descriptor can be read; false when the deadline came first. Of a pidfd that is a reason to look at its process, and no proof
/// that it has ended.
fn wait_readable(fd: &OwnedFd, deadline: Option<Instant>) -> Result<bool> {
    is_readable_by(fd.as_fd(), deadline).at(Stage::Watch, "descriptor", "poll")
}
