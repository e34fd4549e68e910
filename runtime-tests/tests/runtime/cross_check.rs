//! Our reading of a cgroup beside that of cgroups-rs, on cgroups in which something goes on.
//!
//! The cgroup is frozen while both read, so that they can be asked for the same numbers.

use std::fs;
use std::path::PathBuf;

use runtime_tests::{Bed, Worker, cases, host, until};
use squall::cgroup::{CgroupPath, Layout, Usage};

cases![
    processor_time_and_throttling_are_what_cgroups_rs_reads,
    memory_and_its_limit_are_what_cgroups_rs_reads,
    processes_and_their_limit_are_what_cgroups_rs_reads,
    without_limits_neither_reads_one,
];

fn path_of(worker: &Worker<'_>) -> CgroupPath {
    CgroupPath::new(worker.cgroup()).unwrap()
}

fn ours(worker: &Worker<'_>) -> Usage {
    Usage::read(&Layout::detect().unwrap(), &path_of(worker))
}

/// The file that stands a cgroup still, and the words for it: v1 and v2.
fn freezer(worker: &Worker<'_>) -> (PathBuf, [&'static str; 2]) {
    let directories = host::cgroup_directories(&worker.cgroup());
    let files = [("freezer.state", ["FROZEN", "THAWED"]), ("cgroup.freeze", ["1", "0"])];
    let all = files
        .into_iter()
        .flat_map(|(name, words)| directories.iter().map(move |directory| (directory.join(name), words)));
    all.into_iter().find(|(file, _)| file.exists()).expect("every machine can freeze a cgroup")
}

/// Ours and that of cgroups-rs, of the same instant; then the worker is ended.
fn both(worker: &Worker<'_>) -> [Usage; 2] {
    let (file, [freeze, thaw]) = freezer(worker);
    fs::write(&file, freeze).unwrap();
    until("the cgroup is frozen", || is_frozen(&file).then_some(()));
    // The kernel gives back memory of its own accord: only figures between two equal looks are of
    // one moment.
    let (ours, theirs) = until("the figures stay the same", || {
        let (before, theirs, after) = (ours(worker), Usage::by_cgroups_rs(&path_of(worker)), ours(worker));
        (before == after).then_some((before, theirs))
    });
    fs::write(&file, thaw).unwrap();
    worker.kill();
    assert!(ours.pids_peak.is_none_or(|peak| Some(peak) >= ours.pids_current), "{ours:?}");
    // What that crate has as well.
    let mut known = Usage::default();
    known.cpu_usage_us = ours.cpu_usage_us;
    known.cpu_throttled_periods = ours.cpu_throttled_periods;
    known.cpu_throttled_us = ours.cpu_throttled_us;
    known.memory_current_bytes = ours.memory_current_bytes;
    known.memory_peak_bytes = ours.memory_peak_bytes;
    known.memory_limit_bytes = ours.memory_limit_bytes;
    known.oom_kills = ours.oom_kills;
    known.pids_current = ours.pids_current;
    known.pids_limit = ours.pids_limit;
    known.pids_refused = ours.pids_refused;
    [known, theirs]
}

fn is_frozen(file: &std::path::Path) -> bool {
    match file.file_name().is_some_and(|name| name == "freezer.state") {
        true => fs::read_to_string(file).unwrap().trim_end() == "FROZEN",
        false => fs::read_to_string(file.with_file_name("cgroup.events")).unwrap().contains("frozen 1"),
    }
}

fn processor_time_and_throttling_are_what_cgroups_rs_reads(bed: &Bed) {
    let worker = bed.start(&["--cpus", "0.2"], &["burn", "600000"]);
    until("it was throttled", || ours(&worker).cpu_throttled_periods.filter(|periods| *periods > 3));
    let [ours, theirs] = both(&worker);
    assert_eq!(ours, theirs);
    assert!(
        ours.cpu_usage_us.is_some_and(|us| us > 20_000) && ours.cpu_throttled_us.is_some_and(|us| us > 0),
        "{ours:?}"
    );
}

fn memory_and_its_limit_are_what_cgroups_rs_reads(bed: &Bed) {
    let worker = bed.start(&["--memory", "32m", "--writable=16m"], &["family", "600000"]);
    until("it runs", || ours(&worker).pids_current.filter(|count| *count == 2));
    let [ours, theirs] = both(&worker);
    assert_eq!(ours, theirs);
    assert_eq!(ours.memory_limit_bytes, Some(32 << 20));
    assert!(
        ours.memory_current_bytes.is_some_and(|bytes| bytes > 0) && ours.memory_peak_bytes >= ours.memory_current_bytes,
        "{ours:?}"
    );
}

fn processes_and_their_limit_are_what_cgroups_rs_reads(bed: &Bed) {
    // The fork of a second process is refused.
    let worker = bed.start(&["--pids-limit", "1"], &["family", "600000"]);
    until("a fork was refused", || ours(&worker).pids_refused.filter(|count| *count > 0));
    let [ours, theirs] = both(&worker);
    assert_eq!(ours, theirs);
    assert_eq!((ours.pids_current, ours.pids_limit, ours.pids_refused), (Some(1), Some(1), Some(1)));
}

fn without_limits_neither_reads_one(bed: &Bed) {
    let worker = bed.start(&["--pids-limit", "-1"], &["sleep", "600000"]);
    let [ours, theirs] = both(&worker);
    assert_eq!(ours, theirs);
    assert_eq!((ours.memory_limit_bytes, ours.pids_limit, ours.oom_kills), (None, None, Some(0)));
}
