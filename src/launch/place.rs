//! Where a launch makes a file that its caller names, the pid file and the exit file: a directory
//! that is opened once, and a name in it.
//!
//! Of an opened spec ([`OpenedSpec`](crate::opened::OpenedSpec)) the directory came with the job,
//! and everything happens in it with the user's file-system ids.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, Stat, accessat, fstat, open, statat};
use rustix::io::Errno;

use crate::error::{Context, Error, ErrorKind, FileAspect, Result};
use crate::host::kind_of_file;
use crate::host_files::as_user::{self, Task};
use crate::host_files::{HostFile, open_directory_as_user};
use crate::opened::HostFiles;
use crate::request::{AbsolutePath, Identity, LaunchSpec};
use crate::stage::Stage;

/// The bit of a directory in which only its owner and that of a file can replace the file.
const STICKY: u32 = 0o1000;

/// Which file of a spec it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    PidFile,
    ExitFile,
}

impl Which {
    pub(crate) fn path(self, spec: &LaunchSpec) -> Option<&AbsolutePath> {
        match self {
            Which::PidFile => spec.pid_file.as_ref(),
            Which::ExitFile => spec.exit_file.as_ref(),
        }
    }

    fn directory(self, files: &HostFiles) -> Option<&HostFile> {
        match self {
            Which::PidFile => files.pid_directory.as_ref(),
            Which::ExitFile => files.exit_directory.as_ref(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Which::PidFile => "pid file",
            Which::ExitFile => "exit file",
        }
    }

    fn object(self, path: &AbsolutePath) -> String {
        format!("{} '{path}'", self.name())
    }
}

/// How long a user's file system may take for one step of the launch. A worker whose pid file gets
/// no further is ended: without this its launch process would wait, and nobody would watch the
/// worker.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the file will be: its directory, open, its name in it, and as whom it is made, if not as
/// root.
#[derive(Clone)]
pub(crate) struct Place {
    which: Which,
    pub(super) path: AbsolutePath,
    pub(super) directory: Arc<OwnedFd>,
    pub(super) name: String,
    pub(super) user: Option<Identity>,
}

impl Place {
    /// The place of this file of the spec, if it has one: in the directory that came with the job,
    /// or else by its path.
    ///
    /// # Errors
    /// Those of [`Place::find`].
    pub(super) fn of_job(which: Which, spec: &LaunchSpec, files: Option<&HostFiles>) -> Result<Option<Place>> {
        let Some(path) = which.path(spec) else { return Ok(None) };
        let Some((files, directory)) = files.and_then(|files| Some((files, which.directory(files)?))) else {
            return Place::find(which, path).map(Some);
        };
        let directory = directory.as_fd().try_clone_to_owned();
        let directory = directory.at(Stage::Claim, which.object(path), "fcntl(F_DUPFD)")?;
        let place = Place::new(which, path, directory, Some(files.user.clone()));
        place.as_user(Stage::Claim, Place::check_old)?;
        Ok(Some(place))
    }

    /// Opens the directory and looks at what has the name.
    ///
    /// # Errors
    /// No such directory; something there that is no regular file ([`ErrorKind::Exists`]).
    pub(crate) fn find(which: Which, path: &AbsolutePath) -> Result<Place> {
        let (parent, name) = split(path);
        if name.is_empty() {
            return Err(Error::invalid_field(which.object(path), "path", "it is a directory"));
        }
        let directory = open_directory(parent).at(Stage::Claim, which.object(path), "open(directory)")?;
        let place = Place::new(which, path, directory, None);
        place.check_old()?;
        Ok(place)
    }

    /// The place by its path, as far as that leads to a directory still.
    pub(super) fn again(which: Which, path: &AbsolutePath, user: Option<&Identity>) -> Result<Option<Place>> {
        let Some(user) = user else {
            return Ok(open_directory(split(path).0).ok().map(|directory| Place::new(which, path, directory, None)));
        };
        let (path, ids) = (path.clone(), user.clone());
        as_user::run(Some(user), task(Stage::Remove, which.object(&path)), move || {
            let directory = open_directory_as_user(Path::new(split(&path).0)).ok();
            Ok(directory.map(|directory| Place::new(which, &path, directory, Some(ids))))
        })
    }

    fn new(which: Which, path: &AbsolutePath, directory: OwnedFd, user: Option<Identity>) -> Place {
        Place { which, path: path.clone(), directory: Arc::new(directory), name: split(path).1.to_owned(), user }
    }

    /// What errors call the file.
    pub(super) fn object(&self) -> String {
        self.which.object(&self.path)
    }

    /// Does something to the directory as the user that it is done for.
    pub(super) fn as_user<T: Send + 'static>(
        &self,
        stage: Stage,
        work: impl FnOnce(&Place) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Some(user) = &self.user else { return work(self) };
        let place = self.clone();
        as_user::run(Some(user), task(stage, self.object()), move || work(&place))
    }

    /// Why no file could be made there, without making one. Nothing where this process may not say.
    pub(crate) fn obstacle(&self) -> Option<Error> {
        let access = accessat(&self.directory, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
        let errno = access.err().filter(|errno| *errno != Errno::ACCESS || rustix::process::geteuid().is_root())?;
        Some(Error::system(Stage::Claim, self.object(), "access(directory)", errno))
    }

    pub(super) fn check_old(&self) -> Result<()> {
        let old = match statat(&self.directory, self.name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.at(Stage::Claim, self.object(), "lstat")?,
        };
        let kind = FileType::from_raw_mode(old.st_mode);
        if kind != FileType::RegularFile {
            let expected = format!("nothing or a regular file: only an old {} is replaced", self.which.name());
            return Err(self.unfit(FileAspect::Type, kind_of_file(kind), expected));
        }
        let directory = fstat(&self.directory).at(Stage::Claim, self.object(), "fstat(directory)")?;
        self.check_sticky(&old, &directory)
    }

    /// What the user could not replace is refused now, not after the workload was executed.
    fn check_sticky(&self, old: &Stat, directory: &Stat) -> Result<()> {
        let Some(uid) = self.user.as_ref().map(Identity::uid).filter(|uid| *uid != 0) else { return Ok(()) };
        if directory.st_mode & STICKY == 0 || [old.st_uid, directory.st_uid].contains(&uid) {
            return Ok(());
        }
        let found = format!("one of user {}, in a sticky directory", old.st_uid);
        let expected = format!("nothing, or one that user {uid} can replace");
        Err(self.unfit(FileAspect::Access, found, expected))
    }

    /// What is there cannot be replaced.
    fn unfit(&self, aspect: FileAspect, found: impl Into<String>, expected: impl Into<String>) -> Error {
        let error = Error::wrong_file(Stage::Claim, self.object(), "lstat", aspect, found, expected);
        error.with_kind(ErrorKind::Exists)
    }
}

fn open_directory(path: &str) -> rustix::io::Result<OwnedFd> {
    open(Path::new(path), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The directory's path and the name in it, which is empty for `/`.
fn split(path: &AbsolutePath) -> (&str, &str) {
    let (parent, name) = path.as_str().rsplit_once('/').unwrap_or_default();
    (if parent.is_empty() { "/" } else { parent }, name)
}

fn task(stage: Stage, object: String) -> Task {
    Task { stage, object, patience: PATIENCE }
}
