//! Where it was measured.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::args::Args;
use crate::conmon;
use crate::ground::Ground;
use crate::peers::Kind;

/// The machine and the programs on it.
pub fn describe(ground: &Ground, args: &Args) -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let peers =
        Kind::all(args).into_iter().map(Kind::name).chain((!args.without(conmon::NAME)).then_some(conmon::NAME));
    let peers: Vec<String> = peers.map(version).collect();
    json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "processors": processors,
        "load": read("/proc/loadavg"),
        "hierarchies": ground.layout.hierarchies().len(),
        "mounts": read("/proc/self/mounts").lines().count(),
        "peers": peers,
    })
}

/// In a line.
pub fn line(machine: &Value) -> String {
    let peers: Vec<&str> = machine["peers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "kernel {}, {} processors, {} cgroup hierarchies, load {}\n{}",
        machine["kernel"].as_str().unwrap_or_default(),
        machine["processors"],
        machine["hierarchies"],
        machine["load"].as_str().unwrap_or_default(),
        peers.join(", ")
    )
}

fn version(program: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().map_or_else(|| format!("{program} is not there"), str::to_owned)
}
