//! A container that is left running: until the program returns.

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::Bench;
use crate::command::{timed, within};
use crate::floor::Floor;
use crate::ground::Ground;
use crate::peers::{Kind, Peer};
use crate::report::{Section, Unit};
use crate::rounds::{Candidate, interleave};
use crate::{Outcome, container};

const FLOOR: &str = "floor";

pub fn measure(bench: &mut Bench<'_>) -> Outcome<Vec<Section>> {
    let ground = bench.ground;
    let pins = ground.pins(&ground.bed.run_root());
    let floor = Floor::new(ground, "detached-floor", &pins, container::STAY)?;
    let kinds = Kind::all(bench.args).into_iter().filter(|kind| *kind != Kind::Bwrap);
    let make = |kind: Kind| Peer::new(ground, kind, &format!("detached-{}", kind.name()), container::STAY);
    let peers = kinds.map(|kind| Ok((kind, make(kind)?))).collect::<Outcome<Vec<_>>>()?;
    let mut sections = Vec::new();
    for (pacing, suffix, pace) in bench.both_ways(40) {
        let mut candidates =
            vec![Candidate::new(FLOOR, || run_floor(&floor)), Candidate::new("squall run -d", || run_squall(ground))];
        for (kind, peer) in &peers {
            candidates.push(Candidate::new(format!("{} -d", kind.title()), || run_peer(peer)));
        }
        let series = interleave(candidates, pace, &mut bench.shuffle);
        let (name, title) = (format!("detached-{suffix}"), format!("Detached, until the program returns, {pacing}"));
        let section = Section::new(name, title, Unit::Microseconds, series, |_| Some(FLOOR.to_owned())).sorted();
        sections.push(section.note("the worker is killed and removed outside the time"));
    }
    Ok(sections)
}

fn run_floor(floor: &Floor<'_>) -> Outcome<f64> {
    let done = timed(within(floor.detached(), None)?)?;
    end(done.stdout.trim().parse()?)?;
    floor.remove_cgroups()?;
    Ok(done.microseconds)
}

fn run_squall(ground: &Ground) -> Outcome<f64> {
    const ID: &str = "detached-squall";
    let run_root = ground.bed.run_root();
    let done = timed(within(ground.squall_run(&run_root, &["--detach"], ID, container::STAY), None)?)?;
    timed(ground.squall(&run_root, &["rm", "--force", ID]))?;
    Ok(done.microseconds)
}

fn run_peer(peer: &Peer<'_>) -> Outcome<f64> {
    let command = peer.detached()?.ok_or("it detaches nothing")?;
    let done = timed(command)?;
    let pid = peer.pid()?;
    // Its runtime waits until it is gone, and it is ours to reap; podman's belongs to conmon.
    let reaper = std::thread::spawn(move || Pid::from_raw(pid).map(|pid| waitpid(Some(pid), WaitOptions::empty())));
    let deleted = timed(peer.delete()?);
    reaper.join().map_err(|_| "a thread panicked")?;
    deleted?;
    Ok(done.microseconds)
}

/// Kills a worker that was left to us, and reaps it.
fn end(pid: i32) -> Outcome<()> {
    let pid = Pid::from_raw(pid).ok_or("no pid")?;
    kill_process(pid, Signal::KILL)?;
    waitpid(Some(pid), WaitOptions::empty())?;
    Ok(())
}
