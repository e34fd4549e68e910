//! One file or directory of the host, held open by descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, accessat, fstat, openat2};
use rustix::io::Errno;

use super::trace::{Astray, path_of, resolve, shown, walk};
use crate::error::{Error, Result};
use crate::request::AbsolutePath;
use crate::stage::Stage;
use crate::sys;

/// What ELOOP means where links of `/proc` are not followed.
pub(crate) const LOOP_OR_MAGIC: &str =
    "is a loop of symbolic links, or leads through a link in /proc to what some process has open";

/// A file or directory that a spec names, held by a descriptor that stands for what the path led to
/// when it was opened (`O_PATH`): whatever happens to the path afterwards, this is what the
/// container gets.
#[derive(Debug)]
pub struct HostFile {
    path: AbsolutePath,
    resolved: AbsolutePath,
    is_directory: bool,
    file: OwnedFd,
}

/// What a path has to lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Anything,
    Directory,
}

/// Why a path is refused.
pub(crate) enum Refusal {
    /// For what it leads to; the path is in the text.
    Because(String),
    /// For a reason that lies elsewhere.
    Unknown(Error),
}

impl HostFile {
    /// The path as the spec has it. Of a pid file: that of its directory.
    #[must_use]
    pub fn path(&self) -> &AbsolutePath {
        &self.path
    }

    /// The path that led here when it was opened, without symbolic links: what an allow-list has to
    /// compare. By it the file itself was found; one that had no name any more was refused. A
    /// rename later changes it, and not what is open here.
    #[must_use]
    pub fn resolved(&self) -> &AbsolutePath {
        &self.resolved
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.is_directory
    }

    /// Whether it is one of these directories or lies below one: whole components of the resolved
    /// path are compared with the directories, which are resolved now, by the calling thread.
    /// `/srv/a` does not hold `/srv/ab`.
    ///
    /// # Errors
    /// `System` where a directory cannot be resolved.
    pub fn lies_within<'a>(&self, directories: impl IntoIterator<Item = &'a AbsolutePath>) -> Result<bool> {
        for directory in directories {
            if self.resolved.as_path().starts_with(resolve(directory, "directory")?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens what a path leads to, as the calling thread: symbolic links are followed, but not
    /// those of `/proc` to what a process has open, which would lead to descriptors of this process
    /// that its caller could not have opened.
    pub(crate) fn open(path: &AbsolutePath, expected: Expected) -> std::result::Result<HostFile, Refusal> {
        let refused = |reason: String| Refusal::Because(format!("{} {reason}", shown(path.as_path())));
        let file = open_path(path.as_path(), expected).map_err(|errno| match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
                Refusal::Unknown(Error::system(Stage::Request, shown(path.as_path()), "openat2", errno))
            }
            errno => refused(unopenable(errno, expected)),
        })?;
        let stat = fstat(&file).map_err(|errno| refused(format!("cannot be looked at: fstat: {errno}")))?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let resolved = resolved_path(file.as_fd()).map_err(refused)?;
        Ok(HostFile { path: path.clone(), resolved, is_directory, file })
    }

    /// Why the calling thread may not make files in this directory, if that is so.
    pub(crate) fn write_refusal(&self) -> Option<String> {
        let errno = accessat(&self.file, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).err()?;
        let user = sys::fs_ids().0;
        Some(match errno {
            Errno::ACCESS => format!("{} may not be written to by user {user}", shown(self.path.as_path())),
            errno => format!("{} cannot be written to by user {user}: {errno}", shown(self.path.as_path())),
        })
    }

    pub(crate) fn stat(&self) -> rustix::io::Result<Stat> {
        fstat(&self.file)
    }

    /// The parts, as they cross a process border.
    pub(crate) fn parts(&self) -> (&AbsolutePath, &AbsolutePath, bool) {
        (&self.path, &self.resolved, self.is_directory)
    }

    /// Of parts that crossed a process border.
    pub(crate) fn of_parts(path: AbsolutePath, resolved: AbsolutePath, is_directory: bool, file: OwnedFd) -> HostFile {
        HostFile { path, resolved, is_directory, file }
    }
}

impl AsFd for HostFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// `O_PATH` takes search permission on the way and nothing of the file itself, as a mount does not
/// either: the worker meets the file's own mode. A directory is opened as one first, because only
/// that mounts what an automounter keeps there.
fn open_path(path: &Path, expected: Expected) -> rustix::io::Result<OwnedFd> {
    let open = |more| {
        let flags = OFlags::PATH | OFlags::CLOEXEC | more;
        openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
    };
    match open(OFlags::DIRECTORY) {
        Err(Errno::NOTDIR) if expected == Expected::Anything => open(OFlags::empty()),
        opened => opened,
    }
}

/// Opens a directory by its path as [`HostFile`]s are opened: links of `/proc` to what a process
/// has open are not followed.
pub(crate) fn open_directory_as_user(path: &Path) -> rustix::io::Result<OwnedFd> {
    open_path(path, Expected::Directory)
}

fn unopenable(errno: Errno, expected: Expected) -> String {
    match errno {
        Errno::NOENT => "does not exist".to_owned(),
        Errno::NOTDIR if expected == Expected::Directory => "is not a directory".to_owned(),
        Errno::NOTDIR => "does not exist: a part of the path is not a directory".to_owned(),
        Errno::ACCESS => format!("may not be reached by user {}", sys::fs_ids().0),
        Errno::LOOP => LOOP_OR_MAGIC.to_owned(),
        errno => format!("cannot be opened: {errno}"),
    }
}

/// The path that leads to the file now.
fn resolved_path(file: BorrowedFd<'_>) -> std::result::Result<AbsolutePath, String> {
    let path = path_of(file).map_err(|errno| format!("cannot be resolved: {errno}"))?;
    match walk(&path, file, |_, _| None::<Astray>) {
        Ok(None) => AbsolutePath::new(&path).map_err(|bad| format!("leads to a path that {bad}")),
        Ok(Some((at, astray))) => Err(format!("cannot be traced: {} {astray}", shown(&at))),
        Err(errno) => Err(format!("cannot be traced to {}: {errno}", shown(&path))),
    }
}
