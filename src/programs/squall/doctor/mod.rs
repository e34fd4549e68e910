//! What this machine can do, what is missing, and what to do about it.
//!
//! One file for each area. An area looks at the machine through a `Machine`, so that what it makes
//! of files has unit tests with fixtures; what can be tried is tried, by the same calls that a
//! launch makes. Each area runs in a child process with a deadline, so that neither a hanging file
//! nor a bug of ours keeps the page from being printed. Nothing on the machine is changed, but by
//! the throw-away launch at the end, which clears away after itself and counts what is left.

mod cgroups;
mod clock;
mod config;
mod file_systems;
mod finding;
mod host;
mod kernel;
mod limits;
mod loops;
mod machine;
mod memory;
mod privileges;
mod seccomp;
mod security;
pub mod storm;
mod trial;
mod user_namespaces;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use squall::child_task;

pub use self::finding::{Finding, State};
use self::machine::Machine;

/// How long an area may take; the slowest makes an overlay of 500 layers.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be launched here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything, with everything in force.
    Full,
    /// Workers, but something cannot be done, or could not be found out.
    Limited,
    /// Nothing.
    Cannot,
}

impl Verdict {
    /// The exit code that stands for it.
    pub fn exit_code(self) -> i32 {
        match self {
            Verdict::Full => 0,
            Verdict::Limited => 1,
            Verdict::Cannot => 2,
        }
    }
}

/// The whole page.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// In the order in which they were looked at.
    pub findings: Vec<Finding>,
    /// What follows from them.
    pub verdict: Verdict,
}

/// An area's name, and how it is looked at.
type Area = (&'static str, fn(&Machine) -> Vec<Finding>);

const AREAS: [Area; 12] = [
    ("kernel", kernel::findings),
    ("cgroups", cgroups::findings),
    ("loop devices", loops::findings),
    ("file systems", file_systems::findings),
    ("user namespaces", user_namespaces::findings),
    ("memory", memory::findings),
    ("seccomp", seccomp::findings),
    ("limits", limits::findings),
    ("privileges", privileges::findings),
    ("security modules", security::findings),
    ("clock", clock::findings),
    ("host", host::findings),
];

/// What is asked about a machine.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The run root that launches would use; a node of Storm's has its own.
    pub run_root: &'a Path,
    /// What advice calls this program.
    pub program: &'a Path,
    /// For a node of an Apache Storm cluster: what is known of it.
    pub storm: Option<&'a storm::Asked>,
}

/// Looks at everything, and tries a launch at the end. Each finding is handed to `tell` with its
/// area as soon as it is there.
pub fn examine(question: &Question<'_>, mut tell: impl FnMut(&Finding)) -> Report {
    let nodes_own = question.storm.and_then(|asked| child_task::run(PATIENCE, || storm::run_root(asked)).ok()?);
    let run_root: PathBuf = nodes_own.unwrap_or_else(|| question.run_root.to_owned());
    let machine = Machine::this(&run_root);
    let mut findings = Vec::new();
    let mut record = |area: &'static str, found: Vec<Finding>| {
        for finding in found {
            let finding = Finding { area: area.to_owned(), ..finding };
            tell(&finding);
            findings.push(finding);
        }
    };
    for (area, look) in AREAS {
        let found = child_task::run(PATIENCE, || look(&machine));
        record(area, found.unwrap_or_else(|failure| vec![Finding::unknown(area, failure.to_string())]));
    }
    if let Some(asked) = question.storm {
        for (area, look) in storm::AREAS {
            let found = child_task::run(PATIENCE, || look(&machine, &storm::Node::of(asked)));
            record(area, found.unwrap_or_else(|failure| vec![Finding::unknown(area, failure.to_string())]));
        }
    }
    record("launch", vec![trial::finding(question.program)]);
    let verdict = verdict(&findings);
    Report { findings, verdict }
}

/// What is missing keeps every launch from succeeding; a launch that could not be tried leaves a
/// doubt.
fn verdict(findings: &[Finding]) -> Verdict {
    let any = |state| findings.iter().any(|finding| finding.state == state);
    let doubt = findings.iter().any(|finding| finding.area == "launch" && finding.state != State::Ok);
    match (any(State::Missing), any(State::Limited) || doubt) {
        (true, _) => Verdict::Cannot,
        (false, true) => Verdict::Limited,
        (false, false) => Verdict::Full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_and_an_unknown_one_only_when_it_is_the_launch() {
        let of = |findings: &[Finding]| verdict(findings).exit_code();
        let launch = |finding: Finding| Finding { area: "launch".to_owned(), ..finding };
        assert_eq!(of(&[Finding::ok("a", "b"), Finding::unknown("a", "b")]), 0);
        assert_eq!(of(&[Finding::ok("a", "b"), launch(Finding::unknown("a", "b"))]), 1);
        assert_eq!(of(&[Finding::limited("a", "b", "c"), Finding::ok("a", "b")]), 1);
        assert_eq!(of(&[Finding::limited("a", "b", "c"), Finding::missing("a", "b", "c")]), 2);
    }

    #[test]
    fn no_area_panics_on_a_machine_without_any_file() {
        let empty = tempfile::tempdir().unwrap();
        let machine = Machine::at(empty.path(), Path::new("/run/squall"));
        for (area, look) in AREAS.iter().filter(|(area, _)| !matches!(*area, "kernel" | "seccomp" | "user namespaces"))
        {
            let found = look(&machine);
            assert!(!found.is_empty(), "{area}");
            for finding in found {
                assert!(!finding.seen.is_empty(), "{area}: {finding:?}");
                let advised = matches!(finding.state, State::Limited | State::Missing);
                assert_eq!(advised, finding.advice.is_some(), "{area}: {finding:?}");
            }
        }
    }
}
