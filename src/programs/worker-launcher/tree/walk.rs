//! The order in which a tree is gone through, for the permission walk and for `rmr`.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::report::Report;
use super::trail::{Left, Trail, is_directory, names, open_entry};

/// How often directories may be moved away during a walk: somebody does it on purpose then.
const MOST_LOST: u32 = 1000;

/// What is done with the entries. All but `mounted` and `lost` are about an entry of the current
/// directory.
pub trait Visit {
    /// Something that is no directory.
    fn file(&mut self, place: &mut Place, name: &CStr, entry: BorrowedFd<'_>, stat: &Stat);
    /// A directory, before its content; whether to enter it.
    fn before(&mut self, place: &mut Place, name: &CStr, entry: BorrowedFd<'_>, stat: &Stat) -> bool;
    /// A directory, after its content.
    fn after(&mut self, place: &mut Place, name: &CStr);
    /// Something is mounted on the entry.
    fn mounted(&mut self, place: &mut Place, name: &CStr);
    /// So many levels of directories were moved away.
    fn lost(&mut self, place: &mut Place, levels: usize);
}

/// Where a walk is, and what it has said.
pub struct Place {
    trail: Trail,
    pub report: Report,
}

impl Place {
    /// Goes through what is in a directory; the directory itself has been treated.
    pub fn walk(path: &Path, top: OwnedFd, visit: &mut impl Visit) -> rustix::io::Result<Report> {
        let mut place = Place { trail: Trail::new(path, top)?, report: Report::default() };
        place.content(visit);
        let mut lost = 0;
        while lost <= MOST_LOST {
            if let Some(name) = place.trail.next() {
                place.enter(name, visit);
                continue;
            }
            match place.trail.leave() {
                Ok(Left::Up(name)) => visit.after(&mut place, &name),
                Ok(Left::Top) => return Ok(place.report),
                Ok(Left::Lost(levels)) => {
                    lost += 1;
                    visit.lost(&mut place, levels);
                }
                Err(errno) => {
                    place.report.failed(&place.shown(c".."), format_args!("open: {errno}"));
                    return Ok(place.report);
                }
            }
        }
        place.report.failed(&place.shown(c""), "directories are moved all the time: the rest is left as it is");
        Ok(place.report)
    }

    /// The current directory, by `O_PATH`.
    pub fn here(&self) -> BorrowedFd<'_> {
        self.trail.here()
    }

    /// What an entry is called in messages; an empty name is the current directory.
    pub fn shown(&self, name: &CStr) -> String {
        self.trail.shown(name)
    }

    /// Says that a call failed, unless the entry has vanished: several walks and the supervisor
    /// work here at once.
    pub fn failed(&mut self, name: &CStr, call: &str, errno: Errno) {
        if !matches!(errno, Errno::NOENT | Errno::STALE) {
            self.report.failed(&self.trail.shown(name), format_args!("{call}: {errno}"));
        }
    }

    /// Everything in the current directory: files at once, directories later.
    fn content(&mut self, visit: &mut impl Visit) {
        let names = names(self.here()).unwrap_or_else(|errno| {
            self.failed(c"", "read", errno);
            Vec::new()
        });
        for name in names {
            if let Some((entry, stat)) = self.open(&name, visit) {
                match is_directory(&stat) {
                    true => self.trail.remember(name),
                    false => visit.file(self, &name, entry.as_fd(), &stat),
                }
            }
        }
    }

    /// Enters what was a directory a moment ago.
    fn enter(&mut self, name: CString, visit: &mut impl Visit) {
        let Some((entry, stat)) = self.open(&name, visit) else { return };
        if !is_directory(&stat) {
            visit.file(self, &name, entry.as_fd(), &stat);
        } else if visit.before(self, &name, entry.as_fd(), &stat) {
            self.trail.enter(name, entry, &stat);
            self.content(visit);
        }
    }

    fn open(&mut self, name: &CStr, visit: &mut impl Visit) -> Option<(OwnedFd, Stat)> {
        match open_entry(self.here(), name) {
            Ok(opened) => return Some(opened),
            Err(Errno::XDEV) => visit.mounted(self, name),
            Err(errno) => self.failed(name, "open", errno),
        }
        None
    }
}
