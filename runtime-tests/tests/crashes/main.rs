//! The crash matrix: whoever dies, wherever, whatever of, nothing is left and nothing false is
//! told.
//!
//! The cases are found, not written down: every scenario runs once while it is only watched, which
//! gives the points that its processes pass (stages of the library's processes, system calls of the
//! monitor). Each point is then a case with each fault. In a case the scenario runs again on a bed
//! of its own, the fault strikes, and then: a running worker is told to end, and its end is true
//! or, where the monitor was the victim, lost; one reap; nothing is left.
//!
//! ```text
//! cargo test -p runtime-tests --test crashes [-- PART OF A CASE'S NAME]
//! ```

mod fault;
mod monitor;
mod parts;
mod scenario;
mod scene;
mod verdict;

use std::sync::atomic::{AtomicU32, Ordering};

use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::{Resource, Rlimit, setrlimit};

use fault::Fault;
use scenario::Scenario;
use verdict::Verdict;

/// What came of all cases, for the last line.
static COUNTS: Counts = Counts {
    cases: AtomicU32::new(0),
    lost: AtomicU32::new(0),
    leaks: AtomicU32::new(0),
    false_exits: AtomicU32::new(0),
    other: AtomicU32::new(0),
    at_random: AtomicU32::new(0),
    struck: AtomicU32::new(0),
    missed: AtomicU32::new(0),
};

struct Counts {
    cases: AtomicU32,
    lost: AtomicU32,
    leaks: AtomicU32,
    false_exits: AtomicU32,
    other: AtomicU32,
    at_random: AtomicU32,
    struck: AtomicU32,
    missed: AtomicU32,
}

fn main() {
    runtime_tests::roles::become_one_of(&[parts::ROLES]);
    if let Err(missing) = runtime_tests::needs::check() {
        panic!("{missing}");
    }
    no_cores();
    let mut trials = Vec::new();
    for scenario in Scenario::ALL {
        let points = scenario.points();
        eprintln!("{}: {} points", scenario.name(), points.len());
        for point in points {
            trials.extend(Fault::of(scenario, &point).into_iter().map(|fault| trial(scenario, point.clone(), fault)));
        }
    }
    for (scenario, victim, moment) in scenario::random_instants() {
        let name = format!("{} {victim} at {} us", scenario.name(), moment.as_micros());
        trials.push(Trial::test(name, move || {
            let verdict = scenario::run_at_random(scenario, victim, moment);
            COUNTS.at_random.fetch_add(1, Ordering::Relaxed);
            COUNTS.struck.fetch_add(u32::from(verdict.struck_at_random), Ordering::Relaxed);
            judge(verdict)
        }));
    }
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    let count = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
    println!(
        "crash matrix: {} cases ({} of {} at random struck in time, {} missed their point), leaks {}, false exits {}, other failures {}, lost {}\n",
        count(&COUNTS.cases),
        count(&COUNTS.struck),
        count(&COUNTS.at_random),
        count(&COUNTS.missed),
        count(&COUNTS.leaks),
        count(&COUNTS.false_exits),
        count(&COUNTS.other),
        count(&COUNTS.lost),
    );
    // Moments that all come too late, or too early, would try nothing.
    let (at_random, struck) = (count(&COUNTS.at_random), count(&COUNTS.struck));
    assert!(struck * 3 >= at_random, "of {at_random} kills at random only {struck} found their victim at work");
    // A few may lie in an order of events that did not come again.
    let (cases, missed) = (count(&COUNTS.cases), count(&COUNTS.missed));
    assert!(missed * 100 <= cases.max(100), "of {cases} cases {missed} missed their point");
    conclusion.exit()
}

/// No process that aborts is to leave a core.
fn no_cores() {
    let none = Rlimit { current: Some(0), maximum: None };
    setrlimit(Resource::Core, none).expect("a limit can be lowered");
}

fn trial(scenario: Scenario, point: String, fault: Fault) -> Trial {
    let name = format!("{} {point} {}", scenario.name(), fault.name());
    Trial::test(name, move || judge(scenario.run(&point, fault)))
}

fn judge(verdict: Verdict) -> Result<(), Failed> {
    let add = |counter: &AtomicU32, count: usize| counter.fetch_add(count as u32, Ordering::Relaxed);
    add(&COUNTS.cases, 1);
    add(&COUNTS.lost, usize::from(verdict.lost));
    add(&COUNTS.missed, usize::from(verdict.missed));
    add(&COUNTS.leaks, verdict.leaks.len());
    add(&COUNTS.false_exits, verdict.false_exits.len());
    add(&COUNTS.other, verdict.other.len());
    let problems = verdict.problems();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n").into()) }
}
