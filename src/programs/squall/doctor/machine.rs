//! The machine's files, from a top directory on, so that a fixture can stand for a machine.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// As much of a file as is read: more than any that the kernel makes.
const MOST: u64 = 1 << 20;

/// A machine's files.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    top: PathBuf,
    /// The run root that launches would use.
    pub(super) run_root: PathBuf,
}

impl Machine {
    /// The machine that this program runs on.
    pub(super) fn this(run_root: &Path) -> Machine {
        Machine { top: PathBuf::from("/"), run_root: run_root.to_owned() }
    }

    /// The files below `top`.
    #[cfg(test)]
    pub(super) fn at(top: &Path, run_root: &Path) -> Machine {
        Machine { top: top.to_owned(), run_root: run_root.to_owned() }
    }

    /// Where an absolute path of the machine is.
    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.top.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(super) fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// The beginning of a file.
    pub(super) fn bytes(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(path))?.take(MOST).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The beginning of a file as text, without white space at its end.
    pub(super) fn text(&self, path: impl AsRef<Path>) -> io::Result<String> {
        self.bytes(path).map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    /// The number in a file.
    pub(super) fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.text(path).ok()?.trim().parse().ok()
    }

    /// The names in a directory.
    pub(super) fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The value of a line `Key:  value` of a file.
    pub(super) fn field(&self, path: &str, key: &str) -> Option<String> {
        let text = self.text(path).ok()?;
        text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned()))
    }
}

#[cfg(test)]
pub(super) mod fixture {
    use super::*;

    /// A machine of these files.
    pub(in super::super) fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let top = tempfile::tempdir().unwrap();
        let machine = Machine::at(top.path(), Path::new("/run/squall"));
        for (path, text) in files {
            let path = machine.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        (top, machine)
    }
}
