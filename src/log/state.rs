//! The state file: what the copier has done, and is about to do. One text of JSON, always of the
//! same length and written in place by one system call, so that neither a full disk nor a kill
//! leaves half of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::format::Stamp;
use crate::process::ProcessId;

/// Its length. A page is there from the beginning, and no state is longer.
const BYTES: usize = 1024;

/// What is known of a log that is copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogStatus {
    /// Bytes of the worker's that could not be written, and are nowhere.
    #[serde(default)]
    pub lost_bytes: u64,
    /// Why, the last time: `No space left on device (os error 28)`.
    #[serde(default)]
    pub why: Option<String>,
    /// Whether everything is in the file that the worker wrote, but for what was lost.
    #[serde(default)]
    pub complete: bool,
    /// What copies.
    #[serde(default)]
    pub copier: Option<ProcessId>,
    /// What waits for the copier, and starts another when it was killed.
    #[serde(default)]
    pub keeper: Option<ProcessId>,
}

/// The state of a copier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    #[serde(flatten)]
    pub(super) status: LogStatus,
    /// Lost bytes that the log does not tell of yet.
    #[serde(default)]
    pub(super) unsaid_bytes: u64,
    /// The pipes by their inodes: the worker's two, the holding two.
    #[serde(default)]
    pub(super) pipes: [u64; 4],
    /// What is about to be done.
    #[serde(default)]
    pub(super) pending: Option<Pending>,
}

/// Bytes on their way from a holding pipe into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) stamp: Stamp,
    /// What the holding pipe held before.
    pub(super) held: u64,
    /// How many of these are taken.
    pub(super) taken: u64,
    /// How many of those taken, the last ones, are dropped.
    pub(super) dropped: u64,
    /// How many bytes that were lost before the log is told of.
    pub(super) said: u64,
    /// The file by its inode.
    pub(super) inode: u64,
    /// How long the file was before.
    pub(super) base: u64,
    /// How many bytes are added to it.
    pub(super) added: u64,
}

/// The file, open.
#[derive(Debug)]
pub(crate) struct StateFile(File);

impl StateFile {
    /// Makes it, with room for every state that will come.
    pub(super) fn create(path: &Path) -> io::Result<StateFile> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = StateFile(options.open(path)?);
        file.write(&State::default())?;
        Ok(file)
    }

    /// One that is there, to go on with it.
    pub(super) fn open(path: &Path) -> io::Result<StateFile> {
        File::options().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path).map(StateFile)
    }

    /// What is known of a log; without a state file, or a readable one, nothing.
    pub(crate) fn status(path: &Path) -> Option<LogStatus> {
        StateFile(File::open(path).ok()?).read().map(|state| state.status)
    }

    pub(super) fn write(&self, state: &State) -> io::Result<()> {
        let mut text = serde_json::to_vec(state).expect("a state is plain data");
        text.resize(BYTES, b' ');
        self.0.write_all_at(&text, 0)
    }

    /// A reader may meet the copier while it writes, so it looks more than once.
    pub(super) fn read(&self) -> Option<State> {
        const LOOKS: usize = 5;
        let look = || {
            let mut text = [0; BYTES];
            self.0.read_exact_at(&mut text, 0).ok()?;
            serde_json::from_slice(&text).ok()
        };
        (0..LOOKS).find_map(|_| look())
    }
}

impl AsFd for StateFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::format::Source;

    #[test]
    fn the_longest_state_fits_and_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let process = ProcessId { pid: i32::MAX, start_time: u64::MAX };
        let status = LogStatus {
            lost_bytes: u64::MAX,
            why: Some("Disk quota exceeded, which is a long reason (os error 122)".to_owned()),
            complete: false,
            copier: Some(process),
            keeper: Some(process),
        };
        let state = State {
            status: status.clone(),
            unsaid_bytes: u64::MAX,
            pipes: [u64::MAX; 4],
            pending: Some(Pending {
                stamp: Stamp { source: Source::Stdout, unix_ns: u64::MAX },
                held: u64::MAX,
                taken: u64::MAX,
                dropped: u64::MAX,
                said: u64::MAX,
                inode: u64::MAX,
                base: u64::MAX,
                added: u64::MAX,
            }),
        };
        assert!(serde_json::to_vec(&state).unwrap().len() < BYTES);
        let file = StateFile::create(&path).unwrap();
        assert_eq!(file.read(), Some(State::default()));
        file.write(&state).unwrap();
        assert_eq!(StateFile::open(&path).unwrap().read(), Some(state));
        assert_eq!(StateFile::status(&path), Some(status));
        assert_eq!(StateFile::status(&directory.path().join("none")), None);
        assert!(StateFile::create(&path).is_err(), "there is one");
    }
}
