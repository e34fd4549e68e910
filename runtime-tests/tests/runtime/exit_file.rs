//! The exit file: the exit record once more, where whoever launched the container wants it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use runtime_tests::bed::text;
use runtime_tests::{Bed, Worker, cases, host, until};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use squall::OpenedSpec;
use squall::request::Identity;

use crate::attacks::opened::{USER, code_of, directory, launch, libraries, spec, user};
use crate::pid_file::{marking, names};

cases![
    an_exit_file_is_the_exit_record_and_an_old_one_is_gone_while_the_worker_runs,
    an_exit_file_is_written_though_its_caller_is_killed_and_nothing_is_kept,
    a_created_container_that_is_never_started_has_an_exit_file,
    an_exit_file_that_cannot_be_written_is_refused_before_the_worker_runs,
    a_failed_launch_leaves_the_old_exit_file_and_no_other,
    what_is_put_in_an_exit_files_place_is_never_followed_and_holds_up_nobody,
    a_full_disk_leaves_no_half_of_an_exit_file,
    an_exit_file_is_made_in_the_opened_directory_as_the_user,
    an_exit_file_is_never_made_where_the_user_may_not,
];

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// Ends the worker, and waits until its monitor has done everything.
fn end(worker: &Worker<'_>) {
    let monitor = worker.monitor();
    kill(worker.pid(), Signal::KILL);
    until("the monitor has ended", || (!host::is_alive(monitor)).then_some(()));
}

/// The exit record in the run root.
fn record(bed: &Bed, id: &str) -> String {
    fs::read_to_string(bed.run_root().join("containers").join(id).join("exit.json")).unwrap()
}

fn json_of(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn an_exit_file_is_the_exit_record_and_an_old_one_is_gone_while_the_worker_runs(bed: &Bed) {
    let file = bed.file("w.exit.json");
    let table: [(&[&str], &[&str], Value); 3] = [
        (&[], &["exit-after", "300", "7"], json!({ "code": 7 })),
        (&[], &["sleep", "600000"], json!({ "signal": 9, "core_dumped": false })),
        (
            &["--memory", "32m", "--memory-swap", "32m"],
            &["allocate", "268435456"],
            json!({ "signal": 9, "core_dumped": false }),
        ),
    ];
    for (index, (flags, probe, exit)) in table.into_iter().enumerate() {
        fs::write(&file, "old").unwrap();
        let worker = bed.start(&[&["--exit-file", &file], flags].concat(), probe);
        assert_ne!(fs::read_to_string(&file).ok().as_deref(), Some("old"), "{probe:?}");
        if index == 1 {
            assert_eq!(names(&bed.work()), [""; 0], "nothing is there before the end");
            kill(worker.pid(), Signal::KILL);
        }
        until("it is there", || Path::new(&file).exists().then_some(()));
        assert_eq!(fs::read_to_string(&file).unwrap(), record(bed, &worker.id), "{probe:?}");
        let (said, metadata) = (json_of(&file), fs::metadata(&file).unwrap());
        assert_eq!((&said["exit"], said["id"].as_str()), (&exit, Some(worker.id.as_str())), "{said}");
        assert_eq!(said["oom"]["kills"].as_u64() >= Some(1), index == 2, "{said}");
        assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.nlink()), (0o644, 0, 1));
        assert_eq!(names(&bed.work()), ["w.exit.json"]);
        bed.squall(&["rm", &worker.id]).ok();
        bed.squall(&["reap"]).ok();
        assert_eq!(json_of(&file), said, "it is its owner's to remove");
    }
}

fn an_exit_file_is_written_though_its_caller_is_killed_and_nothing_is_kept(bed: &Bed) {
    let file = bed.file("w.exit.json");
    let flags = ["--name", "w", "--exit-file", &file];
    let mut command = bed.run(&flags, &["sleep", "600000"]).into_command();
    let mut caller = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("it runs", || (bed.squall(&["ps", "--json"]).json()[0]["phase"] == "running").then_some(()));
    caller.kill().unwrap();
    caller.wait().unwrap();
    end(&bed.worker("w"));
    assert_eq!(json_of(&file)["exit"]["signal"], 9);
    bed.squall(&["rm", "w"]).ok();
    end(&bed.start(&[&["--rm"], &flags[..]].concat(), &["sleep", "600000"]));
    assert_eq!(json_of(&file)["exit"]["signal"], 9);
    assert!(!bed.run_root().join("containers/w").exists());
}

fn a_created_container_that_is_never_started_has_an_exit_file(bed: &Bed) {
    let file = bed.file("w.exit.json");
    fs::write(&file, "old").unwrap();
    let create =
        ["create", "--name", "w", "--cgroup-parent", &bed.cgroup(), "--exit-file", &file, "--layer", bed.probe()];
    bed.squall(&[&create[..], &["--", "/bin/probe", "exit", "0"]].concat()).ok();
    assert!(!Path::new(&file).exists(), "the old one is removed by the creation");
    bed.squall(&["stop", "w"]).ok();
    until("it is there", || Path::new(&file).exists().then_some(()));
    assert_eq!((&json_of(&file)["started_unix_ns"], &json_of(&file)["reason"]), (&Value::Null, &json!("stopped")));
}

fn an_exit_file_that_cannot_be_written_is_refused_before_the_worker_runs(bed: &Bed) {
    let work = bed.work();
    let at = |name: &str| work.join(name);
    fs::write(at("file"), "1\n").unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink("nowhere", at("link")).unwrap();
    symlink("file", at("link-to-file")).unwrap();
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let read_only = bed.file("read-only");
    fs::create_dir(&read_only).unwrap();
    mount("ro", read_only.as_str(), "tmpfs", MountFlags::RDONLY, None).unwrap();
    for name in ["missing/exit", "file/exit", "directory", "link", "link-to-file", "fifo", "read-only/exit"] {
        let path = text(&at(name));
        let output = marking(bed, &["--exit-file", &path]);
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{name}: {output}");
        assert!(output.stderr.contains(&format!("exit file '{path}'")), "{name}: {output}");
        let flags = ["plan", "--json", "--exit-file", &path, "--layer", bed.probe(), "--", "/bin/probe"];
        let plan = bed.squall(&flags).json();
        assert!(plan["obstacles"].to_string().contains(&path), "{name}: {}", plan["obstacles"]);
    }
    let same = marking(bed, &["--pidfile", &bed.file("same"), "--exit-file", &bed.file("same")]);
    assert!(same.code() == 125 && same.stderr.contains("--exit-file"), "{same}");
    unmount(read_only.as_str(), UnmountFlags::DETACH).unwrap();
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "1\n");
    assert_eq!(names(&work), ["directory", "fifo", "file", "link", "link-to-file", "read-only"]);
}

fn a_failed_launch_leaves_the_old_exit_file_and_no_other(bed: &Bed) {
    for old in [None, Some("old")] {
        let file = bed.file("w.exit.json");
        old.map_or(Ok(()), |text| fs::write(&file, text)).unwrap();
        let failed = bed.run_layers(&[bed.probe()], &["--exit-file", &file], &["/bin/missing"]).output();
        assert_eq!((failed.code(), fs::read_to_string(&file).ok().as_deref()), (127, old), "{failed}");
        assert_eq!(names(&bed.work()).len(), old.iter().count());
    }
}

/// The directory is the worker's own, and is its volume.
fn what_is_put_in_an_exit_files_place_is_never_followed_and_holds_up_nobody(bed: &Bed) {
    let own = directory(bed.file("own"), USER.0, USER.1, 0o700);
    let (file, victim) = (own.join("w.exit.json"), bed.file("victim"));
    fs::write(&victim, "precious").unwrap();
    fs::set_permissions(&victim, Permissions::from_mode(0o600)).unwrap();
    let plants: [(&str, &dyn Fn()); 4] = [
        ("link", &|| symlink(&victim, &file).unwrap()),
        ("another name", &|| fs::hard_link(&victim, &file).unwrap()),
        ("fifo", &|| mknodat(CWD, &file, FileType::Fifo, Mode::RWXU, 0).unwrap()),
        ("directory", &|| fs::create_dir(&file).unwrap()),
    ];
    let [_, (_, squall)] = libraries(bed);
    for (name, plant) in plants {
        let flags = ["--name", "w", "--user", "4711:4712", "--exit-file", &text(&file)];
        let worker = bed.start(&flags, &["sleep", "600000"]);
        plant();
        end(&worker);
        assert!(record(bed, "w").ends_with('}') || record(bed, "w").ends_with("}\n"), "{name}");
        let complete = fs::symlink_metadata(&file).unwrap();
        assert_eq!(complete.is_file() && complete.uid() == 0, name != "directory", "{name}: {complete:?}");
        bed.squall(&["rm", "w"]).ok();
        fs::remove_file(&file).or_else(|_| fs::remove_dir(&file)).unwrap();
        // The same for a user by whom the files were opened.
        let builder = spec(bed, "opened", &["exit-on-signal", "600000"]).exit_file(&file);
        let opened = OpenedSpec::open_as(&builder.build().unwrap(), &user()).unwrap();
        let (running, _) = launch(bed, &squall, opened).unwrap();
        plant();
        running.kill_tree().unwrap().remove().unwrap();
        let complete = fs::symlink_metadata(&file).unwrap();
        assert_eq!(complete.is_file() && complete.uid() == USER.0, name != "directory", "{name}: {complete:?}");
        fs::remove_file(&file).or_else(|_| fs::remove_dir(&file)).unwrap();
        assert_eq!(names(&own), [""; 0], "{name}");
        let metadata = fs::metadata(&victim).unwrap();
        let seen = (metadata.uid(), metadata.mode() & 0o777, metadata.nlink());
        assert_eq!((fs::read_to_string(&victim).unwrap().as_str(), seen), ("precious", (0, 0o600, 1)), "{name}");
    }
}

fn a_full_disk_leaves_no_half_of_an_exit_file(bed: &Bed) {
    let small = bed.file("small");
    fs::create_dir(&small).unwrap();
    mount("small", small.as_str(), "tmpfs", MountFlags::empty(), c"size=8k").unwrap();
    let worker = bed.start(&["--name", "w", "--exit-file", &format!("{small}/exit")], &["sleep", "600000"]);
    fs::write(format!("{small}/ballast"), [0; 8192]).unwrap();
    end(&worker);
    assert_eq!(names(Path::new(&small)), ["ballast"]);
    assert_eq!(worker.inspect()["exit"]["exit"]["signal"], 9);
    unmount(small.as_str(), UnmountFlags::DETACH).unwrap();
}

fn an_exit_file_is_made_in_the_opened_directory_as_the_user(bed: &Bed) {
    let victim = directory(bed.file("victim"), 0, 0, 0o777);
    for (name, squall) in libraries(bed) {
        // One that is the user's, and one that only a supplementary group may write to.
        for (kind, owner, group, mode) in [("own", USER.0, USER.1, 0o700), ("group", 0, USER.2, 0o770)] {
            let place = directory(bed.file(&format!("{name}-{kind}")), owner, group, mode);
            fs::write(place.join("exit"), "old").unwrap();
            let spec = spec(bed, name, &["exit", "3"]).exit_file(place.join("exit")).pid_file(place.join("pid"));
            let spec = spec.build().unwrap();
            let opened = OpenedSpec::open_as(&spec, &user()).unwrap();
            assert_eq!(opened.exit_file_directory().unwrap().path().as_path(), place);
            let moved = bed.work().join(format!("{name}-{kind}-moved"));
            fs::rename(&place, &moved).unwrap();
            symlink(&victim, &place).unwrap();
            assert_eq!(code_of(launch(bed, &squall, opened).unwrap().0), 3, "{name}, {kind}");
            assert_eq!(names(&moved), ["exit", "pid"], "{name}, {kind}");
            let file = fs::metadata(moved.join("exit")).unwrap();
            assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (USER.0, USER.1, 0o644), "{name}, {kind}");
            assert_eq!(json_of(&text(&moved.join("exit")))["exit"], json!({ "code": 3 }), "{name}, {kind}");
        }
    }
    assert_eq!(names(&victim), [""; 0]);
}

fn an_exit_file_is_never_made_where_the_user_may_not(bed: &Bed) {
    let (closed, sticky) =
        (directory(bed.file("closed"), 0, USER.2, 0o770), directory(bed.file("sticky"), 0, 0, 0o1777));
    fs::write(sticky.join("exit"), "root's").unwrap();
    let own = directory(bed.file("own"), USER.0, USER.1, 0o700);
    for (name, squall) in libraries(bed) {
        let builder = |path: &Path| spec(bed, name, &["exit", "0"]).exit_file(path).build().unwrap();
        let stranger = Identity::new(USER.0, USER.1, []).unwrap();
        let error = OpenedSpec::open_as(&builder(&closed.join("exit")), &stranger).unwrap_err();
        assert_eq!(error.problems()[0].field, "exit_file", "{name}: {error}");
        let opened = OpenedSpec::open_as(&builder(&sticky.join("exit")), &user()).unwrap();
        let error = launch(bed, &squall, opened).unwrap_err();
        assert_eq!(error.kind(), squall::ErrorKind::Exists, "{name}: {error}");
        // May be written to when it was opened, and not any more.
        let opened = OpenedSpec::open_as(&builder(&own.join("exit")), &user()).unwrap();
        directory(&own, 0, 0, 0o755);
        let error = launch(bed, &squall, opened).unwrap_err();
        assert!(error.to_string().contains("Permission denied"), "{name}: {error}");
        // May be until the launch, and not at the end.
        directory(&own, USER.0, USER.1, 0o700);
        let builder = spec(bed, name, &["sleep", "600000"]).exit_file(own.join("exit"));
        let opened = OpenedSpec::open_as(&builder.build().unwrap(), &user()).unwrap();
        let (running, _) = launch(bed, &squall, opened).unwrap();
        directory(&own, 0, 0, 0o755);
        running.kill_tree().unwrap().remove().unwrap();
        directory(&own, USER.0, USER.1, 0o700);
        assert_eq!((names(&own), names(&closed), names(&sticky)), (vec![], vec![], vec!["exit".to_owned()]), "{name}");
    }
    assert_eq!(fs::read_to_string(sticky.join("exit")).unwrap(), "root's");
}
