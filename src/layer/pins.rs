//! Giving up pins: which idle layers stay mounted, and which go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use serde::Serialize;

use super::loopdev::LoopDevice;
use super::{HINT, LOCK, LayerStore, PIN, Use, in_parallel};
use crate::crash::{self, Role};
use crate::error::{Context, Result};
use crate::host::absent;
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
#[non_exhaustive]
pub struct TrimmedLayer {
    /// The layer's directory name.
    pub layer_id: String,
    /// The file, where a loop device tells.
    pub file: Option<String>,
    /// Whether it goes.
    pub goes: bool,
    /// Why.
    pub reason: String,
}

/// How long the kernel may take to free a loop device whose last user is gone; some milliseconds
/// are usual, on a busy machine a second.
const RELEASE_PATIENCE: Duration = Duration::from_secs(3);

/// Each thread waits nearly all the time.
const UNMOUNTED_AT_A_TIME: usize = 8;

/// Between the first two looks; each further one comes later.
const RELEASE_INTERVAL: Duration = Duration::from_millis(3);

/// How closely layers are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Only pins matter: for a launch, which is to be fast.
    AtPins,
    /// Whether unpinned layers are in use or forgotten is asked of their devices.
    AtDevices,
}

/// One layer's directory as reaping sees it.
pub(super) struct Candidate {
    pub(super) layer_id: String,
    directory: PathBuf,
    pub(super) last_use: SystemTime,
    state: State,
}

/// What a layer is at the moment, in the order in which layers are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// Neither pin nor loop device: a directory that means nothing any more.
    Stale,
    /// Pinned, and its file has been deleted: no launch can ask for it again.
    Deleted,
    /// Pinned, and no container is known to use it.
    Pinned,
    /// Pinned, and in use.
    Busy,
    /// Not pinned, but mounted somewhere: the hint is what lets the next launch share its
    /// superblock.
    InUse,
}

impl LayerStore {
    /// Gives up pins: those of deleted files in any case, whose room on the disk they hold, then
    /// the least recently used of the idle ones, until at most `keep` of these stay. `used` are the
    /// layers that are not idle; a pin that goes all the same takes nothing from a container, which
    /// keeps the superblock itself.
    pub(crate) fn trim(
        &self,
        keep: usize,
        trim: Trim,
        look: Look,
        used: &BTreeMap<String, Use>,
    ) -> Result<Vec<TrimmedLayer>> {
        let mut candidates = self.candidates(look)?;
        for candidate in candidates.iter_mut().filter(|layer| used.contains_key(&layer.layer_id)) {
            if candidate.state == State::Pinned {
                candidate.state = State::Busy;
            }
        }
        candidates.sort_by_key(|layer| (layer.state, layer.last_use));
        let pinned = candidates.iter().filter(|layer| layer.state == State::Pinned).count();
        let mut surplus = pinned.saturating_sub(keep);
        let mut decide = |candidate: &Candidate| match candidate.state {
            State::Stale => (true, "nothing is mounted or bound any more".to_owned()),
            State::Deleted => (true, "its file was deleted".to_owned()),
            State::Busy => (false, format!("in use by {}", used[&candidate.layer_id].containers.join(", "))),
            State::InUse => (
                false,
                used.get(&candidate.layer_id).map_or_else(
                    || "not pinned, and no container here uses it: it goes when nobody else does".to_owned(),
                    |user| format!("in use by {}, and not pinned", user.containers.join(", ")),
                ),
            ),
            State::Pinned if surplus > 0 => {
                surplus -= 1;
                (true, format!("least recently used, and {keep} may stay"))
            }
            State::Pinned => (false, format!("among the {keep} that may stay")),
        };
        let decided: Vec<_> = candidates.iter().map(|candidate| (candidate, decide(candidate))).collect();
        // Each unmounting waits for the kernel, and several can wait together.
        let carry_out = |(candidate, (wanted, reason)): &(&Candidate, (bool, String))| -> Result<TrimmedLayer> {
            let file = candidate.hint().and_then(backing_file);
            let outcome = match (wanted, trim) {
                (true, Trim::Do) => candidate.give_up()?,
                (true, Trim::Report) => Outcome::Gone,
                (false, _) => Outcome::Capped,
            };
            let busy = *wanted && outcome == Outcome::Capped;
            let reason = if busy { "it is being attached right now".to_owned() } else { reason.clone() };
            Ok(TrimmedLayer { layer_id: candidate.layer_id.clone(), file, goes: outcome == Outcome::Gone, reason })
        };
        in_parallel(&decided, UNMOUNTED_AT_A_TIME, carry_out).into_iter().collect()
    }

    /// Forgets unpinned layers that nobody is known to use. After the end of a container, or of a
    /// pin, the kernel takes a moment to free the loop device, and tells nobody when it is done:
    /// until then a layer is looked at again, and so is who uses it. A layer that was waited for in
    /// vain has users elsewhere; it is waited for again when a launch has used it since. Gives the
    /// layers that went.
    pub(crate) fn forget_unused(&self, used: impl Fn() -> Result<BTreeSet<String>>) -> Result<Vec<String>> {
        let deadline = Instant::now() + RELEASE_PATIENCE;
        let mut interval = RELEASE_INTERVAL;
        let mut forgotten = Vec::new();
        loop {
            let mut waiting = Vec::new();
            let used = used()?;
            for candidate in
                self.candidates(Look::AtDevices)?.into_iter().filter(|layer| !used.contains(&layer.layer_id))
            {
                match candidate.state {
                    State::Pinned | State::Busy | State::Deleted => {}
                    State::InUse if candidate.was_waited_for() => {}
                    State::InUse => waiting.push(candidate),
                    State::Stale => match candidate.give_up()? {
                        Outcome::Gone => forgotten.push(candidate.layer_id),
                        Outcome::Capped => {}
                    },
                }
            }
            if waiting.is_empty() {
                return Ok(forgotten);
            }
            if Instant::now() >= deadline {
                waiting.iter().for_each(Candidate::note_vain_wait);
                return Ok(forgotten);
            }
            std::thread::park_timeout(interval);
            interval *= 2;
        }
    }

    pub(super) fn candidates(&self, look: Look) -> Result<Vec<Candidate>> {
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
            // No layer's: Storm's own launcher leaves a lock file here.
            if !metadata.is_dir() {
                continue;
            }
            let (layer_id, directory) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            let last_use = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let mut candidate = Candidate { layer_id, directory, last_use, state: State::Stale };
            candidate.state = candidate.look(look);
            candidates.push(candidate);
        }
        Ok(candidates)
    }
}

/// Device and inode of the file that a layer's directory is named after.
pub(super) fn file_in_id(layer_id: &str) -> Option<(u64, u64)> {
    let mut parts = layer_id.split('-').map(|part| u64::from_str_radix(part, 16).ok());
    Some((parts.next()??, parts.next()??))
}

/// The path by which the kernel knows the file behind a loop device.
pub(super) fn backing_file(number: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/sys/block/loop{number}/loop/backing_file")).ok()?;
    Some(name.strip_suffix('\n').unwrap_or(&name).to_owned())
}

/// The kernel marks a file whose last name is gone. A memfd never had one, and is no less there.
pub(super) fn is_deleted(file: &str) -> bool {
    file.ends_with(" (deleted)") && !file.starts_with("/memfd:")
}

/// What became of a layer that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Gone,
    /// Somebody holds its lock, so it is about to be used: waiting would be for nothing.
    Capped,
}

impl Candidate {
    fn look(&self, look: Look) -> State {
        if self.is_pinned() {
            let file = self.hint().and_then(backing_file);
            return if file.is_some_and(|file| is_deleted(&file)) { State::Deleted } else { State::Pinned };
        }
        match look {
            Look::AtPins => State::InUse,
            Look::AtDevices if self.device().is_some() => State::InUse,
            Look::AtDevices => State::Stale,
        }
    }

    /// A mount point is on another device than the directory that holds it.
    pub(super) fn is_pinned(&self) -> bool {
        let device = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.dev());
        match (device(&self.directory.join(PIN)), device(&self.directory)) {
            (Ok(pin), Ok(directory)) => pin != directory,
            _ => false,
        }
    }

    /// The lock file's modification time is when the layer was last waited for in vain; it is never
    /// written to.
    fn was_waited_for(&self) -> bool {
        let waited = fs::metadata(self.directory.join(LOCK)).and_then(|lock| lock.modified());
        waited.is_ok_and(|waited| waited > self.last_use)
    }

    fn note_vain_wait(&self) {
        let lock = fs::File::options().write(true).open(self.directory.join(LOCK));
        // What cannot be noted is waited for again.
        let _ = lock.and_then(|lock| lock.set_modified(SystemTime::now()));
    }

    fn hint(&self) -> Option<u32> {
        fs::read_to_string(self.directory.join(HINT)).ok()?.trim().parse().ok()
    }

    /// The hinted device, if it is bound to the file that the directory is named after. Without a
    /// pin that means: some container uses it.
    pub(super) fn device(&self) -> Option<u32> {
        self.hint().filter(|number| LoopDevice::bound_to(*number, &self.layer_id).is_some())
    }

    /// Takes the layer's lock, so that nobody is binding a device to it right now, and removes the
    /// pin. Where that was the last user, hint, lock and directory go too; whoever waits for the
    /// lock finds it without a name and begins again.
    fn give_up(&self) -> Result<Outcome> {
        crash::point(Role::Caller, Stage::Reap);
        let object = format!("layer {}", self.layer_id);
        let lock_path = self.directory.join(LOCK);
        let lock = match fs::File::options().write(true).create(true).truncate(false).open(&lock_path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Outcome::Gone),
            Err(error) => return Err(error).at(Stage::Reap, object, "open(lock)"),
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Outcome::Capped),
            Err(errno) => return Err(errno).at(Stage::Reap, &object, "flock"),
        }
        if lock.metadata().at(Stage::Reap, &object, "fstat(lock)")?.nlink() == 0 {
            return Ok(Outcome::Gone);
        }
        crash::point(Role::Caller, Stage::Reap);
        let pin = self.directory.join(PIN);
        // Pins may have been stacked by hands other than ours; EINVAL says that nothing is mounted
        // there any more.
        loop {
            match unmount(&pin, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) => {}
                Err(Errno::INVAL | Errno::NOENT) => break,
                Err(errno) => return Err(errno).at(Stage::Reap, object, "umount(mnt)"),
            }
        }
        if self.device().is_some() {
            return Ok(Outcome::Gone);
        }
        crash::point(Role::Caller, Stage::Reap);
        remove_directory(&self.directory, Stage::Reap, &object)
    }
}

/// Removes the directory of a layer that nothing is mounted or bound for, under the layer's lock,
/// which goes with it.
pub(super) fn remove_directory(directory: &Path, stage: Stage, object: &str) -> Result<Outcome> {
    absent(fs::remove_dir(directory.join(PIN))).at(stage, object, "rmdir(mnt)")?;
    absent(fs::remove_file(directory.join(HINT))).at(stage, object, "unlink(loop)")?;
    absent(fs::remove_file(directory.join(LOCK))).at(stage, object, "unlink(lock)")?;
    match absent(fs::remove_dir(directory)) {
        Ok(()) => Ok(Outcome::Gone),
        // Somebody waited for the lock, found it gone, and has begun anew.
        Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => Ok(Outcome::Capped),
        Err(error) => Err(error).at(stage, object, "rmdir"),
    }
}
