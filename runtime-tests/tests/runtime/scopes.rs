//! Containers in scopes of systemd: the unit is there, it is the worker's, and nothing is left of
//! it in the end, however that came.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime_tests::roles::{self, Role};
use runtime_tests::{Bed, Call, cases, host, needs, until};
use serde_json::Value;

cases![
    a_scope_is_what_a_machine_with_systemd_gives_without_being_asked,
    the_worker_alone_has_the_limits_and_the_monitor_is_beside_it,
    systemds_reload_changes_nothing,
    stopping_the_unit_is_a_stop_and_the_record_is_true,
    killing_the_worker_by_the_unit_leaves_the_monitor_to_say_so,
    a_slice_of_the_callers_own_can_be_named,
    a_launch_that_fails_or_dies_leaves_no_unit,
    a_unit_that_is_there_is_refused_and_kept,
    without_its_monitor_the_unit_ends_with_the_worker,
    a_further_program_is_in_the_scope_and_so_is_its_monitor,
    where_systemd_cannot_be_asked_it_is_said_why,
];

/// Programs that a test lets die.
pub const ROLES: &[Role] = &[("launch-in-a-scope", launch)];

/// Launches a worker through the library.
fn launch(args: &[String]) {
    let [run_root, layer, id] = args else { panic!("{args:?}") };
    let squall = squall::Squall::builder().run_root(run_root).build().unwrap();
    let user = squall::request::Identity::new(65534, 65534, []).unwrap();
    let builder = squall::request::LaunchSpec::builder(id).layers([layer]).args(["/bin/probe", "exit", "0"]).user(user);
    let spec = builder.scope("system.slice").build().unwrap();
    match squall.launch(&spec, squall::Stdio::null().unwrap()) {
        Ok(running) => println!("{}", running.record().id),
        Err(error) => println!("{error}"),
    }
}

/// Whether this machine has systemd with cgroup v2 alone.
pub fn has_scopes() -> bool {
    let alone = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let declared = std::env::var("SQUALL_TEST_FEATURES").unwrap_or_default();
    let systemd = needs::has("systemd", Path::new("/run/systemd/system").exists());
    if declared.split_whitespace().any(|name| name == "cgroup2") {
        assert!(alone, "this machine says that it has cgroup v2 alone, and /sys/fs/cgroup is something else");
    }
    systemd && alone
}

/// `squall` without the flag for a monitors' cgroup.
fn squall(bed: &Bed, args: &[&str]) -> Call {
    let mut command = Command::new(bed.program());
    command.arg("--root").arg(bed.run_root()).args(args);
    Call::new(command)
}

/// An id that no other test's container has: units of all run roots are in one place.
fn id(bed: &Bed, name: &str) -> String {
    format!("{name}-{}", bed.tag())
}

fn run(bed: &Bed, id: &str, flags: &[&str], probe: &[&str]) -> Call {
    let flags =
        [&["run", "--detach", "--name", id, "--layer", bed.probe()], flags, &["--", "/bin/probe"], probe].concat();
    squall(bed, &flags)
}

fn unit(id: &str) -> String {
    format!("squall-{id}.scope")
}

fn directory(id: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup/system.slice").join(unit(id))
}

fn systemctl(args: &[&str]) -> String {
    let output = Command::new("systemctl").args(args).output().unwrap();
    assert!(output.status.success(), "systemctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn property(id: &str, name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, &unit(id)])
}

/// Until systemd knows it no more.
fn gone(id: &str) {
    until("the unit is gone", || (property(id, "LoadState") == "not-found" && !directory(id).exists()).then_some(()));
}

/// Until its program has set up what it does with a signal.
fn takes_signals(bed: &Bed, id: &str, set: &str) {
    let pid = bed.worker(id).pid();
    until("it takes signals", || {
        let mask = u64::from_str_radix(&host::status(pid, set), 16).unwrap_or(0);
        (mask & (1 << (15 - 1)) != 0).then_some(())
    });
}

/// How it ended, by its record.
fn exit_of(bed: &Bed, id: &str) -> Value {
    squall(bed, &["wait", id]).ok();
    bed.worker(id).inspect()["exit"].clone()
}

fn a_scope_is_what_a_machine_with_systemd_gives_without_being_asked(bed: &Bed) {
    if !has_scopes() {
        // Elsewhere nobody is asked, and the cgroup is where it always was.
        let plan = squall(bed, &["plan", "--json", bed.probe()]).json();
        assert!(plan["cgroups"]["unit"].is_null() && plan["cgroups"]["monitors"] == "/squall/monitors", "{plan}");
        return;
    }
    let id = id(bed, "plain");
    // Whoever calls has no say in which bus it is.
    let call = run(bed, &id, &[], &["exit-on-signal", "600000"]);
    call.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/no/such/bus").ok();
    let record = bed.worker(&id).inspect();
    assert_eq!(record["cgroup"], format!("/system.slice/{}/container", unit(&id)));
    assert_eq!(property(&id, "ActiveState"), "active");
    assert_eq!(property(&id, "Delegate"), "yes");
    assert_eq!(property(&id, "Slice"), "system.slice");
    takes_signals(bed, &id, "SigCgt");
    squall(bed, &["stop", &id]).ok();
    assert_eq!(exit_of(bed, &id)["exit"]["code"], 15);
    gone(&id);
}

fn the_worker_alone_has_the_limits_and_the_monitor_is_beside_it(bed: &Bed) {
    if !has_scopes() {
        return;
    }
    let id = id(bed, "limited");
    run(bed, &id, &["-m", "32m", "--pids-limit", "7", "--cpus", "0.5"], &["sleep", "600000"]).ok();
    let read = |name: &str| fs::read_to_string(directory(&id).join(name)).unwrap().trim_end().to_owned();
    assert_eq!(read("container/memory.max"), (32 << 20).to_string());
    assert_eq!(read("container/pids.max"), "7");
    assert_eq!(read("container/cpu.max"), "50000 100000");
    assert_eq!(read("memory.max"), "max");
    assert_eq!(read("pids.max"), "max");
    let worker = bed.worker(&id);
    assert_eq!(read("container/cgroup.procs"), worker.pid().to_string());
    assert_eq!(read("monitor/cgroup.procs"), worker.monitor().to_string());
    assert_eq!(read("cgroup.procs"), "");
    squall(bed, &["stop", "--time", "0", "--signal", "KILL", &id]).ok();
    let exit = exit_of(bed, &id);
    assert_eq!(exit["exit"]["signal"], 9, "{exit}");
    // The counters were there for the monitor: the unit did not end before it.
    assert!(exit["memory_peak_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{exit}");
    gone(&id);
}

fn systemds_reload_changes_nothing(bed: &Bed) {
    if !has_scopes() {
        return;
    }
    let id = id(bed, "reloaded");
    run(bed, &id, &["-m", "32m"], &["sleep", "600000"]).ok();
    systemctl(&["daemon-reload"]);
    // What an administrator sets on the unit is beside the limits that the container has.
    systemctl(&["set-property", "--runtime", &unit(&id), "MemoryMax=1G"]);
    let read = |name: &str| fs::read_to_string(directory(&id).join(name)).unwrap().trim_end().to_owned();
    assert_eq!(read("container/memory.max"), (32 << 20).to_string());
    assert_eq!(read("memory.max"), (1_u64 << 30).to_string());
    assert_eq!(bed.worker(&id).phase(), "running");
    squall(bed, &["stop", "--time", "0", &id]).ok();
    squall(bed, &["wait", &id]).ok();
    gone(&id);
}

fn stopping_the_unit_is_a_stop_and_the_record_is_true(bed: &Bed) {
    if !has_scopes() {
        return;
    }
    let (obeys, stubborn) = (id(bed, "obeys"), id(bed, "stubborn"));
    run(bed, &obeys, &[], &["exit-on-signal", "600000"]).ok();
    run(bed, &stubborn, &[], &["ignore-term", "600000"]).ok();
    takes_signals(bed, &obeys, "SigCgt");
    takes_signals(bed, &stubborn, "SigIgn");
    systemctl(&["stop", &unit(&obeys), &unit(&stubborn)]);
    let exit = exit_of(bed, &obeys);
    // systemd's own signal may have been the faster one.
    assert!(exit["exit"]["code"] == 15 && (exit["reason"] == "stopped" || exit["reason"] == "exited"), "{exit}");
    let exit = exit_of(bed, &stubborn);
    assert!(exit["exit"]["signal"] == 9 && exit["reason"] == "killed-after-grace", "{exit}");
    gone(&obeys);
    gone(&stubborn);
}

fn killing_the_worker_by_the_unit_leaves_the_monitor_to_say_so(bed: &Bed) {
    if !has_scopes() {
        return;
    }
    let id = id(bed, "struck");
    run(bed, &id, &[], &["sleep", "600000"]).ok();
    // As systemd-oomd does it: it picks cgroups without others below.
    fs::write(directory(&id).join("container/cgroup.kill"), "1").unwrap();
    assert_eq!(exit_of(bed, &id)["exit"]["signal"], 9);
    gone(&id);
}

fn a_slice_of_the_callers_own_can_be_named(bed: &Bed) {
    if !has_scopes() {
        return;
    }
    let id = id(bed, "sliced");
    // systemd keeps a slice that it made for as long as something is in it.
    let slice = format!("squalltest{}.slice", bed.tag().replace('-', "_"));
    run(bed, &id, &["--cgroup-parent", &slice], &["sleep", "600000"]).ok();
    assert_eq!(bed.worker(&id).inspect()["cgroup"], format!("/{slice}/{}/container", unit(&id)));
    assert_eq!(property(&id, "Slice"), slice);
    squall(bed, &["stop", "--time", "0", &id]).ok();
    squall(bed, &["wait", &id]).ok();
    until("the unit is gone", || (property(&id, "LoadState") == "not-found").then_some(()));
    systemctl(&["stop", &slice]);
}

fn a_launch_that_fails_or_dies_leaves_no_unit(bed: &Bed) {
    if !has_scopes() {
        return;
    }
    let failing = id(bed, "failing");
    let layer = bed.probe();
    let output = squall(bed, &["run", "--name", &failing, "--layer", layer, "--", "/no/such/program"]).output();
    assert_eq!(output.code(), 127, "{output}");
    gone(&failing);
    for stage in ["cgroup", "clone", "monitor", "become", "watch"] {
        let dying = id(bed, stage);
        let scene = bed.file(stage);
        fs::create_dir(&scene).unwrap();
        let order = format!("launch {stage} 1 kill");
        // This program has the crash points, and the command line program as it is shipped has
        // none.
        let mut command = roles::command("launch-in-a-scope");
        command.args([bed.run_root().to_str().unwrap(), bed.probe(), &dying]);
        let output = Call::new(command).env("SQUALL_CRASH", &order).env("SQUALL_CRASH_DIR", &scene).output();
        assert!(
            fs::read_to_string(format!("{scene}/passed")).unwrap().contains(&format!("launch {stage} 1")),
            "{output}"
        );
        squall(bed, &["reap"]).ok();
        gone(&dying);
    }
}

fn a_unit_that_is_there_is_refused_and_kept(bed: &Bed) {
    if !has_scopes() {
        return;
    }
    let id = id(bed, "taken");
    run(bed, &id, &[], &["sleep", "600000"]).ok();
    // The same name in another run root.
    let other = bed.file("other");
    let mut command = Command::new(bed.program());
    command.args(["--root", &other, "run", "--name", &id, "--layer", bed.probe(), "--", "/bin/probe"]);
    let output = Call::new(command).output();
    assert_eq!(output.code(), 125, "{output}");
    let words = [&*format!("cgroup: unit '{}': StartTransientUnit: ", unit(&id)), "already"];
    assert!(words.iter().all(|word| output.stderr.contains(word)), "{output}");
    assert_eq!(bed.worker(&id).phase(), "running");
    squall(bed, &["stop", "--time", "0", &id]).ok();
    squall(bed, &["wait", &id]).ok();
    let mut command = Command::new(bed.program());
    command.args(["--root", &other, "reap", "--keep", "0"]);
    Call::new(command).ok();
    gone(&id);
}

fn without_its_monitor_the_unit_ends_with_the_worker(bed: &Bed) {
    if !has_scopes() {
        return;
    }
    let id = id(bed, "unwatched");
    run(bed, &id, &[], &["sleep", "600000"]).ok();
    let worker = bed.worker(&id);
    let kill = |pid: u32| {
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    };
    let pid = worker.pid();
    kill(worker.monitor());
    assert_eq!(property(&id, "ActiveState"), "active", "the worker is in it");
    kill(pid);
    gone(&id);
    squall(bed, &["reap"]).ok();
}

fn a_further_program_is_in_the_scope_and_so_is_its_monitor(bed: &Bed) {
    if !has_scopes() {
        return;
    }
    let id = id(bed, "exec");
    run(bed, &id, &[], &["sleep", "600000"]).ok();
    assert_eq!(squall(bed, &["exec", &id, "/bin/probe", "exit", "7"]).output().code(), 7);
    squall(bed, &["exec", "-d", &id, "/bin/probe", "sleep", "600000"]).ok();
    let shown = squall(bed, &["inspect", "--json", &id]).json();
    let pid = shown["exec_sessions"][0]["pid"].as_u64().unwrap() as u32;
    let in_group = |name: &str| host::processes_in(&directory(&id).join(name));
    assert!(in_group("container").contains(&pid), "{shown}");
    assert_eq!((in_group("container").len(), in_group("monitor").len()), (2, 2), "worker and program, a monitor each");
    squall(bed, &["stop", "--time", "0", &id]).ok();
    gone(&id);
    squall(bed, &["rm", &id]).ok();
}

fn where_systemd_cannot_be_asked_it_is_said_why(bed: &Bed) {
    let asked = |words: &[&str]| {
        let id = id(bed, "asked");
        let output = run(bed, &id, words, &["exit", "0"]).output();
        assert_eq!(output.code(), 125, "{output}");
        output.stderr
    };
    let said = asked(&["--cgroup-manager", "docker"]);
    assert!(said.contains("--cgroup-manager: 'docker' makes no cgroups"), "{said}");
    let said = asked(&["--cgroup-manager", "systemd", "--cgroup-parent", "/a/path"]);
    assert!(said.contains("--cgroup-parent: '/a/path': a slice is called NAME.slice"), "{said}");
    if !has_scopes() {
        let said = asked(&["--cgroup-manager", "systemd"]);
        assert!(said.contains("cgroup: unit 'squall-asked-") && said.contains("StartTransientUnit: "), "{said}");
        let reasons = ["systemd does not run here", "it takes a machine with cgroup v2 alone"];
        assert!(reasons.iter().any(|reason| said.contains(reason)), "{said}");
    }
}
