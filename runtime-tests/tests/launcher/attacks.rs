//! What a supervisor that is not to be trusted, or a worker's user, tries on the setuid program.
//! Each names what Storm's own launcher did.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use runtime_tests::{Bed, cases, host, threats, until};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::cluster::{ALICE, BOB, LAUNCHER, Node, SUPERVISOR};

cases![
    every_line_of_the_list_of_attacks_names_a_test_and_every_attack_is_in_it,
    a_command_file_that_another_could_have_written_is_not_read,
    a_mount_source_that_a_link_leads_elsewhere_is_refused,
    output_files_that_are_links_fifos_or_somebody_elses_are_refused,
    nothing_of_the_callers_environment_descriptors_and_limits_arrives,
    the_caller_can_neither_stop_nor_look_into_what_runs_for_it,
    a_layer_that_the_workers_user_could_change_is_refused,
    no_control_character_of_the_callers_comes_out,
    a_pid_file_that_was_edited_signals_nobody_elses_process,
    a_command_file_that_is_swapped_all_the_time_is_the_supervisors_or_refused,
    a_profile_with_shell_text_runs_nothing_of_it,
    a_hard_link_to_a_foreign_file_is_given_to_nobody,
    a_caller_that_stops_or_kills_the_program_at_any_moment_holds_nothing_up,
    a_caller_whose_cgroup_is_frozen_holds_nobody_else_up,
];

fn every_line_of_the_list_of_attacks_names_a_test_and_every_attack_is_in_it(_: &Bed) {
    let attacks: Vec<_> = CASES.iter().filter(|case| !case.name.starts_with("every_line")).copied().collect();
    threats::check(threats::of_setuid_program(), &crate::every_case(), &attacks);
}

/// The original read it after it had given it to the user.
fn a_command_file_that_another_could_have_written_is_not_read(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.worker();
    node.write(&files, &node.document(&files, &["exit", "0"]));
    let refused = |problem: &str| {
        let output = node.run(&files).output();
        assert!(output.code() == 24 && output.stderr.contains(problem), "{problem}: {output}");
        assert_eq!(fs::metadata(&files.work).unwrap().uid(), SUPERVISOR, "nothing was given to the user");
    };
    chown(&files.command_file, Some(ALICE), None).unwrap();
    refused("belongs to uid 21901");
    chown(&files.command_file, Some(SUPERVISOR), None).unwrap();
    for mode in [0o664, 0o646] {
        fs::set_permissions(&files.command_file, fs::Permissions::from_mode(mode)).unwrap();
        refused("others than its owner can write");
    }
    let moved = files.work.join("moved");
    fs::set_permissions(&files.command_file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(&files.command_file, &moved).unwrap();
    symlink(&moved, &files.command_file).unwrap();
    refused("oci-config.json");
    fs::remove_file(&files.command_file).unwrap();
    host_fifo(&files.command_file);
    refused("no regular file");
    fs::remove_file(&files.command_file).unwrap();
    // One that the supervisor could not have read: the program reads nothing for it.
    let secret = bed.file("secret.json");
    fs::write(&secret, node.document(&files, &["exit", "0"]).to_string()).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let output = node
        .launcher(&[
            "alice",
            "run-oci-container",
            files.work.to_str().unwrap(),
            &secret,
            files.artifacts.to_str().unwrap(),
        ])
        .output();
    assert!(output.code() == 24 && output.stderr.contains("Permission denied"), "{output}");
}

/// The original mounted what the text said, and upstream checks the text.
fn a_mount_source_that_a_link_leads_elsewhere_is_refused(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.worker();
    symlink("/etc", files.artifacts.join("way")).unwrap();
    for source in ["way", "way/passwd"] {
        let mut document = node.document(&files, &["exit", "0"]);
        document["ociRuntimeConfig"]["mounts"][0]["source"] = json!(files.artifacts.join(source));
        document["ociRuntimeConfig"]["mounts"][0]["destination"] = json!("/mnt");
        node.write(&files, &document);
        let output = node.run(&files).output();
        assert!(output.code() == 24 && output.stderr.contains("(really '/etc"), "{output}");
    }
}

/// The original opened them as root, followed links and emptied what they led to.
fn output_files_that_are_links_fifos_or_somebody_elses_are_refused(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.worker();
    let victim = bed.file("victim");
    fs::write(&victim, "precious").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o666)).unwrap();
    let out = files.artifacts.join(format!("runc-{}.out", files.container));
    let plants: [(&str, &dyn Fn()); 5] = [
        ("a link", &|| symlink(&victim, &out).unwrap()),
        ("a link that leads nowhere", &|| symlink("/etc/squall-was-here", &out).unwrap()),
        ("a FIFO", &|| host_fifo(&out)),
        ("somebody else's file", &|| {
            fs::write(&out, "precious").unwrap();
            fs::set_permissions(&out, fs::Permissions::from_mode(0o666)).unwrap();
        }),
        ("a file with a second name", &|| {
            let other = files.artifacts.join("other");
            fs::write(&other, "precious").unwrap();
            chown(&other, Some(ALICE), None).unwrap();
            fs::hard_link(&other, &out).unwrap();
        }),
    ];
    for (what, plant) in plants {
        node.write(&files, &node.document(&files, &["exit", "0"]));
        plant();
        let output = node.run(&files).output();
        assert_eq!(output.code(), 30, "{what}: {output}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(!std::path::Path::new("/etc/squall-was-here").exists());
        if what.contains("file") {
            assert_eq!(fs::read_to_string(&out).unwrap(), "precious", "{what}");
        }
        fs::remove_file(&out).unwrap();
    }
}

/// The original passed on all of it to programs that it ran as root.
fn nothing_of_the_callers_environment_descriptors_and_limits_arrives(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.worker();
    node.write(&files, &node.document(&files, &["sleep", "600000"]));
    let variables = ["LD_PRELOAD", "GCONV_PATH", "TMPDIR", "RUST_LOG", "LISTEN_FDS", "RUST_BACKTRACE", "IFS"];
    let call = variables.iter().fold(node.run(&files), |call, name| call.env(name, "/nowhere"));
    let script =
        "for number in $(seq 10000); do export V$number=x; done; exec 7</etc/hosts 8<&0; ulimit -S -n 12; exec \"$@\"";
    let output = call.under(&["bash", "-c", script, "bash"]).output();
    assert_eq!(output.code(), 0, "{output}");
    let pid = files.pid();
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert_eq!(environment, b"PATH=/bin\0");
    assert_eq!(host::open_fds(&pid.to_string()).len(), 3);
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    assert!(limits.lines().any(|line| line.starts_with("Max open files") && line.contains("1024")), "{limits}");
    end(&node, &files);
    // Too little to work with is an error, and nothing is left.
    for limit in ["-n 3", "-f 0", "-v 40000", "-s 64", "-t 0"] {
        let files = node.worker();
        node.write(&files, &node.document(&files, &["sleep", "600000"]));
        let script = format!("ulimit -S {limit} && exec \"$@\"");
        let output = node.run(&files).under(&["bash", "-c", &script, "bash"]).output();
        if output.code() == 0 {
            end(&node, &files);
        }
        assert!(bed.squall(&["ps", "--all", "--json"]).json() == json!([]), "{limit}: {output}");
    }
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let files = node.worker();
        node.write(&files, &node.document(&files, &["sleep", "600000"]));
        let script = format!("exec \"$@\" {closed}");
        node.run(&files).under(&["bash", "-c", &script, "bash"]).ok();
        end(&node, &files);
    }
}

fn the_caller_can_neither_stop_nor_look_into_what_runs_for_it(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.start(&["sleep", "600000"]);
    let monitor = bed.squall(&["inspect", &files.container]).json()["monitor"]["pid"].as_u64().unwrap() as u32;
    assert_eq!(host::status(monitor, "Uid").split_whitespace().collect::<Vec<_>>(), ["0"; 4]);
    let run_root = bed.run_root();
    for (what, user) in [("supervisor", SUPERVISOR), ("worker's user", ALICE)] {
        let id = user.to_string();
        let attempts = [
            format!("kill -STOP {monitor}"),
            format!("kill -KILL {monitor}"),
            format!("cat /proc/{monitor}/environ"),
            format!("ls /proc/{monitor}/fd/"),
            format!("ls {}", run_root.display()),
            format!("ls {}/containers/{}", run_root.display(), files.container),
            format!("echo 1 > /sys/fs/cgroup/memory{}/{}/cgroup.procs", bed.cgroup(), files.container),
            format!("echo -1 > /sys/fs/cgroup/memory{}/{}/memory.limit_in_bytes", bed.cgroup(), files.container),
            "true >> /proc/self/root/etc/storm/worker-launcher.cfg".to_owned(),
        ];
        for attempt in attempts {
            let mut command = std::process::Command::new("setpriv");
            command.args([
                "--reuid",
                &id,
                "--regid",
                &id,
                "--groups",
                &format!("{id},{LAUNCHER}"),
                "sh",
                "-c",
                &attempt,
            ]);
            let output = runtime_tests::Call::new(command).output();
            assert_ne!(output.code(), 0, "{what}: {attempt}: {output}");
        }
    }
    assert!(host::is_alive(monitor) && host::is_alive(files.pid()));
    end(&node, &files);
}

/// The kernel parses it with its own rights.
fn a_layer_that_the_workers_user_could_change_is_refused(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.worker();
    let image = node.image();
    let refused = |what: &str| {
        node.write(&files, &node.document(&files, &["exit", "0"]));
        let output = node.run(&files).output();
        assert!(output.code() == 44 && output.stderr.contains("layers[0]"), "{what}: {output}");
    };
    chown(&image, Some(ALICE), None).unwrap();
    refused("its own file");
    chown(&image, Some(BOB), None).unwrap();
    refused("another user's file");
    chown(&image, Some(SUPERVISOR), None).unwrap();
    fs::set_permissions(&image, fs::Permissions::from_mode(0o666)).unwrap();
    refused("everybody's file");
    fs::set_permissions(&image, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(image.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    refused("everybody's directory");
    fs::set_permissions(image.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&image, fs::Permissions::from_mode(0o600)).unwrap();
    refused("a file that the user may not read");
}

fn no_control_character_of_the_callers_comes_out(bed: &Bed) {
    let node = Node::new(bed);
    for arguments in
        [["\x1b[31m", "signal", "1", "1"], ["alice", "\x1b[31m", "1", "1"], ["alice", "signal", "\x1b[31m\n", "1"]]
    {
        let output = node.launcher(&arguments).output();
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains('\x1b'), "{output}");
    }
}

fn a_pid_file_that_was_edited_signals_nobody_elses_process(bed: &Bed) {
    let node = Node::new(bed);
    let own = std::process::id().to_string();
    for pid in ["1", &own] {
        let output = node.launcher(&["alice", "signal", pid, "9"]).output();
        assert!([8, 255].contains(&output.code()), "{output}");
        let output = node.launcher(&["alice", "profile-oci-container", pid, "/etc/hosts"]).output();
        assert_ne!(output.code(), 0, "{output}");
    }
}

/// The original checked nothing, and read the file long after its caller had written it.
fn a_command_file_that_is_swapped_all_the_time_is_the_supervisors_or_refused(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.worker();
    // So that its user can rename in it.
    chown(&files.work, Some(ALICE), None).unwrap();
    let evil = files.work.join("evil");
    fs::write(&evil, node.document(&files, &["exit", "66"]).to_string()).unwrap();
    chown(&evil, Some(ALICE), None).unwrap();
    let exit_file = files.artifacts.join(format!("container-{}.exit.json", files.id));
    let mut begun = 0;
    for _ in 0..60 {
        node.write(&files, &node.document(&files, &["exit", "5"]));
        let done = AtomicBool::new(false);
        let output = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = renameat_with(CWD, &files.command_file, CWD, &evil, RenameFlags::EXCHANGE);
                }
            });
            let output = node.run(&files).output();
            done.store(true, Ordering::Relaxed);
            output
        });
        if output.code() == 0 {
            begun += 1;
            let exit = until("its end is there", || {
                serde_json::from_str::<serde_json::Value>(&fs::read_to_string(&exit_file).ok()?).ok()
            });
            assert_eq!(exit["exit"]["code"], 5, "{exit}");
            until("it is reaped", || (node.reap("alice", &files.container, "9").output().code() == 0).then_some(()));
            fs::remove_file(&files.pid_file).unwrap();
            fs::remove_file(&exit_file).unwrap();
        } else {
            assert_eq!(output.code(), 24, "{output}");
        }
        fs::write(&evil, node.document(&files, &["exit", "66"]).to_string()).unwrap();
        chown(&evil, Some(ALICE), None).unwrap();
    }
    node.write(&files, &node.document(&files, &["exit", "5"]));
    node.run(&files).ok();
    until("it is reaped", || (node.reap("alice", &files.container, "0").output().code() == 0).then_some(()));
    assert!((1..60).contains(&begun), "both were seen: {begun} of 60 began");
}

/// The original pasted the line, with the text of the user's `worker.pid`, into a root shell.
fn a_profile_with_shell_text_runs_nothing_of_it(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.start(&["sleep", "600000"]);
    let (arguments, mark) = (files.artifacts.join("profile.sh"), files.artifacts.join("mark"));
    for text in ["$(touch MARK)", "24; touch MARK", "24 | touch MARK", "`touch MARK`", "--help", "24\u{1b}"] {
        let line = text.replace("MARK", mark.to_str().unwrap());
        fs::write(&arguments, format!(" {line} jstack {}\n", files.artifacts.display())).unwrap();
        chown(&arguments, Some(ALICE), Some(LAUNCHER)).unwrap();
        let pid = files.pid().to_string();
        let output = node.launcher(&["alice", "profile-oci-container", &pid, arguments.to_str().unwrap()]).output();
        assert_eq!(output.code(), 255, "{text}: {output}");
        assert!(!mark.exists(), "{text}");
    }
    end(&node, &files);
}

/// The original gave it to the user.
fn a_hard_link_to_a_foreign_file_is_given_to_nobody(bed: &Bed) {
    let node = Node::new(bed);
    let files = node.worker();
    let secret = node.local.join("secret");
    fs::write(&secret, "root's").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(&secret, files.work.join("tmp/mine")).unwrap();
    node.write(&files, &node.document(&files, &["sleep", "600000"]));
    let output = node.run(&files).ok();
    assert!(output.stderr.contains("tmp/mine"), "it is said: {output}");
    let metadata = fs::metadata(&secret).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (0, 0o600));
    end(&node, &files);
}

/// Its real user id was the caller's, who could do so while it held the layers' lock.
fn a_caller_that_stops_or_kills_the_program_at_any_moment_holds_nothing_up(bed: &Bed) {
    let node = Node::new(bed);
    for (turn, number) in (0..24).zip([libc::SIGKILL, libc::SIGSTOP].into_iter().cycle()) {
        let files = node.worker();
        node.write(&files, &node.document(&files, &["sleep", "600000"]));
        let mut child = node.run(&files).into_command();
        let null = || std::process::Stdio::null();
        let mut child = child.stdin(null()).stdout(null()).stderr(null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(turn)); // where it is by then is what is tried
        let id = SUPERVISOR.to_string();
        let mut kill = std::process::Command::new("setpriv");
        kill.args([
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "kill",
            &format!("-{number}"),
            &child.id().to_string(),
        ]);
        kill.stderr(null()).status().unwrap();
        // Whatever became of that one, the next begins.
        let next = node.start(&["sleep", "600000"]);
        end(&node, &next);
        // It was only setpriv, perhaps, that could be stopped.
        let _ = kill_process(Pid::from_child(&child), Signal::CONT);
        runtime_tests::call::wait_for_end(&mut child, std::time::Duration::from_secs(30)).unwrap().expect("it ends");
        if files.pid_file.exists() {
            end(&node, &files);
        }
        bed.squall(&["reap"]).ok();
        assert_eq!(bed.squall(&["ps", "--all", "--json"]).json(), json!([]));
    }
}

/// The cgroup may be delegated to the caller, who then stops what is in it with whatever that holds.
fn a_caller_whose_cgroup_is_frozen_holds_nobody_else_up(bed: &Bed) {
    let (base, state, frozen, thawed) = match fs::metadata("/sys/fs/cgroup/cgroup.controllers") {
        Ok(_) => ("/sys/fs/cgroup", "cgroup.freeze", "1", "0"),
        Err(_) => ("/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED"),
    };
    let node = Node::new(bed);
    let cgroup = std::path::PathBuf::from(format!("{base}{}/caller", bed.cgroup()));
    fs::create_dir_all(&cgroup).unwrap();
    for turn in 0..12 {
        let files = node.worker();
        node.write(&files, &node.document(&files, &["sleep", "600000"]));
        let script = format!("echo 0 > {}/cgroup.procs && exec \"$@\"", cgroup.display());
        let mut call = node.run(&files).under(&["sh", "-c", &script, "sh"]).into_command();
        let null = || std::process::Stdio::null();
        let mut child = call.stdin(null()).stdout(null()).stderr(null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(turn * 2)); // where it is by then is what is tried
        fs::write(cgroup.join(state), frozen).unwrap();
        let next = node.start(&["sleep", "600000"]);
        end(&node, &next);
        fs::write(cgroup.join(state), thawed).unwrap();
        runtime_tests::call::wait_for_end(&mut child, std::time::Duration::from_secs(30)).unwrap().expect("it ends");
        if files.pid_file.exists() {
            end(&node, &files);
        }
        bed.squall(&["reap"]).ok();
    }
    until("nobody is left in it", || fs::remove_dir(&cgroup).ok());
}

fn host_fifo(path: &std::path::Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o666), 0)
        .unwrap();
}

fn end(node: &Node<'_>, files: &crate::cluster::Files) {
    let pid = files.pid();
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    until("it is gone", || (!host::is_alive(pid)).then_some(()));
    node.reap("alice", &files.container, "0").ok();
}
