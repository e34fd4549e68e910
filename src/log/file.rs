//! The files of a log: written at the end, rotated, made anew when they are gone.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, fchmod, flock, fstat, ftruncate, open, openat, renameat, statat,
    unlinkat,
};
use rustix::io::{Errno, pread, retry_on_intr, write};

use crate::request::Log;

/// The mode of a new file: its group may read along.
const MODE: Mode = Mode::from_raw_mode(0o640);

/// The files of one log, by the directory that they are in: its path may lead elsewhere later.
#[derive(Debug)]
pub(super) struct LogFile {
    directory: OwnedFd,
    name: OsString,
    max_bytes: u64,
    files: u32,
    open: Option<OwnedFd>,
}

/// The file that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) inode: u64,
    pub(super) bytes: u64,
}

impl LogFile {
    /// The log at this path; opens its directory and nothing else.
    pub(super) fn at(path: &Path, log: &Log) -> io::Result<LogFile> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(path.parent().unwrap_or(Path::new("/")), flags, Mode::empty())?;
        let name = path.file_name().unwrap_or_default().to_owned();
        Ok(LogFile { directory, name, max_bytes: log.max_bytes.unwrap_or(u64::MAX), files: log.files(), open: None })
    }

    /// The directory.
    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Opens the file to write at its end, or makes it (mode 0640, of this process's user); whether
    /// it is new. No link is followed, and nothing but a regular file is taken.
    pub(super) fn open_or_create(&self) -> io::Result<(OwnedFd, bool)> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(&self.directory, &self.name, flags | OFlags::CREATE | OFlags::EXCL, MODE) {
            Ok(file) => {
                // Whatever the umask is.
                fchmod(&file, MODE)?;
                Ok((file, true))
            }
            Err(Errno::EXIST) => {
                let file = openat(&self.directory, &self.name, flags, Mode::empty())?;
                match FileType::from_raw_mode(fstat(&file)?.st_mode) {
                    FileType::RegularFile => Ok((file, false)),
                    _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
                }
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// The file as it is now: the one that has the name. Another one there, or none, means that
    /// ours was renamed or deleted.
    pub(super) fn extent(&mut self) -> io::Result<Extent> {
        if let Some(file) = &self.open {
            let own = fstat(file)?;
            let named = statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW);
            if named.is_ok_and(|named| (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)) {
                return Ok(Extent { inode: own.st_ino, bytes: own.st_size.unsigned_abs() });
            }
        }
        self.open = None;
        let (file, _) = self.open_or_create()?;
        // So that no other copier is given the file.
        let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
        let stat = fstat(&file)?;
        self.open = Some(file);
        Ok(Extent { inode: stat.st_ino, bytes: stat.st_size.unsigned_abs() })
    }

    /// Closes it; the next look opens it again.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// How many more bytes may be written to a file of that many.
    pub(super) fn room(&self, bytes: u64) -> u64 {
        self.max_bytes.saturating_sub(bytes)
    }

    /// Writes at the end; how many bytes were written, and why not all.
    pub(super) fn append(&self, bytes: &[u8]) -> (usize, Option<Errno>) {
        let Some(file) = &self.open else { return (0, Some(Errno::BADF)) };
        let mut written = 0;
        while written < bytes.len() {
            match retry_on_intr(|| write(file, &bytes[written..])) {
                Ok(0) => return (written, Some(Errno::IO)),
                Ok(count) => written += count,
                Err(errno) => return (written, Some(errno)),
            }
        }
        (written, None)
    }

    /// Takes back what was written behind this length.
    pub(super) fn cut(&self, bytes: u64) {
        // Half a line stays where that is refused, and what it is half of is counted as lost.
        let _ = self.open.as_ref().map(|file| ftruncate(file, bytes));
    }

    /// Whether a file of that many bytes ends within a line.
    pub(super) fn is_midline(&self, bytes: u64) -> bool {
        let Some(last) = bytes.checked_sub(1) else { return false };
        let mut byte = [b'\n'];
        // Ours is open for writing alone. Whoever else can write to the directory may have put a
        // FIFO in its place, whose writer would be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.directory, &self.name, flags, Mode::empty());
        file.and_then(|file| pread(&file, &mut byte, last)).is_ok_and(|_| byte != [b'\n'])
    }

    /// Renames `FILE` to `FILE.1` and so on, the oldest away; the next write makes a new one.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        let Some(oldest) = self.files.checked_sub(1).filter(|oldest| *oldest > 0) else {
            unlinkat(&self.directory, &self.name, AtFlags::empty())?;
            self.open = None;
            return Ok(());
        };
        let number_of = |number: u32| numbered(&self.name, number);
        let is_there = |name: &OsStr| statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        // After a rotation that was cut short a number is free: what is older stays.
        let free = (1..oldest).find(|number| !is_there(&number_of(*number))).unwrap_or(oldest);
        for number in (1..free).rev() {
            renameat(&self.directory, number_of(number), &self.directory, number_of(number + 1))?;
        }
        renameat(&self.directory, &self.name, &self.directory, number_of(1))?;
        self.open = None;
        Ok(())
    }

    /// Locks the file for a copier that is to come, to see whether another one has it.
    pub(super) fn is_taken(file: impl AsFd) -> bool {
        flock(file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
    }
}

/// `FILE.2`, and for 0 `FILE` itself.
pub(crate) fn numbered(name: &OsStr, number: u32) -> OsString {
    let mut name = name.to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::request::AbsolutePath;

    fn log_in(directory: &Path, files: u32) -> LogFile {
        let path = directory.join("a.log");
        let log = Log::in_file(AbsolutePath::new(&path).unwrap()).rotated(1 << 20, files);
        LogFile::at(&path, &log).unwrap()
    }

    fn say(log: &mut LogFile, text: &str) {
        log.extent().unwrap();
        assert_eq!(log.append(text.as_bytes()), (text.len(), None));
    }

    fn files(directory: &Path) -> Vec<(String, String)> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> = entries
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    fn named(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn files_are_numbered_from_the_newest_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log_in(directory.path(), 3);
        for text in ["1", "2", "3", "4"] {
            say(&mut log, text);
            log.rotate().unwrap();
        }
        say(&mut log, "5");
        assert_eq!(files(directory.path()), named(&[("a.log", "5"), ("a.log.1", "4"), ("a.log.2", "3")]));
        let mut single = log_in(directory.path(), 1);
        say(&mut single, "6");
        single.rotate().unwrap();
        say(&mut single, "7");
        assert_eq!(files(directory.path())[0], ("a.log".to_owned(), "7".to_owned()));
    }

    #[test]
    fn a_rotation_that_was_cut_short_takes_no_file_with_it() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [("a.log", "4"), ("a.log.2", "3"), ("a.log.3", "2")] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let mut log = log_in(directory.path(), 4);
        log.rotate().unwrap();
        assert_eq!(files(directory.path()), named(&[("a.log.1", "4"), ("a.log.2", "3"), ("a.log.3", "2")]));
    }

    #[test]
    fn what_was_deleted_or_renamed_is_made_anew_and_what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let mut log = log_in(directory.path(), 3);
        say(&mut log, "a");
        fs::remove_file(&path).unwrap();
        say(&mut log, "b");
        fs::rename(&path, directory.path().join("old")).unwrap();
        say(&mut log, "c");
        assert_eq!(files(directory.path()), named(&[("a.log", "c"), ("old", "b")]));
        assert!(log.is_midline(1) && !log.is_midline(0));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("old", &path).unwrap();
        assert!(log.extent().is_err());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(log.extent().is_err());
    }
}
