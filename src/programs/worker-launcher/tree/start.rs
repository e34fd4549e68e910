//! The path that a command names, opened with the supervisor's ids.
//!
//! So the program reaches nothing for the supervisor that the supervisor could not reach itself.
//! Symbolic links above the last component are followed if they are root's or the supervisor's own
//! (an administrator's `/opt/storm`), as text, so that those of `/proc` lead nowhere; a user's link
//! is refused. The last component is never followed.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};
use rustix::io::Errno;
use squall::request::AbsolutePath;

use super::Parties;
use crate::exit::{Code, Failure, Result, WithCode};

/// As long as a cold network file system takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

/// What a path led to.
pub enum Start {
    There(Found),
    Missing,
    /// The supervisor may not look at it.
    Closed,
}

/// An entry with the directory that it is in.
pub struct Found {
    pub parent: OwnedFd,
    pub name: CString,
    /// By `O_PATH`: a symbolic link itself.
    pub entry: OwnedFd,
    pub stat: Stat,
}

impl Start {
    /// Opens the path with the supervisor's ids.
    pub fn open(parties: &Parties, path: &AbsolutePath) -> Result<Start> {
        let (own, named) = (parties.supervisor.uid(), path.as_path().to_owned());
        let object = format!("'{}'", named.display());
        let opened = squall::as_user(&parties.supervisor, &object, PATIENCE, move || Ok(resolve(&named, own)));
        opened.code(Code::Other, &object)?
    }
}

/// As the calling thread.
fn resolve(path: &Path, supervisor: u32) -> Result<Start> {
    let object = format!("'{}'", path.display());
    let failed = |errno: Errno| Failure::new(Code::Other, format!("{object}: open: {errno}"));
    let mut rest = components(path);
    let mut directory = root().map_err(failed)?;
    let mut links = 0;
    while let Some(name) = rest.pop() {
        let entry = match open_one(&directory, &name, rest.is_empty()) {
            Ok(entry) => entry,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Start::Missing),
            Err(Errno::ACCESS) => return Ok(Start::Closed),
            Err(errno) => return Err(failed(errno)),
        };
        let stat = fstat(&entry).map_err(failed)?;
        if rest.is_empty() {
            let name = CString::new(name.into_vec()).code(Code::Other, &object)?;
            return Ok(Start::There(Found { parent: directory, name, entry, stat }));
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            directory = entry;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(failed(Errno::LOOP));
        }
        if stat.st_uid != 0 && stat.st_uid != supervisor {
            let text = format!("{object}: '{}' is a symbolic link of uid {}", name.display(), stat.st_uid);
            return Err(Failure::new(Code::Other, text));
        }
        let target = readlinkat(&entry, "", Vec::new()).map_err(failed)?;
        let target = Path::new(OsStr::from_bytes(target.as_bytes()));
        if target.is_absolute() {
            directory = root().map_err(failed)?;
        }
        rest.extend(components(target));
    }
    Err(Failure::new(Code::Other, format!("{object}: it is the root of the file system")))
}

fn root() -> rustix::io::Result<OwnedFd> {
    openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Those that name something, the last first.
fn components(path: &Path) -> Vec<OsString> {
    let named = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    named.rev().map(|part| part.as_os_str().to_owned()).collect()
}

/// Asks for a directory first on the way: only that mounts what an automounter keeps there.
fn open_one(directory: &OwnedFd, name: &OsStr, is_last: bool) -> rustix::io::Result<OwnedFd> {
    let open = |more| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
        openat(directory, name, flags, Mode::empty())
    };
    match is_last {
        true => open(OFlags::empty()),
        false => match open(OFlags::DIRECTORY) {
            Err(Errno::NOTDIR | Errno::LOOP) => open(OFlags::empty()),
            opened => opened,
        },
    }
}
