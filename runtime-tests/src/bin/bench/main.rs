//! The benchmark: Squall beside its peers and beside the kernel's own share of the work.
//! `runtime-tests/bench` builds and runs it.
//!
//! Two processes. The *keeper* makes a bed, starts itself again as the *measurer*, waits for its
//! end, however that comes, and then looks for what is left and clears it. The measurer lives in a
//! mount namespace of its own, so that the machine's mounts are never touched. It runs the
//! candidates of a measure in turn, in another order each round, and judges nothing: no time is
//! asserted anywhere.

mod args;
mod bundle;
mod chart;
mod command;
mod conmon;
mod container;
mod floor;
mod floor_steps;
mod ground;
mod images;
mod keeper;
mod machine;
mod measures;
mod namespace;
mod peers;
mod report;
mod rounds;
mod statistics;
mod table;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;

/// What can go wrong is told to a person, and nobody decides by it.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match std::env::var(keeper::TAG) {
        Ok(tag) => measures::run(&args, &tag).map(|()| ExitCode::SUCCESS),
        Err(_) => keeper::keep(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("bench: {error}");
        ExitCode::FAILURE
    })
}
