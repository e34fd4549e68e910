//! The work directory of a worker, which the user can change at any time once it is the user's.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::process::fchdir;
use squall::request::AbsolutePath;

use crate::exit::{Code, Result, WithCode};

/// Opens the directory and makes it the process's own, with the ids that the process has by now.
pub fn enter(directory: &Path) -> Result<OwnedFd> {
    let object = format!("work directory '{}'", directory.display());
    let path = AbsolutePath::new(directory).code(Code::Other, &object)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Links of /proc lead to what a process has open, never to a worker's directory.
    let opened = openat2(CWD, path.as_path(), flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    let opened = opened.code(Code::Other, format_args!("{object}: open"))?;
    fchdir(&opened).code(Code::Other, format_args!("{object}: fchdir"))?;
    Ok(opened)
}
