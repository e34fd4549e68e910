//! What the monitor does, seen from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::net::{SendFlags, send};
use rustix::process::{Pid, Signal as Kill, kill_process};
use squall::record::{EndReason, Exit};
use squall::testing::monitor::protocol::{Answer, Progress, Request, Signal};

use crate::container::{Client, Launch, hierarchies, stop};

const EPERM: u8 = 1;
const EINVAL: u8 = 22;
const EALREADY: u8 = 114;

#[test]
fn an_exit_code_arrives_with_what_the_kernel_counted_and_nothing_is_left() {
    let upper = tempfile::tempdir().unwrap();
    let record = Launch::new()
        .with(&["--upper", upper.path().to_str().unwrap()])
        .run("head -c 3000000 /dev/zero | md5sum; exit 7")
        .record();
    assert_eq!((record.exit, record.reason), (Exit::Code { code: 7 }, EndReason::Exited));
    assert_eq!((record.schema, record.id.as_str()), (1, "a \"test\""));
    assert_eq!(record.boot_id, fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim());
    assert!((1..5_000_000_000).contains(&record.wall_ns.unwrap()), "{record:?}");
    assert!(
        record.cpu_time_ns.unwrap() > 0 && record.memory_peak_bytes.unwrap() > 0 && record.max_rss_bytes.unwrap() > 0
    );
    assert!(record.pids_peak.unwrap() >= 3, "sh, head and md5sum: {record:?}");
    assert_eq!((record.pids_limit_hits, record.cpu_periods, record.memory_limit_hits), (Some(0), Some(0), Some(0)));
    assert!(record.upper.unwrap().size_bytes > record.upper.unwrap().used_bytes);
    let oom = record.oom.unwrap();
    assert_eq!((oom.kills, oom.own), (Some(0), None));
}

#[test]
fn a_signal_is_passed_on_and_recorded_as_what_ended_init() {
    let container = Launch::new().run(": > $R; exec sleep 600").ready();
    assert_eq!(container.client().ask(Request::Signal(Signal::new(9).unwrap())), Some(Answer::Done));
    let record = container.record();
    assert_eq!((record.exit, record.reason), (Exit::Signal { signal: 9, core_dumped: false }, EndReason::Exited));
}

#[test]
fn a_stop_that_is_heeded_is_no_kill() {
    let container = Launch::new().run("trap 'exit 3' TERM; : > $R; while :; do sleep 600 & wait; done").ready();
    assert_eq!(container.client().ask(stop(60_000)), Some(Answer::Done));
    let record = container.record();
    assert_eq!((record.exit, record.reason), (Exit::Code { code: 3 }, EndReason::Stopped));
}

#[test]
fn a_stop_that_is_ignored_ends_in_a_kill_when_the_grace_has_passed() {
    for launch in [Launch::new(), Launch::new().without_unified()] {
        let container = launch.run("trap '' TERM; : > $R; exec sleep 600").ready();
        let began = Instant::now();
        assert_eq!(container.client().ask(stop(300)), Some(Answer::Done));
        let status = container.status();
        assert_eq!(status.progress, Progress::Stopping);
        assert!(status.deadline_boot_ns > status.watching_boot_ns);
        let record = container.record();
        assert_eq!(
            (record.exit, record.reason),
            (Exit::Signal { signal: 9, core_dumped: false }, EndReason::KilledAfterGrace)
        );
        assert!((300..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    }
}

#[test]
fn a_later_stop_can_shorten_the_grace_and_cannot_prolong_it() {
    let container = Launch::new().run("trap '' TERM; : > $R; exec sleep 600").ready();
    let client = container.client();
    assert_eq!(client.ask(stop(600_000)), Some(Answer::Done));
    let first = client.status().deadline_boot_ns;
    assert_eq!(client.ask(stop(u32::MAX - 1)), Some(Answer::Done));
    assert_eq!(client.status().deadline_boot_ns, first);
    assert_eq!(client.ask(stop(0)), Some(Answer::Done));
    assert_eq!(container.record().reason, EndReason::KilledAfterGrace);
}

#[test]
fn a_deadline_ends_the_container_gently_first_and_takes_all_of_it() {
    let script = "trap '' TERM; setsid sleep 600 & : > $R; exec sleep 600";
    // Long enough for the script to come as far as saying that it is ready, on a slow machine too:
    // it would be waited for in vain.
    let record = Launch::new().with(&["--deadline-ms", "2000", "--grace-ms", "200"]).run(script).ready().record();
    assert_eq!((record.exit, record.reason), (Exit::Signal { signal: 9, core_dumped: false }, EndReason::Timeout));
    assert!((2_200_000_000..8_000_000_000).contains(&record.wall_ns.unwrap()), "{record:?}");
    let monitor = record.monitor.unwrap();
    assert!(monitor.wakeups <= 5, "two deadlines and an exit, and the orphan's end at most: {monitor:?}");
}

#[test]
fn what_others_put_into_the_cgroup_is_killed_with_it() {
    let container = Launch::new().run(": > $R; read x < $R; exit 0").ready();
    let mut intruder = Command::new("/bin/sleep").arg("600").spawn().unwrap();
    for hierarchy in hierarchies() {
        fs::write(container.leaf(hierarchy).join("cgroup.procs"), intruder.id().to_string()).unwrap();
    }
    fs::write(container.directory.path().join("ready"), "\n").unwrap();
    let record = container.record();
    assert_eq!(record.exit, Exit::Code { code: 0 });
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&intruder.wait().unwrap()), Some(9));
}

#[test]
fn an_out_of_memory_kill_is_counted_for_the_limit_that_was_hit() {
    let own = Launch::new().memory_limit("c", "16M").watching_oom();
    let record = own.run("tail /dev/zero; exit 5").record();
    let oom = record.oom.unwrap();
    assert_eq!((record.exit, oom.kills), (Exit::Code { code: 5 }, Some(1)), "the one killed is not init");
    // The limit may be met once more before the kill has taken effect.
    assert!(oom.own >= Some(1), "{oom:?}");
    assert_eq!((oom.ancestors[0].cgroup.as_str(), oom.ancestors[0].events), ("/parent", 0));
    assert!(record.memory_limit_hits.unwrap() > 0);

    let parent = Launch::new().memory_limit("", "16M").watching_oom();
    let record = parent.run("exec tail /dev/zero").record();
    let oom = record.oom.unwrap();
    assert_eq!((record.exit, oom.kills), (Exit::Signal { signal: 9, core_dumped: false }, Some(1)));
    assert!(oom.own == Some(0) && oom.ancestors[0].events >= 1, "{oom:?}");
    assert_eq!(record.monitor.unwrap().wakeups, 1, "an out-of-memory kill wakes nobody");
}

#[test]
fn of_ten_clients_the_two_that_were_silent_longest_are_dropped() {
    let container = Launch::new().run(": > $R; exec sleep 600").ready();
    let first = container.client();
    first.status();
    let clients: Vec<_> = (0..7).map(|_| container.client()).collect();
    clients.iter().for_each(|client| _ = client.status());
    // Now the eight places are taken, and the first has been heard of since the second came.
    first.status();
    let late = [container.client(), container.client()];
    late.iter().for_each(|client| assert_eq!(client.status().progress, Progress::Running));
    let alive: Vec<bool> = clients.iter().map(|client| client.ask(Request::Status).is_some()).collect();
    assert_eq!(alive, [false, false, true, true, true, true, true]);
    first.status();
    assert_eq!(first.ask(Request::Signal(Signal::new(9).unwrap())), Some(Answer::Done));
    container.record();
}

#[test]
fn garbage_is_refused_and_changes_nothing() {
    let container = Launch::new().run(": > $R; exec sleep 600").ready();
    let client = container.client();
    let long = [1; 5000];
    let table: [&[u8]; 7] = [&[1], &[1, 0], &[1, 9], &[1, 1, 1], &[1, 3, 200], &[1, 4, 0, 0, 0, 0, 0, 0], &long];
    for packet in table {
        assert_eq!(client.raw(packet), Some(Answer::Failed(EINVAL)), "{packet:?}");
    }
    assert_eq!(client.raw(&[9, 1]), Some(Answer::Failed(93)), "another version");
    for seed in 0..500_u32 {
        let noise = seed.wrapping_mul(2_654_435_761).to_le_bytes();
        // Verbs 0 and above 4 only: a random stop is still a stop.
        client.raw(&[1, noise[0] | 8, noise[1], noise[2], noise[3]]).expect("an answer");
    }
    // An answer that is never read fills the queue and then costs the client its place, not the
    // monitor its time.
    let deaf = container.client();
    while send(&deaf.0, &[1, 1], SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok() {
        client.status();
    }
    assert_eq!(client.status().progress, Progress::Running);
    assert_eq!(client.ask(stop(0)), Some(Answer::Done));
    container.record();
}

#[test]
fn only_root_and_the_owner_are_listened_to() {
    let container = Launch::new().with(&["--owner-uid", "4711"]).run(": > $R; exec sleep 600").ready();
    fs::set_permissions(container.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(container.directory.path().join("monitor.sock"), fs::Permissions::from_mode(0o777)).unwrap();
    let directory = container.directory.path();
    for (uid, heeded) in [(4711, true), (4712, false)] {
        let ask_as_user = || {
            // Of this thread only; it ends with its errand.
            let uid = rustix::process::Uid::from_raw(uid);
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            let client = Client::connect(directory);
            let _ = send(&client.0, &Request::Status.encode(), SendFlags::NOSIGNAL);
            client.hear()
        };
        let answer = std::thread::scope(|scope| scope.spawn(ask_as_user).join().unwrap());
        assert_eq!(matches!(answer, Some(Answer::Status(_))), heeded, "{uid}");
        assert_eq!(answer == Some(Answer::Failed(EPERM)), !heeded, "{uid}");
    }
    assert_eq!(container.client().ask(stop(0)), Some(Answer::Done));
    container.record();
}

#[test]
fn init_waits_at_the_gate_until_the_start() {
    // The stage before the exec, as init reports it; the end of the report comes with the exec.
    let script =
        ": > $R; test $(head -c 1 | od -A n -t u1) -eq 1 && printf '\\013aaaabbbb' && exec sh -c 'exit 4' > /dev/null";
    let container = Launch::new().with(&["--gate"]).run(script).ready();
    let started = container.directory.path().join("started");
    let client = container.client();
    assert_eq!(client.status().progress, Progress::Created);
    assert!(!started.exists());
    assert_eq!(client.ask(Request::Start), Some(Answer::Done));
    let said = fs::read_to_string(&started).unwrap();
    let record = container.record();
    assert_eq!(record.exit, Exit::Code { code: 4 });
    let boot_ns = record.ended_boot_ns - record.wall_ns.unwrap();
    assert_eq!(said, format!("{} {boot_ns}\n", record.started_unix_ns.unwrap()));
    assert_eq!((record.reason, record.start_report), (EndReason::Exited, None));

    let container = Launch::new().with(&["--gate"]).run(script).ready();
    assert_eq!(container.client().ask(stop(60_000)), Some(Answer::Done));
    let record = container.record();
    assert_eq!((record.reason, record.wall_ns), (EndReason::Stopped, None), "never started");
}

#[test]
fn a_start_that_fails_is_told_by_the_end_and_what_init_said_is_kept() {
    let script = ": > $R; head -c 1 > /dev/null; printf '\\013aaaabbbb\\376\\010\\000\\000\\000'; exit 1";
    let container = Launch::new().with(&["--gate"]).run(script).ready();
    assert_eq!(container.client().ask(Request::Start), None, "no answer but the end");
    let started = container.directory.path().join("started");
    let record = container.record();
    assert_eq!((record.reason, record.started_unix_ns), (EndReason::NeverStarted, None));
    assert_eq!(record.start_report.as_deref(), Some("0b6161616162626262fe08000000"));
    assert!(!started.exists());
}

#[test]
fn the_time_of_a_created_one_begins_with_its_start() {
    let script = ": > $R; head -c 1 > /dev/null; printf '\\013aaaabbbb'; exec sleep 600 > /dev/null";
    let container = Launch::new().with(&["--gate", "--deadline-ms", "300", "--grace-ms", "0"]).run(script).ready();
    std::thread::sleep(Duration::from_millis(600)); // time passing is what is tested
    let client = container.client();
    assert_eq!((client.status().progress, client.status().deadline_boot_ns), (Progress::Created, 0));
    assert_eq!(client.ask(Request::Start), Some(Answer::Done));
    let record = container.record();
    assert_eq!(record.reason, EndReason::Timeout);
    assert!(record.wall_ns.unwrap() >= 300_000_000);
}

#[test]
fn a_running_container_cannot_be_started() {
    let container = Launch::new().run(": > $R; exec sleep 600").ready();
    assert_eq!(container.client().ask(Request::Start), Some(Answer::Failed(EALREADY)));
    assert_eq!(container.client().ask(stop(0)), Some(Answer::Done));
    container.record();
}

#[test]
fn a_monitor_with_nothing_to_do_does_not_wake_and_owns_little() {
    let container = Launch::new().watching_oom().run(": > $R; exec sleep 600").ready();
    let client = container.client();
    let before = client.status();
    std::thread::sleep(Duration::from_millis(1500)); // time passing is what is tested
    assert_eq!(client.status().wakeups, before.wakeups + 1, "this request");

    let proc = PathBuf::from(format!("/proc/{}", container.monitor.id()));
    assert_eq!(fs::read_to_string(proc.join("comm")).unwrap(), "squall-monitor\n");
    assert_eq!(fs::read_link(proc.join("cwd")).unwrap(), Path::new("/"));
    let mut kinds: Vec<String> = fs::read_dir(proc.join("fd"))
        .unwrap()
        .map(|fd| {
            let target = fs::read_link(fd.unwrap().path()).unwrap().display().to_string();
            target.split(':').next().unwrap().to_owned()
        })
        .collect();
    kinds.sort();
    let directory = container.directory.path().display().to_string();
    let expected = [directory.as_str(), "anon_inode", "anon_inode", "anon_inode", "anon_inode", "socket", "socket"];
    let pidfs = kinds.iter().any(|kind| kind == "pidfd" || kind.starts_with("anon_inode"));
    assert!(pidfs && kinds.len() == expected.len(), "directory, pidfd, 2 eventfds, signalfd, 2 sockets: {kinds:?}");

    let rollup = fs::read_to_string(proc.join("smaps_rollup")).unwrap();
    let private = |key: &str| {
        rollup.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
    };
    let kib = private("Private_Clean:").unwrap() + private("Private_Dirty:").unwrap();
    let exec_at: u64 = fs::read_to_string(container.directory.path().join("exec-at")).unwrap().parse().unwrap();
    println!("private {kib} KiB, exec to watching {} us", (before.watching_boot_ns - exec_at) / 1000);
    assert!(kib <= 64, "{kib} KiB: {rollup}");
    assert_eq!(client.ask(stop(0)), Some(Answer::Done));
    container.record();
}

/// As long as a debugger holds a dead process, its pidfd can be read and it cannot be reaped: the
/// same as for an instant when one of its threads executes a program, and for as long as this test
/// likes.
#[test]
fn a_monitor_believes_no_end_that_it_cannot_reap() {
    let container = Launch::new().run(": > $R; exec sleep 600").ready();
    let init = nix::unistd::Pid::from_raw(container.status().pid as i32);
    ptrace::seize(init, ptrace::Options::empty()).unwrap();
    nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGKILL).unwrap();
    let before = loop {
        let status = container.status();
        if is_zombie(init) {
            break status.wakeups;
        }
    };
    // It goes on serving, and does not look again and again.
    assert_eq!(container.client().ask(stop(60_000)), Some(Answer::Done));
    let status = container.status();
    assert!(status.wakeups < before + 100, "{} wake-ups, {before} before", status.wakeups);
    // The debugger's own wait is what lets it go.
    nix::sys::wait::waitpid(init, None).unwrap();
    assert_eq!(container.record().exit, Exit::Signal { signal: 9, core_dumped: false });
}

fn is_zombie(pid: nix::unistd::Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().rsplit_once(") ").unwrap().1.starts_with('Z')
}

#[test]
fn a_monitor_hears_of_deaths_alone() {
    let container = Launch::new().run(": > $R; exec sleep 600").ready();
    let (init, before) = (Pid::from_raw(container.status().pid as i32).unwrap(), container.status().wakeups);
    for _ in 0..200 {
        kill_process(init, Kill::STOP).unwrap();
        kill_process(init, Kill::CONT).unwrap();
    }
    // Two requests, and as many connections that come and go.
    let after = container.status().wakeups;
    assert!(after <= before + 8, "{} wake-ups", after - before);
    assert_eq!(container.client().ask(Request::Signal(Signal::KILL)), Some(Answer::Done));
    assert_eq!(container.record().exit, Exit::Signal { signal: 9, core_dumped: false });
}

#[test]
fn orphans_are_reaped_when_they_die() {
    let container = Launch::new().run("(sleep 0.05 & :); : > $R; exec sleep 600").ready();
    let pid = container.monitor.id();
    let children = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while children().split_whitespace().count() != 1 {
        assert!(Instant::now() < until, "children of the monitor: {}", children());
        std::thread::yield_now();
    }
    assert_eq!(container.client().ask(stop(0)), Some(Answer::Done));
    container.record();
}

#[test]
fn a_malformed_handover_ends_the_monitor_at_once() {
    let mut container = Launch::new().without_unified().with(&["--corrupt"]).run("exit 0");
    assert_eq!(container.monitor.wait().unwrap().code(), Some(64));
    assert!(!container.directory.path().join("exit.json").exists());
}

#[test]
fn a_full_run_root_does_not_hide_how_a_container_ended() {
    let launch = Launch::new();
    let root = launch.directory.path().to_owned();
    mount("none", &root, "tmpfs", MountFlags::empty(), Some(c"size=64k,mode=700")).unwrap();
    mknodat(CWD, root.join("ready"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut container = launch.run(": > $R; exec sleep 600").ready();
    container.status(); // so that it has reserved what it needs
    fs::write(root.join("hog"), vec![0; 1 << 20]).unwrap_err();
    assert_eq!(fs::write(root.join("more"), [0; 4096]).unwrap_err().raw_os_error(), Some(28));
    assert_eq!(container.client().ask(stop(0)), Some(Answer::Done));
    let (status, record) = container.end();
    unmount(&root, UnmountFlags::DETACH).unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(record.unwrap().monitor.is_some(), "the whole record");
}

#[test]
fn a_monitor_that_is_killed_leaves_init_alone() {
    let mut container = Launch::new().run(": > $R; exec sleep 600").ready();
    let init = Pid::from_raw(container.status().pid as i32).unwrap();
    container.monitor.kill().unwrap();
    container.monitor.wait().unwrap();
    kill_process(init, Kill::CONT).expect("init is there");
    assert!(!container.directory.path().join("exit.json").exists());
    kill_process(init, Kill::KILL).unwrap();
}
