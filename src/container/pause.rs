//! A container whose processes stand still, and how it comes to that.

use std::cell::OnceCell;
use std::time::Duration;

use super::{Container, Ended, Running};
use crate::cgroup::{self, Layout};
use crate::error::{Error, Result};
use crate::phase::Phase;
use crate::stage::Stage;
use crate::state::record::LaunchRecord;

/// A running container whose cgroup is frozen: nothing in it runs. It can be stopped and killed all
/// the same, and its deadline comes; it is thawed for that.
#[derive(Debug, Clone)]
pub struct Paused(pub(super) Running);

impl Running {
    /// Makes all its processes stand still, by the freezer of cgroup v1 where the machine has one,
    /// by `cgroup.freeze` of v2 (Linux 5.2) otherwise. Returns when they do. Who froze it before
    /// has done what is asked for.
    ///
    /// # Errors
    /// [`Phase`](crate::ErrorKind::Phase) when it has ended; [`TimedOut`](crate::ErrorKind::TimedOut)
    /// when a process does not come to a stand within 5 seconds (it waits in the kernel for a device
    /// or a file system, for example): then all run again. Needs root, or a cgroup that is delegated
    /// to the caller.
    pub fn pause(&self) -> Result<Paused> {
        let layout = Layout::detect()?;
        let Some(cgroup) = self.own_cgroup(&layout)? else { return Err(self.ended_before("pause")) };
        self.unless_ended("pause", cgroup.freeze(&self.object()))?;
        Ok(Paused(self.clone()))
    }

    /// The same outcome, but for what failed while the container came to its end: its cgroups are
    /// removed then, and with them the files in which it was to be done.
    pub(super) fn unless_ended<T>(&self, call: &str, done: Result<T>) -> Result<T> {
        match done {
            Err(_) if !self.may_live()? => Err(self.ended_before(call)),
            done => done,
        }
    }

    pub(super) fn ended_before(&self, call: &str) -> Error {
        Error::wrong_phase(Stage::Watch, self.object(), call, Phase::Exited, Phase::Running)
    }

    /// Itself, or as a paused one. The layout is read once for all who share the cell.
    pub(super) fn running_or_paused(self, layout: &OnceCell<Layout>) -> Result<Container> {
        let layout = match layout.get() {
            Some(layout) => layout,
            None => {
                let detected = Layout::detect()?;
                layout.get_or_init(|| detected)
            }
        };
        let frozen = cgroup::is_frozen(layout, &self.cgroup()?);
        Ok(if frozen { Container::Paused(Paused(self)) } else { Container::Running(self) })
    }
}

impl Paused {
    /// Its record.
    #[must_use]
    pub fn record(&self) -> &LaunchRecord {
        self.0.record()
    }

    /// The handle by which it can be asked what a running one can.
    #[must_use]
    pub fn into_running(self) -> Running {
        self.0
    }

    /// Lets its processes run again. Below a cgroup that is frozen itself they still do not.
    ///
    /// # Errors
    /// [`Phase`](crate::ErrorKind::Phase) when it has ended. Needs what [`Running::pause`] needs.
    pub fn resume(&self) -> Result<Running> {
        let layout = Layout::detect()?;
        let Some(cgroup) = self.0.own_cgroup(&layout)? else { return Err(self.0.ended_before("resume")) };
        cgroup.thaw();
        match cgroup::is_frozen(&layout, &self.0.cgroup()?) {
            false => Ok(self.0.clone()),
            true => Err(Error::frozen(Stage::Watch, self.0.object(), &self.record().cgroup)),
        }
    }

    /// Sends a signal to init: SIGKILL, which thaws it. Others would wait until it is resumed, and
    /// are refused.
    ///
    /// # Errors
    /// Those of [`Running::signal`].
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.0.signal(signal)
    }

    /// Ends it, as [`Running::stop`] does. The signal is heard, because it is thawed for that.
    ///
    /// # Errors
    /// Those of [`Running::stop`].
    pub fn stop(&self, signal: i32, grace: Duration) -> Result<Ended> {
        self.0.stop(signal, grace)
    }

    /// Kills everything in it, at once, and without its monitor's help.
    ///
    /// # Errors
    /// Those of [`Running::kill_tree`].
    pub fn kill_tree(&self) -> Result<Ended> {
        self.0.kill_tree()
    }

    /// Waits until it has ended, whoever resumes it before.
    ///
    /// # Errors
    /// Those of [`Running::wait`].
    pub fn wait(&self) -> Result<Ended> {
        self.0.wait()
    }

    /// The container as it is now.
    ///
    /// # Errors
    /// Those of [`Running::refresh`].
    pub fn refresh(&self) -> Result<Container> {
        self.0.refresh()
    }

    /// Whether its monitor lives.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.0.is_watched()
    }
}
