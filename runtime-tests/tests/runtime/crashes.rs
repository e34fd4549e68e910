//! What a killed program leaves, and what can be known after it.

use std::fs;
use std::process::{Child, Stdio};

use runtime_tests::roles::{self, Role};
use runtime_tests::{Bed, Worker, cases, host, until};
use rustix::process::{Pid, Signal, kill_process};

cases![
    a_worker_outlives_the_program_that_launched_it_and_its_exit_is_known,
    without_its_monitor_a_worker_goes_on_and_its_end_is_never_invented,
    a_waiter_that_was_there_learns_a_lost_end_from_the_kernel_or_says_lost,
    an_unwatched_worker_can_be_signalled_and_stopped,
    launches_killed_at_any_moment_leave_nothing_that_reaping_does_not_clear,
    a_monitor_that_is_told_to_end_stops_its_worker_first,
    a_signal_to_the_caller_while_it_launches_is_no_stop,
];

/// Programs that a test stops and lets go on.
pub const ROLES: &[Role] = &[("launch-with-points", launch_with_points)];

/// Launches a worker through the library: this program has the crash points, the command line
/// program as it is shipped has none.
fn launch_with_points(args: &[String]) {
    let [run_root, monitors, layer, cgroup] = args else { panic!("{args:?}") };
    let squall = squall::Squall::builder().run_root(run_root).monitors(monitors).build().unwrap();
    let user = squall::request::Identity::new(65534, 65534, []).unwrap();
    let builder = squall::request::LaunchSpec::builder("spared").layers([layer]).user(user).cgroup(cgroup);
    let spec = builder.args(["/bin/probe", "exit-on-signal", "600000"]).build().unwrap();
    squall.launch(&spec, squall::Stdio::null().unwrap()).unwrap_or_else(|error| panic!("{error}"));
}

fn kill(pid: u32) {
    let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL);
}

fn gone(what: &str, pid: u32) {
    until(what, || (!host::is_alive(pid)).then_some(()));
}

fn foreground(bed: &Bed, name: &str, probe: &[&str]) -> Child {
    let mut command = bed.run(&["--name", name], probe).into_command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn a_worker_outlives_the_program_that_launched_it_and_its_exit_is_known(bed: &Bed) {
    let mut program = foreground(bed, "outlives", &["exit-on-signal", "600000"]);
    let worker = bed.worker("outlives");
    until("it runs", || (bed.squall(&["ps", "--json"]).json()[0]["phase"] == "running").then_some(()));
    let pid = worker.pid();
    until("it takes signals", || host::catches(pid, libc::SIGTERM).then_some(()));
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(host::is_alive(pid) && worker.phase() == "running");
    let mut waiter = bed.squall(&["wait", "outlives"]).into_command();
    let waiter = waiter.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    bed.squall(&["kill", "--signal", "TERM", "outlives"]).ok();
    assert_eq!(waiter.wait_with_output().unwrap().stdout, b"15\n");
    assert_eq!(worker.inspect()["exit"]["exit"]["code"], 15);
}

fn without_monitor<'a>(bed: &'a Bed, probe: &[&str]) -> Worker<'a> {
    let worker = bed.start(&[], probe);
    let monitor = worker.monitor();
    kill(monitor);
    gone("the monitor", monitor);
    worker
}

fn without_its_monitor_a_worker_goes_on_and_its_end_is_never_invented(bed: &Bed) {
    let worker = without_monitor(bed, &["sleep", "600000"]);
    let (pid, cgroup) = (worker.pid(), worker.cgroup());
    assert!(host::is_alive(pid));
    assert_eq!((worker.phase().as_str(), &worker.inspect()["watched"]), ("running", &false.into()));
    let listed = bed.squall(&["ps"]).ok().text();
    assert!(listed.contains("running (unwatched)"), "{listed}");
    let kept = bed.squall(&["reap"]).ok();
    assert!(host::is_alive(pid) && kept.text().contains("unwatched"), "{kept}");
    kill(pid);
    gone("the worker", pid);
    until("it is lost", || (worker.phase() == "lost").then_some(()));
    let waited = bed.squall(&["wait", &worker.id]).output();
    assert_eq!((waited.code(), waited.stdout.len()), (125, 0), "{waited}");
    assert!(waited.stderr.contains("lost"), "{waited}");
    let planned = bed.squall(&["reap", "--dry-run"]).ok();
    assert!(planned.text().contains(&worker.id) && worker.phase() == "lost", "{planned}");
    bed.squall(&["reap"]).ok();
    assert_eq!(bed.squall(&["inspect", &worker.id]).output().code(), 125);
    assert!(host::cgroup_directories(&cgroup).is_empty());
}

fn a_waiter_that_was_there_learns_a_lost_end_from_the_kernel_or_says_lost(bed: &Bed) {
    let worker = without_monitor(bed, &["sleep", "600000"]);
    let pid = worker.pid();
    let mut waiter = bed.squall(&["wait", "--json", &worker.id]).into_command();
    let waiter = waiter.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let holds = || host::open_fds(&waiter.id().to_string()).values().any(|link| link.contains("pidfd"));
    until("the waiter waits", || holds().then_some(()));
    kill(pid);
    let output = waiter.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    // 6.15 and later keep the status for whoever holds a pidfd; a false one is never told.
    assert!(told.contains("\"phase\":\"lost\""), "{told} {output:?}");
    assert!(told.contains("\"known\":null") || told.contains("\"signal\":9"), "{told}");
}

fn an_unwatched_worker_can_be_signalled_and_stopped(bed: &Bed) {
    let worker = without_monitor(bed, &["family", "600000"]);
    let directories = host::cgroup_directories(&worker.cgroup());
    let pids = until("two processes", || Some(host::processes_in(&directories[0])).filter(|pids| pids.len() == 2));
    bed.squall(&["stop", "--time", "0.2", &worker.id]).output();
    for pid in pids {
        gone("the tree", pid);
    }
    assert_eq!(worker.phase(), "lost");
}

fn launches_killed_at_any_moment_leave_nothing_that_reaping_does_not_clear(bed: &Bed) {
    for round in 0..40_u64 {
        let mut program = foreground(bed, &format!("round-{round}"), &["sleep", "600000"]);
        // From before the first system call to after the exec: a launch takes some 20 ms here.
        let moment = std::time::Duration::from_micros(round * 700);
        let began = std::time::Instant::now();
        while began.elapsed() < moment {
            std::hint::spin_loop();
        }
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", program.id())).unwrap_or_default();
        program.kill().unwrap();
        program.wait().unwrap();
        // The launch process too, half way.
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).for_each(kill);
    }
    let ids = || bed.squall(&["ps", "--all", "--json"]).json();
    for container in ids().as_array().unwrap() {
        let id = container["id"].as_str().unwrap();
        if container["phase"] == "running" {
            bed.squall(&["rm", "--force", id]).ok();
        }
    }
    let cleared = || bed.squall(&["reap"]).output().code() == 0 && ids().as_array().is_some_and(Vec::is_empty);
    until("everything is reaped", || {
        for container in ids().as_array().unwrap().iter().filter(|container| container["phase"] != "launching") {
            bed.squall(&["rm", "--force", container["id"].as_str().unwrap()]).output();
        }
        cleared().then_some(())
    });
}

fn a_monitor_that_is_told_to_end_stops_its_worker_first(bed: &Bed) {
    let worker = bed.start(&["--name", "told"], &["exit-on-signal", "600000"]);
    let (pid, monitor) = (worker.pid(), worker.monitor());
    until("it takes signals", || host::catches(pid, libc::SIGTERM).then_some(()));
    // What is no order to end is none.
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1] {
        kill_process(Pid::from_raw(monitor as i32).unwrap(), signal).unwrap();
    }
    assert!(worker.inspect()["watched"] == true && worker.phase() == "running");
    kill_process(Pid::from_raw(monitor as i32).unwrap(), Signal::TERM).unwrap();
    assert_eq!(worker.wait(), 15);
    assert_eq!(worker.inspect()["exit"]["reason"], "stopped");
}

/// A service manager that stops the caller signals everything in its cgroup, and a launch process
/// is in it at first.
fn a_signal_to_the_caller_while_it_launches_is_no_stop(bed: &Bed) {
    let scene = bed.file("scene");
    fs::create_dir(&scene).unwrap();
    let mut command = roles::command("launch-with-points");
    command.args([bed.run_root().to_str().unwrap(), &bed.monitors(), bed.probe(), &format!("{}/spared", bed.cgroup())]);
    command.env("SQUALL_CRASH", "launch cgroup 1 stop").env("SQUALL_CRASH_DIR", &scene);
    let mut caller = command.spawn().unwrap();
    let launch = until("the launch process stands still", || {
        let ours = |pid: &u32| host::status(*pid, "PPid") == caller.id().to_string();
        host::processes().into_iter().filter(ours).find(|pid| host::status(*pid, "State").starts_with('T'))
    });
    let launch = Pid::from_raw(launch as i32).unwrap();
    kill_process(launch, Signal::TERM).unwrap();
    kill_process(launch, Signal::CONT).unwrap();
    assert!(caller.wait().unwrap().success());
    let worker = bed.worker("spared");
    let pid = worker.pid();
    until("it takes signals", || host::catches(pid, libc::SIGTERM).then_some(()));
    assert!(worker.inspect()["watched"] == true && worker.phase() == "running");
    worker.kill();
}
