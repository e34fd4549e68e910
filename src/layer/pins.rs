//! Giving up pins: which idle layers stay mounted, and which go.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use serde::Serialize;

use super::LayerStore;
use super::loopdev::LoopDevice;
use crate::error::{Context, Result};
use crate::stage::Stage;

/// Whether a reap acts or only says what it would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trim {
    /// Unmount and remove.
    Do,
    /// Only report.
    Report,
}

/// A layer that reaping looked at, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrimmedLayer {
    /// The layer's directory name.
    pub layer_id: String,
    /// Whether it goes.
    pub goes: bool,
    /// Why.
    pub reason: String,
}

/// One layer's directory as reaping sees it.
struct Candidate {
    layer_id: String,
    directory: PathBuf,
    last_use: SystemTime,
    state: State,
}

/// What a layer is at the moment, in the order in which layers are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// Neither pin nor loop device: a directory that means nothing any more.
    Stale,
    /// Pinned, and its file has been deleted: no launch can ask for it again.
    Deleted,
    /// Pinned.
    Pinned,
    /// Not pinned, but mounted somewhere: the hint is what lets the next launch share its superblock.
    InUse,
}

impl LayerStore {
    /// Gives up pins, layers of deleted files first, then the least recently used, until at most `keep` pins stay. Containers that use a
    /// layer keep its superblock: only the pin goes.
    pub(crate) fn trim(&self, keep: usize, trim: Trim) -> Result<Vec<TrimmedLayer>> {
        let mut candidates = self.candidates()?;
        candidates.sort_by_key(|layer| (layer.state, layer.last_use));
        let pinned = candidates.iter().filter(|layer| layer.state == State::Pinned).count();
        let mut surplus = pinned.saturating_sub(keep);
        let mut report = Vec::new();
        for candidate in candidates {
            let (wanted, reason) = match candidate.state {
                State::Stale => (true, "nothing is mounted or bound any more".to_owned()),
                State::Deleted => (true, "its file was deleted".to_owned()),
                State::InUse => (false, "in use, and not pinned".to_owned()),
                State::Pinned if surplus > 0 => {
                    surplus -= 1;
                    (true, format!("least recently used, and {keep} may stay"))
                }
                State::Pinned => (false, format!("among the {keep} that may stay")),
            };
            let outcome = match (wanted, trim) {
                (true, Trim::Do) => candidate.give_up()?,
                (true, Trim::Report) => Outcome::Gone,
                (false, _) => Outcome::Kept,
            };
            let reason =
                if wanted && outcome == Outcome::Kept { "it is being attached right now".to_owned() } else { reason };
            report.push(TrimmedLayer { layer_id: candidate.layer_id, goes: outcome == Outcome::Gone, reason });
        }
        Ok(report)
    }

    fn candidates(&self) -> Result<Vec<Candidate>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).at(Stage::Reap, self.directory.display(), "opendir"),
        };
        let mut candidates = Vec::new();
        for entry in entries {
            let entry = entry.at(Stage::Reap, self.directory.display(), "readdir")?;
            // Gone while we looked: another reaper was here.
            let Ok(metadata) = entry.metadata() else { continue };
            let (layer_id, directory) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            candidates.push(Candidate {
                last_use: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                state: state_of(&layer_id, &directory),
                layer_id,
                directory,
            });
        }
        Ok(candidates)
    }
}

fn state_of(layer_id: &str, directory: &Path) -> State {
    if !is_pinned(directory) {
        return if is_bound(layer_id, directory) { State::InUse } else { State::Stale };
    }
    match backing_file(directory) {
        BackingFile::Deleted => State::Deleted,
        BackingFile::Present => State::Pinned,
    }
}

/// A mount point is on another device than the directory that holds it.
fn is_pinned(directory: &Path) -> bool {
    let (Ok(mnt), Ok(parent)) = (fs::symlink_metadata(directory.join("mnt")), fs::symlink_metadata(directory)) else {
        return false;
    };
    mnt.dev() != parent.dev()
}

/// Whether the hinted device is bound to the file that the directory is named after. Without a pin that means: some container uses it.
fn is_bound(layer_id: &str, directory: &Path) -> bool {
    let Some(number) = fs::read_to_string(directory.join("loop")).ok().and_then(|hint| hint.trim().parse().ok()) else {
        return false;
    };
    let mut parts = layer_id.split('-').map(|part| u64::from_str_radix(part, 16));
    match (parts.next(), parts.next()) {
        (Some(Ok(device)), Some(Ok(inode))) => LoopDevice::is_bound_to(number, device, inode),
        _ => false,
    }
}

/// What became of the file behind a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BackingFile {
    Present,
    Deleted,
}

/// What became of a layer that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Gone,
    /// Somebody holds its lock, so it is about to be used: waiting would be for nothing.
    Kept,
}

/// The kernel marks the backing file of a loop device whose last name is gone. A memfd never had one, and is no less there.
fn backing_file(directory: &Path) -> BackingFile {
    let Ok(hint) = fs::read_to_string(directory.join("loop")) else { return BackingFile::Present };
    let path = format!("/sys/block/loop{}/loop/backing_file", hint.trim());
    match fs::read_to_string(path) {
        Ok(name) if name.trim_end().ends_with(" (deleted)") && !name.starts_with("/memfd:") => BackingFile::Deleted,
        _ => BackingFile::Present,
    }
}

impl Candidate {
    /// Takes the layer's lock, so that nobody is binding a device to it right now, and removes the pin. Where that was the last user, hint,
    /// lock and directory go too; whoever waits for the lock finds it without a name and begins again.
    fn give_up(&self) -> Result<Outcome> {
        let object = format!("layer {}", self.layer_id);
        let lock_path = self.directory.join("lock");
        let lock = match fs::File::options().write(true).create(true).truncate(false).open(&lock_path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Outcome::Gone),
            Err(error) => return Err(error).at(Stage::Reap, object, "open(lock)"),
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Outcome::Kept),
            Err(errno) => return Err(errno).at(Stage::Reap, &object, "flock"),
        }
        if lock.metadata().at(Stage::Reap, &object, "fstat(lock)")?.nlink() == 0 {
            return Ok(Outcome::Gone);
        }
        let pin = self.directory.join("mnt");
        // Pins may have been stacked by hands other than ours; EINVAL says that nothing is mounted there any more.
        loop {
            match unmount(&pin, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) => {}
                Err(Errno::INVAL | Errno::NOENT) => break,
                Err(errno) => return Err(errno).at(Stage::Reap, object, "umount(mnt)"),
            }
        }
        if is_bound(&self.layer_id, &self.directory) {
            return Ok(Outcome::Gone);
        }
        absent(fs::remove_dir(&pin)).at(Stage::Reap, &object, "rmdir(mnt)")?;
        absent(fs::remove_file(self.directory.join("loop"))).at(Stage::Reap, &object, "unlink(loop)")?;
        absent(fs::remove_file(&lock_path)).at(Stage::Reap, &object, "unlink(lock)")?;
        absent(fs::remove_dir(&self.directory)).at(Stage::Reap, &object, "rmdir")?;
        Ok(Outcome::Gone)
    }
}

/// What is gone already need not be removed.
pub(crate) fn absent(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
