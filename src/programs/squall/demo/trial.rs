//! One worker of the demonstration by itself: what `doctor` ends with.

use serde::{Deserialize, Serialize};

use super::image::Image;
use super::leftovers::Leftovers;
use super::worker::{Stage as Bench, Worker};
use squall::cgroup::{Controller, Layout, Limits};
use squall::error::Result;
use squall::privilege;
use squall::record::Exit;
use squall::request::Network;

/// What the worker returns.
const CODE: u8 = 7;

/// How long it lives: long enough for its limits to be read back.
const SPAN_MS: &str = "100";

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// The limits that were in force.
    pub(crate) limits: String,
    pub(crate) ending: String,
    pub(crate) launch_microseconds: u64,
    /// What was left afterwards, by kind.
    pub(crate) left: String,
    /// Whether it ended as it should, under the limits asked for, and left nothing.
    pub(crate) passed: bool,
}

/// Runs it, under as many limits as the machine has controllers for.
pub(crate) fn run(tag: &str) -> Result<Trial> {
    privilege::check(Network::None)?;
    let image = Image::write(tag)?;
    let bench = Bench::set_up(tag, &image)?;
    let limits = possible_limits();
    let asked = (limits.memory_bytes, limits.pids);
    let done = bench.run(Worker::new("trial", &["exit-after", SPAN_MS, &CODE.to_string()]).limits(limits));
    let left = bench.tear_down().and_then(|processes| Leftovers::count(tag, &processes));
    let (done, left) = (done?, left?);
    let in_force = (done.usage.memory_limit_bytes, done.usage.pids_limit);
    // A worker that has ended is not under its limits any more, and its counters may be gone.
    let kept = |asked: Option<u64>, in_force: Option<u64>| asked.is_none() || in_force.is_none() || asked == in_force;
    Ok(Trial {
        limits: in_words(asked.0, asked.1, done.quota),
        ending: super::ending(&done.exit.exit),
        launch_microseconds: done.record.launch_microseconds,
        passed: left.total() == 0
            && done.exit.exit == Exit::Code { code: CODE }
            && kept(asked.0, in_force.0)
            && kept(asked.1, in_force.1),
        left: left.in_words(),
    })
}

/// Clears away what a trial left that came to no end.
pub(crate) fn clear(tag: &str) -> Result<()> {
    let nothing = Image { layers: Vec::new(), bytes: Vec::new() };
    Bench::set_up(tag, &nothing)?.tear_down().map(drop)
}

fn possible_limits() -> Limits {
    let layout = Layout::detect().unwrap_or_else(|_| Layout::new(Vec::new(), "/proc"));
    let has = |controller| layout.holder(controller).is_some();
    Limits {
        memory_bytes: has(Controller::Memory).then_some(32 * super::MIB),
        pids: has(Controller::Pids).then_some(16),
        cpu_quota_us: has(Controller::Cpu).then_some(50_000),
        cpu_period_us: has(Controller::Cpu).then_some(100_000),
        ..Limits::default()
    }
}

fn in_words(memory: Option<u64>, pids: Option<u64>, quota: Option<f64>) -> String {
    let told: Vec<String> = [
        memory.map(|bytes| format!("{} MiB", bytes / super::MIB)),
        pids.map(|pids| format!("{pids} processes")),
        quota.map(|quota| format!("{quota:.2} CPUs")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if told.is_empty() { "no limits".to_owned() } else { told.join(", ") }
}
