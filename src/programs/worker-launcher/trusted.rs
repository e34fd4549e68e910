//! Paths that nobody but their owners can lead elsewhere.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A path that somebody could lead elsewhere, or that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untrusted {
    /// The file or directory that is the reason: the path's end, or one above it.
    pub part: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}': {}", self.part.display(), self.problem)
    }
}

impl From<Untrusted> for String {
    fn from(untrusted: Untrusted) -> String {
        untrusted.to_string()
    }
}

/// Follows a path to its end, links and all. What it leads to, and each directory above that but
/// `/`, has to belong to one of the owners and be writable by nobody else: then the answer leads to
/// the same file later on.
///
/// # Errors
/// The first part for which that does not hold, from the path's end upwards.
pub fn resolve(path: &Path, owners: &[u32]) -> Result<PathBuf, Untrusted> {
    let failed = |part: &Path, problem: String| Untrusted { part: part.to_owned(), problem };
    let resolved = path.canonicalize().map_err(|error| failed(path, error.to_string()))?;
    for part in resolved.ancestors().filter(|part| *part != Path::new("/")) {
        let metadata = part.symlink_metadata().map_err(|error| failed(part, error.to_string()))?;
        // Where the sticky bit is set, others can make files, but not replace those of the owner.
        let is_sticky = metadata.is_dir() && part != resolved && metadata.mode() & 0o1000 != 0;
        if !owners.contains(&metadata.uid()) {
            return Err(failed(part, format!("it belongs to uid {}", metadata.uid())));
        }
        if metadata.mode() & 0o022 != 0 && !is_sticky {
            return Err(failed(part, format!("others can write to it (mode {:04o})", metadata.mode() & 0o7777)));
        }
    }
    Ok(resolved)
}

/// Follows the path of a program of root's, for an exec as root.
///
/// # Errors
/// As [`resolve`], and for what is no executable file.
pub fn program(path: &Path) -> Result<PathBuf, Untrusted> {
    let resolved = resolve(path, &[0])?;
    match resolved.symlink_metadata() {
        Ok(metadata) if metadata.is_file() && metadata.mode() & 0o111 != 0 => Ok(resolved),
        Ok(_) => Err(Untrusted { part: resolved, problem: "it is no executable file".to_owned() }),
        Err(error) => Err(Untrusted { part: resolved, problem: error.to_string() }),
    }
}
