//! A container's directory, claimed.
//!
//! Whoever makes the directory has the id. It stays locked for as long as the launch process, and after it the monitor, lives, so that a
//! launch that died half way can be told from one that is under way; and it names the cgroup at once, so that it can be cleared.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, mkdir, open};
use rustix::io::Errno;

use crate::cgroup::CgroupPath;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::request::LaunchSpec;
use crate::run_root::RunRoot;
use crate::stage::Stage;

/// The file that names the cgroup.
const CGROUP: &str = "cgroup";

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
        let path = run_root.container(&spec.id);
        let object = format!("container '{}'", spec.id);
        match mkdir(&path, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return Err(Error::found(
                    ErrorKind::Exists,
                    Stage::Claim,
                    object,
                    "mkdir",
                    "there is a container of this id",
                ));
            }
            Err(errno) => return Err(errno).at(Stage::Claim, object, "mkdir"),
        }
        let claim = open_directory(&path).at(Stage::Claim, &object, "open").and_then(|directory| {
            flock(&directory, FlockOperation::NonBlockingLockExclusive).at(Stage::Claim, &object, "flock")?;
            fs::write(path.join(CGROUP), spec.cgroup.as_str()).at(Stage::Claim, &object, "write(cgroup)")?;
            Ok(Claim { path: path.clone(), directory })
        });
        claim.inspect_err(|_| {
            let _ = fs::remove_dir_all(&path);
        })
    }
}

fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Whether a launch process or a monitor lives that holds this directory.
pub(crate) fn is_held(directory: &Path) -> Result<bool> {
    let opened = match open_directory(directory) {
        Err(Errno::NOENT) => return Ok(false),
        other => other.at(Stage::Watch, directory.display(), "open")?,
    };
    match flock(opened.as_fd(), FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno).at(Stage::Watch, directory.display(), "flock"),
    }
}

/// The cgroup that a claim names; nothing when it did not get that far.
pub(crate) fn cgroup_of(directory: &Path) -> Result<Option<CgroupPath>> {
    match fs::read_to_string(directory.join(CGROUP)) {
        Ok(text) => Ok(CgroupPath::new(text).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).at(Stage::Watch, directory.display(), "read(cgroup)"),
    }
}
