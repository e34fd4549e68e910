//! Regular files that the caller names, opened once for reading.

use std::fs::{File, Metadata};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use crate::exit::{Code, Result, WithCode};

/// Opens a regular file, as the calling thread. A symbolic link at its end is not followed, nor is
/// any of `/proc` to what a process has open; a FIFO or a device does not keep this process
/// waiting. `check` is given what the kernel says about the open file, and says what is wrong.
pub fn open(path: &Path, code: Code, check: impl FnOnce(&Metadata) -> std::result::Result<(), String>) -> Result<File> {
    let object = format!("file '{}'", path.display());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    let file = File::from(file.code(code, format_args!("{object}: open"))?);
    let metadata = file.metadata().code(code, format_args!("{object}: fstat"))?;
    let regular = if metadata.is_file() { Ok(()) } else { Err("it is no regular file".to_owned()) };
    regular.and_then(|()| check(&metadata)).code(code, &object)?;
    Ok(file)
}
