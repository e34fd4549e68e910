//! A view of memory use in the shape of cgroup v1, on a host that has cgroup v2 alone.
//!
//! Storm's Java reads `<storm.oci.cgroup.root>/memory/<parent>/<id>/memory.usage_in_bytes`, and of
//! the parent `memory.limit_in_bytes` and `memory.max_usage_in_bytes`. With the key
//! `worker.launcher.oci.cgroup.v1.view` set to a directory, which is then Storm's cgroup root, these
//! are symbolic links to the kernel's own files: nothing is copied, and nothing runs.
//!
//! Its limits: only these files are there; a parent without a limit of its own has `max` in v2,
//! which Java could not read, so a plain file with v1's largest number stands in its place.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

/// Where cgroup v2 is mounted on such a host.
const V2: &str = "/sys/fs/cgroup";

/// What v1 says of a cgroup without a limit: the largest multiple of a page below 2^63.
const NO_LIMIT: &str = "9223372036854771712\n";

/// Makes the view of a container's cgroup. Does nothing where the host has v1.
pub fn make(view: &Path, cgroup: &str) -> io::Result<()> {
    let relative = Path::new(cgroup.trim_start_matches('/'));
    let own = Path::new(V2).join(relative);
    if !own.join("memory.current").exists() {
        return Ok(());
    }
    let shown = directory(view, relative)?;
    link(&own.join("memory.current"), &shown.join("memory.usage_in_bytes"))?;
    let (Some(parent), Some(shown_parent)) = (own.parent(), shown.parent()) else { return Ok(()) };
    link(&parent.join("memory.peak"), &shown_parent.join("memory.max_usage_in_bytes"))?;
    let (limit, shown_limit) = (parent.join("memory.max"), shown_parent.join("memory.limit_in_bytes"));
    if fs::read_to_string(&limit)?.trim() == "max" {
        return replace(&shown_limit, |path| fs::write(path, NO_LIMIT));
    }
    link(&limit, &shown_limit)
}

/// Removes the view of a container's cgroup; what stands of its parent's serves the next.
pub fn remove(view: &Path, cgroup: &str) {
    let shown = view.join("memory").join(cgroup.trim_start_matches('/'));
    let _ = fs::remove_file(shown.join("memory.usage_in_bytes"));
    let _ = fs::remove_dir(shown);
}

fn directory(view: &Path, relative: &Path) -> io::Result<PathBuf> {
    let path = view.join("memory").join(relative);
    DirBuilder::new().recursive(true).mode(0o755).create(&path)?;
    Ok(path)
}

fn link(file: &Path, name: &Path) -> io::Result<()> {
    replace(name, |path| symlink(file, path))
}

/// A reader sees what was there, or what is there now.
fn replace(name: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let temporary = name.with_extension(format!("{}.tmp", std::process::id()));
    let _ = fs::remove_file(&temporary);
    make(&temporary)?;
    fs::rename(&temporary, name)
}
