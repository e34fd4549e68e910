//! The soak: thousands of containers, Squall's own processes killed meanwhile. `runtime-tests/soak`
//! builds and runs it.
//!
//! One process, which embeds Squall twice: its spawners are never victims, so what they hold at the
//! end tells whether they leak. It lives in a mount namespace of its own, so that no neighbour's
//! copy of the machine's mounts keeps its layers. Threads live cycles; each cycle is drawn from the
//! seed and its own number alone, and so comes again.

mod args;
mod cycle;
mod door;
mod embedder;
mod ground;
mod images;
mod judge;
mod plan;
mod processes;
mod tally;
mod vandal;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use runtime_tests::resources::{self, Resource};
use runtime_tests::{interruption, leaks, needs};

use crate::args::Args;
use crate::ground::Ground;
use crate::plan::Plan;
use crate::tally::{Problem, Report, Tally};

/// What can go wrong is told to a person, and nobody decides by it.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long the programs of the cycles may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    embedder::become_one();
    soak(&Args::parse()).unwrap_or_else(|error| {
        eprintln!("soak: {error}");
        ExitCode::FAILURE
    })
}

fn soak(args: &Args) -> Outcome<ExitCode> {
    needs::check()?;
    runtime_tests::namespace::leave_the_machines()?;
    let ground = Ground::make(args)?;
    // After the spawners were made: they have nothing to do with it.
    interruption::expect();
    let clean = soak_on(&ground, args);
    // Leaks are counted by now; this takes the directories away, and whatever else is left.
    let left = leaks::look_and_clear(&ground.bed);
    if interruption::has_come() {
        eprintln!("soak: interrupted; cleared away. What is told above may come of that");
        return Ok(ExitCode::from(130));
    }
    let clean = clean? && left.is_empty();
    left.iter().for_each(|object| eprintln!("soak: {object}"));
    Ok(ExitCode::from(u8::from(!clean)))
}

/// Whether all was well.
fn soak_on(ground: &Ground, args: &Args) -> Outcome<bool> {
    ground.warm_up()?;
    let seed = args.seed.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos() as u64));
    println!("seed {seed}, {} cycles from {}, {} at a time", args.cycles, args.first, args.parallel);
    reap(ground)?;
    let before = settled(ground, &[]);
    let began = Instant::now();
    let mut tally = live(ground, args, seed);
    if processes::look(PATIENCE, || processes::marked(ground.bed.tag()).is_empty().then_some(())).is_none() {
        let left = processes::marked(ground.bed.tag());
        tally.add_problem(&Problem::Broken(format!("these do not end: {left:?}")));
    }
    let span = began.elapsed();
    reap(ground)?;
    let after = settled(ground, &before);
    let leaked = resources::compare(&before, &after);
    println!("{}", tally.line(leaked, span));
    Ok(leaked == 0 && tally.is_clean())
}

fn live(ground: &Ground, args: &Args, seed: u64) -> Tally {
    let (next, over) = (AtomicU64::new(args.first), AtomicBool::new(false));
    let tally = Mutex::new(Tally::default());
    let add = |report: Report| {
        if args.verbose {
            eprintln!("{report:?}");
        }
        tally.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).add(&report);
    };
    let worker = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= args.first + args.cycles || interruption::has_come() {
                break;
            }
            add(cycle::run(ground, Plan::draw(seed, number, args.victims)));
        }
    };
    let (disturbances, problems) = std::thread::scope(|scope| {
        let vandal = scope.spawn(|| vandal::run(ground, seed, &over));
        let workers: Vec<_> = (0..args.parallel).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().for_each(|worker| drop(worker.join()));
        over.store(true, Ordering::Relaxed);
        vandal.join().unwrap_or_default()
    });
    let mut tally = tally.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    tally.disturbances = disturbances;
    problems.iter().for_each(|problem| tally.add_problem(problem));
    tally
}

/// The one call that has to clear everything.
fn reap(ground: &Ground) -> Outcome<()> {
    let reaped = ground.squall(&["reap", "--keep", "0"]).attempt()?;
    if reaped.code() == 0 { Ok(()) } else { Err(format!("reaping fails: {reaped}").into()) }
}

fn settled(ground: &Ground, before: &[Resource]) -> Vec<Resource> {
    resources::settled(before, || {
        let names = ["keeper", "forked spawner", "spawner program"];
        let helpers: Vec<(&str, u32)> = names.into_iter().zip(ground.spawners.iter().map(|known| known.pid)).collect();
        let seen = ground.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        resources::look(&ground.bed, &helpers, &seen)
    })
}
