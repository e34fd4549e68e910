//! An error as it is written into files and sent over sockets.
//!
//! Its cause is written twice: in fields, and as the line that people read. A version that does not
//! know the fields reads the line.

use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{Cause, Error, ErrorKind};
use crate::stage::Stage;

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut error = to.serialize_struct("Error", 7)?;
        error.serialize_field("kind", &self.kind)?;
        error.serialize_field("stage", &self.stage)?;
        error.serialize_field("object", &self.object)?;
        error.serialize_field("call", &self.call)?;
        error.serialize_field("cause", &*self.cause)?;
        error.serialize_field("text", &self.cause.to_string())?;
        error.serialize_field("left", &self.left)?;
        error.end()
    }
}

/// Words of a later version are still values here.
#[derive(Deserialize)]
struct Written {
    kind: Value,
    stage: Value,
    object: String,
    call: String,
    cause: Value,
    text: Option<String>,
    #[serde(default)]
    left: Vec<Error>,
}

impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Error, D::Error> {
        let Written { kind, stage, object, call, cause, text, left } = Written::deserialize(from)?;
        Ok(Error {
            kind: serde_json::from_value(kind).unwrap_or(ErrorKind::System),
            stage: serde_json::from_value(stage).unwrap_or(Stage::Unknown),
            object,
            call,
            cause: Box::new(known(cause, text)),
            left,
        })
    }
}

/// The cause, or its line where this version does not know it.
fn known(cause: Value, text: Option<String>) -> Cause {
    let unread = text.unwrap_or_else(|| cause.to_string());
    serde_json::from_value(cause).unwrap_or(Cause::Found(unread))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::error::{FileAspect, Holder, LackedCapability, Problem, ProcessEnd};
    use crate::phase::Phase;

    /// One of each, with the line that it prints.
    fn every_cause() -> Vec<(Cause, &'static str)> {
        let text = || "why".to_owned();
        vec![
            (Cause::Errno { errno: libc::EBUSY, meaning: Some(text()) }, "Device or resource busy: why"),
            (Cause::Problems(vec![Problem { field: "a".into(), reason: text() }]), "a: why"),
            (Cause::Libcontainer(text()), "why"),
            (Cause::Systemd { name: None, text: text() }, "why"),
            (Cause::WrongPhase { found: Phase::Lost, needed: Phase::Running }, "it has ended"),
            (Cause::Frozen { cgroup: "/a".into() }, "cgroup '/a' is frozen: nothing in it runs until it is thawed"),
            (Cause::InUse { by: "another container".into() }, "in use by another container"),
            (Cause::IdTaken { init_pid: Some(7) }, "there is a container of this id (pid 7)"),
            (Cause::NoContainer, "there is no container of this id"),
            (Cause::Removed { end: Some(ProcessEnd::Code(3)) }, "it has ended with code 3, and was removed"),
            (Cause::NotFoundIn { places: vec!["/bin".into(), "/usr/bin".into()] }, "not found in /bin, /usr/bin"),
            (
                Cause::WrongFile { aspect: FileAspect::Type, found: "a FIFO".into(), expected: "a directory".into() },
                "it is a FIFO, expected a directory",
            ),
            (Cause::Lacking { feature: "AppArmor".into(), meaning: text() }, "why"),
            (
                Cause::LackingCapabilities(vec![LackedCapability { name: "CAP_KILL".into(), purpose: text() }]),
                "it lacks CAP_KILL (why); run it as root, with sudo for example",
            ),
            (Cause::SeveralThreads { meaning: text() }, "this program has more than one thread: why"),
            (
                Cause::Version { of: "schema".into(), found: 7, known: 1, meaning: Some(text()) },
                "schema 7 is newer than this program's 1: why",
            ),
            (Cause::TimedOut { after_ms: 2500, pid: Some(3), meaning: text() }, "timed out after 2.5 s: why"),
            (Cause::GivenUp, "the caller has given it up"),
            (Cause::ProcessEnded { end: Some(ProcessEnd::Signal(9)), meaning: text() }, "why: signal 9"),
            (
                Cause::LostRace { attempts: 4, prize: "the free loop device".into() },
                "others took the free loop device, 4 times in a row",
            ),
            (Cause::LimitReached { limit: "uids".into(), value: 3 }, "all 3 uids are in use"),
            (
                Cause::Taken {
                    what: "processors".into(),
                    asked: 3,
                    free: 1,
                    holders: vec![Holder::new("a", "processors 0-1"), Holder::new("b", "processor 2")],
                },
                "3 processors are asked for, free are 1: container 'a' has processors 0-1, container 'b' has processor 2",
            ),
            (Cause::Malformed { reason: text() }, "why"),
            (Cause::Found(text()), "why"),
        ]
    }

    fn error(cause: Cause) -> Error {
        Error::new(ErrorKind::Exists, Stage::Claim, "object", "call", cause)
    }

    #[test]
    fn every_cause_prints_its_line_and_crosses_a_process_border_unchanged() {
        for (cause, line) in every_cause() {
            let error = error(cause);
            assert_eq!(error.to_string(), format!("claim: object: call: {line}"));
            let back: Error = serde_json::from_slice(&serde_json::to_vec(&error).unwrap()).unwrap();
            assert_eq!(back, error);
        }
    }

    #[test]
    fn an_error_of_version_0_1_is_read() {
        let inner = json!({ "kind": "system", "stage": "remove", "object": "b", "call": "rmdir",
            "cause": { "errno": { "errno": 16, "meaning": null } }, "left": [] });
        let old = json!({ "kind": "phase", "stage": "watch", "object": "container 'a'", "call": "attach",
            "cause": { "found": "it has ended" }, "left": [inner] });
        let error: Error = serde_json::from_value(old).unwrap();
        assert_eq!((error.kind(), error.cause()), (ErrorKind::Phase, &Cause::Found("it has ended".into())));
        assert!(error.to_string().ends_with("(and left behind: remove: b: rmdir: Device or resource busy)"), "{error}");
    }

    #[test]
    fn words_of_a_later_version_leave_an_error_readable() {
        let mut later = serde_json::to_value(error(Cause::GivenUp)).unwrap();
        later["new"] = json!({ "field": 1 });
        later["kind"] = json!("flooded");
        later["stage"] = json!("charm");
        later["cause"] = json!({ "water-level": { "metres": 3 } });
        later["text"] = json!("3 m of water");
        let read: Error = serde_json::from_value(later.clone()).unwrap();
        assert_eq!((read.kind(), read.stage()), (ErrorKind::System, Stage::Unknown));
        assert_eq!(read.to_string(), "unknown: object: call: 3 m of water");
        later["cause"] = json!({ "wrong-phase": { "found": "hovering", "needed": "running" } });
        let read: Error = serde_json::from_value(later).unwrap();
        assert_eq!(read.cause(), &Cause::Found("3 m of water".into()));
    }

    #[test]
    fn a_span_is_told_in_seconds() {
        let error = Error::timed_out(Stage::Stop, "init", "waitid", Duration::from_secs(30), "it lives");
        assert_eq!(error.to_string(), "stop: init: waitid: timed out after 30 s: it lives");
    }
}
