//! What the kernel makes of it.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use squall::cgroup::*;
use squall::error::ErrorKind;
use squall::testing::cgroup::*;

use crate::ground::{Ground, PATIENCE, everything};

#[test]
fn the_short_way_finds_the_same_hierarchies_as_mountinfo() {
    let key = |hierarchy: &Hierarchy| hierarchy.mount_point.clone();
    let mut short = Layout::detect().unwrap().hierarchies().to_vec();
    let mut long = Layout::from_mountinfo().unwrap().hierarchies().to_vec();
    short.sort_by_key(key);
    long.sort_by_key(key);
    assert_eq!(short, long);
    let layout = Layout::detect().unwrap();
    let membership = Membership::of(&layout, std::process::id()).unwrap();
    assert!(!short.is_empty() && short.iter().all(|hierarchy| membership.path_in(hierarchy).is_some()));
}

#[test]
fn every_limit_is_in_the_kernel_as_asked() {
    let ground = Ground::new("limits");
    let (cgroup, adjustments) = ground.create(&everything()).unwrap();
    // Only what a kernel may lack is allowed to differ.
    for adjustment in &adjustments {
        let excused = match adjustment.field {
            Field::Devices => ground.layout.holder(Controller::Devices).is_none(),
            Field::BlkioWeight | Field::MemorySwapBytes => matches!(adjustment.got, Got::NotAvailable(_)),
            _ => false,
        };
        assert!(excused, "{adjustment}");
    }
    let v1 = [
        (Controller::Cpu, "cpu.cfs_quota_us", "20000"),
        (Controller::Cpu, "cpu.cfs_period_us", "50000"),
        (Controller::Cpu, "cpu.shares", "512"),
        (Controller::Cpuset, "cpuset.cpus", "0"),
        (Controller::Cpuset, "cpuset.mems", "0"),
        (Controller::Memory, "memory.limit_in_bytes", "67108864"),
        (Controller::Memory, "memory.soft_limit_in_bytes", "33554432"),
        (Controller::Pids, "pids.max", "50"),
    ];
    let v2 = [
        (Controller::Cpu, "cpu.max", "20000 50000"),
        (Controller::Cpu, "cpu.weight", "59"),
        (Controller::Cpuset, "cpuset.cpus", "0"),
        (Controller::Cpuset, "cpuset.mems", "0"),
        (Controller::Memory, "memory.max", "67108864"),
        (Controller::Memory, "memory.low", "33554432"),
        (Controller::Memory, "memory.swap.max", "33554432"),
        (Controller::Pids, "pids.max", "50"),
    ];
    for (controller, file, value) in v1.into_iter().chain(v2) {
        let is_v2 = ground.layout.holder(controller).unwrap().is_v2();
        if is_v2 == v2.iter().any(|(_, other, _)| *other == file) || file == "pids.max" || file.starts_with("cpuset") {
            assert_eq!(ground.read(controller, file), value, "{file}");
        }
    }
    if ground.layout.holder(Controller::Devices).is_some() {
        let rules = ground.read(Controller::Devices, "devices.list");
        assert_eq!(rules.lines().collect::<Vec<_>>(), STANDARD);
    }
    let usage = cgroup.usage();
    assert_eq!((usage.memory_limit_bytes, usage.pids_limit, usage.pids_current), (Some(64 << 20), Some(50), Some(0)));
    cgroup.remove(PATIENCE).unwrap();
    assert!(!ground.left().is_empty(), "the parent stays");
    assert_eq!(Cgroup::open(&ground.layout, &ground.path()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_the_kernel_rounds_is_reported() {
    let ground = Ground::new("rounding");
    let limits = Limits { memory_bytes: Some((64 << 20) + 5000), cpu_shares: Some(1_000_000), ..Limits::none() };
    let (_, adjustments) = ground.create(&limits).unwrap();
    let reported = |field, asked: &str, got: &str| {
        let got = Got::Value(got.into());
        adjustments.iter().any(|one| one.field == field && one.asked == asked && one.got == got)
    };
    assert!(reported(Field::MemoryBytes, "67113864", "67112960"), "{adjustments:?}");
    if !ground.layout.holder(Controller::Cpu).unwrap().is_v2() {
        assert!(reported(Field::CpuShares, "1000000", "262144"), "{adjustments:?}");
    }
}

#[test]
fn a_refused_value_is_explained_and_leaves_nothing() {
    let ground = Ground::new("refused");
    let none = Limits::none;
    let table = [
        (Limits { cpu_quota_us: Some(100), ..none() }, "below 1000 us"),
        (Limits { cpu_period_us: Some(5_000_000), ..none() }, "periods from 1000 to 1000000"),
        (Limits { pids: Some(4_194_305), ..none() }, "at most 4194304"),
        (Limits { cpuset_cpus: Some("8000".parse().unwrap()), ..none() }, "no processor of so high a number"),
    ];
    for (limits, meaning) in table {
        let error = ground.create(&limits).unwrap_err();
        assert!(error.to_string().contains(meaning) && error.call().starts_with("write("), "{error}");
        assert!(error.object().starts_with(&format!("cgroup '{}' ", ground.path())), "{error}");
        assert_eq!(ground.left(), Vec::<String>::new());
    }
}

#[test]
fn a_parent_with_less_is_named_as_the_reason() {
    let ground = Ground::new("parent");
    if ground.layout.holder(Controller::Cpu).unwrap().is_v2() {
        eprintln!("skipped: v2 accepts more than the parent has");
        return;
    }
    let parent = Limits { cpu_quota_us: Some(50_000), cpuset_cpus: Some("0".parse().unwrap()), ..Limits::none() };
    Cgroup::create(&ground.layout, &ground.top, &parent).unwrap();
    let error = ground.create(&Limits { cpu_quota_us: Some(60_000), ..Limits::none() }).unwrap_err();
    assert!(error.to_string().contains("quota of a parent"), "{error}");
    let error = ground.create(&Limits { cpuset_cpus: Some("1".parse().unwrap()), ..Limits::none() }).unwrap_err();
    assert!(
        error.errno() == Some(libc::ERANGE) || error.to_string().contains("parent cgroup does not have"),
        "{error}"
    );
    // The parent was there before and stays; nothing below it does.
    assert_eq!(ground.left().len(), ground.layout.hierarchies().len());
    assert_eq!(Cgroup::open(&ground.layout, &ground.path()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_child_that_joins_is_in_every_hierarchy_and_is_counted() {
    let ground = Ground::new("join");
    let (cgroup, _) = ground.create(&Limits { cpu_quota_us: None, cpu_period_us: None, ..everything() }).unwrap();
    let output = ground.run("show");
    assert!(output.status.success(), "{output:?}");
    let membership = Membership::parse(&String::from_utf8_lossy(&output.stdout));
    for hierarchy in ground.layout.hierarchies() {
        assert_eq!(membership.path_in(hierarchy), Some(ground.path().as_str()), "{hierarchy:?}");
    }
    let usage = Usage::read(&ground.layout, &ground.path());
    assert!(usage.cpu_usage_us.unwrap() > 1000, "{usage:?}");
    assert!(usage.memory_peak_bytes.unwrap() >= 8 << 20, "{usage:?}");
    assert_eq!((usage.oom_kills, usage.pids_current, usage.pids_refused), (Some(0), Some(0), Some(0)));
    assert_eq!(usage, cgroup.usage());
    cgroup.remove(PATIENCE).unwrap();
}

#[test]
fn a_process_in_the_cgroup_refuses_a_second_creation_and_an_empty_one_is_made_anew() {
    let ground = Ground::new("exists");
    ground.create(&everything()).unwrap();
    ground.run("show");
    assert!(Usage::read(&ground.layout, &ground.path()).cpu_usage_us.unwrap() > 0);
    ground.create(&everything()).unwrap();
    assert_eq!(Usage::read(&ground.layout, &ground.path()).cpu_usage_us, Some(0), "the counters of the cgroup before");

    let mut waiting = waiting_inside(&ground);
    assert_eq!(ground.create(&everything()).unwrap_err().kind(), ErrorKind::Exists);
    let error = remove(&ground.layout, &ground.path(), Duration::ZERO).unwrap_err();
    assert!(error.kind() == ErrorKind::TimedOut && error.to_string().contains(&waiting.id().to_string()), "{error}");
    waiting.kill().unwrap();
    waiting.wait().unwrap();
}

/// A process that has joined and waits for its end.
fn waiting_inside(ground: &Ground) -> Child {
    let mut child = ground.command("wait", &ground.path()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("joined")), "never joined");
    child
}

#[test]
fn the_pids_limit_is_reached_and_everything_is_killed_and_removed() {
    for (name, by_file) in [("kill", true), ("signals", false)] {
        let ground = Ground::new(name);
        let (cgroup, _) = ground.create(&Limits { pids: Some(12), ..Limits::none() }).unwrap();
        let output = ground.run("fork");
        assert!(String::from_utf8_lossy(&output.stdout).contains("refused"), "{output:?}");
        let usage = cgroup.usage();
        assert!(usage.pids_refused.unwrap() >= 1 && usage.pids_current.unwrap() >= 5, "{usage:?}");
        let how = if by_file { cgroup.kill_all() } else { cgroup.kill_by_signals() }.unwrap();
        assert_eq!(how == KilledBy::CgroupKill, by_file, "{how:?}");
        cgroup.remove(PATIENCE).unwrap();
    }
}

/// The same on what a machine with only v1, and one with only v2, would have.
#[test]
fn one_version_alone_joins_kills_and_removes() {
    let all = Layout::detect().unwrap();
    for (name, v2) in [("v1-alone", false), ("v2-alone", true)] {
        for by_file in [true, false] {
            let some: Vec<_> = all.hierarchies().iter().filter(|hierarchy| hierarchy.is_v2() == v2).cloned().collect();
            if some.is_empty() {
                eprintln!("skipped: this machine has no hierarchy of that version");
                continue;
            }
            let ground = Ground::with_layout(name, Layout::new(some, "/proc"));
            let (cgroup, _) = ground.create(&Limits::none()).unwrap();
            assert_eq!(cgroup.clone_into_fd().is_some(), v2);
            let mut children = [waiting_inside(&ground), waiting_inside(&ground)];
            // A group that the workload made for itself, with a process in it.
            let below = format!("{}/below", ground.layout.hierarchies()[0].directory(&ground.path()));
            fs::create_dir(&below).unwrap();
            let cpuset = ground.layout.hierarchies()[0].has(Controller::Cpuset);
            if !cpuset {
                fs::write(format!("{below}/cgroup.procs"), children[0].id().to_string()).unwrap();
            }
            let how = if by_file { cgroup.kill_all() } else { cgroup.kill_by_signals() }.unwrap();
            assert_eq!(how == KilledBy::CgroupKill, v2 && by_file, "{how:?}");
            for child in &mut children {
                // In v1 the group that is frozen is not the one below, so its process may be
                // reached through another hierarchy only.
                assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
            }
            cgroup.remove(PATIENCE).unwrap();
        }
    }
}

#[test]
fn removing_waits_for_processes_that_end_by_themselves() {
    let ground = Ground::new("patience");
    let (cgroup, _) = ground.create(&Limits::none()).unwrap();
    let mut child = waiting_inside(&ground);
    std::thread::scope(|scope| {
        let removing = scope.spawn(|| remove(&ground.layout, &ground.path(), PATIENCE));
        child.kill().unwrap();
        child.wait().unwrap();
        removing.join().unwrap().unwrap();
    });
    assert_eq!(cgroup.usage(), Usage::default(), "the fds of a removed cgroup show nothing");
}

#[test]
fn an_out_of_memory_kill_is_counted_and_wakes_the_watcher_of_v1() {
    let ground = Ground::new("oom");
    let limits =
        Limits { memory_bytes: Some(32 << 20), memory_swap_bytes: Some(SwapLimit::Total(32 << 20)), ..Limits::none() };
    let (cgroup, _) = ground.create(&limits).unwrap();
    // The monitor's own tests have the file that is watched on v2.
    let is_v1 = ground.layout.holder(Controller::Memory).is_some_and(|hierarchy| !hierarchy.is_v2());
    let events = is_v1.then(|| oom_eventfd(&ground.layout, &ground.path()).unwrap());
    let ready = |events: &OwnedFd, patience: i64| {
        let timeout = Timespec { tv_sec: patience, tv_nsec: 0 };
        poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&timeout)).unwrap() == 1
    };
    assert!(!events.as_ref().is_some_and(|events| ready(events, 0)));
    let output = ground.run("eat");
    assert_eq!(output.status.signal(), Some(libc::SIGKILL), "{output:?}");
    assert!(events.is_none_or(|events| ready(&events, 10)));
    let usage = cgroup.usage();
    assert_eq!(usage.oom_kills, Some(1), "{usage:?}");
    assert!(usage.memory_peak_bytes.is_none_or(|peak| peak >= 31 << 20), "{usage:?}");
}

/// By the files of v1 where there are some, and by a program in the v2 tree, which a hybrid machine
/// has as well.
#[test]
fn only_the_standard_devices_can_be_opened() {
    let machine = Layout::detect().unwrap();
    let unified = machine.unified().map(|unified| Layout::new(vec![unified.clone()], "/proc"));
    for (name, layout) in [("devices", Some(machine)), ("devices-v2", unified)] {
        let Some(layout) = layout else { continue };
        let ground = Ground::with_layout(name, layout);
        let (cgroup, adjustments) = ground.create(&Limits::default()).unwrap();
        assert_eq!(adjustments, [], "{name}");
        let opened = || String::from_utf8_lossy(&ground.run("devices").stdout).into_owned();
        let text = opened();
        assert!(text.contains("null=ok") && text.contains("kmsg=1"), "{name}: {text}");
        // Of a cgroup that lives: the new rules take the place of the old.
        let devices = DeviceRules::Standard { allow: vec!["c 1:11 r".parse().unwrap()] };
        assert_eq!(cgroup.set_limits(&Limits { devices, ..Limits::none() }).unwrap(), [], "{name}");
        let text = opened();
        assert!(text.contains("null=ok") && text.contains("kmsg=ok"), "{name}: {text}");
        assert_eq!(cgroup.set_limits(&Limits { devices: DeviceRules::default(), ..Limits::none() }).unwrap(), []);
        assert!(opened().contains("kmsg=1"), "{name}");
    }
}

#[test]
fn limits_of_a_running_cgroup_go_up_and_down_together() {
    let ground = Ground::new("change");
    let pair = |memory: u64, total: u64, quota: i64, period: u64| Limits {
        memory_bytes: Some(memory << 20),
        memory_swap_bytes: Some(SwapLimit::Total(total << 20)),
        cpu_quota_us: Some(quota),
        cpu_period_us: Some(period),
        ..Limits::none()
    };
    Cgroup::create(&ground.layout, &ground.top, &Limits { cpu_quota_us: Some(50_000), ..Limits::none() }).unwrap();
    let (cgroup, _) = ground.create(&pair(64, 64, 50_000, 100_000)).unwrap();
    let mut child = waiting_inside(&ground);
    // Up: memory beyond the old sum, and the old quota too much for the new period of this parent.
    // Then down.
    for (memory, total, quota, period) in [(128, 160, 20_000, 50_000), (48, 48, 40_000, 100_000)] {
        let changed = cgroup.set_limits(&pair(memory, total, quota, period)).unwrap();
        assert!(changed.iter().all(|change| matches!(change.got, Got::NotAvailable(_))), "{changed:?}");
        assert_eq!(cgroup.usage().memory_limit_bytes, Some(memory << 20));
        if !ground.layout.holder(Controller::Cpu).unwrap().is_v2() {
            assert_eq!(ground.read(Controller::Cpu, "cpu.cfs_quota_us"), quota.to_string());
            assert_eq!(ground.read(Controller::Cpu, "cpu.cfs_period_us"), period.to_string());
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_monitor_leaves_its_callers_cgroups_whoever_removes_the_group_meanwhile() {
    let ground = Ground::new("monitors");
    let output = ground.run("monitor");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let membership = Membership::parse(&text);
    for hierarchy in ground.layout.hierarchies() {
        assert_eq!(membership.path_in(hierarchy), Some(ground.path().as_str()), "{hierarchy:?}\n{text}");
    }
}
