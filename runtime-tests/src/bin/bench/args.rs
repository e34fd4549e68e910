//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures Squall, its peers on an equal bundle, and the kernel's share of the same work, in turn.
///
/// Every candidate makes the same container: seven layers, one bind, limits of memory, CPU and
/// processes, namespaces of its own for pids, mounts, ipc, host name, cgroups and network, the
/// standard mounts and devices, masked and read-only paths, no capability, uid 65534. What the
/// peers have not is said under each table. Times are of the caller's clock unless a row says
/// "record".
///
/// "paced" measures wait before each run, and so pay what a single launch pays: on cgroup v1 the
/// first move of a process into a cgroup after an idle while waits for a grace period of the
/// kernel. "back to back" measures do not.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench", max_term_width = 120)]
pub struct Args {
    /// A quarter of the rounds
    #[arg(long)]
    pub quick: bool,

    /// Only this measure; can be given several times
    #[arg(long, value_enum, value_name = "NAME")]
    pub only: Vec<Name>,

    /// Rounds of each measure
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,

    /// Milliseconds before each run of a paced measure
    #[arg(long, value_name = "MS", default_value_t = 100)]
    pub pause: u64,

    /// Decides the order in which the candidates run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Leave these peers out: crun, runc, bwrap, podman, conmon
    #[arg(long, value_name = "PEER")]
    pub without: Vec<String>,

    /// Containers that are alive at a time in the measure "scale"
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2 * FEWEST as i64..))]
    pub scale: u32,

    /// Write every figure to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Draw a chart of the launches into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// The program `squall` [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub squall: Option<PathBuf>,
}

/// The measure of many compares so many launches at its beginning with as many at its end.
pub const FEWEST: usize = 10;

/// The measures, in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// From the library's call to the workload's exec, and where that time goes
    Library,
    /// `squall run -d` until it returns
    Detached,
    /// `squall run --rm` from start to end
    Whole,
    /// Launches at 1, 4 and 16 at a time
    Throughput,
    /// A further program in a running container, from start to end, alone and 16 at a time
    Exec,
    /// From a signal, or `stop`, to gone
    Ending,
    /// Private memory of spawner and monitor, and of conmon
    Memory,
    /// Wake-ups of monitor and conmon while nothing happens
    Idle,
    /// 1, 7 and 40 layers: pinned, mounted but not pinned, to be attached
    Layers,
    /// A host with 0, 100 and 500 other mounts
    Mounts,
    /// The system calls that make a container, counted by strace: Squall's beside the floor's
    Work,
    /// A thousand containers alive at a time, and what a further one of the same image adds to the
    /// page cache
    Scale,
}

impl Args {
    /// Whether this measure is asked for.
    pub fn asks_for(&self, name: Name) -> bool {
        self.only.is_empty() || self.only.contains(&name)
    }

    /// Whether this peer is left out.
    pub fn without(&self, peer: &str) -> bool {
        self.without.iter().any(|name| name == peer)
    }

    /// Rounds, where that many are usual.
    pub fn rounds(&self, usual: usize) -> usize {
        self.rounds.unwrap_or(if self.quick { usual.div_ceil(4) } else { usual }).max(1)
    }

    /// Containers that are alive at a time in the measure of many.
    pub fn scale(&self) -> usize {
        let all = self.scale as usize;
        if self.quick { all.div_ceil(4).max(2 * FEWEST) } else { all }
    }

    /// Before each run of a paced measure.
    pub fn pause(&self) -> Duration {
        Duration::from_millis(self.pause)
    }
}
