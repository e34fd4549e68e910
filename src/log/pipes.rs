//! What a launch prepares for a log: the worker's output, and a copier where one is needed.
//!
//! Runs in the launch process. The order is: [`Logging::prepare`] before init is cloned, which
//! gives the worker's streams; [`Logging::start`] once init is there and this process is in the
//! monitors' cgroup, which forks the keeper; then the worker's ends are closed here with the rest.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fchown, flock, fstat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Uid};

use super::chunk::{Channel, Writer};
use super::copier::Copier;
use super::file::LogFile;
use super::format::{Format, Source};
use super::keeper;
use super::place::Place;
use super::state::{State, StateFile};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::host::create_private_directory;
use crate::process::ProcessId;
use crate::request::{Identity, LaunchSpec, Log, OnExit};
use crate::stage::Stage;
use crate::state::claim;
use crate::sys::{self, Fork};

/// A log, prepared.
pub(crate) struct Logging {
    /// What the worker writes to: standard output and error.
    streams: [OwnedFd; 2],
    copied: Option<Copied>,
    /// The file, if the launch made it.
    made: Option<PathBuf>,
    object: String,
}

/// What a copier will need.
struct Copied {
    channels: [Channel; 2],
    writer: Writer,
    directory: PathBuf,
    directory_fd: OwnedFd,
    removal: bool,
}

impl Logging {
    /// Opens what the spec's log needs; `None` for a spec without one. `container` is the
    /// container's directory.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] for a file that another copier writes; what the kernel says of a file
    /// that cannot be opened or made.
    pub(crate) fn prepare(spec: &LaunchSpec, container: &Path) -> Result<Option<Logging>> {
        let Some(log) = &spec.log else { return Ok(None) };
        let place = Place::of(container, log);
        let object = format!("log '{}' of container '{}'", place.file.display(), spec.id);
        let logging = match log.is_copied() {
            false => Logging::straight(log, &place, &spec.user, object),
            true => Logging::copied(spec, log, &place, object),
        };
        logging.map(Some)
    }

    /// The worker has the file itself, which is its own if it is new: it may open it again by
    /// `/dev/stdout`.
    fn straight(log: &Log, place: &Place, worker: &Identity, object: String) -> Result<Logging> {
        let files = LogFile::at(&place.file, log).at(Stage::Claim, &object, "open(directory)")?;
        let (file, is_new) = files.open_or_create().at(Stage::Claim, &object, "open")?;
        let made = is_new.then(|| place.file.clone());
        if is_new {
            give(&file, worker).at(Stage::Claim, &object, "fchown")?;
        }
        let second = file.try_clone().at(Stage::Claim, &object, "dup")?;
        Ok(Logging { streams: [file, second], copied: None, made, object })
    }

    fn copied(spec: &LaunchSpec, log: &Log, place: &Place, object: String) -> Result<Logging> {
        let logs = place.directory.parent().unwrap_or(Path::new("/"));
        create_private_directory(logs).at(Stage::Claim, logs.display(), "mkdir")?;
        // Of an earlier container of this id, whose copier may be at its end.
        claim::remove_directory(&place.directory)?;
        fs::create_dir(&place.directory).at(Stage::Claim, place.directory.display(), "mkdir")?;
        let directory_fd = open_directory(&place.directory)?;
        let files = LogFile::at(&place.file, log).at(Stage::Claim, &object, "open(directory)")?;
        let (file, is_new) = files.open_or_create().at(Stage::Claim, &object, "open")?;
        if LogFile::is_taken(&file) {
            return Err(Error::in_use(ErrorKind::Exists, Stage::Claim, object, "another container's log"));
        }
        let made = is_new.then(|| place.file.clone());
        let (channels, streams) = channels(&spec.user, &object)?;
        let state = StateFile::create(&place.state()).at(Stage::Claim, &object, "write(state)")?;
        flock(&state, FlockOperation::NonBlockingLockExclusive).at(Stage::Claim, &object, "flock(state)")?;
        state.write(&State { pipes: inodes(&channels), ..State::default() }).at(
            Stage::Claim,
            &object,
            "write(state)",
        )?;
        let writer = Writer::new(state, files, format_of(log)).at(Stage::Claim, "/dev/null", "open")?;
        let removal = spec.on_exit == OnExit::Remove;
        let copied = Copied { channels, writer, directory: place.directory.clone(), directory_fd, removal };
        Ok(Logging { streams, copied: Some(copied), made, object })
    }

    /// What the launch has to take back if it fails: the file, and the directory in the run root.
    pub(crate) fn made(&self) -> (Option<&Path>, Option<&Path>) {
        (self.made.as_deref(), self.copied.as_ref().map(|copied| copied.directory.as_path()))
    }

    /// The worker's standard output and error.
    pub(crate) fn streams(&self) -> [BorrowedFd<'_>; 2] {
        self.streams.each_ref().map(AsFd::as_fd)
    }

    /// Closes the worker's ends here, and has the log copied from now on by processes of its own;
    /// the answer are the pipes, for the monitor to hold.
    pub(crate) fn start(self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
        let Logging { streams, copied, object, .. } = self;
        drop(streams);
        let Some(Copied { channels, writer, directory, directory_fd, removal }) = copied else { return Ok(Vec::new()) };
        let gone = || Error::process_ended(Stage::Monitor, &object, "read(/proc)", None, "init has ended");
        let init = ProcessId::of(pid).ok_or_else(gone)?;
        let init_pidfd = pidfd.try_clone_to_owned().at(Stage::Monitor, &object, "dup")?;
        let copier = Copier { channels, writer, init, init_pidfd, directory, directory_fd, removal };
        match sys::fork().at(Stage::Monitor, &object, "fork").at_limit(libc::EAGAIN, Limit::Processes)? {
            Fork::Child => keeper::keep(copier),
            Fork::Parent(_) => {
                let [first, second] = copier.channels;
                Ok(vec![first.from, second.from, first.held, second.held])
            }
        }
    }
}

/// How the lines of this log are written.
pub(super) fn format_of(log: &Log) -> Format {
    if log.timestamps { Format::Timestamps } else { Format::Plain }
}

pub(super) fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty()).at(Stage::Claim, path.display(), "open")
}

/// Two pipes of the worker's with a holding pipe each, and the worker's ends.
fn channels(worker: &Identity, object: &str) -> Result<([Channel; 2], [OwnedFd; 2])> {
    let one = |source| -> Result<(Channel, OwnedFd)> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).at(Stage::Claim, object, "pipe2");
        let ((from, stream), (held, hold)) = (pipe()?, pipe()?);
        // So that it may open it again by /dev/stdout.
        give(&stream, worker).at(Stage::Claim, object, "fchown")?;
        Ok((Channel { source, from, hold, held, ended: false }, stream))
    };
    let [(first, stdout), (second, stderr)] = [one(Source::Stdout)?, one(Source::Stderr)?];
    Ok(([first, second], [stdout, stderr]))
}

fn give(file: impl AsFd, worker: &Identity) -> rustix::io::Result<()> {
    fchown(file, Some(Uid::from_raw(worker.uid())), Some(Gid::from_raw(worker.gid())))
}

fn inodes(channels: &[Channel; 2]) -> [u64; 4] {
    let [first, second] = channels;
    [&first.from, &second.from, &first.held, &second.held].map(|pipe| fstat(pipe).map_or(0, |stat| stat.st_ino))
}
