//! A worker that means harm, and has all of its user's rights: it wants out, or to hurt its host,
//! its monitor or its neighbours.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use nix::sys::ptrace;
use runtime_tests::bed::add_probe;
use runtime_tests::{Bed, cases, host, until};
use serde_json::{Value, json};
use squall::squashfs::Attributes;

cases![
    no_door_to_the_kernel_that_the_default_profile_closes_is_open,
    namespaces_are_denied_by_every_call_that_makes_one,
    the_call_tables_of_other_architectures_are_closed,
    a_working_directory_by_a_leaked_descriptor_is_refused,
    a_program_by_a_leaked_descriptor_is_refused,
    monitor_host_and_sibling_cannot_be_signalled_or_traced,
    the_first_process_is_the_worker_and_leads_nowhere_else,
    cgroup_files_can_be_read_and_not_written,
    no_control_socket_is_reached_through_the_hosts_network,
    terminals_and_signals_run_out_for_the_worker_before_its_host,
    a_worker_has_the_limits_that_are_stated_and_not_those_of_the_hosts_first_process,
    a_fork_bomb_stays_within_its_limit_and_ends_as_a_whole,
    inodes_in_memory_run_out_for_the_worker_alone,
    memory_in_tmpfs_is_bounded_by_its_size_and_counts_as_the_containers,
    a_crash_leaves_no_core_on_the_host,
    nothing_is_mounted_or_unmounted_by_a_worker,
    no_device_is_made_by_a_worker,
    a_worker_whose_end_is_held_back_does_not_hold_its_monitor,
    no_setuid_program_is_made_by_a_worker_that_is_root,
    a_worker_that_is_root_takes_no_inotify_instance_of_the_hosts,
    what_lies_in_a_writable_directory_is_closed_to_everybody_else,
    no_mount_point_is_made_in_what_the_caller_has_of_the_host,
];

/// Users for whom a protection has to hold.
const USERS: [&str; 2] = ["65534:65534", "0:0"];

fn errno(answer: &Value) -> i32 {
    answer["errno"].as_i64().unwrap_or_else(|| panic!("it was possible: {answer}")) as i32
}

fn attempt(bed: &Bed, user: &str, what: &[&str]) -> Value {
    bed.attempt(&["--rm", "--user", user], what)
}

/// What one system call answers inside, with these arguments.
fn call(bed: &Bed, user: &str, number: libc::c_long, arguments: &str) -> Value {
    attempt(bed, user, &["syscall", arguments, &number.to_string()])
}

fn no_door_to_the_kernel_that_the_default_profile_closes_is_open(bed: &Bed) {
    // Arguments that the kernel would refuse by another errno than EPERM if it were asked, or that
    // would succeed.
    let table: [(&str, libc::c_long, &str, i32); 43] = [
        ("keyrings: a key", libc::SYS_add_key, "0,0,0,0,0", libc::EPERM),
        ("keyrings: the session's", libc::SYS_keyctl, "1,0", libc::EPERM),
        ("keyrings: a request", libc::SYS_request_key, "0,0,0,0", libc::EPERM),
        ("bpf", libc::SYS_bpf, "0,0,0", libc::EPERM),
        ("perf events", libc::SYS_perf_event_open, "0,0,0,0,0", libc::EPERM),
        ("fanotify", libc::SYS_fanotify_init, "0,0", libc::EPERM),
        ("userfaultfd, of one's own faults", libc::SYS_userfaultfd, "1", libc::EPERM),
        ("io_uring", libc::SYS_io_uring_setup, "0,0", libc::EPERM),
        ("AF_VSOCK", libc::SYS_socket, "40,1,0", libc::EPERM),
        ("asynchronous I/O: a context", libc::SYS_io_setup, "1,0", libc::ENOSYS),
        ("asynchronous I/O: a request", libc::SYS_io_submit, "0,0,0", libc::ENOSYS),
        ("AF_PACKET", libc::SYS_socket, "17,3,0", libc::EPERM),
        ("SCTP, which is a module", libc::SYS_socket, "2,1,132", libc::EPERM),
        ("SCTP of IPv6, in packets", libc::SYS_socket, "10,5,132", libc::EPERM),
        ("DCCP", libc::SYS_socket, "2,6,33", libc::EPERM),
        ("DCCP, without naming it", libc::SYS_socket, "2,6,0", libc::EPERM),
        ("L2TP", libc::SYS_socket, "2,2,115", libc::EPERM),
        ("SMC, by its protocol", libc::SYS_socket, "2,1,256", libc::EPERM),
        ("SMC, by its family", libc::SYS_socket, "43,1,0", libc::EPERM),
        ("TIPC", libc::SYS_socket, "30,1,0", libc::EPERM),
        ("a line discipline", libc::SYS_ioctl, "0,21539,0", libc::EPERM),
        ("a line discipline, with bits that the kernel ignores", libc::SYS_ioctl, "0,4294988835,0", libc::EPERM),
        ("typing into a terminal", libc::SYS_ioctl, "0,21522,0", libc::EPERM),
        ("the bridge's module", libc::SYS_ioctl, "0,35136,0", libc::EPERM),
        ("AF_ALG", libc::SYS_socket, "38,5,0", libc::EPERM),
        ("netlink of the audit", libc::SYS_socket, "16,3,9", libc::EPERM),
        ("a pair of another family", libc::SYS_socketpair, "30,1,0,0", libc::EPERM),
        ("handles: a name", libc::SYS_name_to_handle_at, "0,0,0,0,0", libc::EPERM),
        ("handles: an open", libc::SYS_open_by_handle_at, "0,0,0", libc::EPERM),
        ("descriptors of others", libc::SYS_pidfd_getfd, "0,0,0", libc::EPERM),
        ("comparing processes", libc::SYS_kcmp, "1,1,0,0,0", libc::EPERM),
        ("unmounting", libc::SYS_umount2, "0,2", libc::EPERM),
        ("mounts, the new way", libc::SYS_fsopen, "0,0", libc::EPERM),
        ("a tree of mounts", libc::SYS_open_tree, "0,0,0", libc::EPERM),
        ("another kernel", libc::SYS_kexec_load, "0,0,0,0", libc::EPERM),
        ("modules", libc::SYS_finit_module, "0,0,0", libc::EPERM),
        ("personality: READ_IMPLIES_EXEC", libc::SYS_personality, "4194304", libc::EPERM),
        ("personality: no address randomisation", libc::SYS_personality, "262144", libc::EPERM),
        ("the kernel's log", libc::SYS_syslog, "10,0,0", libc::EPERM),
        ("quotas", libc::SYS_quotactl, "0,0,0,0", libc::EPERM),
        ("moving pages", libc::SYS_move_pages, "0,0,0,0,0,0", libc::EPERM),
        ("clone3, whose flags no filter sees", libc::SYS_clone3, "0,0", libc::ENOSYS),
        ("a call newer than the profile (mseal)", 462, "0,0,0", libc::ENOSYS),
    ];
    let mut open = Vec::new();
    for (what, number, arguments, expected) in table {
        let answer = call(bed, "65534:65534", number, arguments);
        open.extend((answer["errno"] != expected).then(|| format!("{what}: {answer}, not errno {expected}")));
    }
    assert!(open.is_empty(), "{}", open.join("\n"));
    // The doors beside them are open: what the kernel itself answers.
    assert_eq!(errno(&call(bed, "65534:65534", libc::SYS_mbind, "1,0,0,0,0,0")), libc::EINVAL, "NUMA stays");
    for number in [0x5401, 0x541b, 0x5421, 0x5422, 0x8946] {
        let answer = errno(&call(bed, "65534:65534", libc::SYS_ioctl, &format!("4294967295,{number},0")));
        assert_eq!(answer, libc::EBADF, "ioctl({number:#x})");
    }
    for family in ["1,1,0", "2,1,0", "2,1,6", "2,2,17", "10,1,0", "10,524290,17", "16,3,0"] {
        assert_eq!(call(bed, "65534:65534", libc::SYS_socket, family)["ok"], "", "socket({family})");
    }
    for persona in ["0", "8", "131072", "4294967295"] {
        assert_eq!(call(bed, "65534:65534", libc::SYS_personality, persona)["ok"], "", "personality({persona})");
    }
}

/// CVE-2022-0492 began with a user namespace, whose root could mount a cgroup hierarchy and name a
/// release agent.
fn namespaces_are_denied_by_every_call_that_makes_one(bed: &Bed) {
    const KINDS: [(&str, i32); 7] = [
        ("mount", libc::CLONE_NEWNS),
        ("cgroup", libc::CLONE_NEWCGROUP),
        ("uts", libc::CLONE_NEWUTS),
        ("ipc", libc::CLONE_NEWIPC),
        ("user", libc::CLONE_NEWUSER),
        ("pid", libc::CLONE_NEWPID),
        ("network", libc::CLONE_NEWNET),
    ];
    for user in USERS {
        for (kind, flag) in KINDS {
            for number in [libc::SYS_unshare, libc::SYS_clone] {
                // With these flags the kernel would refuse another way: CLONE_FS with a new mount
                // or user namespace is EINVAL.
                let answer = call(bed, user, number, &format!("{}", flag | libc::CLONE_FS));
                assert_eq!(answer["errno"], libc::EPERM, "{kind} by call {number} as {user}: {answer}");
            }
        }
        assert_eq!(call(bed, user, libc::SYS_setns, "0,0")["errno"], libc::EPERM, "setns as {user}");
    }
    // Root that wants no filter gets one all the same, for what would give its capabilities back.
    let flags = ["--rm", "--user", "0:0", "--security-opt", "seccomp=unconfined"];
    let answer = bed.attempt(&flags, &["unshare", "none", &libc::CLONE_NEWUSER.to_string()]);
    assert_eq!(answer["errno"], libc::EPERM, "{answer}");
}

fn the_call_tables_of_other_architectures_are_closed(bed: &Bed) {
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    // getpid by int 0x80: the process is ended, SIGSYS.
    let foreign = bed.run(&["--rm"], &["try", "foreign-syscall", "none", "20"]).output();
    assert_eq!(foreign.code(), 128 + libc::SIGSYS, "{foreign}");
    // getpid by x32's table.
    let x32 = bed.run(&["--rm"], &["try", "syscall", "0", &(0x4000_0000 + libc::SYS_getpid).to_string()]).output();
    assert!(x32.code() == 128 + libc::SIGSYS || errno(&x32.json()) == libc::ENOSYS, "{x32}");
}

/// Numbers that a descriptor of the launch could have: it holds some fifty.
const DESCRIPTORS: std::ops::Range<i32> = 3..96;

/// CVE-2024-21626: a working directory of the host's, by a descriptor that the runtime still had
/// open.
fn a_working_directory_by_a_leaked_descriptor_is_refused(bed: &Bed) {
    let layer = bed.image("links", |writer| {
        runtime_tests::bed::add_probe(writer, "bin/probe", 0o755);
        for number in DESCRIPTORS {
            let attributes = squall::squashfs::Attributes::new(0o777);
            writer.symlink(format!("work-{number}"), &attributes, format!("/proc/self/fd/{number}")).unwrap();
        }
    });
    for number in DESCRIPTORS {
        for path in [format!("/proc/self/fd/{number}"), format!("/work-{number}"), format!("/proc/1/fd/{number}/..")] {
            let flags = ["--rm", "--workdir", &path];
            let output = bed.run_layers(&[&layer], &flags, &["/bin/probe", "exit", "0"]).output();
            assert_eq!(output.code(), 125, "{path}: {output}");
        }
    }
}

fn a_program_by_a_leaked_descriptor_is_refused(bed: &Bed) {
    for number in DESCRIPTORS {
        for (user, path) in
            [(USERS[0], format!("/proc/self/fd/{number}/bin/true")), (USERS[1], format!("/proc/self/fd/{number}"))]
        {
            let output = bed.run_layers(&[bed.probe()], &["--rm", "--user", user], &[&path]).output();
            assert!([126, 127].contains(&output.code()), "{path} as {user}: {output}");
        }
    }
}

fn monitor_host_and_sibling_cannot_be_signalled_or_traced(bed: &Bed) {
    const PTRACE_ATTACH: &str = "16";
    let sibling = bed.start(&["--user", "65534:65534"], &["sleep", "600000"]);
    let targets = [sibling.pid(), sibling.monitor(), std::process::id()];
    for user in USERS {
        for pid in targets {
            let signal = attempt(bed, user, &["kill", &pid.to_string(), "9"]);
            assert_eq!(errno(&signal), libc::ESRCH, "signal to {pid} as {user}");
            let trace = call(bed, user, libc::SYS_ptrace, &format!("{PTRACE_ATTACH},{pid},0,0"));
            assert_eq!(errno(&trace), libc::ESRCH, "ptrace of {pid} as {user}");
        }
        // Everybody that it sees is of its own container.
        attempt(bed, user, &["kill", "-1", "9"]);
    }
    assert!(targets.into_iter().all(host::is_alive));
    sibling.kill();
}

/// Of the first process of its namespace a worker sees what belongs to itself: program, root,
/// descriptors.
fn the_first_process_is_the_worker_and_leads_nowhere_else(bed: &Bed) {
    for user in USERS {
        let of =
            |what: &str, path: &str| attempt(bed, user, &[what, path])["ok"].as_str().unwrap_or_default().to_owned();
        assert_eq!(of("link", "/proc/1/exe"), "/bin/probe", "{user}");
        assert_eq!((of("link", "/proc/1/root"), of("link", "/proc/1/cwd")), ("/".to_owned(), "/".to_owned()), "{user}");
        assert_eq!(of("list", "/proc/1/root/"), of("list", "/"), "{user}");
        assert_eq!(of("list", "/proc/1/root/.."), of("list", "/"), "{user}");
        let environment = of("read", "/proc/1/environ");
        assert!(environment.starts_with("PATH=") && environment.matches('\0').count() == 2, "{user}: {environment:?}");
        // Two are those by which the probe lists them.
        assert_eq!(of("list", "/proc/1/fd"), r#"["0","1","2","3","4"]"#, "{user}");
        let denied = attempt(bed, user, &["write", "/proc/1/exe", "x"]);
        assert!([libc::EROFS, libc::ETXTBSY, libc::EACCES].contains(&errno(&denied)), "{user}: {denied}");
    }
}

fn cgroup_files_can_be_read_and_not_written(bed: &Bed) {
    const FILES: [&str; 9] = [
        "cgroup.kill",
        "cgroup.procs",
        "cgroup.subtree_control",
        "memory.limit_in_bytes",
        "memory.max",
        "notify_on_release",
        "pids.max",
        "release_agent",
        "tasks",
    ];
    let flags = ["--memory", "64m", "--pids-limit", "20", "--user", "0:0"];
    let worker = bed.start(&flags, &["sleep", "600000"]);
    let root = format!("/proc/{}/root/sys/fs/cgroup", worker.pid());
    let attempt = |what: &str, path: &str, words: &[&str]| {
        let answer = bed.attempt(&["--rm", "--user", "0:0"], &[&[what, path], words].concat());
        assert!([libc::EROFS, libc::EACCES, libc::ENOENT].contains(&errno(&answer)), "{path}: {answer}");
    };
    // cgroup v2 is mounted there itself, hierarchies of v1 one level below.
    let hierarchies = fs::read_dir(&root).unwrap().flatten().filter(|entry| entry.path().is_dir());
    let hierarchies = hierarchies.map(|entry| format!("/{}", entry.file_name().to_string_lossy()));
    let mut tried = 0;
    for hierarchy in std::iter::once(String::new()).chain(hierarchies) {
        for name in FILES.iter().filter(|name| Path::new(&format!("{root}{hierarchy}/{name}")).exists()) {
            attempt("write", &format!("/sys/fs/cgroup{hierarchy}/{name}"), &["1"]);
            tried += 1;
        }
        attempt("mkdir", &format!("/sys/fs/cgroup{hierarchy}/x"), &[]);
    }
    assert!(tried > 4, "{tried} files tried below {root}");
    worker.kill();
}

/// Abstract sockets belong to a network namespace, which a worker may share with the host; paths do
/// not.
fn no_control_socket_is_reached_through_the_hosts_network(bed: &Bed) {
    let sibling = bed.start(&["--name", "sibling"], &["sleep", "600000"]);
    let socket = bed.run_root().join("containers/sibling/monitor.sock");
    assert!(socket.exists());
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let ours: Vec<&str> = sockets.lines().filter(|line| line.contains("squall") && line.contains('@')).collect();
    assert!(ours.is_empty(), "an abstract socket: {ours:?}");
    for user in USERS {
        let answer =
            bed.attempt(&["--rm", "--network", "host", "--user", user], &["connect", socket.to_str().unwrap(), ""]);
        assert_eq!(errno(&answer), libc::ENOENT, "{answer}");
    }
    // Even a worker that is given the whole host to read cannot reach it, unless it is root: the
    // run root is closed.
    let volume = format!("{}:{}:ro", bed.directory().display(), bed.directory().display());
    let flags = ["--rm", "--network", "host", "--volume", &volume, "--user", "65534:65534"];
    let answer = bed.attempt(&flags, &["connect", socket.to_str().unwrap(), ""]);
    assert_eq!(errno(&answer), libc::EACCES, "{answer}");
    sibling.kill();
}

/// All containers share one number of terminals, and all processes of a user one number of queued
/// signals.
fn terminals_and_signals_run_out_for_the_worker_before_its_host(bed: &Bed) {
    let table = [("terminals", 256, libc::ENOSPC), ("signals", 4096, libc::EAGAIN)];
    for (what, most, errno) in table {
        let answer = bed.run(&["--rm", "--user", "0:0"], &["exhaust", what]).json();
        assert!(answer["taken"].as_u64().is_some_and(|taken| taken <= most), "{what}: {answer}");
        assert_eq!(answer["errno"], errno, "{what}: {answer}");
    }
}

fn a_worker_has_the_limits_that_are_stated_and_not_those_of_the_hosts_first_process(bed: &Bed) {
    let report = bed.report(&["--rm"]);
    let limits = |of: &str| -> Vec<String> { of.split_whitespace().rev().take(3).map(str::to_owned).collect() };
    // Unit, hard and soft, from the line's end. Hard ones are lower where this caller's are and
    // cannot be raised.
    let table = [
        ("Max open files", 1024, 524_288),
        ("Max locked memory", 8 << 20, 8 << 20),
        ("Max pending signals", 4096, 4096),
        ("Max msgqueue size", 409_600, 409_600),
        ("Max core file size", 0, u64::MAX),
    ];
    for (name, soft, hard) in table {
        let lines = report["limits"].as_array().unwrap();
        let line = lines.iter().filter_map(Value::as_str).find(|line| line.starts_with(name)).unwrap();
        let shown = limits(line);
        let number = |text: &str| if text == "unlimited" { u64::MAX } else { text.parse().unwrap() };
        assert!(number(&shown[2]) <= soft && number(&shown[1]) <= hard, "{line}");
    }
}

fn a_fork_bomb_stays_within_its_limit_and_ends_as_a_whole(bed: &Bed) {
    let worker = bed.start(&["--pids-limit", "40", "--cpus", "0.5"], &["bomb"]);
    host::until("the limit is reached", || {
        (worker.cgroup_file("pids.current")?.parse::<u32>().ok()? == 40).then_some(())
    });
    bed.squall(&["stop", "--time", "0", &worker.id]).ok();
    assert_eq!(worker.cgroup_file("pids.current"), None, "its cgroup is gone, and so is everybody in it");
    assert_eq!(worker.wait(), 137);
}

fn inodes_in_memory_run_out_for_the_worker_alone(bed: &Bed) {
    for (directory, flags) in [
        ("/tmp", &[][..]),
        ("/dev/shm", &[]),
        ("/scratch", &["--tmpfs", "/scratch:size=1m"]),
        ("/", &["--writable=1m", "--user", "0:0"]),
    ] {
        let flags = [&["--rm", "--memory", "256m"], flags].concat();
        let litter = bed.run(&flags, &["litter", directory, "1000000"]).json();
        assert_eq!(litter["errno"], libc::ENOSPC, "{directory}: {litter}");
        assert!(litter["made"].as_u64().unwrap() <= 65536, "{directory}: {litter}");
    }
}

fn memory_in_tmpfs_is_bounded_by_its_size_and_counts_as_the_containers(bed: &Bed) {
    let full = bed.attempt(&["--rm"], &["fill", "/tmp/all", "1000000000"]);
    assert_eq!(errno(&full), libc::ENOSPC, "{full}");
    // 32 MiB are less than /tmp holds: the container ends, nobody else.
    let worker = bed.start(&["--memory", "32m", "--memory-swap", "32m"], &["try", "fill", "/tmp/all", "1000000000"]);
    assert_eq!(worker.wait(), 137);
    let oom = worker.inspect()["exit"]["oom"].take();
    assert!(oom["kills"].as_u64().is_some_and(|kills| kills > 0), "{oom}");
}

fn a_crash_leaves_no_core_on_the_host(bed: &Bed) {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let before = listing(bed.directory());
    let volume = format!("{}:/data", bed.work().display());
    // A caller that wants cores of its own; a worker that could write one.
    let caller = ["prlimit", "--core=unlimited:"];
    let flags = ["--rm", "--volume", &volume, "--workdir", "/data"];
    let output = bed.run(&flags, &["crash"]).under(&caller).output();
    assert_eq!(output.code(), 128 + libc::SIGSEGV, "{output}");
    let limits = bed.run(&["--rm"], &["report"]).under(&caller).json()["limits"].to_string();
    let core = limits.split("Max core file size").nth(1).map(|rest| rest.split_whitespace().next().unwrap_or_default());
    assert_eq!(core, Some("0"), "{limits} (core_pattern {pattern})");
    assert_eq!(listing(bed.directory()), before);
}

/// Everything below a directory but the run root.
fn listing(directory: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name() != "run" && entry.file_name() != "images" {
            all.push(entry.path().display().to_string());
            all.extend(listing(&entry.path()));
        }
    }
    all.sort();
    all
}

fn nothing_is_mounted_or_unmounted_by_a_worker(bed: &Bed) {
    for profile in ["seccomp=unconfined", "no-new-privileges"] {
        for user in USERS {
            let flags = ["--rm", "--user", user, "--security-opt", profile];
            for what in [["mount", "/tmp", ""], ["chroot", "/tmp", ""]] {
                let answer = bed.attempt(&flags, &what);
                assert_eq!(errno(&answer), libc::EPERM, "{what:?} as {user} with {profile}");
            }
        }
    }
}

/// The worker before has put links there, to what it may not write to itself.
fn no_mount_point_is_made_in_what_the_caller_has_of_the_host(bed: &Bed) {
    let (shared, closed) = (bed.file("shared"), bed.file("closed"));
    for directory in [&shared, &closed] {
        fs::create_dir(directory).unwrap();
    }
    std::os::unix::fs::symlink("/closed", Path::new(&shared).join("link")).unwrap();
    let (shared, closed) = (format!("{shared}:/shared"), format!("{closed}:/closed"));
    for missing in ["/shared/new", "/shared/new/below", "/shared/link/new", "/closed/new"] {
        for below in [
            vec!["--tmpfs".to_owned(), missing.to_owned()],
            vec!["--volume".to_owned(), format!("/etc/passwd:{missing}")],
        ] {
            let below: Vec<&str> = below.iter().map(String::as_str).collect();
            let flags = [&["--rm", "--volume", &shared, "--volume", &closed][..], &below].concat();
            let output = bed.run(&flags, &["exit", "0"]).output();
            assert!(output.code() == 125 && output.stderr.contains("make it there first"), "{output}");
        }
    }
    let here = |name: &str| listing(&bed.work().join(name)).len();
    assert_eq!((here("shared"), here("closed")), (1, 0));
    // What is there can be mounted over, and in file systems of the container's own what is missing
    // is made.
    fs::create_dir(bed.work().join("shared/there")).unwrap();
    let table =
        [["--tmpfs", "/shared/there"], ["--tmpfs", "/run/new"], ["--tmpfs", "/new/below"], ["--tmpfs", "/shared/link"]];
    for below in table {
        bed.run(&[&["--rm", "--volume", &shared, "--volume", &closed][..], &below].concat(), &["exit", "0"]).ok();
    }
    bed.run(&["--rm", "--tmpfs", "/own", "--tmpfs", "/own/new"], &["exit", "0"]).ok();
}

fn no_device_is_made_by_a_worker(bed: &Bed) {
    for user in USERS {
        let answer = attempt(bed, user, &["mknod", "/tmp/disk", ""]);
        assert_eq!(errno(&answer), libc::EPERM, "as {user}");
    }
}

/// A pidfd can be read although its process cannot be reaped: for as long as somebody traces the
/// dead one, which this test does, and for an instant while a thread executes a program, which a
/// worker can bring about again and again (4 times in 23 million on a quiet machine).
fn a_worker_whose_end_is_held_back_does_not_hold_its_monitor(bed: &Bed) {
    let worker = bed.start(&[], &["sleep", "600000"]);
    let init = nix::unistd::Pid::from_raw(worker.pid() as i32);
    ptrace::seize(init, ptrace::Options::empty()).unwrap();
    nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGKILL).unwrap();
    until("it is dead", || host::status(init.as_raw() as u32, "State").starts_with('Z').then_some(()));
    bed.squall(&["kill", "--signal", "USR1", &worker.id]).ok();
    assert_eq!(worker.phase(), "running", "nobody knows its end yet");
    nix::sys::wait::waitpid(init, None).unwrap();
    assert_eq!(worker.wait(), 137);
}

/// Host users could run it, below a bind or in a writable directory. The names and descriptors are
/// none, so a call that passes the filter is answered with EFAULT or EBADF.
fn a_worker_that_is_root_takes_no_inotify_instance_of_the_hosts(bed: &Bed) {
    let mut calls = vec![(libc::SYS_inotify_init1, "524288")];
    #[cfg(target_arch = "x86_64")]
    calls.push((libc::SYS_inotify_init, ""));
    for (number, arguments) in calls {
        let answer = |flags: &[&str]| bed.attempt(flags, &["syscall", arguments, &number.to_string()]);
        assert_eq!(errno(&answer(&["--rm", "--user", "0:0"])), libc::EMFILE, "{number}");
        for flags in
            [&["--rm", "--user", "4711:4712"][..], &["--rm", "--user", "0:0", "--security-opt", "seccomp=unconfined"]]
        {
            assert!(answer(flags)["errno"].is_null(), "{number} {flags:?}");
        }
    }
}

fn no_setuid_program_is_made_by_a_worker_that_is_root(bed: &Bed) {
    const FCHMODAT2: libc::c_long = 452;
    const CREATE: i32 = libc::O_CREAT | libc::O_WRONLY;
    const UNNAMED: i32 = libc::O_TMPFILE | libc::O_WRONLY;
    let (there, nowhere) = (libc::EFAULT, libc::EBADF);
    // How arguments are written around a mode, and what a harmless mode is answered.
    let mut table = vec![
        (libc::SYS_fchmod, "999,MODE".to_owned(), nowhere),
        (libc::SYS_fchmodat, "-100,0,MODE".to_owned(), there),
        (FCHMODAT2, "-100,0,MODE,0".to_owned(), there),
        (libc::SYS_mknodat, "-100,0,MODE,0".to_owned(), there),
        (libc::SYS_openat, format!("-100,0,{CREATE},MODE"), there),
        (libc::SYS_openat, format!("-100,0,{UNNAMED},MODE"), there),
    ];
    #[cfg(target_arch = "x86_64")]
    table.extend([
        (libc::SYS_chmod, "0,MODE".to_owned(), there),
        (libc::SYS_creat, "0,MODE".to_owned(), there),
        (libc::SYS_mknod, "0,MODE,0".to_owned(), there),
        (libc::SYS_open, format!("0,{CREATE},MODE"), there),
        (libc::SYS_open, format!("0,{UNNAMED},MODE"), there),
    ]);
    // Without a filter of the worker's own; the default one knows fewer calls.
    let root = ["--rm", "--security-opt", "seccomp=unconfined", "--user", "0:0"];
    let allowed = [&root[..], &["--allow-setuid-bits"]].concat();
    let other = [&root[..4], &["4711:4712"]].concat();
    let by_default = ["--rm", "--user", "0:0"];
    let answer = |flags: &[&str], number: libc::c_long, arguments: &str| {
        bed.attempt(flags, &["syscall", arguments, &number.to_string()])["errno"].clone()
    };
    for (number, arguments, harmless) in &table {
        let with = |mode: u32| arguments.replace("MODE", &mode.to_string());
        for bits in [0o4755, 0o2755, 0o6777] {
            assert_eq!(answer(&root, *number, &with(bits)), libc::EPERM, "{number} {}", with(bits));
            let errno = answer(&by_default, *number, &with(bits));
            assert!([libc::EPERM, libc::ENOSYS].iter().any(|no| errno == *no), "{number} {}: {errno}", with(bits));
        }
        assert_eq!(answer(&root, *number, &with(0o755)), *harmless, "{number} {arguments}");
        for flags in [&allowed[..], &other] {
            assert_eq!(answer(flags, *number, &with(0o6755)), *harmless, "{flags:?}: {number} {arguments}");
        }
    }
    // Without a file to be made the mode means nothing.
    assert_eq!(answer(&root, libc::SYS_openat, "-100,0,0,4095"), libc::EFAULT);
    assert_eq!(answer(&root, libc::SYS_openat2, "-100,0,0,0"), libc::ENOSYS, "its mode lies in memory");
    assert_eq!(answer(&root, libc::SYS_io_uring_setup, "0,0"), libc::ENOSYS, "it opens files past every filter");
}

/// The image decides what the upper directory belongs to and who may enter it, and may bring setuid
/// programs that a touch copies there.
fn what_lies_in_a_writable_directory_is_closed_to_everybody_else(bed: &Bed) {
    let layer = bed.image("open", |writer| {
        writer.directory(".", &Attributes { uid: 4711, gid: 4712, ..Attributes::new(0o777) }).unwrap();
        add_probe(writer, "bin/probe", 0o755);
    });
    let directory = bed.file("upper");
    let level = Path::new(&directory).join("overlay");
    let flag = format!("--writable={directory}");
    let write = || {
        let argv = ["/bin/probe", "try", "create", "/kept", "text"];
        bed.run_layers(&[&layer], &["--rm", "--user", "4711:4712", &flag], &argv).output()
    };
    fs::create_dir(&directory).unwrap();
    assert_eq!(write().json()["ok"], "");
    let owner_and_mode = |path: &Path| {
        let found = fs::symlink_metadata(path).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    };
    assert_eq!(owner_and_mode(&level.join("upper")), (4711, 4712, 0o777), "as the image has it");
    assert_eq!(owner_and_mode(&level), (0, 0, 0o700));
    assert_eq!(fs::read_to_string(level.join("upper/kept")).unwrap(), "text");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing lies beside it");
    // One that somebody else made, or could enter, is none; a link is not followed, here or further
    // down.
    let refused = |what: &str| {
        let output = write();
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{what}: {output}");
        assert!(output.stderr.contains("'overlay' in it") && output.stderr.contains("0700"), "{what}: {output}");
    };
    fs::set_permissions(&level, fs::Permissions::from_mode(0o755)).unwrap();
    refused("open to all");
    fs::set_permissions(&level, fs::Permissions::from_mode(0o700)).unwrap();
    chown(&level, Some(4711), None).unwrap();
    refused("of another user");
    fs::remove_dir_all(&level).unwrap();
    let victim = bed.work().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o700)).unwrap();
    symlink(&victim, &level).unwrap();
    refused("a link");
    fs::remove_file(&level).unwrap();
    fs::create_dir(&level).unwrap();
    fs::set_permissions(&level, fs::Permissions::from_mode(0o700)).unwrap();
    let victim = level.join("victim");
    fs::create_dir(&victim).unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o700)).unwrap();
    symlink("victim", level.join("upper")).unwrap();
    let output = write();
    assert_eq!(output.code(), 125, "{output}");
    assert_eq!(json!(owner_and_mode(&victim)), json!([0, 0, 0o700]), "nothing is changed through a link");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
}
