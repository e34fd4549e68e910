//! systemd, asked for the scope of a container.
//!
//! Owns the one thing that Squall wants of it: a delegated unit with this process in it. Everything
//! below the unit's cgroup is made by [`cgroup`](crate::cgroup) as anywhere else, and the end of
//! the unit needs no call: systemd removes it when its last process has gone, whoever that was and
//! however it ended.
//!
//! Who we are: the launch process. The call itself is made in a process of its own with a deadline,
//! because a D-Bus connection has threads and may hang, and the launch process must do neither.

#[cfg(feature = "systemd")]
mod bus;

use std::path::Path;
#[cfg(feature = "systemd")]
use std::time::Duration;

use crate::cgroup::{Layout, Manager, Scope};
use crate::error::{Error, Result};
use crate::stage::Stage;

/// Where the bus is that systemd listens on. Not from the environment, which is not trusted.
const BUS: &str = "/run/dbus/system_bus_socket";

/// How long systemd may take for a scope, on a busy machine: less than what a launch's caller waits
/// in silence.
#[cfg(feature = "systemd")]
const PATIENCE: Duration = Duration::from_secs(20);

impl Manager {
    /// Who should make cgroups on this machine when its administrator has not said: systemd where
    /// it runs, the machine has cgroup v2 alone, and this program was built with the feature
    /// `systemd`, because every cgroup that systemd has not delegated is its own there; otherwise
    /// Squall itself.
    #[must_use]
    pub fn of_this_machine() -> Manager {
        match Layout::detect() {
            Ok(layout) if Manager::no_scopes(&layout).is_none() => Manager::Systemd,
            _ => Manager::Cgroupfs,
        }
    }

    /// Why systemd cannot be asked for a scope on this machine; `None` where it can be.
    #[must_use]
    pub fn no_scopes(layout: &Layout) -> Option<String> {
        let alone = layout.hierarchies().len() == 1 && layout.unified().is_some();
        let found = |path: &str| Path::new(path).exists();
        [
            (cfg!(feature = "systemd"), "this program was built without the feature 'systemd'"),
            // As sd_booted(3) has it.
            (found("/run/systemd/system"), "systemd does not run here"),
            (alone, "it takes a machine with cgroup v2 alone"),
            (found(BUS), "there is no D-Bus to reach systemd by: install dbus"),
        ]
        .into_iter()
        .find_map(|(holds, reason)| (!holds).then(|| reason.to_owned()))
    }
}

/// Whether systemd can be asked, before anything is touched.
///
/// # Errors
/// `Unsupported`: [`Manager::no_scopes`] says why not.
pub(crate) fn check(scope: &Scope) -> Result<()> {
    Manager::no_scopes(&Layout::detect()?).map_or(Ok(()), |reason| Err(no_scope(scope, reason)))
}

const CALL: &str = "StartTransientUnit";

fn object(scope: &Scope) -> String {
    format!("unit '{scope}'")
}

fn no_scope(scope: &Scope, reason: String) -> Error {
    Error::lacking(Stage::Cgroup, object(scope), CALL, "systemd", reason)
}

/// Has systemd make the scope with this process in it, and goes into the monitor's cgroup there.
///
/// # Errors
/// `Exists`: there is such a unit. `TimedOut`, `Privilege`, `System`: systemd did not answer, or
/// refused. `Unsupported`: its cgroups are not where ours are.
pub(crate) fn enter(layout: &Layout, scope: &Scope) -> Result<()> {
    start(scope)?;
    let found = crate::cgroup::Membership::of_self(layout)?;
    match layout.unified().and_then(|unified| found.path_in(unified)) {
        Some(path) if path == scope.directory().as_str() => crate::cgroup::join_monitors(layout, &scope.monitor()),
        path => {
            let path = path.unwrap_or("nowhere");
            Err(no_scope(scope, format!("systemd put it at '{path}', and not at '{}'", scope.directory())))
        }
    }
}

#[cfg(feature = "systemd")]
fn start(scope: &Scope) -> Result<()> {
    use crate::child_task::{Failure, apart};
    use crate::sys::{ParentDeath, on_parent_death};

    let pid = std::process::id();
    let asked = apart(PATIENCE, || {
        // Nobody would wait for the answer.
        let _ = on_parent_death(ParentDeath::Kill);
        bus::start_scope(scope, pid)
    });
    match asked {
        Ok(Ok(())) => Ok(()),
        Ok(Err(refusal)) => Err(Error::new(refusal.kind(), Stage::Cgroup, object(scope), CALL, refusal.into())),
        Err(Failure::Late(patience)) => {
            Err(Error::timed_out(Stage::Cgroup, object(scope), CALL, patience, "systemd does not answer"))
        }
        Err(failure) => Err(Error::process_ended(Stage::Cgroup, object(scope), CALL, None, failure.to_string())),
    }
}

#[cfg(not(feature = "systemd"))]
fn start(_: &Scope) -> Result<()> {
    Ok(())
}
