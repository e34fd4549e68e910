//! Archives that cannot be read where they are: pipes, and compressed ones.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read, Seek as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::compressed::{Compression, MAGIC_LENGTH};
use crate::error::{Cause, Error, Result, Step};
use crate::transport::ArchivePath;

/// The largest archive that is put down, in bytes: what a small compressed file can become is not
/// bounded by anything else but the disk.
const SPOOL_LENGTH: u64 = 256 << 30;

/// Opens an archive as a file with positions. What is none, or is compressed as a whole, is put
/// down in a file without a name in `spool`.
pub(crate) fn open(path: &ArchivePath, spool: &Path, name: &str) -> Result<File> {
    let system = |call| move |error: io::Error| Error::system(Step::Resolve, name, call, error);
    let mut file = match path {
        ArchivePath::Standard if io::stdin().is_terminal() => {
            return Err(Error::invalid(Step::Resolve, name, "standard input is a terminal, not an archive"));
        }
        ArchivePath::Standard => File::from(io::stdin().as_fd().try_clone_to_owned().map_err(system("dup"))?),
        ArchivePath::File(path) => File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::new(Step::Resolve, name, Cause::NotFound(path.display().to_string())),
            _ => Error::system(Step::Resolve, name, "open", error),
        })?,
    };
    let metadata = file.metadata().map_err(system("fstat"))?;
    if metadata.is_dir() {
        return Err(Error::invalid(Step::Resolve, name, "a directory, not an archive"));
    }
    // A file on standard input may have been read already in part.
    if metadata.is_file() && file.stream_position().map_err(system("lseek"))? == 0 {
        let mut first = [0; MAGIC_LENGTH];
        let read = file.read_at(&mut first, 0).map_err(system("read"))?;
        if matches!(Compression::of(&first[..read]), Ok(Compression::None)) {
            return Ok(file);
        }
    }
    put_down(file, spool, name)
}

fn put_down(content: impl Read + Send, spool: &Path, name: &str) -> Result<File> {
    let read = |error: io::Error| match error.kind() {
        io::ErrorKind::Unsupported => Error::new(Step::Resolve, name, Cause::Unsupported(error.to_string())),
        io::ErrorKind::StorageFull => Error::system(Step::Resolve, spool.display(), "write", error),
        _ => Error::system(Step::Resolve, name, "read", error),
    };
    let (_, content) = Compression::undo(Box::new(content)).map_err(read)?;
    let mut file = nameless(spool)?;
    let length = io::copy(&mut content.take(SPOOL_LENGTH + 1), &mut file).map_err(read)?;
    if length > SPOOL_LENGTH {
        let cause = Cause::Limit { what: "archive: bytes".to_owned(), limit: SPOOL_LENGTH };
        return Err(Error::new(Step::Resolve, name, cause));
    }
    Ok(file)
}

/// A file without a name in a directory: it is gone with its last descriptor, whatever happens.
pub(crate) fn nameless(directory: &Path) -> Result<File> {
    let system = |call| move |error: io::Error| Error::system(Step::Request, directory.display(), call, error);
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        // Not every file system has it: NFS, 9p, older overlays.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            static NUMBER: AtomicU64 = AtomicU64::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!(".squall-spool-{}-{number}", std::process::id()));
            let mut options = OpenOptions::new();
            let file =
                options.read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(system("open"))?;
            std::fs::remove_file(&path).map_err(system("unlink"))?;
            Ok(file)
        }
        Err(errno) => Err(system("open")(errno.into())),
    }
}
