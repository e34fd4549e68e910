//! Plays the launch process for the monitor's tests: starts `sh -c SCRIPT` as init, and becomes the
//! monitor of it.
//!
//! ```text
//! monitor-launch DIRECTORY [--cgroup KIND PATH] [--oom MEMORY-CGROUP NAME] [--deadline-ms N] [--grace-ms N] [--owner-uid N]
//!                [--upper PATH] [--gate] [--corrupt] SCRIPT
//! ```
//! With `--gate` the gate's other end is init's standard input, and what it reports goes to its
//! standard output. The first `--oom` is the container's own cgroup.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::MemfdFlags;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::{ClockId, clock_gettime};

use squall::testing::monitor::PROGRAM;
use squall::testing::monitor::handover::{CgroupKind, CgroupLeaf, HANDOVER_FD, Handover, OomKind, OomWatch};
use squall::testing::monitor::list::List;
use squall::testing::monitor::protocol::Signal;
use squall::testing::monitor::step::Terms;

#[derive(Default)]
struct Options {
    directory: String,
    script: String,
    cgroups: Vec<(CgroupKind, CString)>,
    oom: Vec<(String, String)>,
    deadline_ms: Option<u64>,
    grace_ms: u32,
    owner_uid: u32,
    upper: Option<String>,
    gate: bool,
    corrupt: bool,
}

fn main() {
    // First of all, so that it is fd 3.
    let handover_file = File::from(rustix::fs::memfd_create("handover", MemfdFlags::CLOEXEC).unwrap());
    assert_eq!(handover_file.as_raw_fd(), HANDOVER_FD);
    let options = options();
    let directory = File::open(&options.directory).unwrap();
    std::env::set_current_dir(&options.directory).unwrap();
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new("monitor.sock").unwrap()).unwrap();
    listen(&socket, 16).unwrap();
    let oom: Vec<OomEvents> = options.oom.iter().map(|(cgroup, _)| oom_events(cgroup)).collect();
    let upper = options.upper.as_ref().map(|path| File::open(path).unwrap());
    let (mut init, mut gate, mut report) = (Command::new("/bin/sh"), None, None);
    init.args(["-c", &options.script]).stdin(Stdio::null());
    if options.gate {
        let (admission, opens) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (said, says) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        init.stdin(admission).stdout(says);
        (gate, report) = (Some(opens), Some(said));
    }
    let init = {
        // With the command go the ends that are init's.
        let mut init = init;
        init.spawn().unwrap()
    };
    let pidfd = pidfd_open(Pid::from_child(&init), PidfdFlags::empty()).unwrap();
    let program = memfd("squall-monitor", PROGRAM);

    let started_boot_ns = boot_ns();
    let handover = Handover {
        id: "a \"test\"",
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned().leak(),
        pid: init.id(),
        pidfd: keep(&pidfd),
        directory: keep(&directory),
        socket: keep(&socket),
        gate: gate.as_ref().map(keep),
        report: report.as_ref().map(keep),
        upper: upper.as_ref().map(keep),
        removal: None,
        exit_file: None,
        owner_uid: options.owner_uid,
        terms: Terms {
            deadline: options.deadline_ms.filter(|_| !options.gate).map(|ms| started_boot_ns + ms * 1_000_000),
            timeout: options.deadline_ms.filter(|_| options.gate).map(|ms| ms * 1_000_000),
            stop_signal: Signal::TERM,
            grace_ms: options.grace_ms,
        },
        created_unix_ns: 7,
        started_unix_ns: SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        started_boot_ns,
        watches: List::of(&watches(&options.oom, &oom)),
        cgroups: List::of(
            &options.cgroups.iter().map(|(kind, path)| CgroupLeaf { kind: *kind, path }).collect::<Vec<_>>(),
        ),
        held: List::new(),
    };
    let mut text = handover.encode().unwrap();
    if options.corrupt {
        text.pop();
    }
    (&handover_file).write_all(&text).unwrap();
    keep(&handover_file);
    fs::write("exec-at", boot_ns().to_string()).unwrap();
    let error = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd())).env_clear().exec();
    panic!("cannot become the monitor: {error}");
}

fn options() -> Options {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    options.directory = arguments.next().unwrap();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap();
        match argument.as_str() {
            "--cgroup" => options.cgroups.push((kind(&value()), CString::new(value()).unwrap())),
            "--oom" => options.oom.push((value(), value())),
            "--deadline-ms" => options.deadline_ms = Some(value().parse().unwrap()),
            "--grace-ms" => options.grace_ms = value().parse().unwrap(),
            "--owner-uid" => options.owner_uid = value().parse().unwrap(),
            "--upper" => options.upper = Some(value()),
            "--gate" => options.gate = true,
            "--corrupt" => options.corrupt = true,
            _ => options.script = argument,
        }
    }
    options
}

fn kind(name: &str) -> CgroupKind {
    match name {
        "memory" => CgroupKind::Memory,
        "cpuacct" => CgroupKind::Cpuacct,
        "cpu" => CgroupKind::Cpu,
        "pids" => CgroupKind::Pids,
        "unified" => CgroupKind::Unified,
        _ => CgroupKind::Other,
    }
}

fn watches<'o>(named: &'o [(String, String)], events: &[OomEvents]) -> Vec<OomWatch<'o>> {
    let watch = |(index, ((_, name), events)): (usize, (&'o (String, String), &OomEvents))| OomWatch {
        fd: keep(&events.fd),
        kind: events.kind,
        baseline: 0,
        ancestor: (index > 0).then_some(name.as_str()),
    };
    named.iter().zip(events).enumerate().map(watch).collect()
}

/// What counts the out-of-memory events of a memory cgroup.
struct OomEvents {
    fd: OwnedFd,
    kind: OomKind,
}

/// The file of v2 that counts them, or an eventfd in v1.
fn oom_events(cgroup: &str) -> OomEvents {
    if let Ok(events) = File::open(format!("{cgroup}/memory.events.local")) {
        return OomEvents { fd: events.into(), kind: OomKind::MemoryEvents };
    }
    let events = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let control = File::open(format!("{cgroup}/memory.oom_control")).unwrap();
    let line = format!("{} {}", events.as_raw_fd(), control.as_raw_fd());
    fs::write(format!("{cgroup}/cgroup.event_control"), line).unwrap();
    OomEvents { fd: events, kind: OomKind::Eventfd }
}

fn memfd(name: &str, content: &[u8]) -> File {
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).unwrap());
    file.write_all(content).unwrap();
    file
}

/// Lets an fd survive the exec.
fn keep(fd: &impl AsFd) -> i32 {
    fcntl_setfd(fd, FdFlags::empty()).unwrap();
    fd.as_fd().as_raw_fd()
}

fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
