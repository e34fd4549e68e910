//! A container from start to end, by a program each.

use super::Bench;
use crate::command::{timed, within};
use crate::floor::Floor;
use crate::peers::{Kind, Peer};
use crate::report::{Section, Unit};
use crate::rounds::{Candidate, interleave};
use crate::{Outcome, container};

const FLOOR: &str = "floor";

pub fn measure(bench: &mut Bench<'_>) -> Outcome<Vec<Section>> {
    let ground = bench.ground;
    let run_root = ground.bed.run_root();
    let floor = Floor::new(ground, "whole-floor", &ground.pins(&run_root), container::EXIT)?;
    let peers = peers(bench)?;
    let mut sections = Vec::new();
    for (pacing, suffix, pace) in bench.both_ways(40) {
        let mut candidates = vec![
            Candidate::new(FLOOR, || Ok(timed(within(floor.whole(), None)?)?.microseconds)),
            Candidate::new("squall run --rm", || {
                let command = ground.squall_run(&run_root, &["--rm"], "whole-squall", container::EXIT);
                Ok(timed(within(command, None)?)?.microseconds)
            }),
        ];
        for (kind, peer) in &peers {
            candidates.push(Candidate::new(kind.title(), || Ok(timed(peer.whole()?)?.microseconds)));
        }
        let series = interleave(candidates, pace, &mut bench.shuffle);
        let (name, title) = (format!("whole-{suffix}"), format!("A container from start to end, {pacing}"));
        let section = Section::new(name, title, Unit::Microseconds, series, |_| Some(FLOOR.to_owned())).sorted();
        let section = section.note("squall mounts its overlay itself, writes records and is watched by its monitor");
        sections.push(peers.iter().fold(section, |section, (kind, _)| section.note(kind.note())));
    }
    Ok(sections)
}

fn peers<'g>(bench: &Bench<'g>) -> Outcome<Vec<(Kind, Peer<'g>)>> {
    let make =
        |kind: Kind| Ok((kind, Peer::new(bench.ground, kind, &format!("whole-{}", kind.name()), container::EXIT)?));
    Kind::all(bench.args).into_iter().map(make).collect()
}
