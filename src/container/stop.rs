//! Ending a container: a signal, a grace, then the kill of everything in it.

use std::time::Duration;

use super::wait::Waiting;
use super::{Ended, KILL_PATIENCE, Running};
use crate::cgroup::{self, Layout};
use crate::crash::{self, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::client::{self, Reply};
use crate::stage::Stage;

/// How long after the grace the caller leaves the killing to the monitor, before it looks whether
/// that lives.
pub(super) const MONITORS_TURN: Duration = Duration::from_secs(1);

impl Running {
    /// Ends the container: the signal now, and after the grace the whole tree is killed. A frozen
    /// one is thawed for it. The monitor sees to it even if the caller is gone before the grace is
    /// over; one that has been killed or does not answer is done without.
    ///
    /// # Errors
    /// [`ErrorKind::Phase`] when a cgroup above the container's is frozen and keeps it from ending
    /// (cgroup v1); [`ErrorKind::TimedOut`] when it was killed and is not gone.
    pub fn stop(&self, signal: i32, grace: Duration) -> Result<Ended> {
        crash::point(Role::Caller, Stage::Stop);
        let layout = Layout::detect()?;
        self.refuse_frozen(&layout, cgroup::frozen_above)?;
        // From before it is asked: whoever launched it may remove it with its end.
        let mut waiting = Waiting::of(self);
        let reply = client::stop(&self.directory, signal, grace)?;
        if reply == Reply::Silent {
            self.continue_monitor();
        }
        if reply != Reply::Done {
            self.signal_if_alive(signal)?;
            self.thaw(&layout)?;
        }
        let turn = if reply == Reply::Done { MONITORS_TURN } else { Duration::ZERO };
        match waiting.within(grace.saturating_add(turn))? {
            Some(ended) => Ok(ended),
            None => self.kill_tree_in(&layout, waiting),
        }
    }

    fn signal_if_alive(&self, signal: i32) -> Result<()> {
        match self.signal_init(signal) {
            Err(error) if error.kind() != ErrorKind::Phase => Err(error),
            _ => Ok(()),
        }
    }

    /// Kills everything in the container, at once, and without its monitor's help.
    pub fn kill_tree(&self) -> Result<Ended> {
        self.kill_tree_in(&Layout::detect()?, Waiting::of(self))
    }

    fn kill_tree_in(&self, layout: &Layout, mut waiting: Waiting) -> Result<Ended> {
        crash::point(Role::Caller, Stage::Stop);
        self.refuse_frozen(layout, cgroup::frozen_above)?;
        if let Some(cgroup) = self.own_cgroup(layout)? {
            cgroup.kill_all()?;
        }
        // On a hybrid host init may be where the kill does not reach; its pid namespace goes with
        // it.
        self.signal_if_alive(libc::SIGKILL)?;
        self.continue_monitor();
        waiting.within(KILL_PATIENCE)?.ok_or_else(|| self.late())
    }

    pub(super) fn late(&self) -> Error {
        let monitor = self.record.monitor.pid;
        let (pid, text) = match self.is_alive() {
            true => (self.record.init.pid, "it was killed and is not gone yet".to_owned()),
            false => (monitor, format!("it is dead, and its monitor (pid {monitor}) does not say how it ended")),
        };
        Error::timed_out(Stage::Stop, self.object(), "wait", KILL_PATIENCE, text).of_process(Some(pid))
    }
}
