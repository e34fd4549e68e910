//! Containers that are created first and started later.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use runtime_tests::bed::add_probe;
use runtime_tests::{Bed, Worker, cases, host, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use squall::squashfs::Attributes;
use squall::{Container, ErrorKind};

cases![
    what_is_created_does_not_run_before_its_start,
    whoever_waits_from_before_the_start_learns_the_end,
    what_was_never_started_can_be_stopped_and_removed,
    what_the_kernel_refuses_at_the_exec_is_the_error_of_the_start_and_stays_known,
    what_is_wrong_before_the_exec_is_refused_at_the_creation,
    its_time_begins_with_the_start,
    a_frozen_one_is_not_started,
    without_its_monitor_it_ends_and_is_lost,
    its_layers_and_its_name_are_in_use,
    of_several_starts_at_once_one_is_the_start,
    what_is_removed_with_its_end_leaves_nothing,
    the_user_of_its_own_and_the_pid_file_are_there_from_the_creation,
];

fn create<'a>(bed: &'a Bed, flags: &[&str], probe: &[&str]) -> Worker<'a> {
    let call = ["create", "--cgroup-parent", &bed.cgroup(), "--layer", bed.probe()];
    let call = bed.squall(&call).args(flags.iter().copied()).args(["--", "/bin/probe"]).args(probe.iter().copied());
    bed.worker(&call.ok().text())
}

fn only(listed: &Value) -> &Value {
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    &listed[0]
}

fn what_is_created_does_not_run_before_its_start(bed: &Bed) {
    let mark = bed.file("mark");
    fs::write(&mark, "").unwrap();
    fs::set_permissions(&mark, fs::Permissions::from_mode(0o666)).unwrap();
    let volume = format!("{mark}:/mark:rw");
    let worker = create(bed, &["-v", &volume, "--user", "65534:65534"], &["try", "write", "/mark", "it ran"]);
    let shown = worker.inspect();
    assert_eq!(
        (&shown["phase"], &shown["watched"], &shown["started_boot_ns"]),
        (&json!("created"), &json!(true), &json!(0))
    );
    let listed = bed.squall(&["ps", "--json"]).json();
    assert_eq!((&only(&listed)["phase"], &only(&listed)["pid"]), (&json!("created"), &shown["init"]["pid"]));
    assert!(bed.squall(&["ps"]).ok().text().contains("created"));
    let pid = worker.pid();
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(groups.lines().all(|line| line.ends_with(&worker.cgroup()) || line.ends_with(":/")), "{groups}");
    assert_eq!(
        (host::status(pid, "Uid"), fs::read_to_string(&mark).unwrap()),
        ("65534 65534 65534 65534".into(), String::new())
    );

    assert_eq!(bed.squall(&["start", &worker.id]).ok().text(), worker.id);
    assert_eq!(worker.wait(), 0);
    assert_eq!(fs::read_to_string(&mark).unwrap(), "it ran");
    let ended = worker.inspect();
    assert_eq!((&ended["phase"], &ended["exit"]["reason"]), (&json!("exited"), &json!("exited")));
    assert!(ended["exit"]["wall_ns"].is_u64() && ended["start_error"].is_null(), "{ended}");
    let again = bed.squall(&["start", &worker.id]).output();
    assert!(again.code() == 125 && again.stderr.contains("it has ended"), "{again}");
}

fn whoever_waits_from_before_the_start_learns_the_end(bed: &Bed) {
    let worker = create(bed, &[], &["exit", "23"]);
    let waiter = bed.squall(&["wait", &worker.id]).into_command().stdout(Stdio::piped()).spawn().unwrap();
    let running = bed.library().build().unwrap().attach(&worker.id).unwrap();
    let Container::Created(created) = running else { panic!("{running:?}") };
    let started = created.start().unwrap();
    assert_eq!(started.record().id, worker.id);
    assert_eq!(waiter.wait_with_output().unwrap().stdout, b"23\n");
    let squall::Ended::Exited(exited) = created.wait().unwrap() else { panic!("it is lost") };
    assert!(exited.exit().wall_ns.is_some() && exited.start_error().is_none());
    assert_eq!(started.record().started_boot_ns, exited.exit().ended_boot_ns - exited.exit().wall_ns.unwrap());
}

fn what_was_never_started_can_be_stopped_and_removed(bed: &Bed) {
    for (verb, signal) in [(&["stop"][..], "stopped"), (&["kill", "--signal", "KILL"], "never-started")] {
        let worker = create(bed, &[], &["exit", "0"]);
        bed.squall(&[verb, &[&worker.id]].concat()).ok();
        let ended = until("it has ended", || Some(worker.inspect()).filter(|shown| shown["phase"] == "exited"));
        assert_eq!((&ended["exit"]["reason"], &ended["exit"]["wall_ns"]), (&json!(signal), &Value::Null), "{ended}");
        bed.squall(&["rm", &worker.id]).ok();
    }
    let worker = create(bed, &[], &["exit", "0"]);
    let pid = worker.pid();
    bed.squall(&["rm", &worker.id]).ok();
    assert!(!host::is_alive(pid));
    assert_eq!(bed.squall(&["ps", "--all", "--json"]).json(), json!([]));
}

/// An ELF file of another machine: only the kernel's exec tells.
fn what_the_kernel_refuses_at_the_exec_is_the_error_of_the_start_and_stays_known(bed: &Bed) {
    let layer = bed.image("foreign", |writer| {
        add_probe(writer, "bin/probe", 0o755);
        writer.file("bin/foreign", &Attributes::new(0o755), &b"\x7fELF\x02\x01\x01 of nowhere"[..]).unwrap();
    });
    let call = ["create", "--cgroup-parent", &bed.cgroup(), "--layer", &layer, "--", "/bin/foreign"];
    let worker = bed.worker(&bed.squall(&call).ok().text());
    let refused = bed.squall(&["start", &worker.id]).output();
    let direct = bed.run_layers(&[&layer], &["--rm"], &["/bin/foreign"]).output();
    assert_eq!((refused.code(), refused.stderr.as_str()), (direct.code(), direct.stderr.as_str()));
    assert_eq!(refused.code(), 126, "{refused}");
    let ended = worker.inspect();
    assert_eq!((&ended["exit"]["reason"], &ended["exit"]["wall_ns"]), (&json!("never-started"), &Value::Null));
    let error = ended["start_error"].as_str().unwrap();
    assert!(error.starts_with("become: program '/bin/foreign': execve: Exec format error"), "{error}");
    bed.squall(&["rm", &worker.id]).ok();
}

fn what_is_wrong_before_the_exec_is_refused_at_the_creation(bed: &Bed) {
    let call = ["create", "--cgroup-parent", &bed.cgroup(), "--layer", bed.probe(), "--", "/bin/missing"];
    let refused = bed.squall(&call).output();
    assert!(refused.code() == 127 && refused.stderr.contains("/bin/missing"), "{refused}");
    assert_eq!(bed.squall(&["ps", "--all", "--json"]).json(), json!([]));
}

fn its_time_begins_with_the_start(bed: &Bed) {
    let worker = create(bed, &["--timeout", "1"], &["exit-on-signal", "600000"]);
    std::thread::sleep(Duration::from_millis(1500)); // time passing is what is tested
    assert_eq!(worker.phase(), "created");
    bed.squall(&["start", &worker.id]).ok();
    assert_eq!(worker.phase(), "running");
    worker.wait();
    let exit = &worker.inspect()["exit"];
    assert!(exit["reason"] == "timeout" && exit["wall_ns"].as_u64().unwrap() >= 1_000_000_000, "{exit}");
}

fn a_frozen_one_is_not_started(bed: &Bed) {
    let worker = create(bed, &[], &["exit", "3"]);
    let directories = host::cgroup_directories(&worker.cgroup());
    let find = |name: &str| directories.iter().map(|one| one.join(name)).find(|file| file.exists());
    let v1 = find("freezer.state").map(|file| (file, "FROZEN", "THAWED"));
    let (file, frozen, thawed) = v1.or_else(|| Some((find("cgroup.freeze")?, "1", "0"))).unwrap();
    fs::write(&file, frozen).unwrap();
    let refused = bed.squall(&["start", &worker.id]).output();
    assert!(refused.code() == 125 && refused.stderr.contains("is frozen"), "{refused}");
    fs::write(&file, thawed).unwrap();
    bed.squall(&["start", &worker.id]).ok();
    assert_eq!(worker.wait(), 3);
}

fn without_its_monitor_it_ends_and_is_lost(bed: &Bed) {
    let worker = create(bed, &[], &["exit", "0"]);
    let (pid, monitor) = (worker.pid(), worker.monitor());
    kill_process(Pid::from_raw(monitor as i32).unwrap(), Signal::KILL).unwrap();
    until("init ends with it", || (!host::is_alive(pid)).then_some(()));
    until("it is known to be lost", || (worker.phase() == "lost").then_some(()));
    let refused = bed.squall(&["start", &worker.id]).output();
    assert!(refused.code() == 125 && refused.stderr.contains("it has ended"), "{refused}");
}

fn its_layers_and_its_name_are_in_use(bed: &Bed) {
    let worker = create(bed, &["--name", "taken"], &["exit", "5"]);
    let users = bed.squall(&["layers", "--json"]).json();
    assert_eq!(only(&users)["users"], json!(["taken"]), "{users}");
    bed.squall(&["reap", "--keep", "0"]).ok();
    let taken = bed.run(&["--name", "taken"], &["exit", "0"]).output();
    assert!(taken.code() == 125 && taken.stderr.contains("there is a container of this id"), "{taken}");
    bed.squall(&["start", "taken"]).ok();
    assert_eq!(worker.wait(), 5);
}

fn of_several_starts_at_once_one_is_the_start(bed: &Bed) {
    let worker = create(bed, &[], &["sleep", "600000"]);
    let squall = bed.library().build().unwrap();
    let Container::Created(created) = squall.attach(&worker.id).unwrap() else { panic!("it is not created") };
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| created.start())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    let refusals = outcomes.into_iter().filter_map(Result::err);
    refusals.for_each(|error| assert_eq!(error.kind(), ErrorKind::Phase, "{error}"));
    assert_eq!(bed.squall(&["start", &worker.id]).ok().text(), worker.id, "what runs is left as it is");
    worker.kill();
}

fn what_is_removed_with_its_end_leaves_nothing(bed: &Bed) {
    let worker = create(bed, &["--rm"], &["exit", "9"]);
    bed.squall(&["start", &worker.id]).ok();
    until("it is gone", || (bed.squall(&["ps", "--all", "--json"]).json() == json!([])).then_some(()));
    assert_eq!(worker.wait(), 9, "its end stays known for a while");
    let worker = create(bed, &["--rm"], &["exit", "9"]);
    bed.squall(&["stop", &worker.id]).ok();
    until("it is gone", || (bed.squall(&["ps", "--all", "--json"]).json() == json!([])).then_some(()));
    bed.squall(&["reap"]).ok();
}

fn the_user_of_its_own_and_the_pid_file_are_there_from_the_creation(bed: &Bed) {
    let pid_file = bed.file("pid");
    let worker = create(bed, &["--user", "auto", "--pidfile", &pid_file], &["sleep", "600000"]);
    let pid = worker.pid();
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), format!("{pid}\n"));
    let uid = worker.inspect()["spec"]["user"]["uid"].as_u64().unwrap();
    assert!(uid >= 2_100_000_000 && host::status(pid, "Uid").starts_with(&uid.to_string()));
    let other = create(bed, &["--user", "auto"], &["sleep", "600000"]);
    assert_ne!(other.inspect()["spec"]["user"]["uid"].as_u64().unwrap(), uid);
    bed.squall(&["start", &worker.id]).ok();
    assert_eq!(worker.pid(), pid);
    for worker in [worker, other] {
        bed.squall(&["rm", "--force", &worker.id]).ok();
    }
}
