//! Containers that are paused and resumed.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use runtime_tests::{Bed, Worker, cases, host, until};
use serde_json::json;
use squall::{Container, ErrorKind};

cases![
    what_is_paused_uses_no_processor_and_goes_on_when_it_is_resumed,
    all_processes_stand_still_when_the_pause_returns,
    what_is_paused_can_be_stopped_killed_and_removed,
    its_deadline_comes_although_it_is_paused,
    whoever_waits_for_a_paused_one_learns_the_end,
    pausing_and_resuming_can_be_repeated_and_names_what_cannot_be_paused,
    a_pause_by_somebody_else_is_seen,
];

/// Microseconds of processor time that it has used.
fn used(bed: &Bed, worker: &Worker<'_>) -> u64 {
    let usage = bed.squall(&["stats", "--no-stream", "--json", &worker.id]).json();
    usage[0]["cpu_usage_us"].as_u64().unwrap_or_else(|| panic!("{usage}"))
}

fn paused<'b>(bed: &'b Bed, flags: &[&str], probe: &[&str]) -> Worker<'b> {
    let worker = bed.start(flags, probe);
    assert_eq!(bed.squall(&["pause", &worker.id]).ok().text(), worker.id);
    assert_eq!(worker.phase(), "paused");
    worker
}

fn what_is_paused_uses_no_processor_and_goes_on_when_it_is_resumed(bed: &Bed) {
    let worker = bed.start(&[], &["burn", "600000"]);
    until("it works", || (used(bed, &worker) > 20_000).then_some(()));
    bed.squall(&["pause", &worker.id]).ok();
    let listed = bed.squall(&["ps", "--json"]).json();
    assert_eq!((&listed[0]["phase"], &listed[0]["pid"]), (&json!("paused"), &json!(worker.pid())), "{listed}");
    assert!(bed.squall(&["ps"]).ok().text().contains("paused"));
    let before = used(bed, &worker);
    std::thread::sleep(Duration::from_millis(500)); // time passing is what is tested
    assert_eq!(used(bed, &worker), before);
    assert_eq!(bed.squall(&["resume", &worker.id]).ok().text(), worker.id);
    assert_eq!(worker.phase(), "running");
    until("it works again", || (used(bed, &worker) > before + 20_000).then_some(()));
    worker.kill();
}

/// It forks as fast as it can.
fn all_processes_stand_still_when_the_pause_returns(bed: &Bed) {
    let worker = bed.start(&["--pids-limit", "64"], &["bomb"]);
    let members = || {
        let directories = host::cgroup_directories(&worker.cgroup());
        directories.iter().map(|directory| host::processes_in(directory).len()).max().unwrap_or(0)
    };
    until("it has forked", || (members() > 8).then_some(()));
    for _ in 0..5 {
        bed.squall(&["pause", &worker.id]).ok();
        let before = used(bed, &worker);
        assert!(members() > 1);
        std::thread::sleep(Duration::from_millis(50)); // time passing is what is tested
        assert_eq!(used(bed, &worker), before);
        bed.squall(&["resume", &worker.id]).ok();
    }
    bed.squall(&["pause", &worker.id]).ok();
    let began = Instant::now();
    bed.squall(&["stop", "--time", "1", &worker.id]).ok();
    assert!(began.elapsed() < host::bound(Duration::from_secs(8)), "{:?}", began.elapsed());
    assert_eq!(worker.phase(), "exited");
}

fn what_is_paused_can_be_stopped_killed_and_removed(bed: &Bed) {
    let ends: [&[&str]; 3] = [&["stop", "--time", "5"], &["kill", "--signal", "KILL"], &["stop", "--time", "0"]];
    for end in ends {
        let worker = paused(bed, &[], &["sleep", "600000"]);
        bed.squall(&[end, &[&worker.id]].concat()).ok();
        until("it has ended", || (worker.phase() == "exited").then_some(()));
        bed.squall(&["rm", &worker.id]).ok();
    }
    let worker = paused(bed, &[], &["sleep", "600000"]);
    let refused = bed.squall(&["rm", &worker.id]).output();
    assert!(refused.code() == 125 && refused.stderr.contains("it runs"), "{refused}");
    let refused = bed.squall(&["kill", "--signal", "TERM", &worker.id]).output();
    assert!(refused.code() == 125 && refused.stderr.contains("is frozen"), "{refused}");
    assert_eq!(worker.phase(), "paused");
    bed.squall(&["reap"]).ok();
    assert_eq!(bed.squall(&["layers", "--json"]).json()[0]["users"], json!([worker.id]));
    bed.squall(&["rm", "--force", &worker.id]).ok();
}

fn its_deadline_comes_although_it_is_paused(bed: &Bed) {
    let seconds = host::bound(Duration::from_secs(3)).as_secs().to_string();
    let worker = paused(bed, &["--timeout", &seconds], &["exit-on-signal", "600000"]);
    worker.wait();
    assert_eq!(worker.inspect()["exit"]["reason"], "timeout");
}

fn whoever_waits_for_a_paused_one_learns_the_end(bed: &Bed) {
    let worker = bed.start(&[], &["exit-on-signal", "600000"]);
    until("it takes signals", || host::catches(worker.pid(), libc::SIGTERM).then_some(()));
    bed.squall(&["pause", &worker.id]).ok();
    let waiter = bed.squall(&["wait", &worker.id]).into_command().stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300)); // time passing is what is tested
    assert_eq!(worker.phase(), "paused");
    bed.squall(&["unpause", &worker.id]).ok();
    bed.squall(&["kill", "--signal", "TERM", &worker.id]).ok();
    assert_eq!(waiter.wait_with_output().unwrap().stdout, b"15\n");
}

fn pausing_and_resuming_can_be_repeated_and_names_what_cannot_be_paused(bed: &Bed) {
    let worker = paused(bed, &[], &["sleep", "600000"]);
    bed.squall(&["pause", &worker.id]).ok();
    bed.squall(&["resume", &worker.id]).ok();
    bed.squall(&["resume", &worker.id]).ok();
    let squall = bed.library().build().unwrap();
    let Container::Running(running) = squall.attach(&worker.id).unwrap() else { panic!("it does not run") };
    let handle = running.pause().unwrap();
    assert_eq!(handle.resume().unwrap().record().id, worker.id);
    worker.kill();
    let error = running.pause().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Phase, "{error}");
    assert_eq!(handle.resume().unwrap_err().kind(), ErrorKind::Phase);
    for verb in ["pause", "resume"] {
        let refused = bed.squall(&[verb, &worker.id, "absent"]).output();
        assert_eq!((refused.code(), refused.stderr.lines().count()), (125, 2), "{refused}");
        assert!(refused.stderr.contains("it has ended") && refused.stderr.contains("no container"), "{refused}");
    }
}

/// As an administrator freezes it, by the kernel's files.
fn a_pause_by_somebody_else_is_seen(bed: &Bed) {
    let worker = bed.start(&[], &["sleep", "600000"]);
    let directories = host::cgroup_directories(&worker.cgroup());
    let v1 = directories.iter().map(|one| one.join("freezer.state")).find(|file| file.exists());
    let file =
        v1.clone().or_else(|| directories.iter().map(|one| one.join("cgroup.freeze")).find(|file| file.exists()));
    fs::write(file.unwrap(), if v1.is_some() { "FROZEN" } else { "1" }).unwrap();
    assert_eq!(worker.phase(), "paused");
    bed.squall(&["resume", &worker.id]).ok();
    assert_eq!(worker.phase(), "running");
    worker.kill();
}
