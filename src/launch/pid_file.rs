//! The pid file. Everything that can fail about it fails before the workload is executed; what
//! remains for afterwards is to give it its name.
//!
//! Its directory is opened once, and all happens by that descriptor. The file has no name while it
//! is written, where the file system can do that, so being killed leaves nothing; elsewhere (NFS,
//! some of FUSE) it has another name, which the claim notes. An old pid file is replaced, and
//! nothing else is: a link, a directory or a device in its place is refused.
//!
//! Of an opened spec ([`OpenedSpec`](crate::opened::OpenedSpec)) the directory came with the job,
//! and everything happens in it with the user's file-system ids: the file is the user's own then,
//! root's otherwise. Root making it would be a way to make files where the user may not, and a file
//! of root's in a sticky directory could not be replaced by the user's next launch. The same holds
//! for taking it back: in the launch process by the held directory, later by the path of the
//! claim's notes, as the user that is noted there.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, Stat, accessat, fchmod, fstat, linkat, open, openat, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{Context, Error, ErrorKind, FileAspect, Result};
use crate::host::kind_of_file;
use crate::host_files::as_user::{self, Task};
use crate::host_files::open_directory_as_user;
use crate::opened::HostFiles;
use crate::request::{AbsolutePath, ContainerId, Identity, LaunchSpec};
use crate::stage::Stage;
use crate::state::claim::{Claim, Notes, pid_line};

/// Everybody may read it, whatever the umask: a supervisor need not be root.
const MODE: Mode = Mode::from_raw_mode(0o644);

/// The bit of a directory in which only its owner and that of a file can replace the file.
const STICKY: u32 = 0o1000;

/// How long a user's file system may take for one step. A worker whose pid file gets no further is
/// ended: without this its launch process would wait, and nobody would watch the worker.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a pid file will be: its directory, open, its name in it, and as whom it is made, if not as
/// root.
#[derive(Clone)]
pub(crate) struct Place {
    path: AbsolutePath,
    directory: Arc<OwnedFd>,
    name: String,
    user: Option<Identity>,
}

impl Place {
    /// The place of the spec's pid file, if it has one: in the directory that came with the job, or
    /// else by its path.
    ///
    /// # Errors
    /// Those of [`Place::find`].
    pub(super) fn of_job(spec: &LaunchSpec, files: Option<&HostFiles>) -> Result<Option<Place>> {
        let Some(path) = &spec.pid_file else { return Ok(None) };
        let Some((files, directory)) = files.and_then(|files| Some((files, files.pid_directory.as_ref()?))) else {
            return Place::find(path).map(Some);
        };
        let directory = directory.as_fd().try_clone_to_owned().at(Stage::Claim, object(path), "fcntl(F_DUPFD)")?;
        let place = Place::new(path, directory, Some(files.user.clone()));
        place.as_user(Stage::Claim, Place::check_old)?;
        Ok(Some(place))
    }

    /// Opens the directory and looks at what has the name.
    ///
    /// # Errors
    /// No such directory; something there that is no regular file ([`ErrorKind::Exists`]).
    pub(crate) fn find(path: &AbsolutePath) -> Result<Place> {
        let (parent, name) = split(path);
        if name.is_empty() {
            return Err(Error::invalid_field(object(path), "path", "it is a directory"));
        }
        let directory = open_directory(parent).at(Stage::Claim, object(path), "open(directory)")?;
        let place = Place::new(path, directory, None);
        place.check_old()?;
        Ok(place)
    }

    /// The place by its path, as far as that leads to a directory still.
    fn again(path: &AbsolutePath, user: Option<&Identity>) -> Result<Option<Place>> {
        let Some(user) = user else {
            return Ok(open_directory(split(path).0).ok().map(|directory| Place::new(path, directory, None)));
        };
        let (path, ids) = (path.clone(), user.clone());
        as_user::run(Some(user), task(Stage::Remove, &path), move || {
            let directory = open_directory_as_user(Path::new(split(&path).0)).ok();
            Ok(directory.map(|directory| Place::new(&path, directory, Some(ids))))
        })
    }

    fn new(path: &AbsolutePath, directory: OwnedFd, user: Option<Identity>) -> Place {
        Place { path: path.clone(), directory: Arc::new(directory), name: split(path).1.to_owned(), user }
    }

    /// Does something to the directory as the user that it is done for.
    fn as_user<T: Send + 'static>(
        &self,
        stage: Stage,
        work: impl FnOnce(&Place) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Some(user) = &self.user else { return work(self) };
        let place = self.clone();
        as_user::run(Some(user), task(stage, &self.path), move || work(&place))
    }

    /// Why no file could be made there, without making one. Nothing where this process may not say.
    pub(crate) fn obstacle(&self) -> Option<Error> {
        let access = accessat(&self.directory, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
        let errno = access.err().filter(|errno| *errno != Errno::ACCESS || rustix::process::geteuid().is_root())?;
        Some(Error::system(Stage::Claim, object(&self.path), "access(directory)", errno))
    }

    fn check_old(&self) -> Result<()> {
        let old = match statat(&self.directory, self.name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.at(Stage::Claim, object(&self.path), "lstat")?,
        };
        let kind = FileType::from_raw_mode(old.st_mode);
        if kind != FileType::RegularFile {
            let expected = "nothing or a regular file: only an old pid file is replaced";
            return Err(unfit(&self.path, FileAspect::Type, kind_of_file(kind), expected));
        }
        let directory = fstat(&self.directory).at(Stage::Claim, object(&self.path), "fstat(directory)")?;
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
        Err(unfit(&self.path, FileAspect::Access, found, expected))
    }

    /// Makes the file, still without its name.
    pub(super) fn make(self, id: &ContainerId, claim: &Claim) -> Result<PidFile> {
        let temporary = format!(".{id}.{}", std::process::id());
        claim.note_pid_file(&self.path, &temporary, self.user.as_ref())?;
        let name = temporary.clone();
        let (file, named) = self.as_user(Stage::Claim, move |place| place.make_unnamed(&name))?;
        Ok(PidFile { place: self, file: Arc::new(file), temporary, named })
    }

    /// Makes a file without a name, or by this one where the file system has none without.
    fn make_unnamed(&self, temporary: &str) -> Result<(File, Named)> {
        let made = |call: &str, opened: rustix::io::Result<OwnedFd>| opened.at(Stage::Claim, object(&self.path), call);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let (file, named) = match openat(&self.directory, ".", flags | OFlags::TMPFILE, MODE) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                (made("open(O_EXCL)", openat(&self.directory, temporary, flags, MODE))?, Named::Temporarily)
            }
            opened => (made("open(O_TMPFILE)", opened)?, Named::NotYet),
        };
        fchmod(&file, MODE).at(Stage::Claim, object(&self.path), "fchmod")?;
        Ok((file.into(), named))
    }

    /// Removes the file by both its names, where it holds this line.
    fn clear(&self, temporary: &str, line: &str) -> Result<()> {
        let failed = |call: &str, done: rustix::io::Result<()>| done.at(Stage::Remove, object(&self.path), call);
        failed("unlink(temporary)", remove(self.directory.as_fd(), temporary, &["", line]))?;
        if line.is_empty() {
            return Ok(());
        }
        failed("unlink", remove(self.directory.as_fd(), &self.name, &[line]))
    }
}

/// What name the file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    NotYet,
    Temporarily,
}

/// A pid file in the making.
#[derive(Clone)]
pub(super) struct PidFile {
    place: Place,
    file: Arc<File>,
    temporary: String,
    named: Named,
}

impl PidFile {
    /// Writes the pid: digits and a newline. The claim notes it before: should this process be
    /// killed, whoever clears away knows the file for ours.
    pub(super) fn write(&self, pid: i32, claim: &Claim) -> Result<()> {
        claim.note_pid(pid)?;
        let file = Arc::clone(&self.file);
        self.place.as_user(Stage::Clone, move |place| {
            let mut file = &*file;
            file.write_all(pid_line(pid).as_bytes()).at(Stage::Clone, object(&place.path), "write")
        })
    }

    /// Gives the file its name, in the place of an old pid file if there is one.
    pub(super) fn publish(&self) -> Result<()> {
        let file = self.clone();
        self.place.as_user(Stage::PidFile, move |_| file.name())
    }

    fn name(&self) -> Result<()> {
        let failed = |call: &str, done: rustix::io::Result<()>| done.at(Stage::PidFile, object(&self.place.path), call);
        if self.named == Named::NotYet {
            match self.link(&self.place.name) {
                Err(Errno::EXIST) => failed("linkat(temporary)", self.link(&self.temporary))?,
                done => return failed("linkat", done),
            }
        }
        self.place.check_old()?;
        let directory = &self.place.directory;
        failed("renameat", renameat(directory, self.temporary.as_str(), directory, self.place.name.as_str()))
    }

    fn link(&self, name: &str) -> rustix::io::Result<()> {
        let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(CWD, unnamed, &self.place.directory, name, AtFlags::SYMLINK_FOLLOW)
    }
}

/// Removes what a launch that came to nothing has made of its pid file, as its claim notes it: in
/// the directory that is held, or else in the one that the path leads to, for the user as the user.
/// A file of the name that says something else, or none, is left as it is.
pub(crate) fn take_back(notes: &Notes, held: Option<&Place>) -> Result<()> {
    let Some((path, temporary)) = notes.pid_file() else { return Ok(()) };
    let place = match held {
        Some(place) => Some(place.clone()),
        None => Place::again(path, notes.pid_file_user())?,
    };
    let Some(place) = place else { return Ok(()) };
    let (temporary, line) = (temporary.to_owned(), notes.pid_line());
    place.as_user(Stage::Remove, move |place| place.clear(&temporary, &line))
}

/// Removes a file that holds one of these texts. What was read is what goes: others may be able to
/// exchange a directory on the way, so both happen in one that is held.
fn remove(directory: BorrowedFd<'_>, name: &str, texts: &[&str]) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = openat(directory, name, flags, Mode::empty()) else { return Ok(()) };
    let mut bytes = [0; 16];
    // A directory, or a device that has nothing to say.
    let Ok(length) = rustix::io::read(&file, &mut bytes) else { return Ok(()) };
    if !texts.iter().any(|text| bytes.get(..length) == Some(text.as_bytes())) {
        return Ok(());
    }
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
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

fn task(stage: Stage, path: &AbsolutePath) -> Task {
    Task { stage, object: object(path), patience: PATIENCE }
}

fn object(path: &AbsolutePath) -> String {
    format!("pid file '{path}'")
}

/// What is there cannot be replaced.
fn unfit(path: &AbsolutePath, aspect: FileAspect, found: impl Into<String>, expected: impl Into<String>) -> Error {
    Error::wrong_file(Stage::Claim, object(path), "lstat", aspect, found, expected).with_kind(ErrorKind::Exists)
}
