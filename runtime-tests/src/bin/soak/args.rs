//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Runs containers of many kinds from birth to death, several at a time, and kills Squall's own
/// processes at random instants meanwhile.
///
/// Every cycle is the whole life of one container, drawn from the seed: image, way to launch, end,
/// and perhaps a victim. The end that is reported has to be the one that was caused; an end may be
/// lost only where the container's monitor was the victim. Meanwhile others reap, unmount pins and
/// remove hint files. After all, `squall reap --keep 0` is called once, and nothing may be left.
///
/// Ends with 1 if something is left, an end is false, or a launch or command fails that has no
/// reason to.
#[derive(Debug, Clone, Parser)]
#[command(name = "soak", max_term_width = 120)]
pub struct Args {
    /// Containers
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub cycles: u64,

    /// So many at a time
    #[arg(long, value_name = "P", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub parallel: u16,

    /// Decides everything that is drawn [default: the clock's]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,

    /// Share of the cycles with a victim
    #[arg(long, value_name = "PERCENT", default_value_t = 40, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub victims: u8,

    /// The first cycle's number: with --cycles 1 one cycle of a longer run comes again, alone
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub first: u64,

    /// Tell each cycle
    #[arg(long)]
    pub verbose: bool,

    /// The program `squall` [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub squall: Option<PathBuf>,
}
