//! A supervisor with many threads that is killed again and again: whatever happens to it, each
//! worker ends by the reason that was planned, and its record says so. `runtime-tests/fates` builds
//! and runs it.
//!
//! Two programs, this same file. The *keeper* owns the plan, starts the embedder, kills it at random
//! moments, and judges at the end; it lives in a mount namespace of its own, so that no neighbour's
//! copy of the machine's mounts keeps its layers. The *embedder* has the threads and the runtime. It
//! says what it is about to do before it does it, and how workers ended; all it knows after a
//! restart is what the run root holds, and whose launch was refused.

mod args;
mod embedder;
mod ground;
mod journal;
mod judge;
mod keeper;
mod kernel_log;
mod life;
mod plan;
mod report;
mod word;

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use runtime_tests::resources::{self, Resource};
use runtime_tests::{Bed, host, interruption, leaks, needs, roles};
use squall::Container;
use squall::record::ProcessId;

use crate::args::Args;
use crate::ground::Ground;
use crate::journal::Journal;
use crate::report::Report;

/// What can go wrong is told to a person. A thread decides by the library's errors alone.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    roles::become_one_of(&[&[(ground::EMBEDDER, embedder::embed)]]);
    keep(&Args::parse()).unwrap_or_else(|error| {
        eprintln!("fates: {error}");
        ExitCode::FAILURE
    })
}

fn keep(args: &Args) -> Outcome<ExitCode> {
    needs::check()?;
    runtime_tests::namespace::leave_the_machines()?;
    interruption::expect();
    let program = roles::this_program().with_file_name("squall");
    let bed = Bed::new(&format!("fates-{:07}", std::process::id()), &program);
    bed.make().map_err(|error| format!("cannot make {}: {error}", bed.directory().display()))?;
    let clean = keep_in(&bed, args);
    // Leaks are counted by now; this takes the directories away, and whatever else is left.
    let left = leaks::look_and_clear(&bed);
    if interruption::has_come() {
        eprintln!("fates: interrupted; cleared away. What is told above may come of that");
        return Ok(ExitCode::from(130));
    }
    left.iter().for_each(|object| eprintln!("fates: {object}"));
    Ok(ExitCode::from(u8::from(!(clean? && left.is_empty()))))
}

/// Whether all was well.
fn keep_in(bed: &Bed, args: &Args) -> Outcome<bool> {
    let seed = args.seed.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos() as u64));
    println!("seed {seed}: {} workers, {} at a time, {} kills", args.workers, args.alive, args.kills);
    let ground = Ground::make(bed, seed, args.workers, args.alive);
    let before = resources::settled(&[], || resources::look(bed, &[], &[]));
    let log = kernel_log::from_now();
    let began = Instant::now();
    let mut journal = Journal::new(args.verbose);
    let kills = keeper::supervise(&ground, args.kills, began + args.bound(), &mut journal)?;
    let span = began.elapsed();
    let log = log.read();

    let mut report = Report::default();
    let squall = ground.library(None)?;
    let mut seen = Vec::new();
    for plan in ground.plans() {
        let found = squall.attach(&plan.id());
        let problems = judge::judge(&plan, &found, &journal, &log);
        seen.extend(found.as_ref().ok().and_then(Container::record).map(|record| [record.init, record.monitor]));
        report.add(&plan, &found, problems);
        if let Ok(Container::Exited(exited)) = found {
            exited.remove()?;
        }
    }
    if !has_no_container(bed) {
        journal.problem(None, "with all records removed there are containers still: launches that were cut");
    }
    report.add_problems(&journal, kills, args.kills);
    let after = left(bed, &before, &seen.concat())?;
    report.leaks = resources::compare(&before, &after);
    report.print(&journal, kills, span);
    Ok(report.is_clean())
}

/// Whether every launch that a kill has cut has taken back what it made, before anybody reaps.
fn has_no_container(bed: &Bed) -> bool {
    const LOOKS: usize = 500;
    let is_empty = || fs::read_dir(bed.run_root().join("containers")).is_ok_and(|mut entries| entries.next().is_none());
    (0..LOOKS).any(|_| {
        is_empty() || {
            host::pause();
            false
        }
    })
}

/// What is there once the records are removed and idle layers are reaped.
fn left(bed: &Bed, before: &[Resource], seen: &[ProcessId]) -> Outcome<Vec<Resource>> {
    let reaped = bed.squall(&["reap", "--keep", "0"]).attempt()?;
    if reaped.code() != 0 {
        return Err(format!("reaping fails: {reaped}").into());
    }
    Ok(resources::settled(before, || resources::look(bed, &[], seen)))
}
