//! The pid file. Everything that can fail about it fails before the workload is executed; what remains for afterwards is to give it its name.
//!
//! Its directory is opened once, and all happens by that descriptor. The file has no name while it is written, where the file system can do
//! that, so being killed leaves nothing; elsewhere (NFS, some of FUSE) it has another name, which the claim notes. An old pid file is
//! replaced, and nothing else is: a link, a directory or a device in its place is refused.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, fchmod, linkat, open, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::request::{AbsolutePath, ContainerId};
use crate::stage::Stage;
use crate::state::claim::{Claim, Notes, pid_line};

/// Everybody may read it, whatever the umask: a supervisor need not be root.
const MODE: Mode = Mode::from_raw_mode(0o644);

/// Where a pid file will be: its directory, open, and its name in it.
pub(crate) struct Place<'a> {
    path: &'a AbsolutePath,
    directory: OwnedFd,
    name: &'a str,
}

impl<'a> Place<'a> {
    /// Opens the directory and looks at what has the name.
    ///
    /// # Errors
    /// No such directory; something there that is no regular file ([`ErrorKind::Exists`]).
    pub(crate) fn find(path: &'a AbsolutePath) -> Result<Place<'a>> {
        let (parent, name) = path.as_str().rsplit_once('/').unwrap_or_default();
        if name.is_empty() {
            return Err(found(path, "check", ErrorKind::Invalid, "it is a directory"));
        }
        let parent = if parent.is_empty() { "/" } else { parent };
        let place =
            Place { path, directory: open_directory(parent).at(Stage::Claim, object(path), "open(directory)")?, name };
        place.check_old()?;
        Ok(place)
    }

    /// Why no file could be made there, without making one. Nothing where this process may not say.
    pub(crate) fn obstacle(&self) -> Option<Error> {
        let access = accessat(&self.directory, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
        let errno = access.err().filter(|errno| *errno != Errno::ACCESS || rustix::process::geteuid().is_root())?;
        Some(Error::system(Stage::Claim, object(self.path), "access(directory)", errno))
    }

    fn check_old(&self) -> Result<()> {
        match statat(&self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno).at(Stage::Claim, object(self.path), "lstat"),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(()),
            Ok(_) => {
                let text = "something is there that is no regular file; only an old pid file is replaced";
                Err(found(self.path, "lstat", ErrorKind::Exists, text))
            }
        }
    }

    /// Makes the file, still without its name.
    pub(super) fn make(self, id: &ContainerId, claim: &Claim) -> Result<PidFile<'a>> {
        let temporary = format!(".{id}.{}", std::process::id());
        claim.note_pid_file(self.path, &temporary)?;
        let made = |call: &str, opened: rustix::io::Result<OwnedFd>| opened.at(Stage::Claim, object(self.path), call);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let (file, named) = match openat(&self.directory, ".", flags | OFlags::TMPFILE, MODE) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                (made("open(O_EXCL)", openat(&self.directory, temporary.as_str(), flags, MODE))?, Named::Temporarily)
            }
            opened => (made("open(O_TMPFILE)", opened)?, Named::NotYet),
        };
        fchmod(&file, MODE).at(Stage::Claim, object(self.path), "fchmod")?;
        Ok(PidFile { place: self, file: file.into(), temporary, named })
    }
}

/// What name the file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    NotYet,
    Temporarily,
}

/// A pid file in the making.
pub(super) struct PidFile<'a> {
    place: Place<'a>,
    file: File,
    temporary: String,
    named: Named,
}

impl PidFile<'_> {
    /// Writes the pid: digits and a newline. The claim notes it before: should this process be killed, whoever clears away knows the file for
    /// ours.
    pub(super) fn write(&mut self, pid: i32, claim: &Claim) -> Result<()> {
        claim.note_pid(pid)?;
        self.file.write_all(pid_line(pid).as_bytes()).at(Stage::Clone, object(self.place.path), "write")
    }

    /// Gives the file its name, in the place of an old pid file if there is one.
    pub(super) fn publish(&self) -> Result<()> {
        let failed = |call: &str, done: rustix::io::Result<()>| done.at(Stage::PidFile, object(self.place.path), call);
        if self.named == Named::NotYet {
            match self.link(self.place.name) {
                Err(Errno::EXIST) => failed("linkat(temporary)", self.link(&self.temporary))?,
                done => return failed("linkat", done),
            }
        }
        self.place.check_old()?;
        let directory = &self.place.directory;
        failed("renameat", renameat(directory, self.temporary.as_str(), directory, self.place.name))
    }

    fn link(&self, name: &str) -> rustix::io::Result<()> {
        let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(CWD, unnamed, &self.place.directory, name, AtFlags::SYMLINK_FOLLOW)
    }
}

/// Removes what a launch that came to nothing has made of its pid file, as its claim notes it. A file of the name that says something else,
/// or none, is left as it is.
pub(crate) fn take_back(notes: &Notes) -> Result<()> {
    let Some((path, temporary)) = notes.pid_file() else { return Ok(()) };
    let Some((parent, name)) = path.as_str().rsplit_once('/') else { return Ok(()) };
    let Ok(directory) = open_directory(if parent.is_empty() { "/" } else { parent }) else { return Ok(()) };
    let line = notes.pid_line();
    remove(directory.as_fd(), temporary, &["", &line]).at(Stage::Remove, object(path), "unlink(temporary)")?;
    if line.is_empty() {
        return Ok(());
    }
    remove(directory.as_fd(), name, &[&line]).at(Stage::Remove, object(path), "unlink")
}

/// Removes a file that holds one of these texts. What was read is what goes: others may be able to exchange a directory on the way, so both
/// happen in one that is held.
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

fn object(path: &AbsolutePath) -> String {
    format!("pid file '{path}'")
}

fn found(path: &AbsolutePath, call: &str, kind: ErrorKind, text: &str) -> Error {
    Error::found(kind, Stage::Claim, object(path), call, text)
}
