//! `squall`: the command line program. It parses, calls the library and prints; what a command
//! *does* is in the library.

#[macro_use]
mod print;

mod args;
mod attach;
mod commands;
mod doctor_page;
mod events;
mod exec;
mod foreground;
mod image;
mod limits;
mod logs;
mod metrics;
mod mounts;
#[cfg(feature = "pages")]
mod pages;
mod plan_page;
mod relay;
mod request;
mod resources;
mod run_and_plan;
mod seccomp;
mod security;
mod signals;
mod stats;
mod terminal;
mod top;
mod usage_error;

use clap::{CommandFactory, Parser};

use args::Cli;

/// Squall's own failures, as podman's: the worker's own codes stay below, 126 and 127 are the
/// program's.
const OWN_ERROR: i32 = 125;

fn main() {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            usage_error::say(&error, &Cli::command());
            std::process::exit(if error.use_stderr() { OWN_ERROR } else { 0 });
        }
    };
    let code = commands::run(cli).unwrap_or_else(|error| report(&error));
    std::process::exit(code);
}

/// Says what has failed; the exit code for it.
fn report(error: &squall::Error) -> i32 {
    tell!("{error}");
    match error.kind() {
        squall::ErrorKind::ProgramNotFound => 127,
        squall::ErrorKind::ProgramNotExecutable => 126,
        _ => OWN_ERROR,
    }
}
