//! A container that is being launched, or whose launch was killed half way.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::inotify;

use super::wait::wait_readable;
use super::{Container, Launching, no_such};
use crate::cgroup::{self, Layout};
use crate::crash::{self, Role};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::exhausted::{AtLimit, Limit};
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
        let object = format!("container '{}'", self.id);
        let deadline = Instant::now() + span;
        let changes = inotify::init(inotify::CreateFlags::CLOEXEC)
            .at(Stage::Watch, &object, "inotify_init1")
            .at_limit(libc::EMFILE, Limit::InotifyInstances)?;
        // The record is renamed into place; a failed launch removes the directory; one that is
        // killed closes it.
        let events =
            inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::DELETE_SELF | inotify::WatchFlags::CLOSE_NOWRITE;
        // Open all the time, because closing it is one of these events.
        let Some(launch) = claim::Holder::of(&self.directory)? else { return Err(no_such(&self.id)) };
        match inotify::add_watch(&changes, &self.directory, events) {
            Ok(_) => {}
            Err(rustix::io::Errno::NOENT) => return Err(no_such(&self.id)),
            Err(errno) => {
                let error = Error::system(Stage::Watch, object, "inotify_add_watch", errno);
                return Err(error.at_limit(libc::ENOSPC, Limit::InotifyWatches));
            }
        }
        loop {
            let container = Container::open(&self.id, self.directory.clone())?;
            let Container::Launching(_) = container else { return Ok(container) };
            if !launch.is_alive()? {
                // Unless it came to its end between the two looks.
                return Container::open(&self.id, self.directory.clone());
            }
            if !wait_readable(&changes, Some(deadline))? {
                return Ok(container);
            }
            // Which event it was does not matter: the next look decides.
            let _ = rustix::io::read(&changes, &mut [0; 1024]);
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
