//! The lock of a layer, held while a device is bound to it so that it is not bound twice.
//!
//! Nobody has to have it: a second device costs page cache, no more. So it is waited for only so
//! long, and whoever does not get it attaches the layer for himself.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{LOCK, PIN};
use crate::error::{Context, Result};
use crate::host::create_private_directory;
use crate::stage::Stage;
use crate::wait::lock_by;

/// How long the lock is waited for. Binding and mounting take a millisecond; a launch that hangs in
/// a file system which does not answer holds it for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes the lock of the layer in this directory, making that where needed. `None`: somebody has
/// had it for too long. A reaper may remove directory and lock file while we wait: then the file we
/// hold has no name any more, and the next turn makes both anew.
pub(super) fn take(directory: &Path, object: &str) -> Result<Option<File>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Some(file) = open(directory, object)? else { continue };
        if !lock_by(file.as_fd(), deadline).at(Stage::Layers, object, "flock")? {
            return Ok(None);
        }
        if file.metadata().at(Stage::Layers, object, "fstat(lock)")?.nlink() > 0 {
            return Ok(Some(file));
        }
    }
}

/// The lock file; `None` where its directory was removed right after it was made.
fn open(directory: &Path, object: &str) -> Result<Option<File>> {
    create_private_directory(directory).at(Stage::Layers, object, "mkdir(layer directory)")?;
    match create_private_directory(&directory.join(PIN)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).at(Stage::Layers, object, "mkdir(mnt)");
        }
        _ => {}
    }
    match File::options().write(true).create(true).truncate(false).open(directory.join(LOCK)) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).at(Stage::Layers, object, "open(lock)"),
    }
}
