//! The way down a tree and up again, by descriptors.
//!
//! Two directories are open at any time, whatever the depth: the top and the current one. The way
//! up is `..`, which must be the directory that was come from. If somebody has moved the current
//! one meanwhile it is another; then the way is taken anew from the top, as far as it is still what
//! it was, and what lay below is given up.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Result;

/// Longest path that is shown.
const SHOWN: usize = 4096;

/// Which directory it is, whatever its name.
type Id = (u64, u64);

struct Level {
    name: CString,
    id: Id,
    /// Subdirectories that remain.
    pending: Vec<CString>,
}

pub struct Trail {
    /// What the top is called in messages.
    path: PathBuf,
    top: OwnedFd,
    here: OwnedFd,
    /// From the top, whose name counts for nothing, to the current directory.
    levels: Vec<Level>,
}

/// The step out of a directory.
pub enum Left {
    /// To the directory above; the name is that of the one that was left.
    Up(CString),
    /// To a directory further up: that many levels were moved away.
    Lost(usize),
    /// Out of the top: the end.
    Top,
}

impl Trail {
    /// Begins in this directory.
    pub fn new(path: &Path, top: OwnedFd) -> Result<Trail> {
        let here = top.try_clone().map_err(|_| rustix::io::Errno::MFILE)?;
        let id = id(&fstat(&here)?);
        Ok(Trail {
            path: path.to_owned(),
            top,
            here,
            levels: vec![Level { name: CString::default(), id, pending: Vec::new() }],
        })
    }

    /// The current directory, by `O_PATH`.
    pub fn here(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }

    /// Keeps a subdirectory of the current directory for later.
    pub fn remember(&mut self, name: CString) {
        if let Some(level) = self.levels.last_mut() {
            level.pending.push(name);
        }
    }

    /// The next subdirectory of the current one.
    pub fn next(&mut self) -> Option<CString> {
        self.levels.last_mut()?.pending.pop()
    }

    /// Makes an entry of the current directory the current one.
    pub fn enter(&mut self, name: CString, directory: OwnedFd, stat: &Stat) {
        self.levels.push(Level { name, id: id(stat), pending: Vec::new() });
        self.here = directory;
    }

    /// Leaves the current directory.
    pub fn leave(&mut self) -> Result<Left> {
        let (Some(left), Some(above)) = (self.levels.pop(), self.levels.last()) else { return Ok(Left::Top) };
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
        let parent = openat2(&self.here, "..", flags, Mode::empty(), ResolveFlags::NO_XDEV);
        if let Ok(parent) = parent
            && id(&fstat(&parent)?) == above.id
        {
            self.here = parent;
            return Ok(Left::Up(left.name));
        }
        self.again_from_top().map(|lost| Left::Lost(lost + 1))
    }

    /// Takes the way again; how many levels are not there any more.
    fn again_from_top(&mut self) -> Result<usize> {
        let mut here = self.top.try_clone().map_err(|_| rustix::io::Errno::MFILE)?;
        let mut depth = 1;
        for level in self.levels.iter().skip(1) {
            let Ok((entry, stat)) = open_entry(here.as_fd(), &level.name) else { break };
            if id(&stat) != level.id {
                break;
            }
            here = entry;
            depth += 1;
        }
        let lost = self.levels.len().saturating_sub(depth);
        self.levels.truncate(depth);
        self.here = here;
        Ok(lost)
    }

    /// What an entry of the current directory is called in messages; the middle of a long path is
    /// left out.
    pub fn shown(&self, name: &CStr) -> String {
        let mut end = name.to_string_lossy().into_owned();
        let top = self.path.display();
        for level in self.levels.iter().skip(1).rev() {
            if end.len() > SHOWN {
                return format!("{top}/…/{end}");
            }
            end = format!("{}/{end}", level.name.to_string_lossy());
        }
        if end.is_empty() { top.to_string() } else { format!("{top}/{end}") }
    }
}

fn id(stat: &Stat) -> Id {
    (stat.st_dev, stat.st_ino)
}

/// Opens an entry by `O_PATH`, a symbolic link itself. EXDEV where something is mounted on it, be
/// it of the same device: not even its attributes are asked for, as a user's FUSE program need not
/// answer.
pub fn open_entry(directory: BorrowedFd<'_>, name: &CStr) -> Result<(OwnedFd, Stat)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    let entry = openat2(directory, name, flags, Mode::empty(), resolve)?;
    let stat = fstat(&entry)?;
    Ok((entry, stat))
}

/// The names in a directory.
pub fn names(directory: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::new(openat(directory, ".", flags, Mode::empty())?)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

pub fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
