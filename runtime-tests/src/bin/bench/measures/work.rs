//! Whether the floor does the same kernel work: the system calls of both, counted by strace.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::Bench;
use crate::command::timed;
use crate::floor::Floor;
use crate::report::{Section, Series, Unit};
use crate::{Outcome, container};

/// The calls that make, change or take away something of the kernel's that a container consists of.
const CALLS: [&str; 24] = [
    "capset",
    "clone",
    "clone3",
    "execve",
    "execveat",
    "fsconfig",
    "fsmount",
    "fsopen",
    "keyctl",
    "mkdir",
    "mknod",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "prctl",
    "rmdir",
    "sethostname",
    "setns",
    "setresuid",
    "symlink",
    "umount2",
    "unshare",
];

/// Calls by another name.
const ALIASES: [(&str, &str); 4] =
    [("mkdirat", "mkdir"), ("mknodat", "mknod"), ("symlinkat", "symlink"), ("vfork", "clone")];

pub fn measure(bench: &mut Bench<'_>) -> Outcome<Vec<Section>> {
    let ground = bench.ground;
    let run_root = ground.bed.run_root();
    let floor = Floor::new(ground, "work-floor", &ground.pins(&run_root), container::EXIT)?;
    let squall = ground.squall_run(&run_root, &["--rm"], "work-squall", container::EXIT);
    let mut series = Series::default();
    for (name, command) in [("floor", floor.whole()), ("squall run --rm", squall)] {
        let file = ground.bed.work().join("strace");
        match timed(traced(&command, &file)) {
            Ok(_) => {
                for (call, count) in count(&fs::read_to_string(&file)?) {
                    series.add(format!("{call}, {name}"), count as f64);
                }
            }
            Err(error) => series.failures.push(format!("strace of {name}: {error}")),
        }
    }
    let floor_of = |row: &str| row.split_once(',').map(|(call, _)| format!("{call}, floor"));
    let mut section = Section::new("work", "System calls that make a container", Unit::Calls, series, floor_of);
    section.rows.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(vec![
        section.note(
            "what squall has more of is said at the top of floor_steps.rs; rmdir counts unlinkat(AT_REMOVEDIR) too",
        ),
    ])
}

fn traced(command: &Command, file: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-s", "0", "-o"]).arg(file).arg(command.get_program()).args(command.get_args());
    strace
}

/// Calls by name; what was interrupted by another thread's line is counted where it begins.
fn count(trace: &str) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for line in trace.lines() {
        let Some((_, call)) = line.split_once(' ') else { continue };
        let Some((name, arguments)) = call.trim_start().split_once('(') else { continue };
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        let name = if name == "unlinkat" && arguments.contains("AT_REMOVEDIR") { "rmdir" } else { name };
        if let Some(known) = CALLS.iter().find(|known| **known == name) {
            *counts.entry(*known).or_default() += 1;
        }
    }
    counts
}
