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
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fchmod, linkat, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::place::{Place, Which};
use crate::error::{Context, Result};
use crate::request::ContainerId;
use crate::stage::Stage;
use crate::state::claim::{Claim, Notes, pid_line};

/// Everybody may read it, whatever the umask: a supervisor need not be root.
const MODE: Mode = Mode::from_raw_mode(0o644);

impl Place {
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
        let made = |call: &str, opened: rustix::io::Result<OwnedFd>| opened.at(Stage::Claim, self.object(), call);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let (file, named) = match openat(&self.directory, ".", flags | OFlags::TMPFILE, MODE) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                (made("open(O_EXCL)", openat(&self.directory, temporary, flags, MODE))?, Named::Temporarily)
            }
            opened => (made("open(O_TMPFILE)", opened)?, Named::NotYet),
        };
        fchmod(&file, MODE).at(Stage::Claim, self.object(), "fchmod")?;
        Ok((file.into(), named))
    }

    /// Removes the file by both its names, where it holds this line.
    fn clear(&self, temporary: &str, line: &str) -> Result<()> {
        let failed = |call: &str, done: rustix::io::Result<()>| done.at(Stage::Remove, self.object(), call);
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
            file.write_all(pid_line(pid).as_bytes()).at(Stage::Clone, place.object(), "write")
        })
    }

    /// Gives the file its name, in the place of an old pid file if there is one.
    pub(super) fn publish(&self) -> Result<()> {
        let file = self.clone();
        self.place.as_user(Stage::PidFile, move |_| file.name())
    }

    fn name(&self) -> Result<()> {
        let failed = |call: &str, done: rustix::io::Result<()>| done.at(Stage::PidFile, self.place.object(), call);
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
        None => Place::again(Which::PidFile, path, notes.pid_file_user())?,
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
