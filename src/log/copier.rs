//! The copier: moves what the worker writes into the log, until there is nothing to come.
//!
//! Who we are: a process with one thread, forked by the keeper, root in the monitors' cgroup, with
//! the descriptors of one log and nothing else.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::chunk::{Channel, Writer};
use super::place;
use crate::process::ProcessId;

/// Between two looks at a process whose pidfd can be read although it has not ended (see
/// [`wait`](crate::wait)).
const DOUBT_PAUSE: Duration = Duration::from_millis(1);

/// Why the copier stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Everything is copied, and nothing will come.
    Complete,
    /// The keeper is gone: this process is to be the keeper.
    KeeperGone,
}

/// Everything that copying takes. The keeper has it as well, for the next copier.
#[derive(Debug)]
pub(super) struct Copier {
    pub(super) channels: [Channel; 2],
    pub(super) writer: Writer,
    pub(super) init: ProcessId,
    pub(super) init_pidfd: OwnedFd,
    /// The directory in the run root, and whether it goes with the container's end.
    pub(super) directory: PathBuf,
    pub(super) directory_fd: OwnedFd,
    pub(super) removal: bool,
}

/// The keeper, as its copier sees it.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) id: Option<ProcessId>,
    pub(super) pidfd: OwnedFd,
}

impl Copier {
    /// Copies until the end.
    pub(super) fn copy(&mut self, keeper: Option<&Keeper>) -> End {
        let own = ProcessId::of(rustix::process::getpid().as_raw_pid());
        self.writer.begin(&self.channels, |state| {
            state.status.copier = own;
            state.status.keeper = keeper.and_then(|keeper| keeper.id);
        });
        let mut is_over = false;
        loop {
            let [first, second] = &mut self.channels;
            let moved = self.writer.move_from(first) | self.writer.move_from(second);
            if !moved && (is_over || self.channels.iter().all(|channel| channel.ended)) {
                self.writer.finish();
                return End::Complete;
            }
            // Looked at after the pass that found nothing, so one more pass follows init's end.
            let patience = moved.then(Timespec::default);
            let [keeper_gone, init_ended] = self.wait(keeper.map(|keeper| keeper.pidfd.as_fd()), patience);
            if keeper_gone {
                self.writer.rest();
                return End::KeeperGone;
            }
            is_over |= init_ended;
        }
    }

    /// Waits for output, and for the ends of keeper and init; whether these have come.
    fn wait(&self, keeper: Option<BorrowedFd<'_>>, patience: Option<Timespec>) -> [bool; 2] {
        let mut fds = vec![PollFd::new(&self.init_pidfd, PollFlags::IN)];
        fds.extend(keeper.map(|keeper| PollFd::from_borrowed_fd(keeper, PollFlags::IN)));
        let open = self.channels.iter().filter(|channel| !channel.ended);
        fds.extend(open.map(|channel| PollFd::new(&channel.from, PollFlags::IN)));
        if poll(&mut fds, patience.as_ref()).is_err() {
            return [false; 2];
        }
        let is_ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        let init_ended = is_ready(0) && !self.init.is_alive();
        if is_ready(0) && !init_ended && patience.is_none() {
            std::thread::park_timeout(DOUBT_PAUSE);
        }
        [keeper.is_some() && is_ready(1), init_ended]
    }

    /// What is to be gone with the container goes.
    pub(super) fn clear(&self) {
        if self.removal {
            place::remove_own(&self.directory, &self.directory_fd);
        }
    }

    /// Every descriptor that is needed.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let channels = self.channels.iter().flat_map(|channel| [&channel.from, &channel.hold, &channel.held]);
        channels.chain([&self.init_pidfd, &self.directory_fd]).map(AsFd::as_fd).chain(self.writer.descriptors())
    }
}
