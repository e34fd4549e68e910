//! Taking a failed launch back: the last step first, and saying what could not be taken back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::pid_file;
use super::place::Place;
use crate::cgroup::{self, CgroupPath, Layout};
use crate::error::{Context, Error, ProcessEnd, Result};
use crate::host::absent;
use crate::log::{self, Logging};
use crate::stage::Stage;
use crate::state::claim::Notes;
use crate::sys::Cloned;
use crate::wait::{child_ends_by, end_of_child};

/// How long a killed init may take to be gone.
const DYING_PATIENCE: Duration = Duration::from_secs(5);

/// One thing that a launch has made.
enum Made {
    Directory(PathBuf),
    Cgroup(Layout, CgroupPath, Option<u64>),
    Child(OwnedFd),
    RemovedExit(PathBuf),
    /// The file of a log.
    Log(PathBuf),
    /// What the run root has of a log.
    LogDirectory(PathBuf),
}

/// What a launch has made so far.
#[derive(Default)]
pub(super) struct Undo {
    made: Vec<Made>,
    /// The directory of the pid file, which is held: its path may lead elsewhere by now.
    pid_place: Option<Place>,
}

impl Undo {
    pub(super) fn directory(&mut self, path: &Path) {
        self.made.push(Made::Directory(path.to_owned()));
    }

    pub(super) fn cgroup(&mut self, layout: &Layout, cgroup: &CgroupPath, inode: Option<u64>) {
        self.made.push(Made::Cgroup(layout.clone(), cgroup.clone(), inode));
    }

    /// Where the pid file is made.
    pub(super) fn pid_place(&mut self, place: &Place) {
        self.pid_place = Some(place.clone());
    }

    /// A descriptor that cannot be duplicated leaves init to die with its parent's cgroup.
    pub(super) fn child(&mut self, child: &Cloned) {
        if let Ok(pidfd) = child.pidfd.try_clone() {
            self.made.push(Made::Child(pidfd));
        }
    }

    /// The second name of the exit record.
    pub(super) fn removed_exit(&mut self, path: PathBuf) {
        self.made.push(Made::RemovedExit(path));
    }

    /// What was made for a log.
    pub(super) fn log(&mut self, log: &Logging) {
        let (file, directory) = log.made();
        self.made.extend(directory.map(|path| Made::LogDirectory(path.to_owned())));
        self.made.extend(file.map(|path| Made::Log(path.to_owned())));
    }

    /// Takes everything back and returns the error that made it necessary, with what is left. Where
    /// something is, the container's directory stays as well: reaping finds the rest by it.
    pub(super) fn take_back(self, error: Error) -> Error {
        let mut left = Vec::new();
        for made in self.made.into_iter().rev() {
            if matches!(made, Made::Directory(_)) && !left.is_empty() {
                continue;
            }
            left.extend(take_back(made, self.pid_place.as_ref()).err());
        }
        left.into_iter().fold(error, Error::leaving)
    }
}

fn take_back(made: Made, pid_place: Option<&Place>) -> Result<()> {
    match made {
        Made::Child(pidfd) => kill_and_reap(pidfd.as_fd()),
        Made::RemovedExit(path) => std::fs::remove_file(&path).at(Stage::Remove, path.display(), "unlink"),
        Made::Log(path) => absent(std::fs::remove_file(&path)).at(Stage::Remove, path.display(), "unlink"),
        Made::LogDirectory(path) => log::discard(&path),
        Made::Cgroup(layout, cgroup, inode) => cgroup::end(&layout, &cgroup, inode),
        // What is noted there goes first.
        Made::Directory(path) => {
            pid_file::take_back(&Notes::read(&path)?, pid_place)?;
            std::fs::remove_dir_all(&path).at(Stage::Remove, path.display(), "rmdir")
        }
    }
}

/// Init takes its whole pid namespace with it. One that waits for a file system which does not
/// answer cannot be killed, and is not waited for either.
fn kill_and_reap(pidfd: BorrowedFd<'_>) -> Result<()> {
    match pidfd_send_signal(pidfd, Signal::KILL) {
        // Reaped already, when it was asked how it ended.
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        other => other.at(Stage::Stop, "init", "pidfd_send_signal(SIGKILL)")?,
    }
    if !child_ends_by(pidfd, Instant::now() + DYING_PATIENCE).at(Stage::Stop, "init", "waitid")? {
        let text = "it was killed and does not die: a file system that it waits for does not answer, perhaps";
        return Err(Error::timed_out(Stage::Stop, "init", "waitid", DYING_PATIENCE, text));
    }
    match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(_) | Err(rustix::io::Errno::CHILD) => Ok(()),
        Err(errno) => Err(errno).at(Stage::Stop, "init", "waitid"),
    }
}

/// How init ended; `None` where that cannot be known. Its status is left for the monitor or the undo
/// to collect.
pub(super) fn end_of(child: &Cloned) -> Option<ProcessEnd> {
    // The pipe of a dying init closes a moment before it can be waited for.
    let _ = child_ends_by(child.pidfd.as_fd(), Instant::now() + DYING_PATIENCE);
    let status = end_of_child(child.pidfd.as_fd()).ok()??;
    let code = status.exit_status().map(ProcessEnd::Code);
    code.or_else(|| status.terminating_signal().map(ProcessEnd::Signal))
}

/// Whether init has ended, without collecting its status.
pub(super) fn has_ended(child: &Cloned) -> bool {
    matches!(end_of_child(child.pidfd.as_fd()), Ok(Some(_)))
}
