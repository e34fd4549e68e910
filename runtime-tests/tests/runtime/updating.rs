//! Limits that are changed while a container is there: in force in the kernel, and on record.

use std::fs;
use std::process::{Command, Stdio};

use runtime_tests::{Bed, Output, Worker, cases, host, until};
use serde_json::{Value, json};
use squall::cgroup::{Field, LimitChanges, Limits, SwapLimit};
use squall::request::LaunchSpec;
use squall::{Container, ErrorKind};

cases![
    each_limit_is_changed_in_the_kernels_files_and_on_record,
    what_is_not_named_stays_and_what_is_lifted_is_no_limit_any_more,
    a_worker_gets_the_memory_and_the_processors_that_it_was_given_later,
    memory_that_is_in_use_is_not_taken_away,
    what_the_kernel_would_refuse_is_refused_before_anything_is_changed,
    what_the_kernel_refuses_half_way_leaves_the_earlier_limits,
    a_number_of_processes_below_the_present_one_ends_none,
    what_is_paused_or_created_is_updated_too,
    many_updates_at_once_leave_the_limits_of_one_of_them,
    an_update_that_was_killed_leaves_nothing_in_the_way,
    a_document_in_ocis_words_changes_the_same_limits,
    what_has_ended_is_named,
    a_container_that_removes_itself_leaves_nothing_beside_its_updates,
];

/// Of each pair of files, the one that this host's cgroup version has; of several words the first.
fn in_force(worker: &Worker<'_>, v1: &str, v2: &str) -> String {
    let found = worker.cgroup_file(v1).or_else(|| worker.cgroup_file(v2));
    found.unwrap_or_else(|| panic!("neither {v1} nor {v2}"))
}

fn memory(worker: &Worker<'_>) -> String {
    in_force(worker, "memory.limit_in_bytes", "memory.max")
}

fn quota(worker: &Worker<'_>) -> String {
    in_force(worker, "cpu.cfs_quota_us", "cpu.max").split(' ').next().unwrap_or_default().to_owned()
}

fn pids(worker: &Worker<'_>) -> String {
    in_force(worker, "pids.max", "pids.max")
}

fn recorded(worker: &Worker<'_>) -> Value {
    worker.inspect()["spec"]["limits"].clone()
}

fn update(bed: &Bed, worker: &Worker<'_>, flags: &[&str]) -> Output {
    bed.squall(&[&["update"], flags, &[&worker.id]].concat()).output()
}

fn updated(bed: &Bed, worker: &Worker<'_>, flags: &[&str]) {
    let said = update(bed, worker, flags);
    assert_eq!((said.code(), said.text(), said.stderr.as_str()), (0, worker.id.clone(), ""), "{said}");
}

fn each_limit_is_changed_in_the_kernels_files_and_on_record(bed: &Bed) {
    let flags = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "20"];
    let worker = bed.start(&flags, &["sleep", "600000"]);
    let before = worker.inspect();
    updated(bed, &worker, &["--memory", "96m"]);
    updated(bed, &worker, &["--cpus", "1.5"]);
    updated(bed, &worker, &["--pids-limit", "30"]);
    updated(bed, &worker, &["--cpuset-cpus", "0", "--cpuset-mems", "0"]);
    assert_eq!((memory(&worker), quota(&worker), pids(&worker)), ("100663296".into(), "150000".into(), "30".into()));
    let lists = ["cpuset.cpus", "cpuset.mems"].map(|file| in_force(&worker, file, file));
    assert_eq!(lists, ["0", "0"]);
    assert_eq!(host::status(worker.pid(), "Cpus_allowed_list"), "0");
    // A sum of memory and swap goes with the memory that is there.
    updated(bed, &worker, &["--memory-swap", "128m"]);
    let swap = in_force(&worker, "memory.memsw.limit_in_bytes", "memory.swap.max");
    assert!([(128 << 20).to_string(), (32 << 20).to_string()].contains(&swap), "{swap}");
    let limits = recorded(&worker);
    for (name, value) in [
        ("memory_bytes", json!(96 << 20)),
        ("cpu_quota_us", json!(150_000)),
        ("pids", json!(30)),
        ("cpuset_cpus", json!("0")),
    ] {
        assert_eq!(limits[name], value, "{limits}");
    }
    // All but the limits is as it was, and a spec of any reader.
    let mut after = worker.inspect();
    assert!(LaunchSpec::from_json(after["spec"].to_string().as_bytes()).is_ok());
    after["spec"]["limits"] = before["spec"]["limits"].clone();
    assert_eq!(after, before);
    let stats = bed.squall(&["stats", "--no-stream", "--json", &worker.id]).json()[0].clone();
    assert_eq!((&stats["memory_limit_bytes"], &stats["pids_limit"]), (&json!(96 << 20), &json!(30)), "{stats}");
    worker.kill();
    assert_eq!(recorded(&worker), limits);
}

fn what_is_not_named_stays_and_what_is_lifted_is_no_limit_any_more(bed: &Bed) {
    let flags = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "20", "--cpuset-cpus", "0"];
    let worker = bed.start(&flags, &["sleep", "600000"]);
    updated(bed, &worker, &["--pids-limit", "21"]);
    assert_eq!((memory(&worker), quota(&worker), pids(&worker)), ("67108864".into(), "50000".into(), "21".into()));
    updated(bed, &worker, &["--memory", "0", "--cpus", "0", "--pids-limit", "-1", "--cpuset-cpus", ""]);
    let unlimited = |text: String| text == "max" || text == "-1" || text.len() > 18;
    assert!(unlimited(memory(&worker)) && unlimited(quota(&worker)) && pids(&worker) == "max");
    assert_eq!(
        host::status(worker.pid(), "Cpus_allowed_list"),
        host::status(std::process::id(), "Cpus_allowed_list"),
        "of the parent"
    );
    let limits = recorded(&worker);
    assert_eq!(limits.as_object().unwrap().keys().collect::<Vec<_>>(), ["devices"], "{limits}");
    // The library's words for the same.
    let Container::Running(running) = bed.library().build().unwrap().attach(&worker.id).unwrap() else { panic!() };
    let set = Limits { memory_bytes: Some(32 << 20), cpu_shares: Some(512), ..Limits::none() };
    let now = running.update(&LimitChanges { set, lift: vec![] }).unwrap();
    assert_eq!(now.record().spec["limits"]["memory_bytes"], 32 << 20);
    assert_eq!(running.record().spec["limits"]["memory_bytes"], Value::Null, "a handle is as it was obtained");
    let fresh = running.refresh().unwrap();
    assert_eq!(fresh.record().unwrap().spec["limits"], now.record().spec["limits"]);
    let shares = in_force(&worker, "cpu.shares", "cpu.weight");
    assert!(["512", "59"].contains(&shares.as_str()), "{shares}");
    let lift = vec![Field::CpuShares, Field::MemoryBytes];
    now.update(&LimitChanges { set: Limits::none(), lift }).unwrap();
    let shares = in_force(&worker, "cpu.shares", "cpu.weight");
    assert!(["1024", "100"].contains(&shares.as_str()), "{shares}");
    worker.kill();
}

fn a_worker_gets_the_memory_and_the_processors_that_it_was_given_later(bed: &Bed) {
    let create = ["create", "--cgroup-parent", &bed.cgroup(), "--memory", "16m", "--memory-swap", "16m"];
    let argv = ["--layer", bed.probe(), "--", "/bin/probe", "allocate", "33554432"];
    let run = |more: &[&str]| {
        let worker = bed.worker(&bed.squall(&[&create[..], &argv].concat()).ok().text());
        if !more.is_empty() {
            updated(bed, &worker, more);
        }
        bed.squall(&["start", &worker.id]).ok();
        let code = worker.wait();
        bed.squall(&["rm", &worker.id]).ok();
        code
    };
    assert_eq!(run(&[]), 128 + libc::SIGKILL);
    assert_eq!(run(&["--memory", "64m", "--memory-swap", "64m"]), 0);
}

/// What a worker has touched cannot be reclaimed without swap.
fn memory_that_is_in_use_is_not_taken_away(bed: &Bed) {
    let flags = ["--memory", "96m", "--memory-swap", "96m"];
    let worker = bed.start(&flags, &["keep", "50331648"]);
    let used =
        || bed.squall(&["stats", "--no-stream", "--json", &worker.id]).json()[0]["memory_current_bytes"].as_u64();
    until("it holds its memory", || (used()? >= 48 << 20).then_some(()));
    let before = worker.inspect();
    let refused = update(bed, &worker, &["--memory", "32m", "--memory-swap", "32m", "--pids-limit", "7"]);
    assert_eq!((refused.code(), refused.stderr.lines().count()), (125, 1), "{refused}");
    // Where the machine has swap, only the kernel can tell.
    let numbers = refused.stderr.contains("33554432 bytes is less than") && refused.stderr.contains("--memory");
    assert!(numbers || refused.stderr.contains("could not reclaim"), "{refused}");
    assert_eq!(memory(&worker), (96 << 20).to_string());
    assert_ne!(pids(&worker), "7");
    assert_eq!(worker.inspect(), before);
    assert!(host::is_alive(worker.pid()));
    // What fits is taken, and more again.
    updated(bed, &worker, &["--memory", "64m", "--memory-swap", "64m"]);
    updated(bed, &worker, &["--memory", "128m", "--memory-swap", "128m"]);
    assert_eq!(memory(&worker), (128 << 20).to_string());
    assert!(host::is_alive(worker.pid()));
    worker.kill();
    assert_eq!(worker.inspect()["exit"]["oom"]["kills"], 0);
}

fn what_the_kernel_would_refuse_is_refused_before_anything_is_changed(bed: &Bed) {
    let worker = bed.start(&["--memory", "64m", "--memory-swap", "96m", "--pids-limit", "20"], &["sleep", "600000"]);
    let before = worker.inspect();
    let absent = host::status(std::process::id(), "Cpus_allowed_list");
    let absent = absent.rsplit(['-', ',']).next().unwrap().parse::<u32>().unwrap() + 1;
    let absent = format!("0-{absent}");
    for (flags, words) in [
        (&["--pids-limit", "5", "--memory", "128m"][..], &["--memory-swap: 100663296 bytes", "134217728"][..]),
        (&["--pids-limit", "5", "--memory", "1"], &["--memory: 1 bytes of memory cannot be a limit"]),
        (&["--pids-limit", "5", "--memory", "0"], &["--memory-swap: needs a memory limit"]),
        (&["--pids-limit", "5", "--cpuset-cpus", &absent], &["--cpuset-cpus: of 0-", "there is no"]),
        (&["--pids-limit", "5", "--cpuset-mems", "0-1000"], &["--cpuset-mems: of 0-1000 there is no"]),
        (&["--pids-limit", "5", "--cpuset-cpus", "x"], &["--cpuset-cpus: 'x'"]),
        (&["--pids-limit", "99999999"], &["--pids-limit: 99999999"]),
        (&["--pids-limit", "5", "--cpus", "0.001"], &["--cpus"]),
        (&[], &["nothing to change is given"]),
    ] {
        let refused = update(bed, &worker, flags);
        assert_eq!((refused.code(), refused.stderr.lines().count()), (125, 1), "{refused}");
        assert!(words.iter().all(|word| refused.stderr.contains(word)), "{refused}");
        assert_eq!((pids(&worker), memory(&worker)), ("20".into(), (64 << 20).to_string()), "{refused}");
    }
    assert_eq!(worker.inspect(), before);
    worker.kill();
}

/// On v1 a cgroup cannot have less CPU time than one below it. On v2 the kernel takes each of the
/// values; there the unit tests have a file that refuses.
fn what_the_kernel_refuses_half_way_leaves_the_earlier_limits(bed: &Bed) {
    let worker = bed.start(&["--memory", "64m", "--cpus", "0.8", "--pids-limit", "20"], &["sleep", "600000"]);
    let directories = host::cgroup_directories(&worker.cgroup());
    let Some(cpu) = directories.iter().find(|one| one.join("cpu.cfs_quota_us").exists()) else {
        return worker.kill();
    };
    let before = worker.inspect();
    let below = cpu.join("below");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("cpu.cfs_quota_us"), "50000").unwrap();
    let flags = ["--memory", "96m", "--cpus", "0.3", "--pids-limit", "7", "--cpuset-cpus", "0"];
    let refused = update(bed, &worker, &flags);
    fs::remove_dir(&below).unwrap();
    assert_eq!((refused.code(), refused.stderr.lines().count()), (125, 1), "{refused}");
    assert!(refused.stderr.contains("cpu.cfs_quota_us: write(30000): Invalid argument"), "{refused}");
    assert!(refused.stderr.contains("the earlier limits are in force again"), "{refused}");
    assert_eq!((memory(&worker), quota(&worker), pids(&worker)), ("67108864".into(), "80000".into(), "20".into()));
    assert_eq!(host::status(worker.pid(), "Cpus_allowed_list"), host::status(std::process::id(), "Cpus_allowed_list"));
    assert_eq!(worker.inspect(), before);
    // The kernel counts a removed cgroup for a moment longer.
    until("nothing below is in the way", || (update(bed, &worker, &flags).code() == 0).then_some(()));
    assert_eq!(quota(&worker), "30000");
    worker.kill();
}

fn a_number_of_processes_below_the_present_one_ends_none(bed: &Bed) {
    let worker = bed.start(&["--pids-limit", "40"], &["bomb"]);
    let current = || in_force(&worker, "pids.current", "pids.current").parse::<u64>().unwrap();
    until("it has forked", || (current() == 40).then_some(()));
    updated(bed, &worker, &["--pids-limit", "3"]);
    assert_eq!((pids(&worker).as_str(), current()), ("3", 40));
    worker.kill();
}

fn what_is_paused_or_created_is_updated_too(bed: &Bed) {
    let worker = bed.start(&["--memory", "64m"], &["sleep", "600000"]);
    bed.squall(&["pause", &worker.id]).ok();
    updated(bed, &worker, &["--memory", "32m"]);
    assert_eq!((worker.phase().as_str(), memory(&worker)), ("paused", (32 << 20).to_string()));
    let Container::Paused(paused) = bed.library().build().unwrap().attach(&worker.id).unwrap() else { panic!() };
    let set = Limits { pids: Some(9), ..Limits::none() };
    let paused = paused.update(&LimitChanges { set, lift: vec![] }).unwrap();
    assert_eq!(paused.record().spec["limits"]["pids"], 9);
    paused.resume().unwrap();
    assert_eq!((worker.phase().as_str(), pids(&worker).as_str()), ("running", "9"));
    worker.kill();

    let create = ["create", "--cgroup-parent", &bed.cgroup(), "--layer", bed.probe(), "--", "/bin/probe", "exit", "4"];
    let worker = bed.worker(&bed.squall(&create).ok().text());
    updated(bed, &worker, &["--memory", "48m"]);
    assert_eq!((worker.phase().as_str(), memory(&worker)), ("created", (48 << 20).to_string()));
    bed.squall(&["start", &worker.id]).ok();
    assert_eq!(worker.wait(), 4);
    assert_eq!(recorded(&worker)["memory_bytes"], 48 << 20);
}

fn many_updates_at_once_leave_the_limits_of_one_of_them(bed: &Bed) {
    let worker = bed.start(&["--memory", "64m", "--memory-swap", "64m"], &["sleep", "600000"]);
    let spawn = |number: usize| {
        let (size, pids) = (format!("{}m", 32 + number), (100 + number).to_string());
        let flags = ["update", "--memory", &size, "--memory-swap", &size, "--pids-limit", &pids, &worker.id];
        let mut command: Command = bed.squall(&flags).into_command();
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let mut children: Vec<_> = (0..6).map(spawn).collect();
    // Whoever reads meanwhile finds a whole record.
    for _ in 0..20 {
        let limits = recorded(&worker);
        assert_eq!(limits["memory_bytes"], limits["memory_swap_bytes"], "{limits}");
    }
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    let limits = recorded(&worker);
    let number = limits["pids"].as_u64().unwrap() - 100;
    assert_eq!(limits["memory_bytes"], (32 + number) << 20);
    let swap = SwapLimit::Total((32 + number) << 20);
    assert_eq!(limits["memory_swap_bytes"], serde_json::to_value(swap).unwrap());
    assert_eq!((memory(&worker), pids(&worker)), (((32 + number) << 20).to_string(), (100 + number).to_string()));
    worker.kill();
}

fn an_update_that_was_killed_leaves_nothing_in_the_way(bed: &Bed) {
    let worker = bed.start(&[], &["sleep", "600000"]);
    let directory = bed.run_root().join("containers").join(&worker.id);
    fs::write(directory.join("record.json.1"), "half").unwrap();
    updated(bed, &worker, &["--memory", "64m"]);
    let names = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = names.filter(|name| name.starts_with("record.json")).collect();
    assert_eq!(left, ["record.json"]);
    // One that holds the lock is waited for.
    let lock = fs::File::open(directory.join("claim")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut waiting = bed.squall(&["update", "--memory", "65m", &worker.id]).into_command();
    let mut waiting = waiting.stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300)); // time passing is what is tested
    assert_eq!(memory(&worker), (64 << 20).to_string());
    drop(lock);
    assert!(waiting.wait().unwrap().success());
    assert_eq!(memory(&worker), (65 << 20).to_string());
    worker.kill();
}

fn a_document_in_ocis_words_changes_the_same_limits(bed: &Bed) {
    let worker = bed.start(&["--memory", "64m", "--pids-limit", "20"], &["sleep", "600000"]);
    let document = json!({ "memory": { "limit": 100_663_296, "reservation": 33_554_432 }, "pids": { "limit": -1 },
        "cpu": { "quota": 50_000, "period": 50_000, "shares": 0 } });
    let file = bed.file("resources.json");
    fs::write(&file, document.to_string()).unwrap();
    updated(bed, &worker, &["--resources", &file]);
    assert_eq!((memory(&worker), quota(&worker), pids(&worker)), ("100663296".into(), "50000".into(), "max".into()));
    let soft = in_force(&worker, "memory.soft_limit_in_bytes", "memory.low");
    assert_eq!(soft, "33554432");
    let call = ["update", "--resources", "-", &worker.id];
    bed.squall(&call).stdin(r#"{"pids":{"limit":33}}"#).ok();
    assert_eq!(pids(&worker), "33");
    for (text, word) in [(r#"{"network":{}}"#, "unknown field"), ("{}", "nothing to change"), ("x", "document")] {
        let said = bed.squall(&call).stdin(text).output();
        assert!(said.code() == 125 && said.stderr.contains(word), "{said}");
    }
    let both = bed.squall(&["update", "--resources", "-", "--memory", "1g", &worker.id]).output();
    assert!(both.code() == 125 && both.stderr.contains("cannot be used with"), "{both}");
    worker.kill();
}

fn what_has_ended_is_named(bed: &Bed) {
    let worker = bed.start(&[], &["sleep", "600000"]);
    let Container::Running(running) = bed.library().build().unwrap().attach(&worker.id).unwrap() else { panic!() };
    worker.kill();
    let set = Limits { pids: Some(9), ..Limits::none() };
    let error = running.update(&LimitChanges { set, lift: vec![] }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Phase, "{error}");
    let refused = bed.squall(&["update", "--pids-limit", "9", &worker.id, "absent"]).output();
    assert_eq!((refused.code(), refused.stderr.lines().count()), (125, 2), "{refused}");
    assert!(refused.stderr.contains("it has ended") && refused.stderr.contains("no container"), "{refused}");
}

fn a_container_that_removes_itself_leaves_nothing_beside_its_updates(bed: &Bed) {
    for _ in 0..5 {
        let worker = bed.start(&["--rm"], &["sleep", "600000"]);
        let mut command = bed.squall(&["update", "--memory", "64m", &worker.id]).into_command();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        bed.squall(&["kill", &worker.id]).ok();
        bed.squall(&["wait", &worker.id]).ok();
        child.wait().unwrap();
        let directory = bed.run_root().join("containers").join(&worker.id);
        until("its directory is gone", || (!directory.exists()).then_some(()));
    }
}
