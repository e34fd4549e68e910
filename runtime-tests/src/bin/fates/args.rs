//! The command line.

use std::time::Duration;

use clap::Parser;

/// Launches workers with random fates from one program with 32 threads, which is killed at random
/// moments and started again.
///
/// The fate of each worker, and so the reason of its end, is drawn from the seed. The program that
/// embeds the library launches them, executes programs in them, signals, pauses, stops and waits
/// for them; started again it takes up what it finds. After all, the record of each worker has to
/// have the true reason, and nothing may be left.
///
/// Ends with 1 if a reason is not true, something is left, or it is not over in time.
#[derive(Debug, Clone, Parser)]
#[command(name = "fates", max_term_width = 120)]
pub struct Args {
    /// Workers
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub workers: u64,

    /// So many at a time, at most
    #[arg(long, value_name = "P", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub alive: u16,

    /// So often the program is killed
    #[arg(long, value_name = "K", default_value_t = 60)]
    pub kills: u64,

    /// Decides everything that is drawn [default: the clock's]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,

    /// Seconds after which it is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub bound: u64,

    /// Tell each word of the program
    #[arg(long)]
    pub verbose: bool,
}

impl Args {
    /// Longest time for all of it, on this machine.
    pub fn bound(&self) -> Duration {
        runtime_tests::host::bound(Duration::from_secs(self.bound))
    }
}
