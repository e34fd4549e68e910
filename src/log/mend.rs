//! Another keeper and copier for a log whose two were killed at one instant.
//!
//! The monitor holds the pipes, so all that was written is there still. Whoever may read its
//! descriptors (root with CAP_SYS_PTRACE) opens the pipes once more from there.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};

use super::chunk::{Channel, Writer};
use super::copier::Copier;
use super::file::LogFile;
use super::format::Source;
use super::keeper;
use super::pipes::{format_of, open_directory};
use super::place::Place;
use super::state::StateFile;
use crate::cgroup::{CgroupPath, Layout, Membership, join_monitors};
use crate::error::{Context, Error, Result};
use crate::process::ProcessId;
use crate::request::Log;
use crate::stage::Stage;
use crate::sys::{self, Fork};

/// A log, and whose it is.
pub(crate) struct Mending<'a> {
    pub(crate) place: &'a Place,
    pub(crate) log: &'a Log,
    pub(crate) object: String,
    pub(crate) init: ProcessId,
    pub(crate) monitor: ProcessId,
    /// Whether what the run root has goes with the container's end.
    pub(crate) removal: bool,
}

impl Mending<'_> {
    /// Has the log copied again. False: it is being copied, or everything has been, or the
    /// container or its monitor has ended.
    ///
    /// # Errors
    /// [`Phase`](crate::ErrorKind::Phase) in a program with several threads; what the kernel says
    /// of the monitor's descriptors.
    pub(crate) fn mend(&self) -> Result<bool> {
        let state = match StateFile::open(&self.place.state()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            other => other.at(Stage::Watch, &self.object, "open(state)")?,
        };
        match flock(&state, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(false),
            other => other.at(Stage::Watch, &self.object, "flock(state)")?,
        }
        let Some(known) = state.read().filter(|state| !state.status.complete) else { return Ok(false) };
        let Some(init_pidfd) = self.init.open().filter(|_| self.init.is_alive() && self.monitor.is_alive()) else {
            return Ok(false);
        };
        if !sys::is_single_threaded() {
            return Err(Error::several_threads(
                &self.object,
                "call this from a program with one thread: `squall logs`",
            ));
        }
        let channels = self.channels(known.pipes)?;
        let files = LogFile::at(&self.place.file, self.log).at(Stage::Watch, &self.object, "open(directory)")?;
        let copier = Copier {
            channels,
            writer: Writer::new(state, files, format_of(self.log)).at(Stage::Watch, "/dev/null", "open")?,
            init: self.init,
            init_pidfd,
            directory: self.place.directory.clone(),
            directory_fd: open_directory(&self.place.directory)?,
            removal: self.removal,
        };
        self.start(copier).map(|()| true)
    }

    /// The pipes, opened again.
    fn channels(&self, pipes: [u64; 4]) -> Result<[Channel; 2]> {
        let directory = format!("/proc/{}/fd", self.monitor.pid);
        let entries = fs::read_dir(&directory).at(Stage::Watch, &directory, "opendir")?;
        let links: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        let open_pipe = |inode: u64, flags: OFlags| -> Result<OwnedFd> {
            let of = |link: &&PathBuf| fs::metadata(link).is_ok_and(|metadata| metadata.ino() == inode);
            let link = links.iter().find(of).ok_or(Errno::NOENT).at(Stage::Watch, &directory, "find(pipe)")?;
            open(link, flags | OFlags::CLOEXEC, Mode::empty()).at(Stage::Watch, link.display(), "open")
        };
        let channel = |source, from, holding| -> Result<Channel> {
            let from = open_pipe(from, OFlags::RDONLY)?;
            let (held, hold) = (open_pipe(holding, OFlags::RDONLY)?, open_pipe(holding, OFlags::WRONLY)?);
            Ok(Channel { source, from, hold, held, ended: false })
        };
        let [first, second, first_held, second_held] = pipes;
        let channels = [channel(Source::Stdout, first, first_held)?, channel(Source::Stderr, second, second_held)?];
        // Its pid may have changed hands meanwhile.
        match self.monitor.is_alive() {
            true => Ok(channels),
            false => Err(Errno::SRCH).at(Stage::Watch, &self.object, "open(pipes)"),
        }
    }

    /// By a child that ends at once: the keeper is nobody's to wait for.
    fn start(&self, copier: Copier) -> Result<()> {
        let cgroup = self.monitors_cgroup()?;
        match sys::fork().at(Stage::Watch, &self.object, "fork")? {
            Fork::Child => {
                if join_monitors(&cgroup.0, &cgroup.1).is_err() {
                    sys::exit_now(1);
                }
                match sys::fork() {
                    Ok(Fork::Child) => keeper::keep(copier),
                    forked => sys::exit_now(i32::from(forked.is_err())),
                }
            }
            Fork::Parent(child) => {
                drop(copier);
                let status = rustix::io::retry_on_intr(|| waitpid(Pid::from_raw(child), WaitOptions::empty()));
                let started =
                    status.is_ok_and(|status| status.is_some_and(|(_, status)| status.exit_status() == Some(0)));
                let text = "it could not join the monitor's cgroup, or not fork";
                if started { Ok(()) } else { Err(Error::process_ended(Stage::Watch, &self.object, "fork", None, text)) }
            }
        }
    }

    /// Where the monitor lives, which is the same path in every hierarchy.
    fn monitors_cgroup(&self) -> Result<(Layout, CgroupPath)> {
        let layout = Layout::detect()?;
        let file = format!("/proc/{}/cgroup", self.monitor.pid);
        let membership = Membership::parse(&fs::read_to_string(&file).at(Stage::Watch, &file, "read")?);
        let below = |hierarchy: &crate::cgroup::Hierarchy| {
            let path = membership.path_in(hierarchy)?;
            let root = hierarchy.membership_of(&CgroupPath::new("/x").ok()?);
            CgroupPath::new(path.strip_prefix(root.strip_suffix("/x")?)?).ok()
        };
        let path = layout.hierarchies().iter().find_map(below);
        let missing = || Error::malformed(Stage::Watch, &self.object, "read(cgroup)", "the monitor is in no cgroup");
        path.ok_or_else(missing).map(|path| (layout, path))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::state::State;
    use super::*;
    use crate::request::AbsolutePath;

    #[test]
    fn a_log_without_a_state_or_with_a_complete_one_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::in_file(AbsolutePath::new("/nowhere/log").unwrap()).with_timestamps();
        let place = Place { directory: directory.path().to_owned(), file: Path::new("/nowhere/log").to_owned() };
        let own = ProcessId::of(std::process::id() as i32).unwrap();
        let mend = || {
            let mending =
                Mending { place: &place, log: &log, object: "log".to_owned(), init: own, monitor: own, removal: false };
            mending.mend().unwrap()
        };
        assert!(!mend());
        let file = StateFile::create(&place.state()).unwrap();
        let mut state = State::default();
        state.status.complete = true;
        file.write(&state).unwrap();
        assert!(!mend());
    }
}
