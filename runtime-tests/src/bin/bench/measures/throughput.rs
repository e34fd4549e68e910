//! Launches per second, several at a time, each from start to gone.

use std::time::Instant;

use super::Bench;
use crate::command::{timed, within};
use crate::floor::Floor;
use crate::ground::{Ground, remove};
use crate::peers::{Kind, Peer};
use crate::report::{Section, Series, Unit};
use crate::rounds::{Candidate, interleave};
use crate::{Outcome, container};

/// How many at a time.
const LEVELS: [usize; 3] = [1, 4, 16];

/// Launches of each candidate in a round.
const LAUNCHES: usize = 32;

const FLOOR: &str = "floor";

/// Launches one container and sees it gone.
type Launch<'a> = Box<dyn Fn() -> Outcome<()> + Send + Sync + 'a>;

/// A way to launch, in a slot of its own: containers that run at a time need names of their own.
type Way<'a> = (&'static str, Vec<Launch<'a>>);

pub fn measure(bench: &mut Bench<'_>) -> Outcome<Vec<Section>> {
    let ways = ways(bench)?;
    LEVELS.iter().map(|level| at_a_time(bench, &ways, *level)).collect()
}

fn at_a_time(bench: &mut Bench<'_>, ways: &[Way<'_>], level: usize) -> Outcome<Section> {
    let candidates = ways
        .iter()
        .map(|(name, slots)| Candidate::new(*name, move || rate(&slots[..level], LAUNCHES / level)))
        .collect();
    let pace = bench.back_to_back(8);
    let series: Series = interleave(candidates, pace, &mut bench.shuffle);
    let title = format!("Launches per second, {level} at a time, each until it is gone");
    let section =
        Section::new(format!("throughput-{level}"), title, Unit::PerSecond, series, |_| Some(FLOOR.to_owned()));
    let order: Vec<String> = ways.iter().map(|(name, _)| (*name).to_owned()).collect();
    let section = section.in_order_of(&order);
    Ok(section.note(format!("each value is the rate over {LAUNCHES} launches")))
}

/// Launches per second, with a thread for each slot.
fn rate(slots: &[Launch<'_>], each: usize) -> Outcome<f64> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let run = |launch: &'_ Launch<'_>| (0..each).try_for_each(|_| launch());
        let threads: Vec<_> = slots.iter().map(|launch| scope.spawn(move || run(launch))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into())))
    })?;
    Ok((slots.len() * each) as f64 / began.elapsed().as_secs_f64())
}

fn ways<'a>(bench: &Bench<'a>) -> Outcome<Vec<Way<'a>>> {
    let ground = bench.ground;
    let slots = |make: &dyn Fn(usize) -> Outcome<Launch<'a>>| (0..16).map(make).collect::<Outcome<Vec<_>>>();
    let mut ways = vec![
        (FLOOR, slots(&|slot| floor(ground, slot))?),
        ("squall, library", slots(&|slot| library(ground, slot))?),
        ("squall run --rm", slots(&|slot| program(ground, slot))?),
    ];
    for kind in Kind::runtimes(bench.args) {
        ways.push((kind.title(), slots(&|slot| peer(ground, kind, slot))?));
    }
    Ok(ways)
}

fn floor(ground: &Ground, slot: usize) -> Outcome<Launch<'_>> {
    let pins = ground.pins(&ground.bed.run_root());
    let floor = Floor::new(ground, &format!("many-floor-{slot}"), &pins, container::EXIT)?;
    Ok(Box::new(move || timed(within(floor.whole(), None)?).map(drop)))
}

fn library(ground: &Ground, slot: usize) -> Outcome<Launch<'_>> {
    let id = format!("many-library-{slot}");
    Ok(Box::new(move || remove(ground.launch(&id, &ground.layers, container::EXIT)?)))
}

fn program(ground: &Ground, slot: usize) -> Outcome<Launch<'_>> {
    let (id, run_root) = (format!("many-squall-{slot}"), ground.bed.run_root());
    let command = move || ground.squall_run(&run_root, &["--rm"], &id, container::EXIT);
    Ok(Box::new(move || timed(within(command(), None)?).map(drop)))
}

fn peer(ground: &Ground, kind: Kind, slot: usize) -> Outcome<Launch<'_>> {
    let peer = Peer::new(ground, kind, &format!("many-{}-{slot}", kind.name()), container::EXIT)?;
    Ok(Box::new(move || timed(peer.whole()?).map(drop)))
}
