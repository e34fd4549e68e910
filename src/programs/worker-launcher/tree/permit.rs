//! The permission walk.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{FileType, Stat, fstat};
use rustix::io::Errno;
use squall::request::AbsolutePath;

use super::grant::{Grant, Refused};
use super::report::Report;
use super::start::{Found, Start};
use super::trail::{is_directory, open_entry};
use super::walk::{Place, Visit};
use super::{Access, Parties, Setgid};
use crate::exit::{Code, Failure, Result, WithCode};

/// What `permit` of the module above does.
pub fn tree(parties: &Parties, path: &AbsolutePath, access: Access, setgid: Setgid) -> Result<()> {
    let found = found(Start::open(parties, path)?, path.as_path())?;
    walk(&Grant::new(parties, access, setgid), path.as_path(), &found)
}

/// See [`super::permit_work_directory`].
pub fn work_directory(parties: &Parties, path: &AbsolutePath) -> Result<()> {
    const NAME: &CStr = c"tmp";
    let found = found(Start::open(parties, path)?, path.as_path())?;
    walk(&Grant::new(parties, Access::Write, Setgid::Yes), path.as_path(), &found)?;
    let path = path.as_path().join("tmp");
    // In the directory that was walked, wherever its path leads now.
    let parent = found.entry;
    let tmp = match open_entry(parent.as_fd(), NAME) {
        Ok((entry, stat)) if is_directory(&stat) => Found { parent, name: NAME.to_owned(), entry, stat },
        Ok(_) => return Err(Failure::new(Code::Other, format!("'{}': it is no directory", path.display()))),
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(missing(&path)),
        Err(errno) => return Err(Failure::new(Code::Other, format!("'{}': open: {errno}", path.display()))),
    };
    walk(&Grant::new(parties, Access::Write, Setgid::No), &path, &tmp)
}

fn found(start: Start, path: &Path) -> Result<Found> {
    match start {
        Start::There(found) => Ok(found),
        Start::Missing => Err(missing(path)),
        Start::Closed => {
            Err(Failure::new(Code::Other, format!("'{}': the supervisor may not reach it", path.display())))
        }
    }
}

fn missing(path: &Path) -> Failure {
    Failure::new(Code::NoSuchPath, format!("'{}': there is no such file or directory", path.display()))
}

fn walk(grant: &Grant, path: &Path, found: &Found) -> Result<()> {
    let report = walked(grant, path, found)?;
    match report.end() {
        0 => Ok(()),
        failed => Err(Failure::new(
            Code::Other,
            format!("'{}': permissions of {failed} entries could not be set", path.display()),
        )),
    }
}

/// Walks a tree.
pub fn walked(grant: &Grant, path: &Path, found: &Found) -> Result<Report> {
    let object = format!("'{}'", path.display());
    let mut report = Report::default();
    let stat = fstat(&found.entry).code(Code::Other, &object)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            report.link(&path.to_string_lossy());
            return Ok(report);
        }
        FileType::Directory | FileType::RegularFile => {}
        _ => return Err(Failure::new(Code::Other, format!("{object}: it is neither a directory nor a file"))),
    }
    grant.may_begin_at(&stat).code(Code::Other, &object)?;
    grant.apply(found.parent.as_fd(), &found.name, found.entry.as_fd(), &stat).map_err(|refused| {
        let reason = match refused {
            Refused::Foreign(reason) => reason,
            Refused::System(call, errno) => format!("{call}: {errno}"),
        };
        Failure::new(Code::Other, format!("{object}: {reason}"))
    })?;
    if is_directory(&stat) {
        let top = found.entry.try_clone().code(Code::Other, &object)?;
        return Place::walk(path, top, &mut Giving { grant }).code(Code::Other, &object);
    }
    Ok(report)
}

struct Giving<'a> {
    grant: &'a Grant,
}

impl Giving<'_> {
    /// Sets permissions; whether it is the user's now.
    fn apply(&mut self, place: &mut Place, name: &CStr, entry: BorrowedFd<'_>, stat: &Stat) -> bool {
        match self.grant.apply(place.here(), name, entry, stat) {
            Ok(()) => return true,
            Err(Refused::Foreign(reason)) => place.report.left(&place.shown(name), reason),
            Err(Refused::System(call, errno)) => place.failed(name, call, errno),
        }
        false
    }
}

impl Visit for Giving<'_> {
    fn file(&mut self, place: &mut Place, name: &CStr, entry: BorrowedFd<'_>, stat: &Stat) {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => return place.report.link(&place.shown(name)),
            FileType::RegularFile => {
                self.apply(place, name, entry, stat);
                return;
            }
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            FileType::CharacterDevice | FileType::BlockDevice => "a device node",
            _ => "of an unknown kind",
        };
        place.report.left(&place.shown(name), format_args!("it is {kind}"));
    }

    fn before(&mut self, place: &mut Place, name: &CStr, entry: BorrowedFd<'_>, stat: &Stat) -> bool {
        self.apply(place, name, entry, stat)
    }

    fn after(&mut self, _: &mut Place, _: &CStr) {}

    fn mounted(&mut self, place: &mut Place, name: &CStr) {
        place.report.left(&place.shown(name), "something is mounted there");
    }

    fn lost(&mut self, place: &mut Place, levels: usize) {
        let text = format_args!("{levels} levels of directories were moved away meanwhile");
        place.report.left(&place.shown(c""), text);
    }
}
