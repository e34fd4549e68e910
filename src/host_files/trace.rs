//! From an open file back to the path that leads to it now.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, Stat, fstat, open, openat, readlink};
use rustix::io::Errno;

use super::facts::own_link;
use crate::error::{Context, Result};
use crate::request::AbsolutePath;
use crate::stage::Stage;

/// Why the path that the kernel shows for an open file does not lead to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Astray {
    Gone,
    AnotherFile,
}

impl fmt::Display for Astray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Astray::Gone => "does not exist: the file that was opened has been deleted or moved",
            Astray::AnotherFile => "is another file than the one that was opened",
        })
    }
}

/// The path that the kernel shows for an open file, without links. It may be out of date, end in `
/// (deleted)`, or begin nowhere: [`walk`] shows whether it leads to the file.
pub(crate) fn path_of(file: BorrowedFd<'_>) -> rustix::io::Result<PathBuf> {
    let link = readlink(own_link(file), Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(link.into_bytes())))
}

/// Goes down from `/`, a descriptor at a time and following no link, has everything on the way
/// looked at, and has to arrive at the file itself. The answer is what the look or the way objects
/// to, and where.
pub(crate) fn walk<W: From<Astray>>(
    path: &Path,
    file: BorrowedFd<'_>,
    look: impl Fn(BorrowedFd<'_>, &Stat) -> Option<W>,
) -> rustix::io::Result<Option<(PathBuf, W)>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = PathBuf::from("/");
    if !path.is_absolute() {
        return Ok(Some((path.to_owned(), Astray::Gone.into())));
    }
    let mut here: OwnedFd = open("/", flags, Mode::empty())?;
    let mut names = path.components().filter(|component| *component != Component::RootDir);
    loop {
        let stat = fstat(&here)?;
        if let Some(objection) = look(here.as_fd(), &stat) {
            return Ok(Some((at, objection)));
        }
        let Some(name) = names.next() else {
            let file = fstat(file)?;
            let same = (stat.st_dev, stat.st_ino) == (file.st_dev, file.st_ino);
            return Ok((!same).then_some((at, Astray::AnotherFile.into())));
        };
        at.push(name);
        here = match openat(&here, name.as_os_str(), flags, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Some((at, Astray::Gone.into()))),
            Err(errno) => return Err(errno),
        };
    }
}

/// A directory without links, by which others are compared; `what` names it in the error.
pub(crate) fn resolve(directory: &AbsolutePath, what: &str) -> Result<PathBuf> {
    std::fs::canonicalize(directory.as_path()).at(Stage::Request, format!("{what} '{directory}'"), "realpath")
}

/// A path in an error. It is shown whole: which directory it was is what the reader needs.
pub(crate) fn shown(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().escape_debug())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    fn astray(path: &Path, file: &File) -> Option<(PathBuf, Astray)> {
        walk(path, file.as_fd(), |_, _| None).unwrap()
    }

    #[test]
    fn an_open_file_is_found_by_its_path_and_what_has_no_path_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().canonicalize().unwrap();
        let (here, there) = (top.join("deep/file"), top.join("deep/moved"));
        fs::create_dir(top.join("deep")).unwrap();
        fs::write(&here, "").unwrap();
        symlink(&here, top.join("link")).unwrap();
        let file = File::open(top.join("link")).unwrap();
        assert_eq!(path_of(file.as_fd()).unwrap(), here);
        assert_eq!(astray(&here, &file), None);
        assert_eq!(astray(&top.join("link"), &file), Some((top.join("link"), Astray::AnotherFile)));
        fs::rename(&here, &there).unwrap();
        assert_eq!(path_of(file.as_fd()).unwrap(), there);
        assert_eq!(astray(&here, &file), Some((here.clone(), Astray::Gone)));
        fs::remove_file(&there).unwrap();
        let shown = path_of(file.as_fd()).unwrap();
        assert_eq!(shown, top.join("deep/moved (deleted)"));
        assert_eq!(astray(&shown, &file), Some((shown.clone(), Astray::Gone)));
        fs::write(&shown, "").unwrap();
        assert_eq!(astray(&shown, &file), Some((shown.clone(), Astray::AnotherFile)));
        // What begins nowhere, as the kernel shows a directory outside of this process's root.
        let nowhere = Path::new("(unreachable)/file");
        assert_eq!(astray(nowhere, &file), Some((nowhere.to_owned(), Astray::Gone)));
    }

    #[test]
    fn what_the_look_objects_to_comes_with_its_place() {
        #[derive(Debug, PartialEq)]
        struct Objection;
        impl From<Astray> for Objection {
            fn from(_: Astray) -> Objection {
                Objection
            }
        }
        let root = File::open("/").unwrap();
        let found = walk(Path::new("/"), root.as_fd(), |_, _| Some(Objection)).unwrap();
        assert_eq!(found, Some((PathBuf::from("/"), Objection)));
    }
}
