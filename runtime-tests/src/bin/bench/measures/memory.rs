//! What a container costs while it runs, and a spawner while it waits.

use std::fs;

use runtime_tests::host;

use super::Bench;
use crate::conmon::{self, Conmon};
use crate::report::{Section, Series, Unit};
use crate::rounds::{Candidate, Value, interleave};
use crate::{Outcome, container};

/// The lines of smaps_rollup that count, by what they are called in the table.
const KINDS: [(&str, &[&str]); 3] = [
    ("private", &["Private_Clean", "Private_Dirty"]),
    // What several of them do not share either: the rest is the program's file.
    ("private, written to", &["Private_Dirty"]),
    ("resident", &["Rss"]),
];

pub fn measure(bench: &mut Bench<'_>) -> Outcome<Vec<Section>> {
    let ground = bench.ground;
    let me = std::process::id();
    let run = move || {
        let running = ground.launch("memory", &ground.layers, container::STAY)?;
        let monitor = u32::try_from(running.record().monitor.pid)?;
        until_it_watches(monitor);
        let mut values = of("monitor", monitor)?;
        let helpers = children(me).into_iter().flat_map(|keeper| [vec![keeper], children(keeper)].concat());
        for (index, helper) in helpers.filter(|pid| *pid != monitor && is_ours(*pid)).enumerate() {
            let name = ["spawner's keeper", "spawner"].get(index).copied().unwrap_or("another helper");
            values.extend(of(name, helper)?);
        }
        crate::ground::remove_running(running)?;
        Ok(values)
    };
    let conmon = Conmon::new(bench.args, ground, "memory-conmon")?;
    let mut candidates = vec![Candidate { name: "squall".to_owned(), run: Box::new(run) }];
    if let Some(conmon) = &conmon {
        let run = || {
            let watched = conmon.start()?;
            let values = of(conmon::NAME, watched.conmon.as_raw_pid().unsigned_abs());
            conmon.remove(&watched)?;
            values
        };
        candidates.push(Candidate { name: conmon::NAME.to_owned(), run: Box::new(run) });
    }
    let series: Series = interleave(candidates, bench.paced(4), &mut bench.shuffle);
    let section =
        Section::new("memory", "Memory of what watches, and of Squall's other processes", Unit::KiB, series, |_| None);
    let section = section
        .note("from /proc/<pid>/smaps_rollup; the spawner was forked from this program, not started as one of its own");
    Ok(vec![section.note(conmon::NOTE)])
}

/// The launch process answers before it becomes the monitor.
pub(super) fn until_it_watches(monitor: u32) {
    host::until("the monitor runs its own program", || (!is_ours(monitor)).then_some(()));
}

/// What a process has.
pub(super) fn of(name: &str, pid: u32) -> Outcome<Vec<Value>> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default()
    };
    let sum = |keys: &[&str]| keys.iter().map(|key| line(key)).sum();
    Ok(KINDS.iter().map(|(kind, keys)| Value { of: format!("{name}, {kind}"), amount: sum(keys) }).collect())
}

fn children(pid: u32) -> Vec<u32> {
    let parent = pid.to_string();
    let mut children: Vec<u32> =
        host::processes().into_iter().filter(|child| host::status(*child, "PPid") == parent).collect();
    children.sort_unstable();
    children
}

/// Forked from this program, and alive.
pub(super) fn is_ours(pid: u32) -> bool {
    let program = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
    host::is_alive(pid) && program(&pid.to_string()) == program("self")
}
