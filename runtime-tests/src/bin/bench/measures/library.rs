//! From the library's call to the workload's exec.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Bench;
use crate::floor::Floor;
use crate::ground::{Ground, remove};
use crate::report::{Section, Unit};
use crate::rounds::{Candidate, Value, interleave};
use crate::{Outcome, container};

/// Before the names of stages, until they get a table of their own.
const STAGE: &str = "stage ";
/// Before the floor's share of a stage.
const FLOORS: &str = "floor's ";
/// The floor's part that belongs to the stage of the record which goes from the binds until init is
/// cleaned of what it has from its caller.
const FORK: &str = "fork";
const CLONE: &str = "clone";
/// What is compared with.
const FLOOR: &str = "floor, its start to exec";

pub fn measure(bench: &mut Bench<'_>) -> Outcome<Vec<Section>> {
    let ground = bench.ground;
    let floor = Floor::new(ground, "library-floor", &ground.pins(&ground.bed.run_root()), container::EXIT)?;
    let mut sections = Vec::new();
    for (pacing, suffix, pace) in bench.both_ways(60) {
        let candidates = vec![
            Candidate { name: "squall".to_owned(), run: Box::new(|| launch(ground)) },
            Candidate { name: FLOOR.to_owned(), run: Box::new(|| run_floor(&floor)) },
        ];
        let mut series = interleave(candidates, pace, &mut bench.shuffle);
        let stages = series.split_off(STAGE);
        let title = format!("Library call to exec, {pacing}");
        let name = format!("library-{suffix}");
        let section = Section::new(name, title, Unit::Microseconds, series, |_| Some(FLOOR.to_owned())).sorted();
        sections.push(section.note("squall: through the spawner, from a program that embeds it"));
        let title = format!("Where that time goes, by the record's stages, {pacing}");
        let floor_of = |row: &str| Some(format!("{FLOORS}{}", row.trim_start_matches(FLOORS)));
        let stages = Section::new(format!("stages-{suffix}"), title, Unit::Microseconds, stages, floor_of);
        sections.push(
            stages
                .in_order_of(&order())
                .note("join: init waits for its cgroups, which the launch process moves it into meanwhile"),
        );
    }
    Ok(sections)
}

/// The stages of both, side by side.
fn order() -> Vec<String> {
    let stages = squall::Stage::ALL.iter().map(|stage| stage.name());
    let from_clone = ["start"].into_iter().chain(stages.clone().skip_while(|stage| *stage != CLONE));
    let all = stages.take_while(|stage| *stage != CLONE).chain(from_clone);
    all.flat_map(|stage| [stage.to_owned(), format!("{FLOORS}{stage}")]).collect()
}

/// The floor's parts, and their sum.
fn run_floor(floor: &Floor<'_>) -> Outcome<Vec<Value>> {
    let parts = floor.parts()?;
    let whole = Value { of: FLOOR.to_owned(), amount: parts.iter().map(|(_, span)| span).sum() };
    let mut stages = BTreeMap::new();
    for (part, span) in parts {
        *stages.entry(if part == FORK { CLONE.to_owned() } else { part }).or_insert(0.0) += span;
    }
    let stages = stages.into_iter().map(|(part, span)| Value { of: format!("{STAGE}{FLOORS}{part}"), amount: span });
    Ok(stages.chain([whole]).collect())
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
    values.extend(stages.map(|time| value(&format!("{STAGE}{}", time.stage.name()), time.microseconds as f64)));
    remove(running)?;
    Ok(values)
}
