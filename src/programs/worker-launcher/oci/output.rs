//! The worker's output files.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use squall::{Context, Error, ErrorKind, Stage, as_user};

use super::command_file::PATIENCE;
use crate::Launcher;
use crate::exit::{Code, Failure, Result};

/// As Storm's own launcher makes them, less what the caller's umask takes.
const MODE: Mode = Mode::from_raw_mode(0o660);

/// Opens `runc-<id>.out` and `.err` in the artifacts directory, emptied, with the user's ids: what a
/// link there leads to is nothing that the user could not write to itself, and a link at the end is
/// not followed at all. Their group is the directory's, by its setgid bit.
pub(crate) fn open(launcher: &Launcher, directory: &Path, id: &str) -> Result<[(PathBuf, OwnedFd); 2]> {
    let open = |suffix| {
        let path = directory.join(format!("runc-{id}.{suffix}"));
        let (object, named) = (format!("output file '{}'", path.display()), path.clone());
        let uid = launcher.user.identity.uid();
        let file = as_user(&launcher.user.identity, object, PATIENCE, move || open_one(&named, uid));
        let file = file.map_err(|error| Failure::new(Code::OpenFile, error.to_string()))?;
        Ok((path, file))
    };
    Ok([open("out")?, open("err")?])
}

fn open_one(path: &Path, uid: u32) -> squall::Result<OwnedFd> {
    let object = format!("output file '{}'", path.display());
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file: File = openat(CWD, path, flags, MODE).at(Stage::Request, &object, "open")?.into();
    let metadata = file.metadata().at(Stage::Request, &object, "fstat")?;
    if !metadata.is_file() || metadata.uid() != uid || metadata.nlink() != 1 {
        let text = "expected a regular file of the user's own, with one name";
        return Err(Error::found(ErrorKind::Invalid, Stage::Request, object, "fstat", text));
    }
    // Only now, so that nothing else is emptied.
    file.set_len(0).at(Stage::Request, &object, "ftruncate")?;
    rustix::fs::fcntl_setfl(&file, OFlags::empty()).at(Stage::Request, &object, "fcntl(F_SETFL)")?;
    Ok(file.into())
}
