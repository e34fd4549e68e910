//! The traps that an embedder of libcontainer 0.7 falls into, each with the test that fails when it
//! is open.
//!
//! | trap | tests |
//! |---|---|
//! | the caller's supplementary groups reach a worker without any | `identity::user_and_groups_are_the_ones_asked_for_and_no_others` |
//! | signal mask, ignored signals and `LISTEN_FDS` of the caller are inherited | `inheritance::whatever_the_callers_circumstances_the_worker_starts_the_same`, `inheritance::signals_that_the_caller_ignores_or_blocks_reach_the_worker`, `oracle` (`status/SigIgn`, `status/SigBlk`) |
//! | a seccomp profile is ignored in silence | `seccomp::every_action_of_a_profile_is_in_force` |
//! | creating from a program with threads hangs or fails | `spawner::eight_threads_launch_forty_containers_through_one_forked_spawner`, `spawner::a_program_with_threads_can_neither_fork_a_spawner_nor_launch_directly` |
//! | a failed create leaves zombies and sockets and loses the errno | [`a_hundred_failed_launches_leave_nothing_in_their_program`], [`a_failure_within_init_keeps_its_errno`] |
//! | the caller's dumpable flag, OOM score, directory and signals change | [`a_launch_changes_nothing_of_its_program`] |
//! | on hybrid machines two hierarchies are not joined | `namespaces::worker_and_monitor_are_in_their_cgroups_in_every_hierarchy`, `oracle` (`cgroup/name=systemd`, `cgroup/unified`) |
//! | propagation of a mount is ignored | `binds::mounts_of_the_host_arrive_only_through_a_slave_bind`, [`propagation_that_cannot_be_given_is_refused`] |
//! | device rules are not enforced on v2 | unit tests of `squall::cgroup`: reported as not enforced |
//! | the state file is written in place | `crashes::launches_killed_at_any_moment_leave_nothing_that_reaping_does_not_clear` |
//! | a pid that somebody else has now is taken for the container's | [`a_stranger_with_the_recorded_pid_is_left_alone`] |
//! | every mount of the host makes a create slower, many times over | [`the_mount_table_of_the_host_is_not_read_for_every_controller`] |
//! | no fallback below Linux 5.12 | `runtime_tests::needs`: the tests refuse such a machine |
//! | without a mount namespace's path the root is a chroot | `namespaces::entering_the_mount_namespace_lands_in_the_containers_root` |
//! | absent capability sets drop nothing | `identity::every_capability_set_is_empty_whoever_the_user_is`, unit tests of `oci` |
//! | a death of init before the workload is not told from the workload's | [`a_death_of_init_before_the_workload_is_an_error_that_names_the_stage`] |

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use runtime_tests::{Bed, Call, cases, host, roles, until};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use squall::request::{Builder, Identity, LaunchSpec};
use squall::{Error, ErrorKind, Squall};

cases![
    propagation_that_cannot_be_given_is_refused,
    a_hundred_failed_launches_leave_nothing_in_their_program,
    a_failure_within_init_keeps_its_errno,
    a_launch_changes_nothing_of_its_program,
    a_stranger_with_the_recorded_pid_is_left_alone,
    the_mount_table_of_the_host_is_not_read_for_every_controller,
    a_death_of_init_before_the_workload_is_an_error_that_names_the_stage,
];

pub fn spec(bed: &Bed, probe: &[&str]) -> Builder {
    let user = Identity::new(4711, 4711, []).unwrap();
    let builder =
        LaunchSpec::builder("worker").layers([bed.probe()]).args([&["/bin/probe"], probe].concat()).user(user);
    builder.cgroup(bed.cgroup() + "/worker")
}

fn refusal(squall: &Squall, spec: Builder) -> Error {
    squall.launch(&spec.build().unwrap(), squall::Stdio::null().unwrap()).unwrap_err()
}

/// Runs it to its end.
fn run(squall: &Squall, spec: Builder) {
    let running = squall.launch(&spec.build().unwrap(), squall::Stdio::null().unwrap());
    running.unwrap_or_else(|error| panic!("{error}")).wait().unwrap().remove().unwrap();
}

fn propagation_that_cannot_be_given_is_refused(bed: &Bed) {
    let squall = bed.library().build().unwrap();
    for word in ["shared", "rshared", "unbindable", "runbindable"] {
        let error = refusal(&squall, spec(bed, &["exit", "0"]).bind("/etc", "/mnt", &["ro", word]));
        assert_eq!(
            (error.kind(), error.problems()[0].field.as_str()),
            (ErrorKind::Invalid, "mounts[0].options"),
            "{error}"
        );
    }
}

/// What can go wrong late: before the clone, while mounting, in libcontainer's part (its last step
/// is ours), at exec.
fn failing(bed: &Bed) -> [(Builder, ErrorKind); 4] {
    let worker = || spec(bed, &["exit", "0"]);
    [
        (worker().bind("/no/such/path", "/mnt", &[]), ErrorKind::System),
        (worker().bind("/etc", "/bin/probe/below", &[]), ErrorKind::System),
        (worker().cwd("/no/such/directory"), ErrorKind::System),
        (worker().args(["/no/such/program"]), ErrorKind::ProgramNotFound),
    ]
}

fn a_hundred_failed_launches_leave_nothing_in_their_program(bed: &Bed) {
    let squall = bed.library().build().unwrap();
    bed.probe();
    let fds = host::open_fds("self");
    for _ in 0..25 {
        for (spec, _) in failing(bed) {
            refusal(&squall, spec);
        }
    }
    assert_eq!(host::open_fds("self"), fds);
    let children: Vec<u32> = host::processes()
        .into_iter()
        .filter(|pid| host::status(*pid, "PPid") == std::process::id().to_string())
        .collect();
    assert!(children.is_empty(), "zombies count: {children:?}");
}

fn a_failure_within_init_keeps_its_errno(bed: &Bed) {
    let squall = bed.library().build().unwrap();
    for (spec, kind) in failing(bed) {
        let error = refusal(&squall, spec);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.errno().is_some(), "{error}: without its errno");
    }
}

/// What the kernel keeps of this process and a library has no business with.
fn circumstances() -> BTreeMap<&'static str, String> {
    const KEPT: [&str; 13] = [
        "Umask",
        "Uid",
        "Gid",
        "Groups",
        "NoNewPrivs",
        "Seccomp",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "CapEff",
        "CapBnd",
        "NSpid",
        "Threads",
    ];
    let mut all: BTreeMap<&'static str, String> =
        KEPT.into_iter().map(|key| (key, host::status(std::process::id(), key))).collect();
    let file = |path: &str| fs::read_to_string(path).unwrap();
    all.insert("oom_score_adj", file("/proc/self/oom_score_adj"));
    all.insert("cgroup", file("/proc/self/cgroup"));
    all.insert("limits", file("/proc/self/limits"));
    all.insert("directory", std::env::current_dir().unwrap().display().to_string());
    all.insert("environment", format!("{:?}", std::env::vars().collect::<Vec<_>>()));
    all.insert("dumpable", format!("{:?}", rustix::process::dumpable_behavior().unwrap()));
    all.insert("session", session());
    all.insert("mount namespace", format!("{:?}", fs::read_link("/proc/self/ns/mnt").unwrap()));
    all.insert("standard streams", format!("{:?}", host::open_fds("self")));
    all
}

/// The session's number: 0 where its leader is in no pid namespace of ours, as for tests that a
/// container's own init started.
fn session() -> String {
    const SESSION: usize = 6; // proc_pid_stat(5); the fields before it hold no space outside of the name's brackets
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    after_name.split(' ').nth(SESSION - 3).unwrap().to_owned()
}

fn a_launch_changes_nothing_of_its_program(bed: &Bed) {
    let squall = bed.library().build().unwrap();
    std::env::set_current_dir(bed.work()).unwrap();
    bed.probe();
    let before = circumstances();
    run(&squall, spec(bed, &["exit", "0"]));
    for (spec, _) in failing(bed) {
        refusal(&squall, spec);
    }
    assert_eq!(circumstances(), before);
}

/// After the real ones are dead without a record of their end, a stranger gets their pids.
fn a_stranger_with_the_recorded_pid_is_left_alone(bed: &Bed) {
    let worker = bed.start(&["--name", "worker"], &["sleep", "600000"]);
    for pid in [worker.monitor(), worker.pid()] {
        kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
        until("it is dead", || (!host::is_alive(pid)).then_some(()));
    }
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    let path = bed.run_root().join("containers/worker/record.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for who in ["init", "monitor"] {
        record[who]["pid"] = json!(stranger.id());
    }
    fs::write(&path, record.to_string()).unwrap();

    assert_eq!(worker.phase(), "lost");
    for command in
        [&["kill", "--signal", "KILL", "worker"][..], &["stop", "--time", "0", "worker"], &["rm", "--force", "worker"]]
    {
        bed.squall(command).output();
    }
    bed.squall(&["reap"]).ok();
    assert!(host::is_alive(stranger.id()), "somebody else's process was killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

/// Bytes that a process and what it was before its exec have read.
fn read_by(pid: u32) -> usize {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok()).unwrap()
}

/// Bytes that a launch reads: the launch process, which is the monitor now, and init.
fn read_in_a_launch(squall: &Squall, bed: &Bed) -> usize {
    let running =
        squall.launch(&spec(bed, &["sleep", "600000"]).build().unwrap(), squall::Stdio::null().unwrap()).unwrap();
    let record = running.record();
    let bytes = [record.monitor.pid, record.init.pid].map(|pid| read_by(pid as u32)).iter().sum();
    running.stop(9, Duration::ZERO).unwrap().remove().unwrap();
    bytes
}

/// By what is read, because time says little on a busy machine: libcontainer's own create reads the
/// table twice for each controller.
fn the_mount_table_of_the_host_is_not_read_for_every_controller(bed: &Bed) {
    runtime_tests::namespace::own().unwrap();
    let squall = bed.library().build().unwrap();
    let table = || fs::read("/proc/self/mountinfo").unwrap().len();
    let (small, read_of_small) = (table(), read_in_a_launch(&squall, bed));
    for number in 0..500 {
        let place = bed.work().join(number.to_string());
        fs::create_dir(&place).unwrap();
        mount("none", &place, "tmpfs", MountFlags::empty(), None).unwrap();
    }
    let (large, read_of_large) = (table(), read_in_a_launch(&squall, bed));
    let times = read_of_large.saturating_sub(read_of_small) / (large - small);
    assert!(times <= 2, "the table was read {times} times ({read_of_small} and {read_of_large} bytes)");
    let before = read_by(std::process::id());
    table();
    assert!(read_by(std::process::id()) - before >= large, "what is read is counted");
}

/// Init dies where a stage begins, as if it had panicked there: the stage before it is the last
/// that it told of.
fn a_death_of_init_before_the_workload_is_an_error_that_names_the_stage(bed: &Bed) {
    for (next, stage) in [("root", "clone"), ("mounts", "root"), ("join", "mounts"), ("init", "join")] {
        let mut command = roles::command("launch-with-points");
        let cgroup = format!("{}/worker", bed.cgroup());
        command.args([bed.run_root().to_str().unwrap(), &bed.monitors(), bed.probe(), &cgroup]);
        let call = Call::new(command).env("SQUALL_CRASH", &format!("init {next} 1 abort"));
        let output = call.env("SQUALL_CRASH_DIR", &bed.file("")).output();
        let named = format!("{stage}: init: wait: it died before the workload started: signal ");
        assert!(output.code() != 0 && output.stderr.contains(&named), "{output}");
        assert!(bed.library().build().unwrap().containers().unwrap().containers.is_empty(), "nothing is left of it");
    }
}
