//! Containers as Storm's Java drives them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use runtime_tests::{Bed, cases, host, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use squall::lsm::Host;

use crate::cluster::{ALICE, LAUNCHER, Node};

cases![
    what_storm_relies_on_holds_after_a_launch,
    nobody_keeps_the_launchers_output_open,
    an_id_in_use_is_refused_and_what_runs_is_left_as_it_is,
    only_what_has_ended_is_reaped_and_only_for_its_user,
    what_a_command_file_says_wrong_is_named_and_nothing_is_touched,
    the_profiler_runs_in_the_users_own_container_and_its_code_is_told,
    a_filter_holds_unless_the_configuration_says_otherwise,
    the_keep_count_may_be_absent_or_zero,
    a_worker_that_is_killed_for_memory_leaves_that_beside_its_pid_file,
    capabilities_of_the_file_do_instead_of_the_setuid_bit,
    memory_use_is_shown_in_the_shape_of_v1_where_the_host_has_v2_alone,
    what_storms_own_program_left_in_the_run_root_is_no_hindrance_and_goes,
    a_confinement_that_the_host_cannot_apply_is_refused_and_one_that_it_can_is_in_force,
];

/// What the program needs, from capabilities(7), with what for. README.md has the same list.
const NEEDED: [(u32, &str); 10] = [
    (0, "CHOWN: trees that become the user's"),
    (1, "DAC_OVERRIDE: files of others"),
    (3, "FOWNER: modes of the user's files"),
    (4, "FSETID: setgid directories of the launcher's group"),
    (5, "KILL: signals to workers"),
    (6, "SETGID: the user's groups"),
    (7, "SETUID: the user's ids"),
    (8, "SETPCAP: dropping capabilities"),
    (21, "SYS_ADMIN: mounts and namespaces"),
    (27, "MKNOD: the devices in /dev"),
];

fn what_storm_relies_on_holds_after_a_launch(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.start(&["sleep", "600000"]);
    let text = fs::read_to_string(&files.pid_file).unwrap();
    assert!(text.trim_end().bytes().all(|byte| byte.is_ascii_digit()), "{text:?}");
    let pid = files.pid();
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), ALICE);
    let status = |key: &str| host::status(pid, key);
    assert_eq!(status("Groups").trim(), "21901 21904");
    assert_eq!((status("NoNewPrivs").as_str(), status("Seccomp").as_str()), ("1", "2"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(set), "0000000000000000");
    }
    let usage = format!("/sys/fs/cgroup/memory{}/{}/memory.usage_in_bytes", bed.cgroup(), files.container);
    if fs::metadata("/sys/fs/cgroup/memory").is_ok() {
        assert!(fs::read_to_string(usage).unwrap().trim().parse::<u64>().unwrap() > 0);
    }
    for (name, mode) in [("out", 0o640), ("err", 0o640)] {
        let metadata = fs::metadata(files.artifacts.join(format!("runc-{}.{name}", files.container))).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (mode, ALICE, LAUNCHER));
    }
    // As a process group, by the user.
    let killed = node.launcher(&["alice", "signal", &pid.to_string(), "9"]).ok();
    assert!(killed.text().ends_with(&format!("Killing process group {pid} with 9")), "{killed}");
    until("it is gone", || (!host::is_alive(pid)).then_some(()));
    node.reap("alice", &files.container, "0").ok();
    // Beside the pid file, and the user's, as that is.
    let exit = files.artifacts.join(format!("container-{}.exit.json", files.id));
    let exit: Value = serde_json::from_str(&fs::read_to_string(exit).unwrap()).unwrap();
    assert_eq!((&exit["exit"], &exit["reason"]), (&json!({ "signal": 9, "core_dumped": false }), &json!("exited")));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(files.work.to_str().unwrap()) && !mounts.contains("squashfs"), "{mounts}");
}

/// Java reads it to its end before it asks for the exit code.
fn nobody_keeps_the_launchers_output_open(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.worker();
    node.write(&files, &node.document(&files, &["sleep", "600000"]));
    let mut command = node.run(&files).into_command();
    let output = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    kill(files.pid());
    node.reap("alice", &files.container, "0").ok();
}

fn an_id_in_use_is_refused_and_what_runs_is_left_as_it_is(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.start(&["sleep", "600000"]);
    let pid = files.pid();
    fs::write(files.artifacts.join(format!("runc-{}.out", files.container)), "of the worker\n").unwrap();
    let rewrite = || node.write(&files, &node.document(&files, &["sleep", "600000"]));
    rewrite();
    let again = node.run(&files).output();
    assert!(again.code() == 24 && again.stderr.contains("pid file"), "{again}");
    fs::remove_file(&files.pid_file).unwrap();
    rewrite();
    let again = node.run(&files).output();
    assert!(again.code() == 44 && again.stderr.contains("is there already: it is running"), "{again}");
    assert!(host::is_alive(pid));
    let written = fs::read_to_string(files.artifacts.join(format!("runc-{}.out", files.container))).unwrap();
    assert_eq!(written, "of the worker\n");
    kill(pid);
    node.reap("alice", &files.container, "0").ok();
}

fn only_what_has_ended_is_reaped_and_only_for_its_user(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.start(&["exit-after", "600000", "3"]);
    let pid = files.pid();
    let running = node.reap("alice", &files.container, "0").output();
    assert!(running.code() == 1 && running.stderr.contains("it runs"), "{running}");
    kill(pid);
    until("its end is written down", || {
        let reaped = node.reap("bob", &files.container, "0").output();
        assert!(reaped.code() == 1 && reaped.stderr.contains("it is not of user 'bob'"), "{reaped}");
        (!host::is_alive(pid)).then_some(())
    });
    let reaped = node.reap("alice", &files.container, "0").ok();
    assert!(reaped.text().contains("Unmounted layer"), "{reaped}");
    let again = node.reap("alice", &files.container, "0").output();
    assert_eq!(again.code(), 1, "{again}");
    for id in ["../../etc", "-rf", "; sh", "", "6700-0a1b2c3d-0000-4000-8000-00000000000g", &"a".repeat(43)] {
        let refused = node.reap("alice", id, "0").output();
        assert!(refused.code() == 1 && refused.stderr.contains("is no container id"), "{refused}");
    }
}

fn what_a_command_file_says_wrong_is_named_and_nothing_is_touched(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.worker();
    let document = node.document(&files, &["sleep", "600000"]);
    let changed = |pointer: &str, value: Value| {
        let mut document = document.clone();
        if let Some(place) = document.pointer_mut(pointer) {
            *place = value;
        } else {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            document.pointer_mut(parent).unwrap()[key] = value;
        }
        document
    };
    let id = files.container.as_str();
    let mount = |change: (&str, Value)| {
        let mut mount = document["ociRuntimeConfig"]["mounts"][0].clone();
        mount[change.0] = change.1;
        json!([mount])
    };
    for (pointer, value, code, problem) in [
        ("/username", json!("bob"), 24, "it is for user 'bob'"),
        ("/containerId", json!("../../etc"), 24, "containerId"),
        ("/containerId", json!("-700-0a1b2c3d-0000-4000-8000-000000000000"), 24, "containerId"),
        ("/layers/0", json!({ "mediaType": "application/vnd.oci", "path": "/x" }), 24, "mediaType"),
        ("/layers/0", json!({ "mediaType": "application/vnd.squashfs", "path": "/etc/hosts" }), 44, "layers[0]"),
        ("/containerScriptPath", json!("/nowhere"), 5, "No such file"),
        ("/ociRuntimeConfig/linux/cgroupsPath", json!("/elsewhere"), 24, "cgroupsPath"),
        ("/ociRuntimeConfig/linux/devices", json!([]), 24, "devices"),
        ("/ociRuntimeConfig/mounts", mount(("source", json!("/"))), 24, "'/' (really '/')"),
        ("/ociRuntimeConfig/mounts", mount(("source", json!("/dev/zero"))), 24, "allowed.mount.source.dirs"),
        ("/ociRuntimeConfig/mounts", mount(("source", json!("/etc/../etc/hosts"))), 24, "mounts[0].source"),
        ("/ociRuntimeConfig/mounts", mount(("source", json!("/proc/self/root"))), 44, "mounts[0].source"),
        ("/ociRuntimeConfig/mounts", mount(("options", json!(["rbind", "rprivate", "dev"]))), 24, "options"),
    ] {
        node.write(&files, &changed(pointer, value.clone()));
        let output = node.run(&files).output();
        assert_eq!(output.code(), code, "{pointer} {value}: {output}");
        assert!(output.stderr.contains(problem), "{pointer} {value}: {output}");
        assert!(bed.squall(&["ps", "--all", "--json"]).json() == json!([]), "{output}");
    }
    assert!(!files.artifacts.join(format!("runc-{id}.out")).exists());
    node.configure(&node.configuration().replace("worker.launcher.oci.image.roots", "unused"));
    let output = node.run(&files).output();
    assert!(
        output.code() == 24 && output.stderr.contains("worker.launcher.oci.image.roots: it is missing"),
        "{output}"
    );
}

fn the_profiler_runs_in_the_users_own_container_and_its_code_is_told(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.start(&["sleep", "600000"]);
    let pid = files.pid().to_string();
    let arguments = files.artifacts.join("profile.sh");
    let profile = |user: &str, pid: &str, words: &str| {
        fs::write(&arguments, words).unwrap();
        std::os::unix::fs::chown(&arguments, Some(ALICE), Some(LAUNCHER)).unwrap();
        node.launcher(&[user, "profile-oci-container", pid, arguments.to_str().unwrap()]).output()
    };
    assert_eq!(profile("alice", &pid, " exit 9").code(), 9);
    let report = profile("alice", &pid, " report");
    let text = report.text();
    let line = text.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{report}"));
    let report: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&report["cwd"], &report["env"]), (&json!(files.work), &json!(["PATH=/bin"])));
    for (user, pid, code) in [("alice", "1", 7), ("alice", "0", 7), ("alice", "text", 7), ("bob", &*pid, 7)] {
        let output = profile(user, pid, " exit 9");
        assert!(output.code() == code || user == "bob" && output.code() == 30, "{output}");
    }
    kill(files.pid());
    node.reap("alice", &files.container, "0").ok();
}

/// Storm gives none by default.
fn a_filter_holds_unless_the_configuration_says_otherwise(bed: &Bed) {
    let node = Node::new(bed);
    let own = bed.file("profile.json");
    fs::write(&own, r#"{ "defaultAction": "SCMP_ACT_ALLOW" }"#).unwrap();
    fs::copy(&own, "/etc/storm/profile.json").unwrap();
    for (line, expected) in [
        ("", "2"),
        ("worker.launcher.oci.seccomp.default=unconfined\n", "0"),
        ("worker.launcher.oci.seccomp.default=/etc/storm/profile.json\n", "2"),
    ] {
        node.configure(&(node.configuration() + line));
        let files = node.start(&["sleep", "600000"]);
        assert_eq!(host::status(files.pid(), "Seccomp"), expected, "{line}");
        kill(files.pid());
        node.reap("alice", &files.container, "0").ok();
    }
    // One that others can write.
    node.configure(&(node.configuration() + &format!("worker.launcher.oci.seccomp.default={own}\n")));
    let files = node.worker();
    node.write(&files, &node.document(&files, &["sleep", "600000"]));
    let output = node.run(&files).output();
    assert!(output.code() == 24 && output.stderr.contains("others than root can write"), "{output}");
}

fn the_keep_count_may_be_absent_or_zero(bed: &Bed) {
    let node = Node::new(bed);
    for keep in [None, Some(0)] {
        let files = node.worker();
        let mut document = node.document(&files, &["exit", "0"]);
        let fields = document.as_object_mut().unwrap();
        fields.remove("reapLayerKeepCount");
        if let Some(keep) = keep {
            fields.insert("reapLayerKeepCount".to_owned(), json!(keep));
        }
        node.write(&files, &document);
        node.run(&files).ok();
        until("it is reaped", || (node.reap("alice", &files.container, "0").output().code() == 0).then_some(()));
    }
}

fn a_worker_that_is_killed_for_memory_leaves_that_beside_its_pid_file(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.start(&["allocate", "200000000"]);
    let path = files.artifacts.join(format!("container-{}.exit.json", files.id));
    let exit: Value = until("its end is there", || serde_json::from_str(&fs::read_to_string(&path).ok()?).ok());
    assert!(exit["oom"]["kills"].as_u64().unwrap() >= 1 && exit["oom"]["own"].as_u64().unwrap() >= 1, "{exit}");
    assert_eq!(exit["exit"]["signal"], 9);
    assert_eq!(exit["id"], json!(files.container));
    until("it is reaped", || (node.reap("alice", &files.container, "0").output().code() == 0).then_some(()));
}

fn capabilities_of_the_file_do_instead_of_the_setuid_bit(bed: &Bed) {
    let node = Node::new(bed);
    let all_of_it = || -> Result<(), String> {
        let files = node.worker();
        node.write(&files, &node.document(&files, &["sleep", "600000"]));
        let done = |output: runtime_tests::Output| match output.code() {
            0 => Ok(()),
            _ => Err(output.to_string()),
        };
        done(node.launcher(&["alice", "artifacts-dir", files.artifacts.to_str().unwrap()]).output())?;
        done(node.run(&files).output())?;
        let pid = files.pid();
        let mode = fs::metadata(&files.work).unwrap().mode() & 0o7777;
        let killed = node.launcher(&["alice", "signal", &pid.to_string(), "9"]).output();
        kill(pid);
        done(killed)?;
        done(node.reap("alice", &files.container, "0").output())?;
        done(node.launcher(&["alice", "rmr", files.work.to_str().unwrap()]).output())?;
        (mode == 0o2770).then_some(()).ok_or_else(|| format!("mode {mode:o}"))
    };
    let numbers: Vec<u32> = NEEDED.iter().map(|(number, _)| *number).collect();
    node.install_with_capabilities(&numbers);
    node.launcher(&["--checksetup"]).ok();
    all_of_it().unwrap();
    for (number, purpose) in NEEDED {
        let others: Vec<u32> = numbers.iter().copied().filter(|other| *other != number).collect();
        node.install_with_capabilities(&others);
        assert!(all_of_it().is_err(), "not needed: {purpose}");
    }
}

fn memory_use_is_shown_in_the_shape_of_v1_where_the_host_has_v2_alone(bed: &Bed) {
    let node = Node::new(bed);
    let view = node.local.join("view");
    node.configure(&format!("{}worker.launcher.oci.cgroup.v1.view={}\n", node.configuration(), view.display()));
    let files = node.start(&["sleep", "600000"]);
    if fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok() {
        let parent = view.join("memory").join(bed.cgroup().trim_start_matches('/'));
        let number = |path: std::path::PathBuf| fs::read_to_string(path).unwrap().trim().parse::<u64>().unwrap();
        assert!(number(parent.join(&files.container).join("memory.usage_in_bytes")) > 0);
        assert_eq!(number(parent.join("memory.limit_in_bytes")), 9_223_372_036_854_771_712);
        kill(files.pid());
        node.reap("alice", &files.container, "0").ok();
        assert!(!parent.join(&files.container).exists());
    } else {
        assert!(!view.exists(), "v1 itself is there");
        kill(files.pid());
        node.reap("alice", &files.container, "0").ok();
    }
}

fn a_confinement_that_the_host_cannot_apply_is_refused_and_one_that_it_can_is_in_force(bed: &Bed) {
    let node = Node::new(bed);
    let launched = |line: &str| {
        node.configure(&format!("{}{line}\n", node.configuration()));
        let files = node.worker();
        node.write(&files, &node.document(&files, &["sleep", "600000"]));
        (node.run(&files).output(), files)
    };
    for (line, what) in [
        ("worker.launcher.oci.apparmor.profile=squall-no-such-profile", "AppArmor profile 'squall-no-such-profile'"),
        ("worker.launcher.oci.selinux.label=a_u:b_r:squall_none_t:s0", "SELinux label 'a_u:b_r:squall_none_t:s0'"),
    ] {
        let (output, files) = launched(line);
        assert!(output.code() == 44 && output.stderr.contains(what), "{output}");
        assert!(!files.pid_file.exists() && host::cgroup_directories(&bed.cgroup()).is_empty(), "{output}");
    }
    let (output, _) = launched("worker.launcher.oci.apparmor.profile=a b\u{7}");
    assert!(output.code() == 24 && output.stderr.contains("worker.launcher.oci.apparmor.profile"), "{output}");
    if !Host::this().has_apparmor() {
        return;
    }
    let (name, file) = (format!("squall-test-{}", std::process::id()), bed.file("confined"));
    let rules = "file, signal, network, unix, ptrace,";
    fs::write(&file, format!("profile {name} flags=(attach_disconnected,mediate_deleted) {{\n{rules}\n}}\n")).unwrap();
    let parser = |what: &str| Command::new("apparmor_parser").args([what, "--skip-cache", &file]).status().unwrap();
    assert!(parser("--add").success());
    let (output, files) = launched(&format!("worker.launcher.oci.apparmor.profile={name}"));
    let seen = (output.code() == 0).then(|| {
        let attribute = format!("/proc/{}/attr/current", files.pid());
        until("its exec", || fs::read_to_string(&attribute).ok().filter(|text| text.contains(&name)));
        kill(files.pid());
        node.reap("alice", &files.container, "0").ok();
    });
    assert!(parser("--remove").success());
    assert!(seen.is_some(), "{output}");
}

/// Both have the same run root unless told otherwise: a lock file, and a directory for each layer,
/// named after its path, with the layer mounted in it.
fn what_storms_own_program_left_in_the_run_root_is_no_hindrance_and_goes(bed: &Bed) {
    let node = Node::new(bed);
    let layers = bed.run_root().join("layers");
    let left = layers.join("ab".repeat(32)).join("mnt");
    fs::create_dir_all(&left).unwrap();
    fs::set_permissions(bed.run_root(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(layers.join("lock"), "").unwrap();
    assert!(Command::new("mount").args(["-o", "loop,ro"]).args([&node.image(), &left]).status().unwrap().success());
    let files = node.start(&["sleep", "600000"]);
    kill(files.pid());
    let reaped = node.reap("alice", &files.container, "0").ok();
    assert_eq!(reaped.text().matches("Unmounted layer").count(), 2, "{reaped}");
    let names: Vec<_> = fs::read_dir(&layers).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["lock"]);
    fs::remove_file(layers.join("lock")).unwrap();
}

/// It may have ended.
fn kill(pid: u32) {
    let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
    until("it is gone", || (!host::is_alive(pid)).then_some(()));
}
