//! What watches a container, while nothing happens: how often it wakes up.

use std::fs;
use std::time::Duration;

use runtime_tests::host;

use super::{Bench, memory};
use crate::Outcome;
use crate::conmon::{self, Conmon};
use crate::container;
use crate::ground::remove_running;
use crate::report::{Section, Unit};
use crate::rounds::{Candidate, interleave};

/// So long nothing is to happen.
const IDLE: Duration = Duration::from_secs(5);

/// So long after its start a watcher may still be busy with that.
const SETTLED: Duration = Duration::from_millis(500);

pub fn measure(bench: &mut Bench<'_>) -> Outcome<Vec<Section>> {
    let ground = bench.ground;
    let conmon = Conmon::new(bench.args, ground, "idle-conmon")?;
    let mut candidates = vec![Candidate::new("squall's monitor", || {
        let running = ground.launch("idle", &ground.layers, container::STAY)?;
        let monitor = u32::try_from(running.record().monitor.pid)?;
        memory::until_it_watches(monitor);
        let counted = wakeups_while_idle(monitor);
        remove_running(running)?;
        counted
    })];
    if let Some(conmon) = &conmon {
        candidates.push(Candidate::new(conmon::NAME, || {
            let watched = conmon.start()?;
            let counted = wakeups_while_idle(watched.conmon.as_raw_pid().unsigned_abs());
            conmon.remove(&watched)?;
            counted
        }));
    }
    let series = interleave(candidates, bench.back_to_back(3), &mut bench.shuffle);
    let title = format!("Wake-ups of what watches an idle container, in {} s", IDLE.as_secs());
    let section = Section::new("idle", title, Unit::Calls, series, |_| None);
    Ok(vec![section.note("voluntary context switches of all of its threads (/proc/<pid>/task)").note(conmon::NOTE)])
}

fn wakeups_while_idle(pid: u32) -> Outcome<f64> {
    std::thread::sleep(SETTLED);
    let before = wakeups(pid)?;
    std::thread::sleep(IDLE);
    Ok(wakeups(pid)? - before)
}

/// Of all threads.
fn wakeups(pid: u32) -> Outcome<f64> {
    let mut sum = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = task?.file_name().to_string_lossy().parse()?;
        sum += host::status(thread, "voluntary_ctxt_switches").parse::<f64>()?;
    }
    Ok(sum)
}
