//! The call over D-Bus. zbus rather than cgroups-rs, which has no way to learn when a unit is there
//! or whether it has failed.

use serde::{Deserialize, Serialize};
use zbus::MatchRule;
use zbus::blocking::MessageIterator;
use zbus::blocking::connection::Builder;
use zbus::message::Type;
use zbus::zvariant::{OwnedObjectPath, Value};

use super::BUS;
use crate::cgroup::Scope;
use crate::error::{Cause, ErrorKind};

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// How long a stopped unit's processes have before systemd kills them, in microseconds: three times
/// what the monitor gives its worker ([`DEFAULT_GRACE_MS`](crate::monitor::DEFAULT_GRACE_MS)), so
/// that it is the monitor who ends it and knows how.
const STOP_PATIENCE_US: u64 = 3 * 1000 * crate::monitor::DEFAULT_GRACE_MS as u64;

/// systemd's word for "no limit".
const NO_LIMIT: u64 = u64::MAX;

/// A property of a unit.
type Property<'a> = (&'a str, Value<'a>);

/// Why there is no scope.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    /// The name of the error, where the bus or systemd gave one.
    name: Option<String>,
    text: String,
}

impl Refusal {
    pub(super) fn kind(&self) -> ErrorKind {
        match self.name.as_deref() {
            Some("org.freedesktop.systemd1.UnitExists") => ErrorKind::Exists,
            Some("org.freedesktop.DBus.Error.AccessDenied") => ErrorKind::Privilege,
            _ => ErrorKind::System,
        }
    }
}

impl From<Refusal> for Cause {
    fn from(Refusal { name, text }: Refusal) -> Cause {
        Cause::Systemd { name, text }
    }
}

impl From<zbus::Error> for Refusal {
    fn from(error: zbus::Error) -> Refusal {
        match error {
            zbus::Error::MethodError(name, text, _) => {
                Refusal { text: text.unwrap_or_else(|| name.to_string()), name: Some(name.to_string()) }
            }
            other => Refusal { name: None, text: format!("{BUS}: {other}") },
        }
    }
}

/// Starts the scope with this process in it, and waits until it is there.
pub(super) fn start_scope(scope: &Scope, pid: u32) -> Result<(), Refusal> {
    let connection = Builder::address(format!("unix:path={BUS}").as_str())?.build()?;
    let jobs_done = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(SERVICE)?
        .path(MANAGER_PATH)?
        .interface(MANAGER)?
        .member("JobRemoved")?
        .build();
    // Before the call, so that no answer is missed. systemd tells whoever made a job of its end,
    // subscribed or not.
    let jobs_done = MessageIterator::for_match_rule(jobs_done, &connection, None)?;
    let description = format!("Squall container {}", scope.unit());
    let auxiliary: [(&str, Vec<Property<'_>>); 0] = [];
    let arguments = (scope.unit(), "fail", properties(scope, &description, pid), auxiliary.as_slice());
    let begun = connection.call_method(Some(SERVICE), MANAGER_PATH, Some(MANAGER), "StartTransientUnit", &arguments)?;
    let job: OwnedObjectPath = begun.body().deserialize()?;
    for done in jobs_done {
        let done = done?;
        // Anybody on the bus can send us a signal, and only the bus says who it was.
        if done.header().sender() != begun.header().sender() {
            continue;
        }
        let (_, of, _, result): (u32, OwnedObjectPath, String, String) = done.body().deserialize()?;
        match result.as_str() {
            _ if of != job => {}
            "done" => return Ok(()),
            other => return Err(Refusal { name: None, text: format!("systemd's job ended as '{other}'") }),
        }
    }
    Err(Refusal { name: None, text: "the bus closed the connection".to_owned() })
}

fn properties<'a>(scope: &'a Scope, description: &'a str, pid: u32) -> Vec<Property<'a>> {
    vec![
        ("Description", description.into()),
        ("Slice", scope.slice().into()),
        // Below the unit's cgroup everything is ours, with every controller.
        ("Delegate", true.into()),
        // A failed unit is not kept either.
        ("CollectMode", "inactive-or-failed".into()),
        // Limits are those of the cgroup below; systemd's default for units is none that anybody
        // asked for.
        ("TasksMax", NO_LIMIT.into()),
        ("TimeoutStopUSec", STOP_PATIENCE_US.into()),
        ("PIDs", vec![pid].into()),
    ]
}
