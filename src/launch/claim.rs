//! A container's directory, claimed.
//!
//! Whoever gives a directory the container's name has the id. The directory is locked before it gets the name and stays so for as long as
//! the launch process, and after it the monitor, lives: the lock says, in every pid namespace, whether a launch is under way or a
//! monitor at work, and whoever removes a directory holds it while doing so. A file in it names the cgroup, so that it can be cleared.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, RenameFlags, flock, fstat, mkdir, open, renameat_with};
use rustix::io::Errno;

use crate::cgroup::CgroupPath;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::request::LaunchSpec;
use crate::run_root::RunRoot;
use crate::stage::Stage;

/// The file that names the cgroup and, once that is made, the inode of its directory: another cgroup of the same name is not ours.
const CGROUP: &str = "cgroup";

/// What a directory is called before it has its name. No id begins with a point.
const UNNAMED: &str = ".claim-";

/// A directory of ours.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) path: PathBuf,
    /// Open and locked.
    pub(crate) directory: OwnedFd,
}

impl Claim {
    /// Claims the spec's id.
    pub(super) fn make(run_root: &RunRoot, spec: &LaunchSpec) -> Result<Claim> {
        let object = format!("container '{}'", spec.id);
        let unnamed = run_root.containers().join(format!("{UNNAMED}{}-{}", std::process::id(), spec.id));
        let directory = make_and_lock(&unnamed, &object)?;
        let claim = Claim::name(directory, &unnamed, run_root.container(&spec.id), spec, &object);
        claim.inspect_err(|_| {
            let _ = fs::remove_dir_all(&unnamed);
        })
    }

    fn name(directory: OwnedFd, unnamed: &Path, path: PathBuf, spec: &LaunchSpec, object: &str) -> Result<Claim> {
        fs::write(unnamed.join(CGROUP), spec.cgroup.as_str()).at(Stage::Claim, object, "write(cgroup)")?;
        match renameat_with(rustix::fs::CWD, unnamed, rustix::fs::CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(Claim { path, directory }),
            Err(Errno::EXIST) => {
                let text = "there is a container of this id";
                Err(Error::found(ErrorKind::Exists, Stage::Claim, object, "renameat2", text))
            }
            Err(errno) => Err(errno).at(Stage::Claim, object, "renameat2"),
        }
    }

    /// Notes that the cgroup has been made, and which it is.
    pub(super) fn note_cgroup(&self, path: &CgroupPath, inode: u64) -> Result<()> {
        fs::write(self.path.join(CGROUP), format!("{}\n{inode}", path.as_str())).at(
            Stage::Cgroup,
            self.path.display(),
            "write(cgroup)",
        )
    }
}

/// Makes a directory without a name and locks it. Until it is locked it looks as if its launch had been killed, and somebody who reaps takes
/// it away: then it is made anew. One that is locked and still there stays.
fn make_and_lock(unnamed: &Path, object: &str) -> Result<OwnedFd> {
    loop {
        mkdir(unnamed, Mode::from_raw_mode(0o700)).at(Stage::Claim, object, "mkdir")?;
        let directory = match open_directory(unnamed) {
            Err(Errno::NOENT) => continue,
            other => other.at(Stage::Claim, object, "open")?,
        };
        flock(&directory, FlockOperation::LockExclusive).at(Stage::Claim, object, "flock")?;
        if fstat(&directory).at(Stage::Claim, object, "fstat")?.st_nlink > 0 {
            return Ok(directory);
        }
    }
}

fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Whether a launch process or a monitor lives that holds this directory.
pub(crate) fn is_held(directory: &Path) -> Result<bool> {
    lock(directory, FlockOperation::NonBlockingLockShared).map(|lock| lock.is_none() && directory.exists())
}

/// Holds the directory for the one that removes it, until the answer is dropped. Nothing: somebody else holds it, or it is gone.
pub(crate) fn hold(directory: &Path) -> Result<Option<OwnedFd>> {
    lock(directory, FlockOperation::NonBlockingLockExclusive)
}

fn lock(directory: &Path, operation: FlockOperation) -> Result<Option<OwnedFd>> {
    let opened = match open_directory(directory) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.at(Stage::Watch, directory.display(), "open")?,
    };
    match flock(opened.as_fd(), operation) {
        Ok(()) => Ok(Some(opened)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno).at(Stage::Watch, directory.display(), "flock"),
    }
}

/// The cgroup that a claim names, with its inode if it got as far as making it; nothing when there is no claim to be read.
pub(crate) fn cgroup_of(directory: &Path) -> Result<Option<(CgroupPath, Option<u64>)>> {
    let text = match fs::read_to_string(directory.join(CGROUP)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).at(Stage::Watch, directory.display(), "read(cgroup)"),
    };
    let mut lines = text.lines();
    let path = lines.next().and_then(|path| CgroupPath::new(path).ok());
    Ok(path.map(|path| (path, lines.next().and_then(|inode| inode.parse().ok()))))
}

/// Removes directories that never got a name, of launches that were killed in that moment.
pub(crate) fn remove_unnamed(containers: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(containers) else { return Ok(()) };
    for entry in entries.flatten().filter(|entry| is_unnamed(&entry.file_name().to_string_lossy())) {
        if let Some(_held) = hold(&entry.path())? {
            fs::remove_dir_all(entry.path()).at(Stage::Reap, entry.path().display(), "rmdir")?;
        }
    }
    Ok(())
}

/// Whether a directory of this name is no container.
pub(crate) fn is_unnamed(name: &str) -> bool {
    name.starts_with(UNNAMED)
}
