//! Where a log is, and what is kept of it in the run root.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::Result;
use crate::layer::Trim;
use crate::request::Log;
use crate::state::claim;
use crate::wait::lock_by;

/// The log itself, where no other file is named.
const FILE: &str = "log";

/// What the copier has done ([`StateFile`](super::StateFile)).
const STATE: &str = "state";

/// How long the copier of a container that has ended is waited for, before its files are removed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The places of one container's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// `<run-root>/logs/<id>`; made for a log that is copied.
    pub(crate) directory: PathBuf,
    /// The newest file of the log.
    pub(crate) file: PathBuf,
}

impl Place {
    /// The places of the log of a container with this directory.
    pub(crate) fn of(container: &Path, log: &Log) -> Place {
        let directory = directory_of(container);
        let file = log.file.as_ref().map_or_else(|| directory.join(FILE), |file| file.as_path().to_owned());
        Place { directory, file }
    }

    /// The state file of a log that is copied.
    pub(crate) fn state(&self) -> PathBuf {
        self.directory.join(STATE)
    }
}

/// `<run-root>/logs`, for a directory `<run-root>/containers/<id>`.
pub(super) fn logs_of(container: &Path) -> PathBuf {
    container.ancestors().nth(2).unwrap_or(Path::new("/")).join("logs")
}

fn directory_of(container: &Path) -> PathBuf {
    logs_of(container).join(container.file_name().unwrap_or_default())
}

/// Removes what the run root has of the log of a container that has ended; a copier that is still
/// at work is waited for, 5 seconds at most. A log in a file elsewhere stays.
pub(crate) fn remove(container: &Path) -> Result<()> {
    discard(&directory_of(container))
}

/// The same, of a directory of logs.
pub(crate) fn discard(directory: &Path) -> Result<()> {
    if let Ok(state) = fs::File::open(directory.join(STATE)) {
        // Whoever holds the lock ends with the container, so the answer does not matter.
        let _ = lock_by(state.as_fd(), Instant::now() + PATIENCE);
    }
    claim::remove_directory(directory)
}

/// Removes directories of logs whose containers are gone; with [`Trim::Report`] only says which.
/// The answer is their names.
pub(crate) fn reap(run_root: &Path, trim: Trim) -> Result<Vec<String>> {
    let (logs, containers) = (run_root.join("logs"), run_root.join("containers"));
    let mut names = Vec::new();
    for entry in fs::read_dir(&logs).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let orphaned = claim::is_unnamed(&name) || !containers.join(&name).exists();
        if !orphaned || has_copier(&entry.path()) {
            continue;
        }
        if trim == Trim::Do {
            claim::remove_directory(&entry.path())?;
        }
        names.push(name);
    }
    Ok(names)
}

/// Whether a copier works there: it holds the lock of its state file.
pub(super) fn has_copier(directory: &Path) -> bool {
    let state = fs::File::open(directory.join(STATE));
    state.is_ok_and(|state| flock(&state, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
}

/// Removes a directory if it is still the one that is open here.
pub(super) fn remove_own(directory: &Path, open: impl AsFd) {
    let own = rustix::fs::fstat(open).map(|stat| (stat.st_dev, stat.st_ino));
    let there = fs::symlink_metadata(directory).map(|metadata| (metadata.dev(), metadata.ino()));
    if let (Ok(own), Ok(there)) = (own, there)
        && own == there
    {
        // What is left, reaping finds.
        let _ = claim::remove_directory(directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::AbsolutePath;

    #[test]
    fn a_log_is_beside_the_containers_unless_a_file_is_named() {
        let container = Path::new("/run/squall/containers/w1");
        let own = Place::of(container, &Log::in_run_root(1 << 20, 3));
        assert_eq!(own.file, Path::new("/run/squall/logs/w1/log"));
        assert_eq!(own.state(), Path::new("/run/squall/logs/w1/state"));
        let named = Place::of(container, &Log::in_file(AbsolutePath::new("/var/log/a").unwrap()));
        assert_eq!((named.file, named.directory), ("/var/log/a".into(), own.directory));
    }

    #[test]
    fn what_has_no_container_and_no_copier_is_reaped() {
        let root = tempfile::tempdir().unwrap();
        for name in ["containers/lives", "logs/lives", "logs/orphan", "logs/copied", "logs/.claim-1-0-x"] {
            fs::create_dir_all(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join(STATE), "").unwrap();
        }
        let copier = fs::File::open(root.path().join("logs/copied").join(STATE)).unwrap();
        flock(&copier, FlockOperation::NonBlockingLockExclusive).unwrap();
        let reaped = |trim| {
            let mut names = reap(root.path(), trim).unwrap();
            names.sort();
            names
        };
        assert_eq!(reaped(Trim::Report), [".claim-1-0-x", "orphan"]);
        assert_eq!(reaped(Trim::Do), [".claim-1-0-x", "orphan"]);
        drop(copier);
        assert_eq!(reaped(Trim::Do), ["copied"]);
        let left: Vec<_> =
            fs::read_dir(root.path().join("logs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["lives"]);
        remove(&root.path().join("containers/lives")).unwrap();
        remove(&root.path().join("containers/lives")).unwrap();
        assert!(!root.path().join("logs/lives").exists());
    }
}
