//! Workers and monitors that do not end as others do: frozen, stopped, without their first thread.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtime_tests::{Bed, Call, Worker, cases, host, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use squall::cgroup::{LimitChanges, Limits};
use squall::{Container, ErrorKind, Running};

cases![
    a_frozen_worker_is_stopped_killed_and_removed,
    a_frozen_worker_comes_to_its_deadline,
    a_signal_to_a_frozen_worker_is_refused_and_does_not_thaw_it,
    below_a_frozen_cgroup_nothing_is_launched_and_the_error_names_it,
    a_worker_below_a_frozen_cgroup_is_not_said_to_have_been_stopped,
    a_worker_without_its_first_thread_is_alive_and_can_be_stopped,
    a_monitor_that_is_stopped_does_not_keep_its_worker_from_ending,
    who_began_to_stop_it_is_known,
    the_system_call_that_a_filter_killed_for_is_known,
    a_limit_of_processes_that_was_met_is_told,
    what_is_asked_of_a_worker_that_ends_meanwhile_is_refused_as_of_one_that_has_ended,
];

/// How long a stop may take that gives no grace: the bound of the errors that these tests are about
/// is 30 s.
const SOON: Duration = Duration::from_secs(8);

/// The file that freezes a cgroup, and what it takes: that of cgroup v1 where there is one, since
/// what that has frozen never gets as far as v2 would want it.
fn freezer(cgroup: &str) -> (PathBuf, &'static str, &'static str) {
    let find =
        |name: &str| host::cgroup_directories(cgroup).into_iter().map(|one| one.join(name)).find(|file| file.exists());
    let v1 = find("freezer.state").map(|file| (file, "FROZEN", "THAWED"));
    v1.or_else(|| Some((find("cgroup.freeze")?, "1", "0"))).unwrap_or_else(|| panic!("no hierarchy freezes {cgroup}"))
}

fn freeze(cgroup: &str) {
    let (file, frozen, _) = freezer(cgroup);
    fs::write(&file, frozen).unwrap();
    until("everything stands still", || stands_still(&file).then_some(()));
}

fn stands_still(file: &Path) -> bool {
    match file.ends_with("freezer.state") {
        true => fs::read_to_string(file).unwrap().trim() == "FROZEN",
        false => fs::read_to_string(file.with_file_name("cgroup.events")).unwrap().contains("frozen 1"),
    }
}

fn is_frozen(cgroup: &str) -> bool {
    let (file, frozen, _) = freezer(cgroup);
    fs::read_to_string(file).unwrap().trim() == frozen
}

fn thaw(cgroup: &str) {
    let (file, _, thawed) = freezer(cgroup);
    fs::write(file, thawed).unwrap();
}

/// Parents of cgroups stay when their containers go.
fn remove_parent(cgroup: &str) {
    for directory in host::cgroup_directories(cgroup) {
        until("the cgroup is empty", || fs::remove_dir(&directory).ok());
    }
}

/// The call of a worker below another cgroup than its monitor's parent.
fn run_below(bed: &Bed, parent: &str, probe: &[&str]) -> Call {
    let fixed = ["run", "--detach", "--cgroup-parent", parent, "--layer", bed.probe(), "--", "/bin/probe"];
    bed.squall(&[&fixed, probe].concat())
}

fn frozen<'b>(bed: &'b Bed, flags: &[&str]) -> Worker<'b> {
    let worker = bed.start(flags, &["sleep", "600000"]);
    freeze(&worker.cgroup());
    worker
}

fn a_frozen_worker_is_stopped_killed_and_removed(bed: &Bed) {
    let ways: [(&[&str], i32); 3] = [(&["stop", "--time", "0"], 137), (&["kill"], 137), (&["rm", "--force"], 0)];
    for unwatched in [false, true] {
        for (command, code) in ways {
            let worker = frozen(bed, &[]);
            let gone = unwatched.then(|| worker.monitor());
            if let Some(monitor) = gone {
                kill_process(Pid::from_raw(monitor as i32).unwrap(), Signal::KILL).unwrap();
                until("the monitor is gone", || (!host::is_alive(monitor)).then_some(()));
            }
            let (pid, began) = (worker.pid(), Instant::now());
            bed.squall(command).args([&worker.id]).ok();
            until("the worker is gone", || (!host::is_alive(pid)).then_some(()));
            assert!(began.elapsed() < host::bound(SOON), "{command:?} took {:?}", began.elapsed());
            if code != 0 && !unwatched {
                assert_eq!(worker.wait(), code, "{command:?}");
            }
            bed.squall(&["rm", "--force", &worker.id]).output();
        }
    }
}

fn a_frozen_worker_comes_to_its_deadline(bed: &Bed) {
    let worker = frozen(bed, &["--timeout", "1"]);
    let pid = worker.pid();
    until("the deadline has thawed it", || (!is_frozen(&worker.cgroup())).then_some(()));
    // Its first process has no handler for SIGTERM, so it has the whole grace; waited for by a stop
    // without any.
    bed.squall(&["stop", "--time", "0", &worker.id]).ok();
    assert!(!host::is_alive(pid));
    assert_eq!(worker.inspect()["exit"]["reason"], "timeout");
}

fn a_signal_to_a_frozen_worker_is_refused_and_does_not_thaw_it(bed: &Bed) {
    let worker = frozen(bed, &[]);
    let output = bed.squall(&["kill", "--signal", "USR1", &worker.id]).output();
    assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
    assert!(output.stderr.contains(&format!("cgroup '{}' is frozen", worker.cgroup())), "{output}");
    assert!(is_frozen(&worker.cgroup()));
    worker.kill();
}

fn below_a_frozen_cgroup_nothing_is_launched_and_the_error_names_it(bed: &Bed) {
    let parent = format!("{}/cold", bed.cgroup());
    let keeper = bed.worker(&run_below(bed, &parent, &["sleep", "600000"]).ok().text());
    // Once for the worker's cgroup, once for the monitors'.
    for (frozen, below) in [(parent.clone(), parent.clone()), (bed.monitors(), bed.cgroup())] {
        freeze(&frozen);
        let began = Instant::now();
        let output = run_below(bed, &below, &["exit", "0"]).output();
        let elapsed = began.elapsed();
        let plan =
            bed.squall(&["plan", "--cgroup-parent", &below, "--layer", bed.probe(), "--", "/bin/probe"]).output();
        thaw(&frozen);
        assert!(elapsed < host::bound(SOON), "refused after {elapsed:?}");
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
        let words = format!("cgroup '{frozen}' is frozen");
        assert!(output.stderr.contains(&words), "{output}");
        assert!(plan.text().contains(&words), "{plan}");
    }
    keeper.kill();
    remove_parent(&parent);
}

fn a_worker_below_a_frozen_cgroup_is_not_said_to_have_been_stopped(bed: &Bed) {
    let parent = format!("{}/cold", bed.cgroup());
    let worker = bed.worker(&run_below(bed, &parent, &["sleep", "600000"]).ok().text());
    let v1 = freezer(&parent).0.ends_with("freezer.state");
    freeze(&parent);
    let began = Instant::now();
    let outputs = [&["stop", "--time", "0"][..], &["kill"], &["rm", "--force"]]
        .map(|command| bed.squall(command).args([&worker.id]).output());
    let elapsed = began.elapsed();
    thaw(&parent);
    assert!(elapsed < host::bound(SOON), "{elapsed:?}");
    if v1 {
        for output in outputs {
            assert_eq!(output.code(), 125, "{output}");
            assert!(output.stderr.contains(&format!("cgroup '{parent}' is frozen")), "{output}");
        }
        worker.kill();
    } else {
        // In v2 what is frozen dies all the same.
        assert_eq!(outputs[0].code(), 0, "{}", outputs[0]);
    }
    remove_parent(&parent);
}

fn a_worker_without_its_first_thread_is_alive_and_can_be_stopped(bed: &Bed) {
    for unwatched in [false, true] {
        let worker = bed.start(&[], &["leave-main-thread", "600000"]);
        let (pid, monitor) = (worker.pid(), worker.monitor());
        until("the first thread has ended", || host::status(pid, "State").starts_with('Z').then_some(()));
        if unwatched {
            kill_process(Pid::from_raw(monitor as i32).unwrap(), Signal::KILL).unwrap();
            until("the monitor is gone", || (!host::is_alive(monitor)).then_some(()));
        }
        assert_eq!(worker.phase(), "running");
        bed.squall(&["reap"]).ok();
        assert_eq!(worker.phase(), "running", "reaping leaves it alone");
        bed.squall(&["stop", "--time", "0", &worker.id]).ok();
        until("no thread of it is left", || (!host::is_alive(pid)).then_some(()));
        if !unwatched {
            assert_eq!(worker.wait(), 137);
        }
    }
}

fn a_monitor_that_is_stopped_does_not_keep_its_worker_from_ending(bed: &Bed) {
    let worker = bed.start(&[], &["ignore-term", "600000"]);
    let (pid, monitor) = (worker.pid(), Pid::from_raw(worker.monitor() as i32).unwrap());
    kill_process(monitor, Signal::STOP).unwrap();
    let refused = bed.squall(&["kill", "--signal", "USR1", &worker.id]).output();
    assert!(refused.code() == 125 && refused.stderr.contains("does not answer"), "{refused}");
    let began = Instant::now();
    bed.squall(&["stop", "--time", "1", &worker.id]).ok();
    assert!(began.elapsed() < host::bound(SOON), "{:?}", began.elapsed());
    assert!(!host::is_alive(pid));
    // It has been continued, and wrote down what it saw.
    assert_eq!(worker.wait(), 137);
}

fn stopped_by(worker: &Worker<'_>) -> Value {
    until("its end is known", || Some(worker.inspect()["exit"].clone()).filter(|exit| !exit.is_null()))["stopped_by"]
        .clone()
}

fn who_began_to_stop_it_is_known(bed: &Bed) {
    let worker = |flags: &[&str]| bed.start(flags, &["exit-on-signal", "600000"]);
    let timed = worker(&["--timeout", "0.2"]);
    assert_eq!(stopped_by(&timed), json!({ "kind": "deadline" }));
    let asked = worker(&[]);
    let stop = bed.squall(&["stop", &asked.id]).into_command().spawn().unwrap();
    let pid = stop.id();
    assert!({ stop }.wait().unwrap().success());
    assert_eq!(stopped_by(&asked), json!({ "kind": "request", "pid": pid }));
    let told = worker(&[]);
    kill_process(Pid::from_raw(told.monitor() as i32).unwrap(), Signal::TERM).unwrap();
    assert_eq!(stopped_by(&told), json!({ "kind": "signal", "pid": std::process::id(), "uid": 0 }));
    // Nobody did.
    let killed = worker(&[]);
    kill_process(Pid::from_raw(killed.pid() as i32).unwrap(), Signal::KILL).unwrap();
    assert_eq!(stopped_by(&killed), Value::Null);
    // The first one counts.
    let twice = bed.start(&[], &["ignore-term", "600000"]);
    kill_process(Pid::from_raw(twice.monitor() as i32).unwrap(), Signal::TERM).unwrap();
    bed.squall(&["stop", "--time", "0", &twice.id]).ok();
    assert_eq!(stopped_by(&twice)["kind"], "signal");
}

fn the_system_call_that_a_filter_killed_for_is_known(bed: &Bed) {
    let profile = bed.file("kills.json");
    let rules = json!([{ "names": ["unshare"], "action": "SCMP_ACT_KILL_PROCESS" }]);
    fs::write(&profile, json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules }).to_string()).unwrap();
    let option = format!("seccomp={profile}");
    let probe = ["try", "unshare", "", "131072"];
    let run = bed.run(&["--name", "w", "--security-opt", &option], &probe).output();
    let worker = bed.worker("w");
    let exit = worker.inspect()["exit"].clone();
    assert_eq!((run.code(), &exit["exit"]["signal"]), (128 + 31, &json!(31)), "{run}");
    assert_eq!(exit["seccomp_kill"], json!({ "syscall": libc::SYS_unshare, "arch": 0xc000_003e_u32 }), "{exit}");
    assert!(run.stderr.contains("its seccomp filter killed it for the system call unshare"), "{run}");
    // A SIGSYS that no filter sent.
    let other = bed.start(&[], &["sleep", "600000"]);
    bed.squall(&["exec", "-d", &other.id, "/bin/probe", "sleep", "600000"]).ok();
    let session = || other.inspect()["exec_sessions"][0].clone();
    kill_process(Pid::from_raw(session()["pid"].as_i64().unwrap() as i32).unwrap(), Signal::SYS).unwrap();
    let exit = until("its end is known", || Some(session()["exit"].clone()).filter(|exit| !exit.is_null()));
    assert_eq!((&exit["exit"]["signal"], &exit["seccomp_kill"]), (&json!(31), &Value::Null));
    other.kill();
}

fn a_limit_of_processes_that_was_met_is_told(bed: &Bed) {
    let run = bed.run(&["--name", "w", "--pids-limit", "4"], &["fork", "10"]).output();
    let exit = bed.worker("w").inspect()["exit"].clone();
    assert!(exit["pids_limit_hits"].as_u64() >= Some(1), "{exit}");
    assert_eq!(run.stderr.contains("its limit of processes refused"), run.code() != 0, "{run}");
}

/// Asked again and again while it ends and its cgroups are removed, at whichever point that is.
fn what_is_asked_of_a_worker_that_ends_meanwhile_is_refused_as_of_one_that_has_ended(bed: &Bed) {
    fn pause(running: &Running) -> squall::Result<()> {
        running.pause()?.resume().map(drop)
    }
    fn update(running: &Running) -> squall::Result<()> {
        let set = Limits { pids: Some(9), ..Limits::none() };
        running.update(&LimitChanges { set, lift: vec![] }).map(drop)
    }
    fn list(running: &Running) -> squall::Result<()> {
        Container::Running(running.clone()).processes().map(drop)
    }
    let squall = bed.library().build().unwrap();
    for (name, ask) in [("pause", pause as fn(&Running) -> _), ("update", update), ("list", list)] {
        for _ in 0..10 {
            let worker = bed.start(&[], &["sleep", "600000"]);
            let Container::Running(running) = squall.attach(&worker.id).unwrap() else { panic!("it does not run") };
            let init = running.record().init.pid;
            let asking = std::thread::spawn(move || {
                let mut error = None;
                until("it has ended", || {
                    error = (0..100).find_map(|_| ask(&running).err());
                    error.is_some().then_some(())
                });
                error
            });
            kill_process(Pid::from_raw(init).unwrap(), Signal::KILL).unwrap();
            let error = asking.join().unwrap().expect("it has ended");
            assert_eq!(error.kind(), ErrorKind::Phase, "{name}: {error}");
        }
    }
}
