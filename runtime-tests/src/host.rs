//! The host, as the kernel shows it: without any of the code under test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long something may take to come true.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at a condition that no descriptor tells of.
const INTERVAL: Duration = Duration::from_millis(10);

/// How many times slower than a real one this machine is by its own word: an emulated one needs it.
/// Every bound of a wait is longer by it.
const SLOWNESS: &str = "SQUALL_TEST_SLOWNESS";

/// Whether a process handles this signal.
pub fn catches(pid: u32, signal: i32) -> bool {
    has_signal(pid, "SigCgt", signal)
}

/// Whether a process ignores this signal.
pub fn ignores(pid: u32, signal: i32) -> bool {
    has_signal(pid, "SigIgn", signal)
}

/// False for a process that has ended.
fn has_signal(pid: u32, set: &str, signal: i32) -> bool {
    u64::from_str_radix(&status(pid, set), 16).unwrap_or_default() & 1 << (signal - 1) != 0
}

/// A bound of a wait, on this machine.
pub fn bound(patience: Duration) -> Duration {
    let slowness = std::env::var(SLOWNESS).ok().and_then(|text| text.parse().ok());
    patience.saturating_mul(slowness.unwrap_or(1))
}

/// Looks until there is an answer; without one in time, the test fails with this sentence.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + bound(PATIENCE);
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {:?}: {what}", bound(PATIENCE));
        pause();
    }
}

/// A moment between two looks.
pub fn pause() {
    std::thread::park_timeout(INTERVAL);
}

/// The descriptors of a process: number and what it leads to.
pub fn open_fds(pid: &str) -> BTreeMap<String, String> {
    // The list is taken first: reading the directory is a descriptor, too.
    let entries: Vec<PathBuf> =
        fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let named = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let links =
        entries.iter().filter_map(|path| Some((named(path), fs::read_link(path).ok()?.to_string_lossy().into_owned())));
    links.collect()
}

/// Where each cgroup hierarchy is mounted.
pub fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
    let of = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (path, kind) = (words.next()?, words.next()?);
        (kind == "cgroup" || kind == "cgroup2").then(|| PathBuf::from(path))
    };
    mounts.lines().filter_map(of).collect()
}

/// A cgroup's directory in every hierarchy in which it exists.
pub fn cgroup_directories(path: &str) -> Vec<PathBuf> {
    hierarchies()
        .into_iter()
        .map(|root| root.join(path.trim_start_matches('/')))
        .filter(|directory| directory.is_dir())
        .collect()
}

/// The directory and all below it, deepest first.
pub fn tree(directory: &Path) -> Vec<PathBuf> {
    let below = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut directories: Vec<PathBuf> = below.flat_map(|entry| tree(&entry.path())).collect();
    directories.push(directory.to_owned());
    directories
}

/// The pids of a cgroup and of all below it.
pub fn processes_in(cgroup: &Path) -> Vec<u32> {
    let of = |directory: PathBuf| fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let pids: Vec<u32> = tree(cgroup).into_iter().flat_map(|directory| pids(&of(directory))).collect();
    pids
}

fn pids(text: &str) -> Vec<u32> {
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The pids of all processes.
pub fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The children of a process's first thread, oldest first.
pub fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// A line of `/proc/<pid>/status`, without its key.
pub fn status(pid: u32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap_or_default();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether this process has a capability, by its number.
pub fn has_capability(number: u32) -> bool {
    let mask = u64::from_str_radix(&status(std::process::id(), "CapEff"), 16).unwrap_or(0);
    mask & (1 << number) != 0
}

/// Whether there is such a process, and it is not only waiting to be reaped. One whose first thread
/// has ended lives on with the others.
pub fn is_alive(pid: u32) -> bool {
    let state = status(pid, "State");
    !state.is_empty() && (!state.starts_with('Z') || status(pid, "Threads") != "1")
}
