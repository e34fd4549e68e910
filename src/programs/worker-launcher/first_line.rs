//! The first line of a command file, read once and with somebody's ids.

use std::fs::Metadata;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use squall::ErrorKind;
use squall::request::Identity;

use crate::exit::{Code, Failure, Result, WithCode};
use crate::regular_file;

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
    let file = regular_file::open(path, Code::OpenFile, check)?;
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).code(Code::ReadFile, format_args!("{object}: read"))?;
    let end = bytes.iter().position(|byte| *byte == b'\n');
    if end.is_none() && bytes.len() as u64 > LONGEST {
        return Err(Failure::new(Code::ReadFile, format!("{object}: its first line is longer than {LONGEST} bytes")));
    }
    bytes.truncate(end.unwrap_or(bytes.len()));
    String::from_utf8(bytes).map_err(|_| Failure::new(Code::ReadFile, format!("{object}: its first line is no UTF-8")))
}
