//! Files that appear whole or not at all.
//!
//! A file is written in `working/` and locked there as long as its writer lives. It is synced, then
//! moved to its name. What a crash leaves in `working/` has no lock, and goes with the next
//! [`sweep`].

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use super::layout::{DIRECTORY_MODE, FILE_MODE, WORKING};
use crate::error::{Error, Result, Step};

/// A file that nobody sees yet. Dropped, it is gone.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    /// Its content.
    pub file: File,
}

/// What has become of a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It has the name now.
    New,
    /// Another file has the name already, and stays.
    There,
}

impl NewFile {
    /// Makes one in a store.
    ///
    /// # Errors
    /// `System`.
    pub fn create(top: &Path) -> Result<NewFile> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            // A pid comes back, and then the name of one that a crash has left may be there.
            let nanoseconds = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
            let path = top.join(WORKING).join(format!("{}-{number}-{nanoseconds:x}", std::process::id()));
            let file = match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                opened => opened.map_err(|error| system(&path, "open", error))?,
            };
            // Somebody's sweep may come between both calls: then the file has no name any more.
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if file.metadata().is_ok_and(|now| now.nlink() == 1) => return Ok(NewFile { path, file }),
                Ok(()) | Err(Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(system(&path, "flock", errno.into())),
            }
        }
    }

    /// Writes some bytes to a new one.
    ///
    /// # Errors
    /// `System`.
    pub fn with(top: &Path, bytes: &[u8]) -> Result<NewFile> {
        let mut new = NewFile::create(top)?;
        new.file.write_all(bytes).map_err(|error| system(&new.path, "write", error))?;
        Ok(new)
    }

    /// Gives it its name, unless a file has that.
    ///
    /// # Errors
    /// `System`.
    pub fn place(self, to: &Path) -> Result<Placed> {
        self.complete()?;
        match renameat_with(CWD, &self.path, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(Placed::There),
            // A file system that cannot rename so (NFS) can link.
            Err(Errno::INVAL | Errno::NOSYS) => match fs::hard_link(&self.path, to) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Placed::There),
                Err(error) => return Err(system(to, "link", error)),
            },
            Err(errno) => return Err(system(to, "renameat2", errno.into())),
        }
        sync_parent(to)?;
        Ok(Placed::New)
    }

    /// Gives it its name, and takes that from the file that has it.
    ///
    /// # Errors
    /// `System`.
    pub fn replace(self, to: &Path) -> Result<()> {
        self.complete()?;
        fs::rename(&self.path, to).map_err(|error| system(to, "rename", error))?;
        sync_parent(to)
    }

    fn complete(&self) -> Result<()> {
        let done = self.file.set_permissions(Permissions::from_mode(FILE_MODE));
        done.map_err(|error| system(&self.path, "fchmod", error))?;
        self.file.sync_all().map_err(|error| system(&self.path, "fsync", error))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Gone already where it was moved.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes a directory that all can read, if it is not there.
pub fn directory(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Ok(()) => {
            // Whatever the caller's umask.
            let all = fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE));
            all.map_err(|error| system(path, "chmod", error))?;
            sync_parent(path)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(system(path, "mkdir", error)),
    }
}

/// Removes a file that may be gone already.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(system(path, "unlink", error)),
        _ => Ok(()),
    }
}

/// Removes what dead writers have left in `working/`. What it may not remove is somebody else's.
///
/// # Errors
/// `System` where the directory cannot be read.
pub fn sweep(top: &Path) -> Result<()> {
    let working = top.join(WORKING);
    for entry in fs::read_dir(&working).map_err(|error| system(&working, "open", error))? {
        let path = entry.map_err(|error| system(&working, "getdents", error))?.path();
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(&path);
        if opened.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()) {
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

/// Makes a change of a directory last.
pub fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| system(parent, "fsync", error))
}

pub(super) fn system(path: &Path, call: &'static str, error: io::Error) -> Error {
    Error::system(Step::Store, path.display(), call, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> tempfile::TempDir {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join(WORKING)).unwrap();
        top
    }

    fn working(top: &Path) -> usize {
        fs::read_dir(top.join(WORKING)).unwrap().count()
    }

    #[test]
    fn a_file_is_seen_whole_and_readable_by_all() {
        let top = store();
        let to = top.path().join("a");
        let mut new = NewFile::create(top.path()).unwrap();
        new.file.write_all(b"content").unwrap();
        assert!(!to.exists());
        assert_eq!(new.place(&to).unwrap(), Placed::New);
        assert_eq!(fs::read(&to).unwrap(), b"content");
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, FILE_MODE);
        assert_eq!(working(top.path()), 0);
    }

    #[test]
    fn a_name_that_is_taken_stays_unless_it_is_to_be_replaced() {
        let top = store();
        let to = top.path().join("a");
        fs::write(&to, "old").unwrap();
        assert_eq!(NewFile::with(top.path(), b"new").unwrap().place(&to).unwrap(), Placed::There);
        assert_eq!(fs::read(&to).unwrap(), b"old");
        NewFile::with(top.path(), b"new").unwrap().replace(&to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"new");
        assert_eq!(working(top.path()), 0);
    }

    #[test]
    fn what_dead_writers_left_goes_and_what_is_written_stays() {
        let top = store();
        let written = NewFile::with(top.path(), b"x").unwrap();
        fs::write(top.path().join(WORKING).join("left"), "").unwrap();
        sweep(top.path()).unwrap();
        assert_eq!(working(top.path()), 1);
        drop(written);
        assert_eq!(working(top.path()), 0);
    }
}
