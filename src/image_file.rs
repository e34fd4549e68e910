//! Files of an image, read as its worker would see them, before there is a worker or in its init.
//!
//! The image is not trusted: a file is opened below the root by descriptor, on the root's own file
//! system, so that no link of the image leads out of it or to what a caller has bound there, and it
//! is read to a bound.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::fs::{FileType, OFlags, ResolveFlags, fstat};

use crate::child_task::{self, Failure};
use crate::error::{Context, Error, Result};
use crate::layer::{LayerStore, OpenLayer};
use crate::root::staging::{OverlayParts, enter, mount_overlay};
use crate::root::target::open_in_root;
use crate::stage::Stage;
use crate::sys;

/// Most bytes of a file that are looked at: ten thousand users.
const MAX_BYTES: u64 = 1 << 20;

/// How long mounting and reading may take: as long as a launch may go without progress.
const PATIENCE: Duration = Duration::from_secs(25);

const OBJECT: &str = "files of the image";

/// What a file below this root holds, up to 1 MiB; `None` where it is missing or no regular file.
pub(crate) fn read(root: BorrowedFd<'_>, path: &str) -> Option<Vec<u8>> {
    // Not to wait for the writer of a FIFO, nor to take a terminal.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open_in_root(root, path, flags, ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV).ok()?;
    if FileType::from_raw_mode(fstat(&file).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut text = Vec::new();
    File::from(file).take(MAX_BYTES).read_to_end(&mut text).ok()?;
    Some(text)
}

/// What these files of an image of these layers hold. The image is mounted in a child process, in a
/// mount namespace of its own, and is gone with it; the layers stay attached as after a launch.
///
/// # Errors
/// `Phase` in a program with threads, `TimedOut`, and what mounting fails with.
pub(crate) fn read_all(store: &LayerStore, layers: &[OpenLayer], paths: &[&str]) -> Result<Vec<Option<Vec<u8>>>> {
    if !sys::is_single_threaded() {
        return Err(Error::several_threads(OBJECT, "read them before there are threads"));
    }
    let look = || -> Result<Vec<Option<Vec<u8>>>> {
        let mounts = store.mount_all(layers, || {})?;
        sys::unshare_mount_namespace().at(Stage::Root, OBJECT, "unshare(CLONE_NEWNS)")?;
        enter()?;
        let parts = OverlayParts { layers: mounts.iter().map(|layer| layer.mount.as_fd()).collect(), above: None };
        let root = mount_overlay(&parts)?;
        Ok(paths.iter().map(|path| read(root.as_fd(), path)).collect())
    };
    child_task::apart(PATIENCE, look).map_err(failed)?
}

fn failed(failure: Failure) -> Error {
    match failure {
        Failure::Late(patience) => {
            let text = "the file system that holds a layer does not answer, perhaps";
            Error::timed_out(Stage::Root, OBJECT, "read", patience, text)
        }
        other => Error::process_ended(Stage::Root, OBJECT, "read", None, other.to_string()),
    }
}
