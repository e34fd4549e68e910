//! `rmr`: removes a tree as the user that it belongs to, and its top as the supervisor.
//!
//! Everything below the top is done with the user's ids and without any capability, so that a
//! directory that is swapped meanwhile leads to nothing that the user could not remove itself. The
//! top lies in a directory of the supervisor's, so it goes with the supervisor's ids.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, Stat, fstat, unlinkat};
use rustix::io::Errno;
use squall::request::{AbsolutePath, Identity};

use super::Parties;
use super::grant::set_mode;
use super::start::{Found, Start};
use super::trail::{is_directory, open_entry};
use super::walk::{Place, Visit};
use crate::exit::{Code, Failure, Result, WithCode};

/// A large tree on a network file system takes long; the supervisor waits.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a tree is gone through when new entries appear in it.
const MOST_PASSES: u32 = 100;

/// Removes what the path names; a symbolic link itself. Nothing there is no error.
///
/// # Errors
/// `Unreadable` where the supervisor may not look at the path; `Other` where something is left.
pub fn tree(parties: &Parties, path: &AbsolutePath) -> Result<()> {
    let object = format!("'{}'", path.as_path().display());
    let found = match Start::open(parties, path)? {
        Start::There(found) => found,
        Start::Missing => return Ok(()),
        Start::Closed => {
            return Err(Failure::new(Code::Unreadable, format!("{object}: the supervisor may not reach it")));
        }
    };
    // Again, now that it matters: nothing may be mounted on it.
    let found = match open_entry(found.parent.as_fd(), &found.name) {
        Ok((entry, stat)) => Found { entry, stat, ..found },
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::XDEV) => return Err(Failure::new(Code::Other, format!("{object}: something is mounted there"))),
        Err(errno) => return Err(Failure::new(Code::Other, format!("{object}: open: {errno}"))),
    };
    match is_directory(&found.stat) {
        true => directory(parties, path.as_path(), &found),
        false => file(parties, &object, &found),
    }
}

/// As the user; if its directory is not the user's, as the supervisor, who asks for it.
fn file(parties: &Parties, object: &str, found: &Found) -> Result<()> {
    let as_user = unlink(&parties.user, object, found, AtFlags::empty())?;
    if as_user == Ok(()) || unlink(&parties.supervisor, object, found, AtFlags::empty())? == Ok(()) {
        return Ok(());
    }
    as_user.code(Code::Other, format_args!("{object}: unlink"))
}

fn directory(parties: &Parties, path: &Path, found: &Found) -> Result<()> {
    let object = format!("'{}'", path.display());
    for _ in 0..MOST_PASSES {
        let failed = content(&parties.user, path, found)?;
        if failed > 0 {
            return Err(Failure::new(Code::Other, format!("{object}: {failed} entries could not be removed")));
        }
        match unlink(&parties.supervisor, &object, found, AtFlags::REMOVEDIR)? {
            Ok(()) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(Failure::new(Code::Other, format!("{object}: rmdir: {errno}"))),
        }
    }
    Err(Failure::new(Code::Other, format!("{object}: new entries appear in it all the time")))
}

/// Removes one name as somebody; it may have gone.
fn unlink(who: &Identity, object: &str, found: &Found, flags: AtFlags) -> Result<std::result::Result<(), Errno>> {
    let parent = found.parent.try_clone().code(Code::Other, object)?;
    let name = found.name.clone();
    squall::as_user(who, object, PATIENCE, move || {
        Ok(match unlinkat(&parent, &name, flags) {
            Err(Errno::NOENT) => Ok(()),
            result => result,
        })
    })
    .code(Code::Other, object)
}

/// Removes what is in a directory, as the user; how many entries could not be.
fn content(user: &Identity, path: &Path, found: &Found) -> Result<u64> {
    let object = format!("'{}'", path.display());
    let top = found.entry.try_clone().code(Code::Other, &object)?;
    let (path, uid) = (path.to_owned(), user.uid());
    let removed = squall::as_user(user, &object, PATIENCE, move || Ok(emptied(uid, &path, top)));
    removed.code(Code::Other, &object)?.code(Code::Other, &object)
}

/// As the calling thread.
fn emptied(user: u32, path: &Path, top: OwnedFd) -> rustix::io::Result<u64> {
    make_writable(user, top.as_fd(), &fstat(&top)?)?;
    Ok(Place::walk(path, top, &mut Removal { user })?.end())
}

/// Whoever keeps files in a directory must be able to list, enter and change it.
fn make_writable(user: u32, directory: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
    if stat.st_uid == user && stat.st_mode & 0o700 != 0o700 {
        return set_mode(directory, 0o700);
    }
    Ok(())
}

struct Removal {
    user: u32,
}

impl Visit for Removal {
    fn file(&mut self, place: &mut Place, name: &CStr, _: BorrowedFd<'_>, _: &Stat) {
        match unlinkat(place.here(), name, AtFlags::empty()) {
            // A directory by now: for the next pass.
            Ok(()) | Err(Errno::ISDIR) => {}
            Err(errno) => place.failed(name, "unlink", errno),
        }
    }

    fn before(&mut self, place: &mut Place, name: &CStr, entry: BorrowedFd<'_>, stat: &Stat) -> bool {
        if let Err(errno) = make_writable(self.user, entry, stat) {
            place.failed(name, "chmod", errno);
        }
        true
    }

    fn after(&mut self, place: &mut Place, name: &CStr) {
        match unlinkat(place.here(), name, AtFlags::REMOVEDIR) {
            // What could not be removed from it has been said; what appeared, or was moved, is for
            // the next pass.
            Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            Err(errno) => place.failed(name, "rmdir", errno),
        }
    }

    fn mounted(&mut self, place: &mut Place, name: &CStr) {
        place.report.failed(&place.shown(name), "something is mounted there");
    }

    /// They are somewhere else in the tree, for the next pass, or out of it.
    fn lost(&mut self, _: &mut Place, _: usize) {}
}
