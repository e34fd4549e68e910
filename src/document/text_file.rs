//! Documents as files: regular ones only, opened without ever waiting, and read up to a bound.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fcntl_setfl, fstat, open as open_file};
use rustix::io::Errno;

use crate::error::{Context, Error, ErrorKind, Problem, Result};
use crate::host::kind_of_file;
use crate::stage::Stage;

/// What becomes of a symbolic link at the end of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FinalLink {
    Follow,
    Refuse,
}

/// Opens a document. The bound and the kind of file are for [`read`] to check.
///
/// Errors: `Invalid` for a symbolic link where that is refused; what open(2) answers otherwise.
pub(crate) fn open(path: &Path, object: &str, link: FinalLink) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = if link == FinalLink::Refuse { flags | OFlags::NOFOLLOW } else { flags };
    match open_file(path, flags, Mode::empty()) {
        Err(errno @ Errno::LOOP) if link == FinalLink::Refuse => {
            let error = Error::system(Stage::Request, object, "open", errno);
            Err(error.explain("a symbolic link: expected a regular file").with_kind(ErrorKind::Invalid))
        }
        file => file.map(File::from).at(Stage::Request, object, "open"),
    }
}

/// Reads a document that is open, from where its offset stands; the open file is set to blocking
/// reads.
///
/// Errors: `Invalid` for what is not a regular file or longer than the bound; what read(2) answers.
pub(crate) fn read(file: &File, object: &str, max_bytes: u64) -> Result<Vec<u8>> {
    let stat = fstat(file).at(Stage::Request, object, "fstat")?;
    let refused = |reason: String| Error::invalid(object, vec![Problem { field: "document".into(), reason }]);
    let too_long = || refused(format!("is longer than {max_bytes} bytes"));
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        other => return Err(refused(format!("is {}: expected a regular file", kind_of_file(other)))),
    }
    if u64::try_from(stat.st_size).unwrap_or_default() > max_bytes {
        return Err(too_long());
    }
    fcntl_setfl(file, OFlags::RDONLY).at(Stage::Request, object, "fcntl(F_SETFL)")?;
    // One byte more than is allowed: the file may have grown since.
    let text = read_up_to(file, max_bytes + 1).at(Stage::Request, object, "read")?;
    if text.len() as u64 > max_bytes { Err(too_long()) } else { Ok(text) }
}

fn read_up_to(file: &File, bytes: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    Ok(text)
}
