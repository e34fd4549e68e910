//! Directory trees that supervisor and user share: who may do what in them, and their removal.
//!
//! The user owns these trees and may change them at any moment, so nothing in them is found by
//! path: a tree is entered by descriptors, one component at a time, no symbolic link is followed
//! and no mount is entered. What was looked at is what is changed, and what has vanished is no error.
//!
//! | file | what for |
//! |---|---|
//! | `start` | the path that the command names, opened with the supervisor's ids |
//! | `trail` | down a tree and up again, with four descriptors whatever its depth |
//! | `walk` | the order in which a tree is gone through |
//! | `grant` | owner, group and mode of one file or directory, and which are changed at all |
//! | `permit` | the permission walk |
//! | `remove` | `rmr` |
//! | `report` | what is said about entries, in bounds |

mod grant;
mod permit;
mod remove;
mod report;
mod start;
mod trail;
mod walk;

#[cfg(test)]
mod tests;

pub use permit::tree as permit_as;
pub use remove::tree as remove_as;

use std::ffi::OsString;
use std::path::Path;

use squall::request::{AbsolutePath, Identity};

use crate::exit::{Code, Failure, Result};
use crate::{Launcher, Outcome};

/// Who shares the trees.
#[derive(Debug, Clone)]
pub struct Parties {
    /// Whose the tree is.
    pub user: Identity,
    /// Who names it.
    pub supervisor: Identity,
    /// The launcher's group.
    pub group: u32,
}

impl Parties {
    fn of(launcher: &Launcher) -> Parties {
        Parties {
            user: launcher.user.identity.clone(),
            supervisor: launcher.supervisor.clone(),
            group: launcher.config.group,
        }
    }
}

/// What the user may do with its files and directories, besides reading and executing what it
/// could before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No more than that.
    Read,
    /// Write to them.
    Write,
}

/// Whether what is made in the directories later gets the launcher's group as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setgid {
    /// It does.
    Yes,
    /// It gets that of whoever makes it.
    No,
}

/// Gives a tree, or a single file, to the user, with the launcher's group. A start that is a
/// symbolic link is left alone, as are links in the tree.
///
/// Sockets, FIFOs, devices, mounts and files that are not the user's to have stay as they are, are
/// said on standard error, and are no failure: users leave them behind, and Storm's supervisor ends
/// when a launch fails.
///
/// # Errors
/// `NoSuchPath` where there is nothing; `Other` for a start that is not given away, and, after
/// the walk, where the kernel refused something.
pub(crate) fn permit(launcher: &Launcher, path: &Path, access: Access, setgid: Setgid) -> Result<()> {
    permit::tree(&Parties::of(launcher), &absolute(path)?, access, setgid)
}

/// Gives a work directory to the user, writable, and then its `tmp`, without setgid: `tmp` becomes
/// the container's `/tmp`, where the JVM's attach files must have the user's own group.
///
/// # Errors
/// As [`permit()`]; `tmp` has to be there, and be a directory.
pub(crate) fn permit_work_directory(launcher: &Launcher, path: &Path) -> Result<()> {
    permit::work_directory(&Parties::of(launcher), &absolute(path)?)
}

/// `code-dir` and `blob`: the user reads only.
pub(crate) fn read_only(launcher: &Launcher, arguments: &[OsString]) -> Outcome {
    permit(launcher, only(arguments)?, Access::Read, Setgid::Yes).map(|()| 0)
}

/// `artifacts-dir`: the user writes as well.
pub(crate) fn writable(launcher: &Launcher, arguments: &[OsString]) -> Outcome {
    permit(launcher, only(arguments)?, Access::Write, Setgid::Yes).map(|()| 0)
}

/// `rmr`.
pub(crate) fn rmr(launcher: &Launcher, arguments: &[OsString]) -> Outcome {
    remove::tree(&Parties::of(launcher), &absolute(only(arguments)?)?).map(|()| 0)
}

fn only(arguments: &[OsString]) -> Result<&Path> {
    let path = arguments.first().ok_or_else(|| Failure::new(Code::Arguments, "a path is missing"))?;
    Ok(Path::new(path))
}

/// No `..` either: the supervisor names its own directories.
fn absolute(path: &Path) -> Result<AbsolutePath> {
    let path = AbsolutePath::new(path).map_err(|bad| Failure::new(Code::Other, bad.at("path").to_string()))?;
    if path.as_path() == Path::new("/") {
        return Err(Failure::new(Code::Other, "path: / is nobody's to have, or to remove"));
    }
    Ok(path)
}
