//! Files below a directory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Contents;
use crate::error::{Cause, Error, Result, Step};

/// A directory, and the files below it. No symbolic link is followed below it: where one leads is
/// the image's word, not the caller's.
#[derive(Debug)]
pub(crate) struct Beneath {
    directory: OwnedFd,
    name: String,
}

impl Beneath {
    /// Opens the directory. `name` is what errors call it.
    pub(crate) fn open(path: &Path, name: String) -> Result<Beneath> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => Error::new(Step::Resolve, &name, Cause::NotFound(path.display().to_string())),
            Errno::NOTDIR => Error::invalid(Step::Resolve, &name, "not a directory"),
            errno => Error::system(Step::Resolve, &name, "open", errno),
        })?;
        Ok(Beneath { directory, name })
    }

    fn file(&self, path: &str) -> Result<File> {
        let object = || format!("{}: {path:?}", self.name);
        // NONBLOCK: a FIFO must not hold us.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve);
        file.map(File::from).map_err(|errno| match errno {
            Errno::NOENT => Error::new(Step::Resolve, &self.name, Cause::NotFound(path.to_owned())),
            Errno::LOOP => Error::invalid(Step::Resolve, object(), "is reached through a symbolic link"),
            Errno::XDEV => Error::invalid(Step::Resolve, object(), "leads out of the directory"),
            errno => Error::system(Step::Resolve, object(), "openat2", errno),
        })
    }
}

impl Contents for Beneath {
    fn open(&self, path: &str, offset: u64) -> Result<(u64, Box<dyn Read + Send>)> {
        let object = || format!("{}: {path:?}", self.name);
        let mut file = self.file(path)?;
        let metadata = file.metadata().map_err(|error| Error::system(Step::Resolve, object(), "fstat", error))?;
        if !metadata.is_file() {
            return Err(Error::invalid(Step::Resolve, object(), "not a regular file"));
        }
        let seek = |error| Error::system(Step::Fetch, object(), "lseek", error);
        file.seek(SeekFrom::Start(offset)).map_err(seek)?;
        Ok((metadata.len(), Box::new(file)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn nothing_outside_is_reached() {
        let place = tempfile::tempdir().unwrap();
        let inside = place.path().join("inside");
        std::fs::create_dir_all(inside.join("deeper")).unwrap();
        std::fs::write(place.path().join("secret"), "secret").unwrap();
        std::fs::write(inside.join("deeper/file"), "0123456789").unwrap();
        std::os::unix::fs::symlink("../secret", inside.join("link")).unwrap();
        std::os::unix::fs::symlink("deeper", inside.join("directory")).unwrap();
        std::os::unix::fs::symlink("loop", inside.join("loop")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            inside.join("fifo"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        let beneath = Beneath::open(&inside, "dir:x".to_owned()).unwrap();
        let mut text = String::new();
        let (size, mut content) = beneath.open("deeper/file", 4).unwrap();
        content.read_to_string(&mut text).unwrap();
        assert_eq!((size, text.as_str()), (10, "456789"));
        let out = "../../../../../../../../etc/passwd";
        for path in
            [out, "/etc/passwd", "../secret", "link", "directory/file", "loop", "deeper", "fifo", "deeper/file/x"]
        {
            let error = beneath.open(path, 0).map(|_| ()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::System), "{path}: {error}");
        }
        assert_eq!(beneath.open("none", 0).map(|_| ()).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
