//! Signals to a container's first process, by its monitor or without one.

use std::os::fd::AsFd;

use super::{Container, Running};
use crate::cgroup::{self, Cgroup, CgroupPath, Layout};
use crate::error::{Context, Error, Result};
use crate::monitor::client::{self, Reply};
use crate::phase::Phase;
use crate::stage::Stage;
use crate::sys::{self, Addressee};

impl Running {
    /// Sends a signal to init. SIGKILL thaws a container that is frozen.
    ///
    /// # Errors
    /// [`Phase`](crate::ErrorKind::Phase) when it has ended, or is frozen and the signal would wait until it is
    /// thawed; [`TimedOut`](crate::ErrorKind::TimedOut) when its monitor does not answer.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let kills = signal == libc::SIGKILL;
        let layout = Layout::detect()?;
        self.refuse_frozen(&layout, if kills { cgroup::frozen_above } else { cgroup::frozen })?;
        match client::signal(&self.directory, signal)? {
            Reply::Done => return Ok(()),
            Reply::Silent if !kills => return Err(self.silent_monitor(Stage::Stop)),
            Reply::Silent => self.continue_monitor(),
            Reply::Gone => {}
        }
        self.signal_init(signal)?;
        if kills { self.thaw(&layout) } else { Ok(()) }
    }

    pub(super) fn silent_monitor(&self, stage: Stage) -> Error {
        let pid = self.record.monitor.pid;
        let text = format!("its monitor (pid {pid}) does not answer: it is stopped, perhaps");
        Error::timed_out(stage, self.object(), "recv", client::PATIENCE, text).of_process(Some(pid))
    }

    /// Whatever stopped the monitor: it has the container's end to write down.
    pub(super) fn continue_monitor(&self) {
        if let Some(monitor) = self.record.monitor.open() {
            let _ = sys::pidfd_send_signal(monitor.as_fd(), self.record.monitor.pid, libc::SIGCONT, Addressee::Process);
        }
    }

    pub(super) fn refuse_frozen(
        &self,
        layout: &Layout,
        frozen: impl Fn(&Layout, &CgroupPath) -> Option<CgroupPath>,
    ) -> Result<()> {
        match frozen(layout, &self.cgroup()?) {
            None => Ok(()),
            Some(found) => Err(Error::frozen(Stage::Stop, self.object(), found)),
        }
    }

    /// Lets what is frozen run, where there is no monitor to do it.
    pub(super) fn thaw(&self, layout: &Layout) -> Result<()> {
        if let Some(cgroup) = self.own_cgroup(layout)? {
            cgroup.thaw();
        }
        Ok(())
    }

    /// The container's cgroup; `None` where another one has its name.
    pub(super) fn own_cgroup(&self, layout: &Layout) -> Result<Option<Cgroup>> {
        Cgroup::open_made(layout, &self.cgroup()?, self.record.cgroup_inode)
    }

    /// Without a monitor, by pidfd.
    pub(super) fn signal_init(&self, signal: i32) -> Result<()> {
        self.signal_by_pidfd(signal, Addressee::Process)
    }

    pub(super) fn signal_by_pidfd(&self, signal: i32, to: Addressee) -> Result<()> {
        let init = self.record.init.open().ok_or_else(|| self.has_ended())?;
        match sys::pidfd_send_signal(init.as_fd(), self.record.init.pid, signal, to) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(self.has_ended()),
            other => other.at(Stage::Stop, self.object(), "pidfd_send_signal"),
        }
    }

    fn has_ended(&self) -> Error {
        let found = match self.refresh() {
            Ok(Container::Lost(_)) => Phase::Lost,
            // Its monitor is about to write the record, if it has not.
            _ => Phase::Exited,
        };
        Error::wrong_phase(Stage::Stop, self.object(), "signal", found, Phase::Running)
    }
}
