//! What a test left: only objects that carry the tag of its own bed are looked at.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::bed::Bed;
use crate::host;

/// How long the kernel may take to let go of what has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Milliseconds instead of `PATIENCE`, for the tests that leak on purpose.
pub const PATIENCE_MS: &str = "SQUALL_TEST_LEAK_PATIENCE_MS";

/// What is left of a bed, each object by its name; then everything is cleared, by plain means.
pub fn look_and_clear(bed: &Bed) -> Vec<String> {
    let mut found = remove_containers(bed);
    let asked = std::env::var(PATIENCE_MS).ok().and_then(|text| text.parse().ok());
    let deadline = Instant::now() + asked.map_or(host::bound(PATIENCE), Duration::from_millis);
    let left = loop {
        let failure = reap(bed);
        let left: Vec<String> = failure.into_iter().chain(look(bed)).collect();
        if left.is_empty() || Instant::now() >= deadline {
            break left;
        }
        host::pause();
    };
    found.extend(left);
    clear(bed);
    found.into_iter().map(|object| format!("leak: {object}")).collect()
}

/// The cgroups that `squall` uses where none are named. No test may need them: they are everybody's.
pub fn shared_cgroups() -> Vec<PathBuf> {
    host::cgroup_directories("/squall")
}

/// Removes the records of what has ended, as a caller would. Nothing may run any more.
fn remove_containers(bed: &Bed) -> Vec<String> {
    if !bed.run_root().exists() {
        return Vec::new();
    }
    let listed = bed.squall(&["ps", "--all", "--json"]).output();
    let Ok(Value::Array(containers)) = serde_json::from_slice(&listed.stdout) else {
        return vec![format!("squall ps fails: {listed}")];
    };
    let mut problems = Vec::new();
    for container in containers {
        let (id, phase) =
            (container["id"].as_str().unwrap_or_default(), container["phase"].as_str().unwrap_or_default());
        match phase {
            "exited" => {
                let removed = bed.squall(&["rm", id]).output();
                problems.extend((removed.code() != 0).then(|| format!("squall rm fails: {removed}")));
            }
            // Reaping is what clears these.
            "lost" | "launching" => {}
            _ => problems.push(format!("container {container}")),
        }
    }
    problems
}

fn reap(bed: &Bed) -> Option<String> {
    if !bed.run_root().exists() && host::cgroup_directories(&bed.cgroup()).is_empty() {
        return None;
    }
    let reaped = bed.squall(&["reap", "--keep", "0"]).output();
    (reaped.code() != 0).then(|| format!("squall reap fails: {reaped}"))
}

/// What carries the bed's tag at this moment.
pub fn look(bed: &Bed) -> Vec<String> {
    by_kind(bed).into_iter().flat_map(|(_, objects)| objects).collect()
}

/// What there is of this bed, by kind.
pub fn by_kind(bed: &Bed) -> [(&'static str, Vec<String>); 5] {
    [
        ("files in the run root", files(bed)),
        ("mounts", mounts(bed)),
        ("loop devices", loop_devices(bed)),
        ("cgroups", cgroups(bed)),
        ("processes", processes(bed)),
    ]
}

/// Everything in the run root but its own directories, and who has which uid.
fn files(bed: &Bed) -> Vec<String> {
    const OWN: [&str; 5] = ["containers", "layers", "logs", "removed", "users"];
    let mut found = Vec::new();
    const LOOKED_INTO: [&str; 4] = ["containers", "layers", "logs", "removed"];
    for directory in LOOKED_INTO.map(|name| bed.run_root().join(name)).into_iter().chain([bed.run_root()]) {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let own = directory == bed.run_root() && OWN.iter().any(|name| entry.file_name() == *name);
            if !own {
                found.push(format!("file {}", entry.path().display()));
            }
        }
    }
    found
}

fn mounts(bed: &Bed) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
    mounts.lines().filter(|line| line.contains(bed.tag())).map(|line| format!("mount {line}")).collect()
}

fn loop_devices(bed: &Bed) -> Vec<String> {
    bound_devices(bed).into_iter().map(|(device, file)| format!("loop device {device}: {file}")).collect()
}

/// Loop devices and their files, of this bed's only.
fn bound_devices(bed: &Bed) -> Vec<(String, String)> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let bound = devices.filter_map(|device| {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
        let name = device.file_name().to_string_lossy().into_owned();
        file.contains(bed.tag()).then(|| (name, file.trim_end().to_owned()))
    });
    bound.collect()
}

fn cgroups(bed: &Bed) -> Vec<String> {
    let mut hierarchies: BTreeMap<(PathBuf, Vec<u32>), usize> = BTreeMap::new();
    for root in host::hierarchies() {
        let top = root.join(&bed.cgroup()[1..]);
        for directory in host::tree(&top).into_iter().filter(|directory| directory.is_dir()) {
            let path = Path::new("/").join(directory.strip_prefix(&root).unwrap_or(&directory));
            *hierarchies.entry((path, host::processes_in(&directory))).or_default() += 1;
        }
    }
    // Units of a service manager's, by their names.
    for unit in fs::read_dir("/sys/fs/cgroup/system.slice").into_iter().flatten().flatten().map(|entry| entry.path()) {
        if unit.is_dir() && unit.to_string_lossy().contains(bed.tag()) {
            let path = Path::new("/").join(unit.strip_prefix("/sys/fs/cgroup").unwrap_or(&unit));
            *hierarchies.entry((path, host::processes_in(&unit))).or_default() += 1;
        }
    }
    let named = |((path, pids), count): (&(PathBuf, Vec<u32>), &usize)| {
        format!("cgroup {} in {count} hierarchies, with processes {pids:?}", path.display())
    };
    hierarchies.iter().map(named).collect()
}

/// Processes whose command line or environment carries the tag.
fn processes(bed: &Bed) -> Vec<String> {
    let carries = |pid: &u32| ["cmdline", "environ"].iter().any(|file| file_of(*pid, file).contains(bed.tag()));
    host::processes()
        .into_iter()
        .filter(carries)
        .map(|pid| format!("process {pid}: {}", file_of(pid, "cmdline")))
        .collect()
}

fn file_of(pid: u32, file: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Takes everything away without the code under test. What cannot be taken away stays: it has been
/// named.
pub fn clear(bed: &Bed) {
    clear_processes(bed);
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
    for path in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|path| path.contains(bed.tag())) {
        let _ = unmount(path, UnmountFlags::DETACH);
    }
    for (device, _) in bound_devices(bed) {
        let _ = Command::new("losetup").args(["--detach", &format!("/dev/{device}")]).status();
    }
    remove_all(bed.directory());
}

/// More than once: what is killed may be replaced by somebody who watches it, and a launch may be
/// under way.
fn clear_processes(bed: &Bed) {
    let deadline = Instant::now() + host::bound(PATIENCE);
    loop {
        let directories = host::cgroup_directories(&bed.cgroup());
        let mut pids: Vec<u32> = directories.iter().flat_map(|directory| host::processes_in(directory)).collect();
        pids.extend(host::processes().into_iter().filter(|pid| file_of(*pid, "environ").contains(bed.tag())));
        for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid as i32)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        directories.iter().flat_map(|directory| host::tree(directory)).for_each(|directory| thaw(&directory));
        let trees = directories.iter().flat_map(|directory| host::tree(directory));
        trees.for_each(|directory| drop(fs::remove_dir(directory)));
        let rest = directories.iter().any(|directory| directory.exists());
        if (pids.is_empty() && !rest) || Instant::now() >= deadline {
            return;
        }
        host::pause();
    }
}

/// What is frozen on v1 does not die of a signal.
fn thaw(directory: &Path) {
    for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        let path = directory.join(file);
        if path.exists() {
            let _ = fs::write(path, value);
        }
    }
}

fn remove_all(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory) {
        eprintln!("cannot remove {}: {error}", directory.display());
    }
}
