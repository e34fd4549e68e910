//! A container that is created: everything is done but the last step, the workload's exec.

use std::time::Duration;

use super::{Container, Ended, Running};
use crate::cgroup::{self, Layout};
use crate::crash::{self, Role};
use crate::error::{Error, Result};
use crate::launch;
use crate::lsm::Confinement;
use crate::monitor::client::{self, Reply};
use crate::phase::Phase;
use crate::request::LaunchSpec;
use crate::stage::Stage;
use crate::state::record::{self, EndReason, LaunchRecord};

/// How long init may take from the start to the workload's exec: what is left to it is short, but
/// the image's file system may be slow to give the program.
const PATIENCE: Duration = Duration::from_secs(30);

/// A container whose workload waits to be started. It is in its cgroups, namespaces and root, has
/// its ids, and is watched by its monitor; should that be killed, it ends.
#[derive(Debug, Clone)]
pub struct Created(pub(super) Running);

impl Created {
    pub(crate) fn new(container: Running) -> Created {
        Created(container)
    }

    /// Its record. [`LaunchRecord::started_boot_ns`] is 0.
    pub fn record(&self) -> &LaunchRecord {
        self.0.record()
    }

    /// Lets the workload begin. Returns when it has been executed. The time that the spec gives it
    /// ([`Builder::timeout`](crate::request::Builder::timeout)) begins now.
    ///
    /// # Errors
    /// [`Phase`](crate::ErrorKind::Phase) when it was started or has ended already, or is frozen;
    /// [`ProgramNotExecutable`](crate::ErrorKind::ProgramNotExecutable) and others of
    /// [`Squall::launch`](crate::Squall::launch) when the kernel refuses the exec: the container has
    /// ended then, and is kept with this error
    /// ([`Exited::start_error`](super::Exited::start_error));
    /// [`TimedOut`](crate::ErrorKind::TimedOut) when the monitor does not answer.
    pub fn start(&self) -> Result<Running> {
        crash::point(Role::Caller, Stage::Become);
        if let Some(frozen) = cgroup::frozen(&Layout::detect()?, &self.0.cgroup()?) {
            return Err(Error::frozen(Stage::Become, self.0.object(), frozen));
        }
        match client::start(&self.0.directory, PATIENCE)? {
            Reply::Done => {}
            Reply::Silent => return Err(self.0.silent_monitor(Stage::Become)),
            Reply::Gone => return Err(self.why_not()?),
        }
        // It may have ended by now, and been removed with that.
        Ok(self.0.started().unwrap_or_else(|| self.0.clone()))
    }

    /// Why its monitor is gone.
    fn why_not(&self) -> Result<Error> {
        let ended = match self.0.wait_for(PATIENCE)? {
            Some(Ended::Exited(exited)) => exited,
            // Its monitor was killed, and it ends with that.
            _ => return Ok(self.ended(Phase::Lost)),
        };
        match ended.start_error() {
            Some(error) if ended.exit().start_report.as_deref() != Some("") => Ok(error),
            _ => Ok(self.ended(Phase::Exited)),
        }
    }

    fn ended(&self, found: Phase) -> Error {
        Error::wrong_phase(Stage::Become, self.0.object(), "start", found, Phase::Created)
    }

    /// Sends a signal to init. Before the start nothing but SIGKILL and SIGSTOP has an effect: it is
    /// the first process of its pid namespace, and has no handlers.
    ///
    /// # Errors
    /// Those of [`Running::signal`].
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.0.signal(signal)
    }

    /// Ends it at once: there is no worker to be gentle with.
    ///
    /// # Errors
    /// Those of [`Running::stop`].
    pub fn stop(&self) -> Result<Ended> {
        self.0.stop(libc::SIGKILL, Duration::ZERO)
    }

    /// Ends it, and everything in its cgroup, without its monitor's help.
    ///
    /// # Errors
    /// Those of [`Running::kill_tree`].
    pub fn kill_tree(&self) -> Result<Ended> {
        self.0.kill_tree()
    }

    /// Waits for its end, whether it is started before or not.
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
    pub fn is_watched(&self) -> bool {
        self.0.is_watched()
    }
}

impl super::Exited {
    /// Why it never became the workload, where it was created and could not be started; `None`
    /// where it ran, or was stopped before.
    pub fn start_error(&self) -> Option<Error> {
        if self.exit.reason != EndReason::NeverStarted {
            return None;
        }
        let said = self.exit.start_report.as_deref().map(bytes_of).unwrap_or_default();
        Some(launch::start_failure(&said, spec_of(&self.record).as_ref()))
    }
}

impl Running {
    /// With what can be told of a created one only since it was started; nothing where nobody has
    /// started it.
    pub(crate) fn started(&self) -> Option<Running> {
        if self.record.started_boot_ns != 0 {
            return Some(self.clone());
        }
        let started_boot_ns = record::read_start(&self.directory)?;
        let confinement = spec_of(&self.record).as_ref().and_then(Confinement::of);
        let confined_by = confinement.and_then(|confinement| confinement.in_force(self.record.init.pid));
        let record = LaunchRecord { started_boot_ns, confined_by, ..(*self.record).clone() };
        Some(Running::new(self.directory.clone(), record))
    }
}

/// The spec, where this version has its rules.
fn spec_of(record: &LaunchRecord) -> Option<LaunchSpec> {
    LaunchSpec::from_json(record.spec.to_string().as_bytes()).ok()
}

/// Hexadecimal digits as bytes, as far as they are some.
fn bytes_of(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs.map_while(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
