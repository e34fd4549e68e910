//! A file that is written under a temporary name, and shows under its own when it is complete.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result, Step};

/// How temporary names begin.
const PREFIX: &str = ".squall-";

/// A file in the making. Dropped before [`Staged::commit`] it is removed.
#[derive(Debug)]
pub(crate) struct Staged {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    visible: bool,
}

impl Staged {
    /// Begins a file. Its directory must be there.
    pub(crate) fn create(path: &Path) -> Result<Staged> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let temporary = parent(path).join(format!("{PREFIX}{}-{number}.part", std::process::id()));
        let mut options = OpenOptions::new();
        // A process of the same id may have been killed here.
        let _ = std::fs::remove_file(&temporary);
        let file = options.write(true).create_new(true).mode(0o644).open(&temporary);
        let file = file.map_err(|error| Error::system(Step::Push, path.display(), "open", error))?;
        Ok(Staged { file, temporary, path: path.to_owned(), visible: false })
    }

    /// Another descriptor to write it through.
    pub(crate) fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Makes it visible. It is on the disk then, and so is its name.
    pub(crate) fn commit(mut self) -> Result<()> {
        let system = |call| {
            let path = self.path.display().to_string();
            move |error: io::Error| Error::system(Step::Push, path, call, error)
        };
        self.file.sync_all().map_err(system("fsync"))?;
        std::fs::rename(&self.temporary, &self.path).map_err(system("rename"))?;
        self.visible = true;
        sync_directory(parent(&self.path))
    }

    /// Writes a whole file.
    pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
        let mut staged = Staged::create(path)?;
        staged.write_all(bytes).map_err(|error| Error::system(Step::Push, path.display(), "write", error))?;
        staged.commit()
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.visible {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// The directory of a file; `.` for a bare name.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Puts a directory's names on the disk.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Error::system(Step::Push, path.display(), "fsync", error))
}

/// Makes a directory and those above it, where they are missing.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| Error::system(Step::Push, path.display(), "mkdir", error))
}

/// Whether a directory has anything but these names, and what a writer left that was killed.
pub(crate) fn has_others(path: &Path, names: &[&str]) -> Result<bool> {
    let system = |error| Error::system(Step::Push, path.display(), "readdir", error);
    for entry in std::fs::read_dir(path).map_err(system)? {
        let name = entry.map_err(system)?.file_name();
        let known = name.to_str().is_some_and(|name| names.contains(&name) || name.starts_with(PREFIX));
        if !known {
            return Ok(true);
        }
    }
    Ok(false)
}
