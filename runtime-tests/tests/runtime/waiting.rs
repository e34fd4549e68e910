//! Waiting where there is no process to wait on.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use runtime_tests::{Bed, cases, host, until};

cases![a_waiter_in_another_pid_namespace_sleeps_and_learns_the_end];

/// Ticks of processor time that a process has used.
fn used(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // utime and stime are fields 14 and 15, and the state is field 3.
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Pids of the record mean nothing there.
fn a_waiter_in_another_pid_namespace_sleeps_and_learns_the_end(bed: &Bed) {
    for removal in [&[][..], &["--rm"]] {
        let worker = bed.start(removal, &["sleep", "600000"]);
        let call = bed.squall(&["wait", &worker.id]).under(&["unshare", "--pid", "--fork", "--mount-proc"]);
        let waiter = call.into_command().stdout(Stdio::piped()).spawn().unwrap();
        let inside = until("it is there", || host::children(waiter.id()).first().copied());
        let waits = || host::open_fds(&inside.to_string()).values().any(|fd| fd.contains("inotify"));
        until("it waits for changes", || waits().then_some(()));
        let before = used(inside);
        std::thread::sleep(Duration::from_secs(1)); // time passing is what is tested
        let ticks = used(inside) - before;
        assert!(ticks <= 10, "it used {ticks} of 100 ticks");
        worker.kill();
        assert_eq!(waiter.wait_with_output().unwrap().stdout, b"137\n");
    }
    bed.squall(&["reap"]).ok();
}
