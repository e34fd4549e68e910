//! What an earlier version left running is served by this one: its monitor and its records are
//! files that stay as they are.
//!
//! The launch process is played here, as version 0.1 was one: it makes directory, cgroups and
//! socket, writes the record and the handover in that version's words, and becomes that version's
//! monitor, whose program is kept in `frozen/`.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use runtime_tests::roles::{self, Role};
use runtime_tests::{Bed, Worker, cases, host, until};
use rustix::fs::{FlockOperation, MemfdFlags, flock, memfd_create};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

cases![
    a_worker_of_version_0_1_is_listed_and_kept_by_reaping,
    a_worker_of_version_0_1_is_waited_for_and_its_end_is_true,
    a_worker_of_version_0_1_is_stopped_and_removed,
];

/// The launch process of version 0.1.
pub const ROLES: &[Role] = &[("launch-as-0.1", launch_as_0_1)];

const RECORD: &str = include_str!("../../../src/state/record/frozen/record-1.json");

/// Built for this processor alone; another one's has to be built from version 0.1.
#[cfg(target_arch = "x86_64")]
const MONITOR: &[u8] = include_bytes!("frozen/squall-monitor-0.1-x86_64");
#[cfg(not(target_arch = "x86_64"))]
const MONITOR: &[u8] = &[];

/// Where that version's monitor looks for its handover.
const HANDOVER_FD: i32 = 3;

#[expect(clippy::zombie_processes, reason = "the monitor, which this process becomes, waits for it")]
fn launch_as_0_1(args: &[String]) {
    let [run_root, cgroup, script] = args else { panic!("{args:?}") };
    assert!(!MONITOR.is_empty(), "there is no monitor of version 0.1 for this processor");
    // First of all, so that it has the number that it needs.
    let mut handover = File::from(memfd_create("handover", MemfdFlags::empty()).unwrap());
    assert_eq!(handover.as_raw_fd(), HANDOVER_FD);
    let path = Path::new(run_root).join("containers/frozen");
    fs::create_dir_all(&path).unwrap();
    let directory = File::open(&path).unwrap();
    flock(&directory, FlockOperation::LockExclusive).unwrap();
    let init = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let pidfd = pidfd_open(Pid::from_child(&init), PidfdFlags::empty()).unwrap();
    let leaves = enter_cgroups(cgroup, init.id());
    let now = clock_gettime(ClockId::Boottime);
    let started_boot_ns = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();

    let mut record: Value = serde_json::from_str(RECORD).unwrap();
    record["boot_id"] = json!(boot_id.trim());
    record["init"] = identity(init.id());
    record["monitor"] = identity(std::process::id());
    record["started_boot_ns"] = json!(started_boot_ns);
    record["pid_namespace"] = json!(fs::metadata("/proc/self/ns/pid").unwrap().ino());
    record["cgroup"] = json!(cgroup);
    record["cgroup_inode"] = json!(fs::metadata(&leaves[0]).unwrap().ino());
    fs::write(path.join("record.json"), record.to_string()).unwrap();

    std::env::set_current_dir(&path).unwrap();
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::empty(), None).unwrap();
    bind(&socket, &SocketAddrUnix::new("monitor.sock").unwrap()).unwrap();
    listen(&socket, 16).unwrap();
    let unix_ns = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let mut fields = vec![
        "squall-handover=1".to_owned(),
        "id=frozen".to_owned(),
        format!("boot-id={}", boot_id.trim()),
        format!("pidfd={}", inherited(&pidfd)),
        format!("directory={}", inherited(&directory)),
        format!("socket={}", inherited(&socket)),
        format!("pid={}", init.id()),
        "owner-uid=0".to_owned(),
        format!("started-unix-ns={unix_ns}"),
        format!("started-boot-ns={started_boot_ns}"),
        "stop-signal=15".to_owned(),
        "grace-ms=10000".to_owned(),
    ];
    fields.extend(leaves.iter().map(|leaf| format!("cgroup={} {leaf}", kind(leaf))));
    fields.iter().for_each(|field| handover.write_all(format!("{field}\0").as_bytes()).unwrap());

    let mut program = File::from(memfd_create("squall-monitor", MemfdFlags::CLOEXEC).unwrap());
    program.write_all(MONITOR).unwrap();
    println!("{}", init.id());
    let error = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd())).env_clear().exec();
    panic!("cannot become the monitor: {error}");
}

/// Makes the cgroup in every hierarchy and puts the process into it, but for that of cpusets, which
/// takes nobody before it has processors.
fn enter_cgroups(cgroup: &str, pid: u32) -> Vec<String> {
    let mut leaves = Vec::new();
    let mut roots = host::hierarchies();
    // The first one's inode is on record: the first that the kernel lists.
    let listed = fs::read_to_string("/proc/self/cgroup").unwrap();
    roots.sort_by_key(|root| {
        let name = root.file_name().unwrap().to_str().unwrap();
        listed.lines().position(|line| line.split([':', ',', '=']).any(|word| word == name)).unwrap_or(usize::MAX)
    });
    for root in roots {
        let leaf = root.join(cgroup.trim_start_matches('/'));
        fs::create_dir_all(&leaf).unwrap();
        if !leaf.join("cpuset.cpus").exists() || leaf.join("cgroup.controllers").exists() {
            fs::write(leaf.join("cgroup.procs"), pid.to_string()).unwrap();
        }
        leaves.push(leaf.to_str().unwrap().to_owned());
    }
    leaves
}

/// What version 0.1 calls the hierarchy of this cgroup.
fn kind(leaf: &str) -> &'static str {
    let of_file = [
        ("cgroup.controllers", "unified"),
        ("memory.failcnt", "memory"),
        ("pids.max", "pids"),
        ("freezer.state", "freezer"),
        ("cpuacct.usage", "cpuacct"),
    ];
    of_file.into_iter().find(|(file, _)| Path::new(leaf).join(file).exists()).map_or("other", |(_, kind)| kind)
}

fn identity(pid: u32) -> Value {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    json!({ "pid": pid, "start_time": start })
}

/// The number of a descriptor that the monitor is to have.
fn inherited(fd: &impl AsFd) -> i32 {
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
    fd.as_fd().as_raw_fd()
}

/// A container of version 0.1 whose worker is this script.
fn launch<'a>(bed: &'a Bed, script: &str) -> (Worker<'a>, std::process::Child) {
    let mut command = roles::command("launch-as-0.1");
    command.arg(bed.run_root()).arg(format!("{}/frozen", bed.cgroup())).arg(script);
    let monitor = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    until("its monitor listens", || {
        let named = fs::read_link(format!("/proc/{}/exe", monitor.id())).ok()?;
        named.to_str()?.contains("squall-monitor").then_some(())
    });
    (bed.worker("frozen"), monitor)
}

fn a_worker_of_version_0_1_is_listed_and_kept_by_reaping(bed: &Bed) {
    let (worker, mut monitor) = launch(bed, "exec sleep 600000");
    let listed = bed.squall(&["ps", "--json"]).json();
    assert_eq!((&listed[0]["id"], &listed[0]["phase"]), (&json!("frozen"), &json!("running")), "{listed}");
    let shown = worker.inspect();
    assert_eq!((&shown["watched"], &shown["init"]["pid"]), (&json!(true), &json!(worker.pid())), "{shown}");
    bed.squall(&["reap"]).ok();
    assert!(host::is_alive(worker.pid()) && host::is_alive(monitor.id()), "reaping took what runs");
    let usage = bed.squall(&["stats", "--no-stream", "--json", "frozen"]).json();
    assert!(usage.is_object() || usage.is_array(), "{usage}");
    worker.kill();
    monitor.wait().unwrap();
}

fn a_worker_of_version_0_1_is_waited_for_and_its_end_is_true(bed: &Bed) {
    let (worker, mut monitor) = launch(bed, "trap 'exit 23' TERM; while :; do sleep 0.01; done");
    let waiter = bed.squall(&["wait", "frozen"]).into_command().stdout(Stdio::piped()).spawn().unwrap();
    until("it handles the signal", || {
        let caught = u64::from_str_radix(&host::status(worker.pid(), "SigCgt"), 16).unwrap();
        (caught & 1 << (libc::SIGTERM - 1) != 0).then_some(())
    });
    bed.squall(&["kill", "--signal", "TERM", "frozen"]).ok();
    assert_eq!(waiter.wait_with_output().unwrap().stdout, b"23\n");
    monitor.wait().unwrap();
    let ended = worker.inspect();
    assert_eq!((&ended["phase"], &ended["exit"]["exit"]["code"]), (&json!("exited"), &json!(23)), "{ended}");
    assert_eq!(ended["exit"]["reason"], "exited");
    bed.squall(&["rm", "frozen"]).ok();
}

fn a_worker_of_version_0_1_is_stopped_and_removed(bed: &Bed) {
    let (worker, mut monitor) = launch(bed, "trap '' TERM; while :; do sleep 0.01; done");
    until("it ignores the signal", || {
        let ignored = u64::from_str_radix(&host::status(worker.pid(), "SigIgn"), 16).unwrap();
        (ignored & 1 << (libc::SIGTERM - 1) != 0).then_some(())
    });
    bed.squall(&["stop", "--time", "1", "frozen"]).ok();
    monitor.wait().unwrap();
    let ended = worker.inspect();
    assert_eq!(ended["exit"]["exit"]["signal"], 9, "{ended}");
    assert_eq!(ended["exit"]["reason"], "killed-after-grace", "{ended}");
    bed.squall(&["rm", "frozen"]).ok();
    let (worker, mut monitor) = launch(bed, "exec sleep 600000");
    kill_process(Pid::from_raw(monitor.id() as i32).unwrap(), Signal::KILL).unwrap();
    monitor.wait().unwrap();
    assert_eq!(worker.inspect()["watched"], false);
    bed.squall(&["rm", "--force", "frozen"]).ok();
}
