//! From the library's call to the workload's exec.

use std::time::Instant;

use super::Bench;
use crate::command::timed;
use crate::floor::Floor;
use crate::ground::{Ground, remove};
use crate::report::{Section, Unit};
use crate::rounds::{Candidate, Value, interleave};
use crate::{Outcome, container};

/// Before the names of stages, until they get a table of their own.
const STAGE: &str = "stage ";
/// What is compared with.
const FLOOR: &str = "floor, its start to exec";

pub fn measure(bench: &mut Bench<'_>) -> Outcome<Vec<Section>> {
    let ground = bench.ground;
    let floor = Floor::new(ground, "library-floor", &ground.pins(&ground.bed.run_root()), container::EXIT)?;
    let mut sections = Vec::new();
    for (pacing, suffix, pace) in bench.both_ways(60) {
        let candidates = vec![
            Candidate { name: "squall".to_owned(), run: Box::new(|| launch(ground)) },
            Candidate::new(FLOOR, || Ok(timed(floor.to_exec())?.stderr.trim().parse()?)),
        ];
        let mut series = interleave(candidates, pace, &mut bench.shuffle);
        let stages = series.split_off(STAGE);
        let title = format!("Library call to exec, {pacing}");
        let name = format!("library-{suffix}");
        let section = Section::new(name, title, Unit::Microseconds, series, |_| Some(FLOOR.to_owned())).sorted();
        sections.push(section.note("squall: through the spawner, from a program that embeds it"));
        let title = format!("Where a library call's time goes, by the record's stages, {pacing}");
        let stages = Section::new(format!("stages-{suffix}"), title, Unit::Microseconds, stages, |_| None);
        sections.push(stages.note(
            "join is the wait of init for its cgroups; the stages of the launch process (up to clone, pid-file) and of init overlap",
        ));
    }
    Ok(sections)
}

/// One launch: the whole call, its record, each stage.
fn launch(ground: &Ground) -> Outcome<Vec<Value>> {
    let spec = container::spec(ground, "library", &ground.layers, container::EXIT)?;
    let stdio = squall::Stdio::null()?;
    let began = Instant::now();
    let running = ground.embedded.launch(&spec, stdio)?;
    let call = began.elapsed().as_secs_f64() * 1e6;
    let record = running.record();
    let value = |of: &str, amount: f64| Value { of: of.to_owned(), amount };
    let mut values = vec![
        value("squall, call to exec (record)", record.launch_microseconds as f64),
        value("squall, call to its return", call),
    ];
    let stages = record.stages.iter();
    values.extend(stages.map(|stage| value(&format!("{STAGE}{}", stage.stage), stage.microseconds as f64)));
    remove(running)?;
    Ok(values)
}
