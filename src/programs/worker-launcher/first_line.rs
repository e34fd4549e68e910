//! The first line of a command file, read once and with somebody's ids.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use squall::ErrorKind;
use squall::request::Identity;

use crate::exit::{Code, Failure, Result, WithCode};

/// A docker command line is a few KiB, and the kernel takes no longer word than 128 KiB.
const LONGEST: u64 = 1 << 20;

/// How long the file's file system may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whose ids a file is read with.
pub struct Reader<'a> {
    pub identity: &'a Identity,
    /// The exit code where these ids cannot be had.
    pub code: Code,
}

/// Reads the first line of a regular file, without its end. `check` is given what the kernel says
/// about the open file and says what is wrong with it.
pub fn read(
    reader: &Reader<'_>,
    path: &Path,
    check: impl FnOnce(&Metadata) -> std::result::Result<(), String> + Send + 'static,
) -> Result<String> {
    let object = format!("file '{}'", path.display());
    let path = path.to_owned();
    let read = squall::as_user(reader.identity, &object, PATIENCE, move || Ok(read_here(&path, check)));
    read.unwrap_or_else(|error| {
        let code = if error.kind() == ErrorKind::Privilege { reader.code } else { Code::OpenFile };
        Err(Failure::new(code, error.to_string()))
    })
}

fn read_here(path: &Path, check: impl FnOnce(&Metadata) -> std::result::Result<(), String>) -> Result<String> {
    let object = format!("file '{}'", path.display());
    // A FIFO or a device must not keep this process waiting, and a link would lead to another file.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    let file = File::from(file.code(Code::OpenFile, format_args!("{object}: open"))?);
    let metadata = file.metadata().code(Code::OpenFile, format_args!("{object}: fstat"))?;
    let regular = if metadata.is_file() { Ok(()) } else { Err("it is no regular file".to_owned()) };
    regular.and_then(|()| check(&metadata)).code(Code::OpenFile, &object)?;
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).code(Code::ReadFile, format_args!("{object}: read"))?;
    let end = bytes.iter().position(|byte| *byte == b'\n');
    if end.is_none() && bytes.len() as u64 > LONGEST {
        return Err(Failure::new(Code::ReadFile, format!("{object}: its first line is longer than {LONGEST} bytes")));
    }
    bytes.truncate(end.unwrap_or(bytes.len()));
    String::from_utf8(bytes).map_err(|_| Failure::new(Code::ReadFile, format!("{object}: its first line is no UTF-8")))
}
