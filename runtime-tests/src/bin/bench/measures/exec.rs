//! A further program in a running container, from start to end.

use std::sync::Mutex;
use std::time::Instant;

use squall::request::ExecSpec;
use squall::{ExecEnd, Running, Stdio};

use super::Bench;
use crate::command::{timed, within};
use crate::floor::Floor;
use crate::ground::{Ground, remove_running};
use crate::peers::{Kind, Peer};
use crate::report::{Section, Unit};
use crate::rounds::{Candidate, interleave};
use crate::{Outcome, container};

const FLOOR: &str = "floor";
const ID: &str = "exec";

/// So many at a time, until so many have been executed.
const AT_A_TIME: usize = 16;
const MANY: usize = 1000;

pub fn measure(bench: &mut Bench<'_>) -> Outcome<Vec<Section>> {
    let ground = bench.ground;
    let running = ground.launch(ID, &ground.layers, container::STAY)?;
    let peers: Vec<_> = Kind::all(bench.args).into_iter().filter(|kind| *kind != Kind::Bwrap).collect();
    let started: Vec<_> = peers.into_iter().map(|kind| (kind, start(ground, kind))).collect();
    let sections = measure_in(bench, &running, &started);
    for (_, peer) in started.into_iter().filter_map(|(kind, peer)| Some((kind, peer.ok()?))) {
        timed(peer.delete()?)?;
    }
    remove_running(running)?;
    sections
}

fn start<'g>(ground: &'g Ground, kind: Kind) -> Outcome<Peer<'g>> {
    let peer = Peer::new(ground, kind, &format!("exec-{}", kind.name()), container::STAY)?;
    timed(peer.detached()?.ok_or("it detaches nothing")?)?;
    Ok(peer)
}

type Started<'g> = [(Kind, Outcome<Peer<'g>>)];

fn measure_in(bench: &mut Bench<'_>, running: &Running, peers: &Started<'_>) -> Outcome<Vec<Section>> {
    let ground = bench.ground;
    let floor = Floor::exec(ground, ID, running.record().init.pid, container::EXIT)?;
    let mut sections = Vec::new();
    for (pacing, suffix, pace) in bench.both_ways(40) {
        let mut candidates = vec![
            Candidate::new(FLOOR, || Ok(timed(within(floor.whole(), None)?)?.microseconds)),
            Candidate::new("squall exec", || Ok(timed(within(program(ground), None)?)?.microseconds)),
            Candidate::new("squall, library", || {
                let began = Instant::now();
                by_library(ground, running)?;
                Ok(began.elapsed().as_secs_f64() * 1e6)
            }),
        ];
        for (kind, peer) in peers {
            candidates.push(Candidate::new(format!("{} exec", kind.name()), || {
                let peer = peer.as_ref().map_err(ToString::to_string)?;
                Ok(timed(peer.exec(container::EXIT)?)?.microseconds)
            }));
        }
        let series = interleave(candidates, pace, &mut bench.shuffle);
        let (name, title) = (format!("exec-{suffix}"), format!("A program in a running container, {pacing}"));
        let section = Section::new(name, title, Unit::Microseconds, series, |_| Some(FLOOR.to_owned())).sorted();
        sections.push(section.note(
            "squall: watched by a monitor of its own, which writes its end down; crun and runc: by their caller",
        ));
    }
    let count = bench.args.rounds(MANY);
    let mut candidates = vec![
        Candidate::new(FLOOR, || rate(count, &|| timed(within(floor.whole(), None)?).map(drop))),
        Candidate::new("squall exec", || rate(count, &|| timed(within(program(ground), None)?).map(drop))),
        Candidate::new("squall, library", || rate(count, &|| by_library(ground, running))),
    ];
    for (kind, peer) in peers.iter().filter(|(kind, _)| *kind == Kind::Crun) {
        candidates.push(Candidate::new(format!("{} exec", kind.name()), || {
            let peer = peer.as_ref().map_err(ToString::to_string)?;
            rate(count, &|| timed(peer.exec(container::EXIT)?).map(drop))
        }));
    }
    let mut pace = bench.back_to_back(2);
    pace.rounds = pace.rounds.min(2);
    let series = interleave(candidates, pace, &mut bench.shuffle);
    let title = format!("Programs executed per second, {AT_A_TIME} at a time");
    let section = Section::new("exec-many", title, Unit::PerSecond, series, |_| Some(FLOOR.to_owned()));
    sections.push(section.note(format!("each value is the rate over {count} programs in one container")));
    Ok(sections)
}

fn program(ground: &Ground) -> std::process::Command {
    ground.squall(&ground.bed.run_root(), &[&["exec", ID], container::EXIT].concat())
}

fn by_library(ground: &Ground, running: &Running) -> Outcome<()> {
    let session = ground.embedded.exec(running, &ExecSpec::new(container::EXIT.iter().copied()), Stdio::null()?)?;
    match session.wait()? {
        ExecEnd::Exited(_) => Ok(session.remove()?),
        _ => Err("its end was lost".into()),
    }
}

/// How many a second, by as many threads as there are at a time.
fn rate(count: usize, execute: &(dyn Fn() -> Outcome<()> + Sync)) -> Outcome<f64> {
    let (left, failure) = (Mutex::new(count), Mutex::new(None));
    let take = || {
        let mut left = left.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        left.checked_sub(1).map(|rest| *left = rest)
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while take().is_some() {
                    if let Err(error) = execute() {
                        *failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
                        return;
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some(error) => Err(error),
        None => Ok(count as f64 / began.elapsed().as_secs_f64()),
    }
}
