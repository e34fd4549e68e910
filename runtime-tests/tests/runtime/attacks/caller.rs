//! A caller that means harm, or is in a state that nobody thought of: the launch still gives the
//! same worker, or a clear error.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use runtime_tests::{Bed, cases, host, until};
use rustix::fs::{Mode, OFlags, open};
use serde_json::{Value, json};

cases![
    few_descriptors_are_enough_or_the_error_says_so,
    a_file_size_limit_of_zero_spoils_no_record,
    a_processor_time_limit_is_not_the_workers,
    ten_thousand_variables_change_nothing_and_do_not_reach_the_worker,
    ten_thousand_variables_for_the_worker_arrive,
    an_unreadable_working_directory_is_no_hindrance,
    a_mount_onto_proc_or_below_it_is_refused,
    a_mount_onto_a_device_does_not_become_the_mask,
    a_worker_that_swaps_a_mount_point_for_a_link_gets_nothing_outside,
    the_caller_of_a_setuid_program_has_no_power_over_what_it_starts,
    a_launch_goes_out_of_a_cgroup_that_its_caller_owns_and_waits_for_no_lock_for_ever,
    a_standard_stream_that_leads_into_the_host_is_refused,
    a_file_open_for_reading_is_not_opened_for_writing_by_any_worker,
];

/// A user of the host who is nobody in particular.
const CALLER: u32 = 21001;

fn in_shell(script: &str) -> [&str; 4] {
    ["sh", "-c", script, "sh"]
}

/// Three are the standard streams alone: not even a dynamic loader can open a library then. What is
/// enough for the loader is not always enough for a launch, and then the error is Squall's, in one
/// line, and nothing is left.
fn few_descriptors_are_enough_or_the_error_says_so(bed: &Bed) {
    for count in [3, 4, 5, 6, 8, 12, 16, 24, 32, 40, 48, 64, 128] {
        let limit = format!("--nofile={count}:{count}");
        let output = bed.run(&["--rm"], &["exit", "7"]).under(&["prlimit", &limit]).output();
        match output.code() {
            7 => {}
            125 if count < 128 => assert_eq!(output.stderr.lines().count(), 1, "{count}: {output}"),
            // The loader's.
            127 => assert!(output.stderr.contains("shared libraries") || output.stderr.contains("prlimit"), "{output}"),
            other => panic!("{count}: {other}: {output}"),
        }
    }
    let containers = fs::read_dir(bed.run_root().join("containers")).map_or(0, Iterator::count);
    assert_eq!(containers, 0);
}

fn a_file_size_limit_of_zero_spoils_no_record(bed: &Bed) {
    let output = bed.run(&["--name", "worker"], &["exit", "7"]).under(&["prlimit", "--fsize=0:"]).output();
    assert_eq!(output.code(), 7, "{output}");
    assert_eq!(bed.worker("worker").inspect()["exit"]["exit"]["code"], 7);
}

fn a_processor_time_limit_is_not_the_workers(bed: &Bed) {
    // The first process of a pid namespace ignores SIGXCPU; those that it starts do not.
    let report = bed.run(&["--rm"], &["report"]).under(&["prlimit", "--cpu=1:"]).json();
    let limits: Vec<&str> = report["limits"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let time = limits.iter().find(|line| line.starts_with("Max cpu time")).unwrap();
    assert_eq!(time.split_whitespace().nth(3), Some("unlimited"), "{time}");
}

fn ten_thousand_variables_change_nothing_and_do_not_reach_the_worker(bed: &Bed) {
    let script = "i=0; while [ $i -lt 10000 ]; do export \"V$i=$i\"; i=$((i+1)); done; exec \"$@\"";
    let report = bed.run(&["--rm"], &["report"]).under(&in_shell(script)).json();
    assert_eq!(report["env"].as_array().unwrap().len(), 2, "PATH and HOME alone");
}

fn ten_thousand_variables_for_the_worker_arrive(bed: &Bed) {
    let flags: Vec<String> = (0..10_000).flat_map(|index| ["-e".to_owned(), format!("V{index}={index}")]).collect();
    let flags: Vec<&str> = ["--rm"].into_iter().chain(flags.iter().map(String::as_str)).collect();
    let report = bed.report(&flags);
    let env: Vec<&str> = report["env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!((env.len(), env[1], env[10_000]), (10_002, "V0=0", "V9999=9999"), "PATH, these, and HOME");
}

fn an_unreadable_working_directory_is_no_hindrance(bed: &Bed) {
    let closed = bed.work().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
    let script = format!("cd '{}' && exec \"$@\"", closed.display());
    let caller = in_shell(&script);
    assert_eq!(bed.run(&["--rm"], &["exit", "7"]).under(&caller).output().code(), 7);
    // Without the capabilities that make root see everything.
    let dropped = ["setpriv", "--bounding-set", "-dac_read_search", "--inh-caps", "-dac_read_search"];
    let output = bed.run(&["--rm"], &["exit", "7"]).under(&[&caller[..], &dropped].concat()).output();
    assert_eq!(output.code(), 7, "{output}");
}

/// CVE-2019-16884 and CVE-2025-52881: with a false /proc the runtime writes what confines the
/// worker to nowhere, or elsewhere.
fn a_mount_onto_proc_or_below_it_is_refused(bed: &Bed) {
    let volume = bed.file("false-proc");
    fs::create_dir_all(format!("{volume}/self/attr")).unwrap();
    for destination in
        ["/proc", "/proc/", "/proc/self", "/proc/self/attr", "/proc/sys", "/proc/1/fd", "//proc", "/./proc"]
    {
        let flags = ["--rm", "--volume", &format!("{volume}:{destination}")];
        let output = bed.run(&flags, &["exit", "0"]).output();
        assert_eq!(output.code(), 125, "{destination}: {output}");
        assert!(output.stderr.contains("--volume"), "{destination}: {output}");
        let output = bed.run(&["--rm", "--tmpfs", destination], &["exit", "0"]).output();
        assert_eq!(output.code(), 125, "{destination}: {output}");
    }
}

/// CVE-2025-31133: what is bound over a masked path is whatever stands at /dev/null at that moment.
fn a_mount_onto_a_device_does_not_become_the_mask(bed: &Bed) {
    let file = bed.file("null");
    fs::write(&file, "of the caller").unwrap();
    for device in ["/dev/null", "/dev/kcore", "/dev/zero", "/dev/tty", "/dev/full", "/dev/random", "/dev/urandom"] {
        let output =
            bed.run(&["--rm", "--volume", &format!("{file}:{device}")], &["try", "read", "/proc/kcore"]).output();
        let refused = output.code() == 125 && output.stderr.contains("--volume[0]");
        assert!(refused, "{device}: {output}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "of the caller");
}

/// CVE-2021-30465: a container that shares a volume with the next one swaps a directory on the way
/// of the next one's mount for a link, between the moment it is looked at and the moment it is
/// used.
fn a_worker_that_swaps_a_mount_point_for_a_link_gets_nothing_outside(bed: &Bed) {
    let shared = bed.work().join("shared");
    let victim = bed.work().join("victim");
    let payload = bed.work().join("payload");
    for directory in [&shared, &victim, &payload, &shared.join("here"), &shared.join("here/deep")] {
        fs::create_dir(directory).unwrap();
    }
    fs::write(payload.join("mark"), "payload").unwrap();
    std::os::unix::fs::symlink("/", shared.join("elsewhere")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let mut swaps = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let (one, other) = (shared.join("here"), shared.join("elsewhere"));
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &one, rustix::fs::CWD, &other, exchange).unwrap();
                swaps += 1;
            }
            swaps
        });
        let volumes = [format!("{}:/shared", shared.display()), format!("{}:/shared/here/deep", payload.display())];
        let mut launched = 0;
        for round in 0..30 {
            let flags = ["--rm", "--volume", &volumes[0], "--volume", &volumes[1]];
            let output = bed.run(&flags, &["report"]).output();
            if output.code() == 125 {
                // It was noticed on the way, or the directory was not there at that moment.
                assert_eq!(output.stderr.lines().count(), 1, "{output}");
                continue;
            }
            launched += 1;
            let points: Vec<String> =
                crate::mounts::mounts(&output.json()).into_iter().map(|line| line.point).collect();
            // Inside its own root a link may lead it anywhere but onto what confines the worker.
            let wrong = ["/", "/proc", "/dev", "/sys"]
                .iter()
                .any(|point| points.iter().filter(|found| found == point).count() > 1);
            assert!(!wrong, "round {round}: {points:?}");
            assert!(
                points.iter().any(|point| point.ends_with("/deep")),
                "round {round}: it is nowhere inside: {points:?}"
            );
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(launched > 0, "none was launched");
        assert!(swapper.join().unwrap() > 100);
    });
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
    assert!(!std::path::Path::new("/deep").exists(), "a mount point was made in the host's root");
}

/// Real ids are what the kernel asks for when one process signals another: a monitor with its
/// caller's could be stopped or killed by him.
fn the_caller_of_a_setuid_program_has_no_power_over_what_it_starts(bed: &Bed) {
    // Not where the bed is: file systems in memory are mounted without setuid.
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("squall");
    fs::copy(bed.program(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let ids = [format!("--reuid={CALLER}"), format!("--regid={CALLER}"), format!("--groups={CALLER},24")];
    let as_caller = [&["setpriv"], &ids.each_ref().map(String::as_str)[..]].concat();
    let call = bed.with_program(&program).run(&["--detach"], &["sleep", "600000"]).under(&as_caller).ok();
    let worker = bed.worker(&call.text());
    let monitor = worker.monitor();
    for (key, expected) in [("Uid", "0 0 0 0"), ("Gid", "0 0 0 0"), ("Groups", "")] {
        assert_eq!(host::status(monitor, key), expected, "{key}");
    }
    let signal = Command::new("setpriv")
        .args(&as_caller[1..])
        .args(["sh", "-c", &format!("kill -STOP {monitor}")])
        .output()
        .unwrap();
    assert!(!signal.status.success(), "{signal:?}");
    worker.kill();
}

fn a_launch_goes_out_of_a_cgroup_that_its_caller_owns_and_waits_for_no_lock_for_ever(bed: &Bed) {
    // The layer's directory by its name, with a lock that is never given back.
    bed.run(&["--rm"], &["exit", "0"]).ok();
    let layers = bed.run_root().join("layers");
    let layer = fs::read_dir(&layers).unwrap().next().unwrap().unwrap().path();
    bed.squall(&["reap", "--keep", "0"]).ok();
    fs::create_dir(&layer).unwrap();
    let lock = fs::File::create(layer.join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let is_freezer = |root: &&PathBuf| root.ends_with("freezer") || root.join("cgroup.controllers").exists();
    let freezer = host::hierarchies().into_iter().find(|root| is_freezer(&root)).unwrap();
    let above = freezer.join(bed.cgroup().trim_start_matches('/'));
    let callers = above.join("callers");
    fs::create_dir_all(&callers).unwrap();
    std::os::unix::fs::chown(&callers, Some(CALLER), None).unwrap();

    let script = "echo $$ > $0/cgroup.procs && exec \"$@\"";
    let call = bed.run(&["--detach"], &["sleep", "600000"]).under(&["sh", "-c", script, callers.to_str().unwrap()]);
    let mut caller = call.into_command().stdout(Stdio::piped()).spawn().unwrap();
    let launch = until("there is a launch process", || host::children(caller.id()).first().copied());
    let init = until("it has left its caller's cgroup", || {
        let cgroups = fs::read_to_string(format!("/proc/{launch}/cgroup")).unwrap();
        (!cgroups.contains("/callers")).then(|| host::children(launch))
    });
    assert!(init.is_empty(), "it leaves before it waits for a lock, which comes before init: {init:?}");
    let mut id = String::new();
    caller.stdout.take().unwrap().read_to_string(&mut id).unwrap();
    assert!(caller.wait().unwrap().success());
    let worker = bed.worker(id.trim());
    assert_eq!(worker.inspect()["layers"][0]["source"], "attached");
    worker.kill();
    drop(lock);
    until("its last process has left", || fs::remove_dir(&callers).ok());
}

/// `squall run` of the probe with this on standard input.
fn with_input(bed: &Bed, input: impl Into<OwnedFd>, flags: &[&str], probe: &[&str]) -> Output {
    let mut command = bed.run(&[&["--rm"], flags].concat(), probe).into_command();
    command.stdin(Stdio::from(input.into())).output().unwrap()
}

/// A worker reaches its streams by path, and so what lies below a directory, or the disk.
fn a_standard_stream_that_leads_into_the_host_is_refused(bed: &Bed) {
    let open = |path: &Path, flags| open(path, flags | OFlags::NONBLOCK, Mode::empty()).unwrap();
    let devices = fs::read_dir("/dev").unwrap().map(|entry| entry.unwrap());
    let mut disks = devices.filter(|entry| entry.file_type().unwrap().is_block_device()).map(|entry| entry.path());
    let disk: PathBuf = disks.next().expect("a machine that has mounted a layer has a block device");
    let table = [
        (Path::new("/"), OFlags::RDONLY, "is a directory of the host"),
        (Path::new("/"), OFlags::PATH, "O_PATH"),
        (Path::new("/etc/passwd"), OFlags::PATH, "O_PATH"),
        (&disk, OFlags::RDONLY, "is a block device"),
        (Path::new("/dev/kmsg"), OFlags::RDONLY, "is the character device 1:11"),
    ];
    for (path, flags, words) in table {
        for more in [&[][..], &["--user", "0:0"]] {
            let output = with_input(bed, open(path, flags), more, &["try", "list", "/proc/self/fd/0/"]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), said.lines().count()), (Some(125), 1), "{}: {said}", path.display());
            assert!(said.contains("standard input") && said.contains(words), "{}: {said}", path.display());
            assert!(output.stdout.is_empty(), "{}: {output:?}", path.display());
        }
    }
    assert!(!bed.run_root().exists(), "refused before anything is touched");
}

/// By `/proc/self/fd/0` a file is opened again with whatever access its owner, mode or list give;
/// the descriptor itself takes a new mode.
fn a_file_open_for_reading_is_not_opened_for_writing_by_any_worker(bed: &Bed) {
    const TEXT: &str = "what the caller wrote";
    let (read_only, no) = (libc::EROFS, libc::EACCES);
    let table = [
        ("0:0", 0, 0o644, read_only, read_only),
        ("0:0", 0, 0o444, no, read_only),
        ("4711:4712", 4711, 0o644, read_only, read_only),
        ("4711:4712", 0, 0o666, read_only, read_only),
        ("4711:4712", 0, 0o644, no, libc::EPERM),
    ];
    for (index, (user, owner, mode, at_open, at_chmod)) in table.into_iter().enumerate() {
        let path = bed.work().join(format!("input-{index}"));
        fs::write(&path, TEXT).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(owner), Some(owner)).unwrap();
        let run = |probe: &[&str]| with_input(bed, File::open(&path).unwrap(), &["--user", user], probe);
        let chmod = libc::SYS_fchmod.to_string();
        let write = (&["try", "write", "/proc/self/fd/0", "harm"][..], at_open);
        for (attempt, errno) in [write, (&["try", "syscall", "0,511", &chmod], at_chmod)] {
            let output = run(attempt);
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
            assert_eq!(answer["errno"], json!(errno), "{user}, file of {owner} {mode:o}, {attempt:?}: {answer}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), TEXT);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        // It is read from where the caller was, and without a name as well.
        let mut file = File::open(&path).unwrap();
        file.seek(SeekFrom::Start(5)).unwrap();
        fs::remove_file(&path).unwrap();
        let output = with_input(bed, file, &["--user", user], &["copy"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), TEXT[5..], "{output:?}");
    }
    // What is in memory has no mount that could be made read-only.
    let memory = runtime_tests::call::memory_file("input").unwrap();
    let again =
        open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory)), OFlags::RDONLY, Mode::empty())
            .unwrap();
    let output = with_input(bed, again, &["--user", "0:0"], &["copy"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(125) && said.contains("hand over a pipe"), "{said}");
}
