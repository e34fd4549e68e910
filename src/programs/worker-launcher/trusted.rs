//! Paths that nobody but their owners can lead elsewhere.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Follows a path to its end, links and all. What it leads to, and each directory above that but
/// `/`, has to belong to one of the owners and be writable by nobody else: then the answer leads to
/// the same file later on.
pub fn resolve(path: &Path, owners: &[u32]) -> Result<PathBuf, String> {
    let resolved = path.canonicalize().map_err(|error| format!("'{}': {error}", path.display()))?;
    for part in resolved.ancestors().filter(|part| *part != Path::new("/")) {
        let metadata = part.symlink_metadata().map_err(|error| format!("'{}': {error}", part.display()))?;
        // Where the sticky bit is set, others can make files, but not replace those of the owner.
        let is_sticky = metadata.is_dir() && part != resolved && metadata.mode() & 0o1000 != 0;
        let problem = if !owners.contains(&metadata.uid()) {
            format!("it belongs to uid {}", metadata.uid())
        } else if metadata.mode() & 0o022 != 0 && !is_sticky {
            format!("others can write to it (mode {:04o})", metadata.mode() & 0o7777)
        } else {
            continue;
        };
        return Err(format!("'{}': {problem}", part.display()));
    }
    Ok(resolved)
}

/// Follows the path of a program of root's, for an exec as root.
pub fn program(path: &Path) -> Result<PathBuf, String> {
    let resolved = resolve(path, &[0])?;
    let metadata = resolved.symlink_metadata().map_err(|error| format!("'{}': {error}", resolved.display()))?;
    if !metadata.is_file() || metadata.mode() & 0o111 == 0 {
        return Err(format!("'{}': it is no executable file", resolved.display()));
    }
    Ok(resolved)
}
