//! The tag file on disk: read by anybody, changed under a lock, from what it holds then.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::new_file::{NewFile, system};
use super::tags::Tags;
use super::{Store, layout, read};
use crate::error::{Cause, Error, Result, Step};

/// The largest tag file that is read, in bytes: a hundred thousand images.
const TAG_FILE_LENGTH: u64 = 64 << 20;
/// How long the lock is waited for. Its holder writes a small file, or unlinks some.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a file that somebody changes without the lock is read again.
const TRIES: u32 = 10;

/// A tag file as it was read.
#[derive(Debug, Clone)]
pub struct TagFile {
    /// What it says.
    pub tags: Tags,
    /// Lines that say nothing, from 1.
    pub unread: Vec<usize>,
}

/// The store's lock is held: nobody else changes tags or removes images.
#[derive(Debug)]
pub struct Changing<'a> {
    store: &'a Store,
    _lock: File,
}

/// What a file was, to see whether another one has its name now.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Store {
    /// The tag file as it is.
    ///
    /// # Errors
    /// `Limit` for one of more than 64 MiB, else `System`.
    pub fn tags(&self) -> Result<TagFile> {
        let bytes = read(&self.tag_file(), TAG_FILE_LENGTH)?.unwrap_or_default();
        let (tags, unread) = Tags::parse(&bytes);
        Ok(TagFile { tags, unread })
    }

    /// Where the tag file is.
    #[must_use]
    pub fn tag_file(&self) -> PathBuf {
        self.top.join(&self.tag_file)
    }

    /// Takes the lock under which tags change and images are removed.
    ///
    /// # Errors
    /// `Conflict` where somebody has held it for a minute; `System` where the store cannot be
    /// written.
    pub fn change(&self) -> Result<Changing<'_>> {
        let path = self.top.join(format!("{}{}", self.tag_file, layout::LOCK_SUFFIX));
        let opened = OpenOptions::new().read(true).append(true).create(true).mode(0o644).open(&path);
        let file = opened.map_err(|error| system(&path, "open", error))?;
        let lock = locked(file, &path)?;
        Ok(Changing { store: self, _lock: lock })
    }
}

impl Changing<'_> {
    /// The store that is changed.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.store
    }

    /// Changes the tags from what they are now. Somebody who writes the file without the lock, as
    /// other tools do, is not overwritten: the change is made again, from theirs.
    ///
    /// # Errors
    /// Those of the change; `Conflict` where the file changes again and again; `System`.
    pub fn tags<T>(&self, mut change: impl FnMut(&mut Tags) -> Result<T>) -> Result<T> {
        let path = self.store.tag_file();
        for _ in 0..TRIES {
            let seen = look(&path)?;
            let before = self.store.tags()?.tags;
            let mut tags = before.clone();
            let result = change(&mut tags)?;
            if tags == before {
                return Ok(result);
            }
            let new = NewFile::with(&self.store.top, &tags.to_text())?;
            if look(&path)? == seen {
                new.replace(&path)?;
                return Ok(result);
            }
        }
        let cause = Cause::Conflict("somebody else changes it all the time, without its lock".to_owned());
        Err(Error::new(Step::Tag, path.display(), cause))
    }
}

fn look(path: &Path) -> Result<Option<Seen>> {
    match fs::metadata(path) {
        Ok(now) => Ok(Some(Seen { inode: now.ino(), size: now.size(), changed: (now.ctime(), now.ctime_nsec()) })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(system(path, "stat", error)),
    }
}

/// Waits for the lock on a thread of its own: flock(2) knows no bound. A thread that waits in vain
/// ends with the program.
fn locked(file: File, path: &Path) -> Result<File> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(file),
        Err(Errno::WOULDBLOCK) => {}
        Err(errno) => return Err(system(path, "flock", errno.into())),
    }
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let locked = flock(&file, FlockOperation::LockExclusive);
        let _ = sender.send(locked.map(|()| file));
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok(locked) => locked.map_err(|errno| system(path, "flock", errno.into())),
        Err(_) => {
            let cause = Cause::Conflict(format!("somebody has held this lock for {} s", PATIENCE.as_secs()));
            Err(Error::new(Step::Tag, path.display(), cause))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn no_tag_is_lost_by_many_writers_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::create(directory.path()).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    for number in 0..10 {
                        let assign = |tags: &mut Tags| Ok(tags.assign(&format!("{writer}:{number}"), HASH));
                        store.change().unwrap().tags(assign).unwrap();
                    }
                });
            }
        });
        assert_eq!(store.tags().unwrap().tags.entries()[HASH].tags.len(), 80);
    }

    #[test]
    fn a_writer_without_the_lock_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::create(directory.path()).unwrap();
        let mut calls = 0;
        let change = |tags: &mut Tags| {
            calls += 1;
            if calls == 1 {
                let path = store.top.join("other");
                fs::write(&path, format!("theirs:{HASH}\n")).unwrap();
                fs::rename(path, store.top.join(layout::TAGS)).unwrap();
            }
            Ok(tags.assign("ours", HASH))
        };
        store.change().unwrap().tags(change).unwrap();
        let text = fs::read_to_string(store.top.join(layout::TAGS)).unwrap();
        assert_eq!((text.as_str(), calls), (format!("ours,theirs:{HASH}\n").as_str(), 2));
    }
}
