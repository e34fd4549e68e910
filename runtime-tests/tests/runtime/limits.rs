//! Limits: in force in the kernel, felt by the worker, and told in the record.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use runtime_tests::{Bed, Worker, cases, host, needs, until};
use serde_json::{Value, json};
use squall::cgroup::Limits;
use squall::request::LaunchSpec;
use squall::{DefaultLimits, Stdio};

cases![
    every_limit_asked_for_is_in_the_kernels_files,
    a_worker_reads_its_own_limits_whoever_it_is,
    every_cgroup_that_is_made_can_be_looked_into,
    memory_beyond_the_limit_ends_as_an_out_of_memory_kill_on_record,
    where_one_is_killed_for_memory_all_can_be,
    pressure_is_told_where_the_kernel_counts_it,
    a_pids_limit_refuses_forks_and_counts_them,
    without_a_number_of_its_own_a_worker_has_a_pids_limit,
    a_program_that_launches_for_others_gives_limits_to_who_names_none,
    a_cpu_quota_holds_and_its_throttling_is_on_record,
    a_worker_of_one_cpu_sees_that_one,
    a_processor_that_was_offline_is_back_for_the_next_worker,
    a_limit_that_the_kernel_cannot_keep_is_refused_or_reported,
    a_full_writable_layer_refuses_its_worker_and_the_record_says_how_full_it_was,
];

/// Of each pair of files, the one that this host's cgroup version has.
fn limit_of(worker: &Worker<'_>, v1: &str, v2: &str) -> String {
    worker.cgroup_file(v1).or_else(|| worker.cgroup_file(v2)).unwrap_or_else(|| panic!("neither {v1} nor {v2}"))
}

fn every_limit_asked_for_is_in_the_kernels_files(bed: &Bed) {
    let flags = ["--memory", "64m", "--cpus", "0.5", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids-limit", "20"];
    let worker = bed.start(&flags, &["sleep", "600000"]);
    let table = [
        ("memory.limit_in_bytes", "memory.max", &["67108864"][..]),
        ("cpu.cfs_quota_us", "cpu.max", &["50000", "50000 100000"]),
        ("cpuset.cpus", "cpuset.cpus", &["0"]),
        ("cpuset.mems", "cpuset.mems", &["0"]),
        ("pids.max", "pids.max", &["20"]),
    ];
    for (v1, v2, values) in table {
        let found = limit_of(&worker, v1, v2);
        assert!(values.contains(&found.as_str()), "{v1}: {found}");
    }
    assert_eq!(host::status(worker.pid(), "Cpus_allowed_list"), "0");
    worker.kill();
}

/// Runtimes of languages size themselves by these files, and by the host where they cannot read
/// them.
fn a_worker_reads_its_own_limits_whoever_it_is(bed: &Bed) {
    let names = ["memory/memory.limit_in_bytes", "memory.max"].map(|name| format!("/sys/fs/cgroup/{name}"));
    for user in ["65534:65534", "4711:4712", "0:0"] {
        let read = |name| bed.attempt(&["--rm", "--memory", "64m", "--user", user], &["read", name])["ok"].clone();
        let shown: Vec<Value> = names.iter().map(|name| read(name)).filter(|text| text.is_string()).collect();
        assert_eq!(shown, [json!("67108864\n")], "as {user}");
    }
}

fn every_cgroup_that_is_made_can_be_looked_into(bed: &Bed) {
    let worker = bed.start(&[], &["sleep", "600000"]);
    let all = [bed.cgroup(), bed.monitors(), worker.cgroup()];
    let directories: Vec<_> = all.iter().flat_map(|cgroup| host::cgroup_directories(cgroup)).collect();
    assert!(directories.len() >= all.len(), "{directories:?}");
    for directory in directories {
        let mode = fs::metadata(&directory).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o755, "{}: {mode:o}", directory.display());
    }
    worker.kill();
}

/// What the exit record says of a worker that has ended.
fn record_of(bed: &Bed, id: &str) -> Value {
    bed.worker(id).inspect()["exit"].clone()
}

fn memory_beyond_the_limit_ends_as_an_out_of_memory_kill_on_record(bed: &Bed) {
    let output =
        bed.run(&["--name", "eater", "--memory", "32m", "--memory-swap", "32m"], &["allocate", "268435456"]).output();
    assert_eq!(output.code(), 137, "{output}");
    let record = record_of(bed, "eater");
    assert_eq!(record["exit"], json!({ "signal": 9, "core_dumped": false }));
    // The limit may be met once more before the kill has taken effect.
    let at_its_own = record["oom"]["own"].as_u64().is_some_and(|events| events >= 1);
    assert!(record["oom"]["kills"] == 1 && at_its_own, "{record}");
    let peak = record["memory_peak_bytes"].as_u64().unwrap();
    assert!((30 << 20..=32 << 20).contains(&peak), "{record}");
    let modest = bed.run(&["--name", "modest", "--memory", "32m"], &["allocate", "4194304"]).output();
    assert_eq!(modest.code(), 0, "{modest}");
    let record = record_of(bed, "modest");
    assert_eq!((&record["oom"]["kills"], &record["oom"]["own"]), (&json!(0), &json!(0)), "{record}");
}

/// Whether the memory controller of this machine is one of v2.
fn has_memory_on_v2() -> bool {
    needs::has(
        "cgroup2",
        fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|list| list.contains("memory")),
    )
}

/// A child takes too much, and its parent, who waits for it, would go on.
fn where_one_is_killed_for_memory_all_can_be(bed: &Bed) {
    let limited = ["--memory", "32m", "--memory-swap", "32m"];
    let greedy = ["child", "allocate", "268435456"];
    let one = bed.run(&[&["--name", "one"], &limited[..]].concat(), &greedy).output();
    assert_eq!(one.code(), 137 - 128, "the parent returns its child's signal: {one}");
    let record = record_of(bed, "one");
    assert!(record["oom"]["kills"] == 1 && record["exit"] == json!({ "code": 9 }), "{record}");
    let group = [&["--name", "all", "--oom-group"], &limited[..]].concat();
    if !has_memory_on_v2() {
        let refused = bed.run(&group, &greedy).output();
        assert!(refused.code() == 125 && refused.stderr.contains("memory_oom_group is one of cgroup v2"), "{refused}");
        return;
    }
    let all = bed.run(&group, &greedy).output();
    assert_eq!(all.code(), 137, "{all}");
    let record = record_of(bed, "all");
    assert!(record["oom"]["kills"].as_u64() >= Some(2) && record["exit"]["signal"] == 9, "{record}");
}

/// With a hundredth of a CPU, what would run waits.
fn pressure_is_told_where_the_kernel_counts_it(bed: &Bed) {
    let in_a_tree = || host::hierarchies().iter().any(|root| root.join("cpu.pressure").exists());
    let counted = needs::has("pressure", fs::read_to_string("/proc/pressure/cpu").is_ok() && in_a_tree());
    let worker = bed.start(&["--name", "burner", "--cpus", "0.05"], &["burn", "600000"]);
    until("there is a figure, or none ever", || {
        let stats = bed.squall(&["stats", "--no-stream", "--json", "burner"]).json();
        let waited = stats[0]["cpu_pressure"]["some"]["total_us"].as_u64();
        assert!(counted || waited.is_none(), "{stats}");
        (!counted || waited.is_some_and(|us| us > 0)).then_some(())
    });
    worker.kill();
    let record = record_of(bed, "burner");
    for key in
        ["cpu_pressure_ns", "memory_pressure_ns", "memory_pressure_full_ns", "io_pressure_ns", "io_pressure_full_ns"]
    {
        assert_eq!(record[key].is_u64(), counted, "{key}: {record}");
    }
    assert!(!counted || record["cpu_pressure_ns"].as_u64() > Some(0), "{record}");
}

fn a_pids_limit_refuses_forks_and_counts_them(bed: &Bed) {
    let answer = bed.run(&["--name", "forker", "--pids-limit", "8"], &["fork", "100"]).json();
    assert_eq!(answer["forked"], 7, "the worker itself is the eighth: {answer}");
    assert!(answer["refused"].is_string(), "{answer}");
    assert!(record_of(bed, "forker")["pids_limit_hits"].as_u64().unwrap() >= 1);
}

fn without_a_number_of_its_own_a_worker_has_a_pids_limit(bed: &Bed) {
    for (flags, limit) in [(&[][..], "2048"), (&["--pids-limit", "0"], "max"), (&["--pids-limit", "7"], "7")] {
        let worker = bed.start(flags, &["sleep", "600000"]);
        assert_eq!(worker.cgroup_file("pids.max").as_deref(), Some(limit), "{flags:?}");
        worker.kill();
    }
    let plan = bed.squall(&["plan", "--json", bed.probe(), "/bin/probe"]).json();
    assert_eq!(plan["document"]["linux"]["resources"]["pids"]["limit"], 2048);
}

fn a_program_that_launches_for_others_gives_limits_to_who_names_none(bed: &Bed) {
    let squall = bed.library().default_limits(DefaultLimits { pids: Some(9), memory_bytes: Some(48 << 20) });
    let squall = squall.build().unwrap();
    let user = squall::request::Identity::new(4711, 4711, []).unwrap();
    let spec = |id: &str, limits| {
        let spec =
            LaunchSpec::builder(id).layers([bed.probe()]).args(["/bin/probe", "sleep", "600000"]).user(user.clone());
        spec.cgroup(format!("{}/{id}", bed.cgroup())).limits(limits).build().unwrap()
    };
    for (id, limits, expected) in [
        ("none", Limits::default(), ("9", (48 << 20).to_string())),
        (
            "own",
            Limits { pids: Some(5), memory_bytes: Some(32 << 20), ..Limits::default() },
            ("5", (32 << 20).to_string()),
        ),
    ] {
        let running = squall.launch(&spec(id, limits), Stdio::null().unwrap()).unwrap();
        let worker = bed.worker(id);
        assert_eq!(worker.cgroup_file("pids.max").as_deref(), Some(expected.0));
        assert_eq!(limit_of(&worker, "memory.limit_in_bytes", "memory.max"), expected.1);
        drop(running);
        worker.kill();
    }
}

fn a_cpu_quota_holds_and_its_throttling_is_on_record(bed: &Bed) {
    let answer = bed.run(&["--name", "burner", "--cpus", "0.2"], &["burn", "1000"]).json();
    let share = answer["cpu_ms"].as_u64().unwrap() * 100 / answer["wall_ms"].as_u64().unwrap();
    // One period's worth may be used at the beginning and at the end, and a busy machine gives
    // less.
    assert!(share <= 35, "{share} % of a CPU: {answer}");
    let record = record_of(bed, "burner");
    for key in ["cpu_throttled_ns", "cpu_throttled_periods", "cpu_periods"] {
        assert!(record[key].as_u64().is_some_and(|number| number > 0), "{key}: {record}");
    }
}

fn a_worker_of_one_cpu_sees_that_one(bed: &Bed) {
    let report = bed.report(&["--rm", "--cpuset-cpus", "0"]);
    assert_eq!(report["status"]["Cpus_allowed_list"], "0");
    let elsewhere = bed.run(&["--rm", "--cpuset-cpus", "0"], &["report"]).under(&["taskset", "--cpu-list", "0"]).json();
    assert_eq!(elsewhere["status"]["Cpus_allowed_list"], "0");
}

/// The kernel takes a processor that goes offline out of every cpuset of v1, and does not put it
/// back. Here it is taken out by hand.
fn a_processor_that_was_offline_is_back_for_the_next_worker(bed: &Bed) {
    let first = bed.start(&[], &["sleep", "600000"]);
    let all = host::status(first.pid(), "Cpus_allowed_list");
    let cpusets =
        host::cgroup_directories(&bed.cgroup()).into_iter().filter(|one| one.join("cpuset.cpu_exclusive").exists());
    for directory in cpusets.flat_map(|directory| host::tree(&directory)) {
        fs::write(directory.join("cpuset.cpus"), "0").unwrap();
    }
    assert_eq!(bed.report(&["--rm"])["status"]["Cpus_allowed_list"], all.as_str());
    let last = bed.run(&["--rm", "--cpuset-cpus", &all], &["report"]).json();
    assert_eq!(last["status"]["Cpus_allowed_list"], all.as_str());
    first.kill();
}

fn a_limit_that_the_kernel_cannot_keep_is_refused_or_reported(bed: &Bed) {
    let beyond = fs::read_to_string("/sys/devices/system/cpu/kernel_max").unwrap().trim().parse::<u64>().unwrap();
    let refused = bed.run(&["--cpuset-cpus", &beyond.to_string()], &["exit", "0"]).output();
    assert_eq!((refused.code(), refused.stderr.lines().count()), (125, 1), "{refused}");
    assert!(refused.stderr.contains("cpu"), "{refused}");
    let rounded = bed.run(&["--name", "rounded", "--memory", "67113864"], &["exit", "0"]).ok();
    assert!(rounded.stderr.contains("67112960"), "{rounded}");
    let adjustments = bed.worker("rounded").inspect()["adjustments"].to_string();
    assert!(adjustments.contains("67113864") && adjustments.contains("67112960"), "{adjustments}");
}

fn a_full_writable_layer_refuses_its_worker_and_the_record_says_how_full_it_was(bed: &Bed) {
    // The worker writes until it is refused, and returns the number of the refusal.
    let worker = bed.start(&["--user", "0:0", "--writable=1m"], &["fill-up", "/file"]);
    assert_eq!(worker.wait(), libc::ENOSPC);
    let upper = worker.inspect()["exit"]["upper"].clone();
    assert_eq!(upper["size_bytes"], 1 << 20, "{upper}");
    let used = upper["used_bytes"].as_u64().unwrap();
    assert!(used > (1 << 20) - (16 << 10) && used <= 1 << 20, "{upper}");
    let spared = bed.start(&["--user", "0:0", "--writable=1m"], &["exit", "0"]);
    assert_eq!(spared.wait(), 0);
    let used = spared.inspect()["exit"]["upper"]["used_bytes"].as_u64().unwrap();
    assert!(used < 64 << 10, "{used}");
}
