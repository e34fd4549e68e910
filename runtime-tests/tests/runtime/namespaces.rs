//! The namespaces of a worker, by its own account and by the host's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{chroot, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use runtime_tests::roles::{self, Role};
use runtime_tests::{Bed, Call, Worker, cases, host};
use rustix::mount::{MountFlags, mount, mount_bind_recursive};

cases![
    a_worker_runs_from_a_chroot_whether_that_is_a_mount_or_not,
    every_namespace_is_new_but_those_of_users_and_time,
    the_hosts_network_is_shared_only_when_asked_for,
    entering_the_mount_namespace_lands_in_the_containers_root,
    the_worker_is_the_first_process_and_leads_session_and_group,
    the_host_name_is_the_containers_own,
    worker_and_monitor_are_in_their_cgroups_in_every_hierarchy,
];

/// A namespace, as a link in `/proc` names it.
fn namespace(pid: &str, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().to_string_lossy().into_owned()
}

fn every_namespace_is_new_but_those_of_users_and_time(bed: &Bed) {
    let worker = bed.start(&[], &["sleep", "600000"]);
    let pid = worker.pid().to_string();
    for (kind, is_new) in [
        ("pid", true),
        ("mnt", true),
        ("ipc", true),
        ("uts", true),
        ("cgroup", true),
        ("net", true),
        ("user", false),
        ("time", false),
    ] {
        assert_eq!(namespace(&pid, kind) != namespace("self", kind), is_new, "{kind}");
    }
    let inside = bed.report(&["--rm"]);
    let own = |kind: &str| inside["namespaces"][kind].as_str().unwrap().to_owned();
    assert_ne!(own("mnt"), namespace(&pid, "mnt"), "two containers share nothing");
    assert!(
        inside["net_dev"].as_str().unwrap().lines().skip(2).all(|line| line.trim_start().starts_with("lo:")),
        "{inside}"
    );
    worker.kill();
}

fn the_hosts_network_is_shared_only_when_asked_for(bed: &Bed) {
    for (flags, is_hosts) in
        [(&["--rm", "--network", "host"][..], true), (&["--rm", "--network", "none"], false), (&["--rm"], false)]
    {
        let report = bed.report(flags);
        assert_eq!(report["namespaces"]["net"] == namespace("self", "net").as_str(), is_hosts, "{flags:?}");
    }
}

fn entering_the_mount_namespace_lands_in_the_containers_root(bed: &Bed) {
    let worker = bed.start(&[], &["sleep", "600000"]);
    assert_entering_lands_in_the_containers_root(bed, &worker);
    worker.kill();
}

fn assert_entering_lands_in_the_containers_root(bed: &Bed, worker: &Worker<'_>) {
    let mut enter = Command::new("nsenter");
    enter.args(["--mount", "--target", &worker.pid().to_string(), "/bin/probe", "try", "list", "/"]);
    let entered = Call::new(enter).json();
    let inside = bed.attempt(&["--rm"], &["list", "/"]);
    assert_eq!(entered, inside);
    assert!(inside["ok"].as_str().unwrap().contains("\"bin\""), "{inside}");
}

fn the_worker_is_the_first_process_and_leads_session_and_group(bed: &Bed) {
    let report = bed.report(&["--rm"]);
    for key in ["pid", "session", "process_group"] {
        assert_eq!(report[key], 1, "{key}");
    }
    assert_eq!(report["processes"], serde_json::json!([1]), "no process of the host is to be seen");
    let worker = bed.start(&[], &["sleep", "600000"]);
    let pid = worker.pid().to_string();
    let outermost = |key: &str| host::status(worker.pid(), key).split(' ').next().map(str::to_owned);
    assert_eq!([outermost("NSpgid"), outermost("NSsid")], [Some(pid.clone()), Some(pid)]);
    worker.kill();
}

fn the_host_name_is_the_containers_own(bed: &Bed) {
    let of_host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let table: [(&[&str], &str); 4] = [
        (&["--rm", "--name", "worker-7"], "worker-7"),
        (&["--rm", "--hostname", "storm.example"], "storm.example"),
        (&["--rm", "--network", "host"], of_host.trim_end()),
        (&["--rm", "--network", "host", "--hostname", "other"], "other"),
    ];
    for (flags, name) in table {
        assert_eq!(bed.report(flags)["hostname"], name, "{flags:?}");
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), of_host);
}

fn worker_and_monitor_are_in_their_cgroups_in_every_hierarchy(bed: &Bed) {
    let worker = bed.start(&[], &["sleep", "600000"]);
    for (pid, cgroup) in [(worker.pid(), worker.cgroup()), (worker.monitor(), bed.monitors())] {
        let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let elsewhere: Vec<&str> = lines.lines().filter(|line| !line.ends_with(&format!(":{cgroup}"))).collect();
        assert!(elsewhere.is_empty(), "{elsewhere:?}");
        assert_eq!(lines.lines().count(), host::hierarchies().len(), "{lines}");
    }
    let inside = bed.report(&["--rm"]);
    let shown: BTreeSet<&str> =
        inside["cgroup"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert!(shown.iter().all(|line| line.ends_with(":/")), "{shown:?}");
    worker.kill();
}

/// Programs that make a caller's circumstances.
pub const ROLES: &[Role] = &[("in-chroot", in_chroot)];

/// Executes the rest of its arguments in a chroot that holds all that the host does: a mount, or a
/// directory like others (first argument), in the directory of the second.
fn in_chroot(args: &[String]) {
    let [kind, top, rest @ ..] = args else { panic!("{args:?}") };
    runtime_tests::namespace::own().unwrap();
    mount("chroot", top.as_str(), "tmpfs", MountFlags::empty(), None).unwrap();
    let root = Path::new(top).join("root");
    fs::create_dir(&root).unwrap();
    if kind == "mount" {
        mount_bind_recursive(&root, &root).unwrap();
    }
    for entry in fs::read_dir("/").unwrap().flatten() {
        let (here, there) = (entry.path(), root.join(entry.file_name()));
        match entry.file_type().unwrap() {
            kind if kind.is_symlink() => symlink(fs::read_link(&here).unwrap(), &there).unwrap(),
            kind if kind.is_dir() => {
                fs::create_dir(&there).unwrap();
                mount_bind_recursive(&here, &there).unwrap();
            }
            _ => {}
        }
    }
    chroot(&root).unwrap();
    std::env::set_current_dir("/").unwrap();
    panic!("{}", Command::new(&rest[0]).args(&rest[1..]).exec());
}

fn a_worker_runs_from_a_chroot_whether_that_is_a_mount_or_not(bed: &Bed) {
    for kind in ["mount", "directory"] {
        let top = bed.file(kind);
        fs::create_dir(&top).unwrap();
        let in_chroot = |call: Call| {
            let call = call.into_command();
            let mut role = roles::command("in-chroot");
            role.args([kind, &top]).arg(call.get_program()).args(call.get_args());
            Call::new(role)
        };
        let output = in_chroot(bed.run(&["--rm"], &["exit", "7"])).output();
        assert_eq!(output.code(), 7, "{kind}: {output}");
        let id = in_chroot(bed.run(&["--detach"], &["sleep", "600000"])).ok().text();
        let worker = bed.worker(&id);
        assert_entering_lands_in_the_containers_root(bed, &worker);
        worker.kill();
    }
}
