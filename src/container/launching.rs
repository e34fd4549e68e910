//! A container that is being launched, or whose launch was killed half way.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::inotify::WatchFlags;

use super::wait::{changes_of, drain, wait_readable};
use super::{Container, Launching, no_such};
use crate::cgroup::{self, Layout};
use crate::crash::{self, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::launch::pid_file;
use crate::phase::Phase;
use crate::stage::Stage;
use crate::state::claim::{self, Notes};
use crate::state::record;

impl Launching {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits until its launch is over, at most this long, and gives the container in the phase in
    /// which it then is: still launching, if the time was too short or the launch process has been
    /// killed.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]: the launch failed, and took back what it had made.
    pub fn settle(self, span: Duration) -> Result<Container> {
        let deadline = Instant::now().checked_add(span);
        let settling = Settling::of(&self)?;
        loop {
            if let Some(container) = settling.look()? {
                return Ok(container);
            }
            if !wait_readable(settling.changes(), deadline)? {
                return Ok(Container::Launching(self));
            }
        }
    }

    /// Removes what an unfinished launch has made. There is no record, but the claim says which
    /// cgroup was to be used.
    pub fn abandon(self) -> Result<()> {
        let object = format!("container '{}'", self.id);
        let Some(_held) = claim::hold(&self.directory)? else {
            return Err(Error::in_use(ErrorKind::Phase, Stage::Remove, object, "its launch process"));
        };
        // Between the look and the lock it may have been launched, and even have ended.
        if record::read_launch(&self.directory)?.is_some() {
            let found = Container::open(&self.id, self.directory.clone())?.phase();
            return Err(Error::wrong_phase(Stage::Remove, object, "open", found, Phase::Launching));
        }
        crash::point(Role::Caller, Stage::Remove);
        let notes = Notes::read(&self.directory)?;
        if let Some((cgroup, inode)) = notes.cgroup()? {
            cgroup::end(&Layout::detect()?, cgroup, inode)?;
        }
        pid_file::take_back(&notes, None)?;
        claim::remove_directory(&self.directory)
    }
}

/// A wait for the end of a launch. It never blocks: a driver waits on [`Settling::changes`] before
/// the next look.
pub(super) struct Settling<'l> {
    launching: &'l Launching,
    changes: OwnedFd,
    launch: claim::Holder,
}

impl<'l> Settling<'l> {
    pub(super) fn of(launching: &'l Launching) -> Result<Settling<'l>> {
        let object = format!("container '{}'", launching.id);
        // The record is renamed into place; a failed launch renames or removes the directory; one
        // that is killed closes it.
        let events = WatchFlags::MOVED_TO | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF | WatchFlags::CLOSE_NOWRITE;
        // Open all the time, because closing it is one of these events.
        let launch = claim::Holder::of(&launching.directory)?;
        let changes = changes_of(&launching.directory, events, &object)?;
        let (Some(launch), Some(changes)) = (launch, changes) else { return Err(no_such(&launching.id)) };
        Ok(Settling { launching, changes, launch })
    }

    /// The container once its launch is over; `None` where it is under way. For the same reason
    /// nothing opens the directory in between.
    pub(super) fn look(&self) -> Result<Option<Container>> {
        let Launching { id, directory } = self.launching;
        drain(&self.changes);
        let under_way = record::read_launch(directory)?.is_none() && directory.is_dir() && self.launch.is_alive()?;
        if under_way {
            return Ok(None);
        }
        // Unless it came to its end between the two looks.
        Container::open(id, directory.clone()).map(Some)
    }

    /// What can be read when it is time to look again.
    pub(super) fn changes(&self) -> &OwnedFd {
        &self.changes
    }
}
