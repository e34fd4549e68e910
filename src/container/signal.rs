//! Signals to a container's first process, by its monitor or without one.

use std::os::fd::AsFd;

use super::Running;
use crate::cgroup::{self, Cgroup, CgroupPath, Layout};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::monitor::client::{self, Reply};
use crate::stage::Stage;
use crate::sys::{self, Addressee};

impl Running {
    /// Sends a signal to init. SIGKILL thaws a container that is frozen.
    ///
    /// # Errors
    /// [`ErrorKind::Phase`] when it has ended, or is frozen and the signal would wait until it is
    /// thawed; [`ErrorKind::TimedOut`] when its monitor does not answer.
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
        let text = format!("its monitor (pid {}) does not answer: it is stopped, perhaps", self.record.monitor.pid);
        Error::found(ErrorKind::TimedOut, stage, self.object(), "recv", text)
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
            Some(found) => {
                let text = cgroup::frozen_words(&found);
                Err(Error::found(ErrorKind::Phase, Stage::Stop, self.object(), "read(freezer state)", text))
            }
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
        Error::found(ErrorKind::Phase, Stage::Stop, self.object(), "signal", "it has ended")
    }
}
