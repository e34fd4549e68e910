//! Further programs in a running container.

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use runtime_tests::bed::add_probe;
use runtime_tests::{Bed, Call, Worker, call, cases, host, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use squall::record::{EndReason, Exit};
use squall::request::{ExecSpec, Seccomp};
use squall::squashfs::Attributes;
use squall::{Container, ErrorKind, ExecEnd, Running, Spawner};

cases![
    a_program_has_what_the_worker_has,
    what_is_said_otherwise_is_otherwise,
    its_code_is_the_answer,
    its_streams_are_the_callers_and_nothing_is_lost,
    a_detached_one_and_one_whose_caller_is_killed_are_known_to_their_end,
    it_ends_when_its_time_is_over,
    signals_are_passed_on,
    what_does_not_run_takes_no_program,
    a_container_that_is_frozen_meanwhile_holds_nobody_up,
    it_ends_with_its_container_and_leaves_nothing,
    one_whose_monitor_is_killed_runs_on_and_is_lost,
    many_at_once_from_a_program_with_threads,
    it_is_stopped_and_removed_by_its_handle,
    nobody_inside_sees_anything_of_the_host_in_it,
    no_descriptor_of_the_runtime_is_a_way_out,
    its_program_is_none_of_the_hosts,
    the_recorded_pid_of_another_process_is_not_entered,
];

fn exec(worker: &Worker<'_>, bed: &Bed, flags: &[&str], probe: &[&str]) -> Call {
    let program = [&["exec"], flags, &[&worker.id, "/bin/probe"], probe].concat();
    bed.squall(&program)
}

/// A worker that is there until it is ended.
fn worker<'b>(bed: &'b Bed, flags: &[&str]) -> Worker<'b> {
    bed.start(flags, &["sleep", "600000"])
}

fn running(bed: &Bed, id: &str) -> Running {
    match bed.library().build().unwrap().attach(id).unwrap() {
        Container::Running(running) => running,
        other => panic!("{other:?}"),
    }
}

/// The sessions that `inspect` tells.
fn sessions(worker: &Worker<'_>) -> Vec<Value> {
    worker.inspect()["exec_sessions"].as_array().cloned().unwrap_or_default()
}

fn a_program_has_what_the_worker_has(bed: &Bed) {
    for user in ["65534:65533", "0:0"] {
        let flags = ["--user", user, "-e", "A=1", "-w", "/bin", "--memory", "64m", "--hostname", "it"];
        let own = bed.report(&[&flags[..], &["--rm"]].concat());
        let worker = worker(bed, &flags);
        let report = exec(&worker, bed, &[], &["report"]).json();
        let same =
            ["env", "cwd", "securebits", "hostname", "limits", "root", "dev", "nice", "scheduler", "personality"];
        let same =
            same.iter().chain(&["parent_death_signal", "oom_score_adj", "io_priority", "timerslack_ns", "net_dev"]);
        for key in same {
            assert_eq!(report[*key], own[*key], "{key}");
        }
        for key in ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"] {
            assert_eq!(report["status"][key], own["status"][key], "{key}");
        }
        for key in ["SigBlk", "SigIgn", "SigCgt", "Umask", "Seccomp_filters"] {
            assert_eq!(report["status"][key], own["status"][key], "{key}");
        }
        assert_eq!(report["cgroup"], own["cgroup"], "the container's is the root of what it sees");
        let pid = report["pid"].as_u64().unwrap();
        assert_eq!((report["session"].as_u64(), report["process_group"].as_u64()), (Some(pid), Some(pid)));
        assert!(
            pid > 1 && report["processes"] == json!(["1", pid.to_string()]) || report["processes"] == json!([1, pid])
        );
        for (name, link) in report["namespaces"].as_object().unwrap() {
            let theirs = fs::read_link(format!("/proc/{}/ns/{name}", worker.pid())).unwrap();
            assert_eq!(link.as_str(), theirs.to_str(), "{name}");
        }
        assert_eq!(report["mountinfo"].as_array().unwrap().len(), own["mountinfo"].as_array().unwrap().len());
        let names: Vec<&String> = report["fds"].as_object().unwrap().keys().collect();
        assert_eq!(names, own["fds"].as_object().unwrap().keys().collect::<Vec<_>>());
        worker.kill();
    }
}

fn what_is_said_otherwise_is_otherwise(bed: &Bed) {
    let worker = worker(bed, &["--user", "65534:65534", "-e", "A=1", "-e", "B=2"]);
    let flags = ["--user", "7:8", "-e", "A=3", "-e", "C=4", "-w", "/tmp"];
    let report = exec(&worker, bed, &flags, &["report"]).json();
    assert_eq!((&report["status"]["Uid"], &report["status"]["Gid"]), (&json!("7\t7\t7\t7"), &json!("8\t8\t8\t8")));
    let env: Vec<&str> = report["env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(["A=3", "B=2", "C=4"].iter().all(|variable| env.contains(variable)) && !env.contains(&"A=1"), "{env:?}");
    assert_eq!(report["cwd"], "/tmp");
    let denied = exec(&worker, bed, &[], &["try", "unshare", "", "67108864"]).json();
    let relaxed = exec(&worker, bed, &["--security-opt", "seccomp=unconfined"], &["report"]).json();
    assert!(denied["errno"].is_i64() && relaxed["status"]["Seccomp"] == "0", "{denied} {relaxed}");
    for (flags, words) in [
        (&["--user", "nobody-knows"][..], "--user"),
        (&["-w", "tmp"], "--workdir"),
        (&["-e", "=1"], "--env[0]"),
        (&["--timeout", "0"], "--timeout"),
        (&["--security-opt", "apparmor=unconfined"], "--security-opt"),
    ] {
        let refused = exec(&worker, bed, flags, &["exit", "0"]).output();
        assert!(refused.code() == 125 && refused.stderr.contains(words), "{refused}");
    }
    assert!(sessions(&worker).is_empty(), "what is over in the foreground leaves nothing");
    worker.kill();
}

fn its_code_is_the_answer(bed: &Bed) {
    let image = bed.image("programs", |writer| {
        add_probe(writer, "bin/probe", 0o755);
        writer.file("bin/plain", &Attributes::new(0o644), &b""[..]).unwrap();
        writer.file("bin/script", &Attributes::new(0o755), &b"#!/bin/none\n"[..]).unwrap();
    });
    let id = bed.run_layers(&[image], &["-d"], &["/bin/probe", "sleep", "600000"]).ok().text();
    let code = |argv: &[&str]| bed.squall(&[&["exec", &id], argv].concat()).output();
    assert_eq!(code(&["/bin/probe", "exit", "0"]).code(), 0);
    assert_eq!(code(&["probe", "exit", "23"]).code(), 23);
    assert_eq!(code(&["/bin/probe", "signal", "9"]).code(), 137);
    assert_eq!(code(&["/bin/probe", "signal", "15"]).code(), 143);
    for (argv, expected, words) in [
        (&["/bin/missing"][..], 127, "program '/bin/missing'"),
        (&["missing"], 127, "search(PATH)"),
        (&["/bin/plain"], 126, "program '/bin/plain'"),
        (&["/bin"], 126, "program '/bin'"),
        (&["/bin/script"], 127, "/bin/none"),
    ] {
        let refused = code(argv);
        assert!(refused.code() == expected && refused.stderr.contains(words), "{refused}");
    }
    let nobody = bed.squall(&["exec", "no-such", "/bin/probe"]).output();
    assert!(nobody.code() == 125 && nobody.stderr.contains("no-such"), "{nobody}");
    bed.worker(&id).kill();
}

fn its_streams_are_the_callers_and_nothing_is_lost(bed: &Bed) {
    let worker = worker(bed, &[]);
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number * 7 % 251) as u8).collect();
    let copied = exec(&worker, bed, &["-i"], &["copy"]).stdin(bytes.clone()).ok();
    assert!(copied.stdout == bytes, "{} of {} bytes", copied.stdout.len(), bytes.len());
    let without = exec(&worker, bed, &[], &["copy"]).stdin(bytes).ok();
    assert!(without.stdout.is_empty(), "standard input is not asked for");
    worker.kill();
}

fn a_detached_one_and_one_whose_caller_is_killed_are_known_to_their_end(bed: &Bed) {
    let worker = worker(bed, &[]);
    let id = exec(&worker, bed, &["-d"], &["exit-after", "300", "23"]).ok().text();
    let found = sessions(&worker);
    assert_eq!((found[0]["id"].as_str(), &found[0]["args"][1]), (Some(id.as_str()), &json!("exit-after")));
    let mut caller = exec(&worker, bed, &[], &["exit-on-signal", "600000"]).into_command().spawn().unwrap();
    let session = until("both are there", || sessions(&worker).get(1).cloned());
    caller.kill().unwrap();
    caller.wait().unwrap();
    let first =
        until("the first has ended", || Some(sessions(&worker)[0].clone()).filter(|it| it["phase"] == "exited"));
    assert_eq!(first["exit"]["exit"], json!({ "code": 23 }), "{first}");
    let pid = session["pid"].as_i64().unwrap() as i32;
    assert!(host::is_alive(pid as u32), "it needs no caller");
    until("it handles the signal", || host::catches(pid as u32, libc::SIGTERM).then_some(()));
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let second =
        until("the second has ended", || Some(sessions(&worker)[1].clone()).filter(|it| it["phase"] == "exited"));
    assert_eq!((&second["exit"]["exit"], &second["exit"]["reason"]), (&json!({ "code": 15 }), &json!("exited")));
    worker.kill();
    assert_eq!(sessions(&worker).len(), 2, "they are kept as long as their container");
}

fn it_ends_when_its_time_is_over(bed: &Bed) {
    let worker = worker(bed, &[]);
    let ended = exec(&worker, bed, &["--timeout", "0.3"], &["sleep", "600000"]).output();
    assert_eq!(ended.code(), 128 + 15, "{ended}");
    let squall = bed.library().build().unwrap();
    let spec = ExecSpec::new(["/bin/probe", "sleep", "600000"]).timeout(Duration::from_millis(200));
    let session = squall.exec(&running(bed, &worker.id), &spec, squall::Stdio::null().unwrap()).unwrap();
    let ExecEnd::Exited(exit) = session.wait().unwrap() else { panic!("it is lost") };
    assert_eq!((exit.exit, exit.reason), (Exit::Signal { signal: 15, core_dumped: false }, EndReason::Timeout));
    assert_eq!(worker.phase(), "running", "the worker's time is another");
    worker.kill();
}

fn signals_are_passed_on(bed: &Bed) {
    let worker = worker(bed, &[]);
    for (signal, code) in [(Signal::TERM, 128 + 15), (Signal::INT, 128 + 2)] {
        let mut caller = exec(&worker, bed, &[], &["sleep", "600000"]).into_command().spawn().unwrap();
        until("it runs", || sessions(&worker).iter().find(|it| it["phase"] == "running").cloned());
        kill_process(Pid::from_child(&caller), signal).unwrap();
        let status = call::wait_for_end(&mut caller, Duration::from_secs(20)).unwrap().expect("it ends");
        assert_eq!(status.code(), Some(code));
    }
    worker.kill();
}

fn what_does_not_run_takes_no_program(bed: &Bed) {
    let refused = |id: &str, words: &str| {
        let refused = bed.squall(&["exec", id, "/bin/probe", "exit", "0"]).output();
        assert!(refused.code() == 125 && refused.stderr.contains(words), "{words}: {refused}");
    };
    let created = bed.squall(&["create", "--cgroup-parent", &bed.cgroup(), "--layer", bed.probe()]);
    let created = created.args(["--", "/bin/probe", "exit", "0"]).ok().text();
    refused(&created, "created and not started");
    bed.squall(&["rm", "--force", &created]).ok();
    let worker = worker(bed, &[]);
    let handle = running(bed, &worker.id);
    bed.squall(&["pause", &worker.id]).ok();
    refused(&worker.id, "paused");
    let squall = bed.library().build().unwrap();
    let spec = ExecSpec::new(["/bin/probe", "exit", "0"]);
    let try_it = || squall.exec(&handle, &spec, squall::Stdio::null().unwrap());
    let error = try_it().unwrap_err();
    assert!(
        error.kind() == ErrorKind::Phase && error.to_string().contains("frozen"),
        "by a handle from before: {error}"
    );
    bed.squall(&["resume", &worker.id]).ok();
    worker.kill();
    refused(&worker.id, "it has ended");
    let error = try_it().unwrap_err();
    assert!(error.kind() == ErrorKind::Phase && error.to_string().contains("has ended"), "{error}");
    bed.squall(&["rm", &worker.id]).ok();
    assert_eq!(try_it().unwrap_err().kind(), ErrorKind::Phase);
}

/// It is frozen and thawed without pause while programs are executed in it.
fn a_container_that_is_frozen_meanwhile_holds_nobody_up(bed: &Bed) {
    let worker = worker(bed, &[]);
    let handle = running(bed, &worker.id);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let freezer = scope.spawn(|| {
            let mut count = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                handle.pause().unwrap().resume().unwrap();
                count += 1;
            }
            count
        });
        let (mut done, mut refused) = (0, 0);
        for _ in 0..25 {
            let output = exec(&worker, bed, &[], &["exit", "7"]).output();
            match output.code() {
                7 => done += 1,
                125 if output.stderr.contains("frozen") || output.stderr.contains("paused") => refused += 1,
                _ => panic!("{output}"),
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(freezer.join().unwrap() > 0 && done + refused == 25);
    });
    // One that is frozen for good is not waited for.
    let session = exec(&worker, bed, &["-d"], &["sleep", "600000"]).ok().text();
    assert_eq!(sessions(&worker)[0]["id"], json!(session));
    bed.squall(&["stop", "--time", "0", &worker.id]).ok();
}

fn it_ends_with_its_container_and_leaves_nothing(bed: &Bed) {
    let worker = worker(bed, &[]);
    for _ in 0..3 {
        exec(&worker, bed, &["-d"], &["sleep", "600000"]).ok();
    }
    let mut waiting = exec(&worker, bed, &[], &["sleep", "600000"]).into_command().spawn().unwrap();
    until("four run", || (sessions(&worker).len() == 4).then_some(()));
    worker.kill();
    let status = call::wait_for_end(&mut waiting, Duration::from_secs(20)).unwrap().expect("it ends");
    assert_eq!(status.code(), Some(137));
    let kept = until("three ends are known", || {
        Some(sessions(&worker)).filter(|all| all.iter().all(|it| it["phase"] == "exited"))
    });
    assert!(kept.iter().all(|it| it["exit"]["exit"]["signal"] == 9), "{kept:?}");
    bed.squall(&["rm", &worker.id]).ok();
    // One that is removed with its end has nobody to look for what is below its directory but its
    // monitor.
    let remaining = bed.run_root().join("containers");
    for _ in 0..5 {
        let mut run = bed.run(&["--rm", "--name", "gone"], &["sleep", "600000"]).into_command().spawn().unwrap();
        let gone = bed.worker("gone");
        until("it runs", || {
            bed.squall(&["ps", "--json"]).json()[0]["phase"].as_str().filter(|it| *it == "running").map(drop)
        });
        for _ in 0..3 {
            exec(&gone, bed, &["-d"], &["sleep", "600000"]).ok();
        }
        gone.kill();
        call::wait_for_end(&mut run, Duration::from_secs(20)).unwrap().expect("it ends");
        until("nothing is left", || fs::read_dir(&remaining).unwrap().next().is_none().then_some(()));
    }
}

fn one_whose_monitor_is_killed_runs_on_and_is_lost(bed: &Bed) {
    let worker = worker(bed, &[]);
    let squall = bed.library().build().unwrap();
    let spec = ExecSpec::new(["/bin/probe", "sleep", "600000"]);
    let session = squall.exec(&running(bed, &worker.id), &spec, squall::Stdio::null().unwrap()).unwrap();
    let monitor = Pid::from_raw(session.record().monitor.pid).unwrap();
    assert_ne!(monitor.as_raw_pid() as u32, worker.monitor(), "each has its own");
    kill_process(monitor, Signal::KILL).unwrap();
    until("it is gone", || (!session.is_watched()).then_some(()));
    assert!(session.is_alive() && session.end().unwrap().is_none());
    assert_eq!(worker.phase(), "running");
    kill_process(Pid::from_raw(session.pid()).unwrap(), Signal::TERM).unwrap();
    assert!(matches!(session.wait().unwrap(), ExecEnd::Lost(_)));
    assert_eq!(sessions(&worker)[0]["phase"], "lost");
    session.remove().unwrap();
    assert!(sessions(&worker).is_empty());
    worker.kill();
}

fn many_at_once_from_a_program_with_threads(bed: &Bed) {
    let worker = worker(bed, &["--pids-limit", "200"]);
    let squall = Arc::new(bed.library().spawner(Spawner::program(bed.program()).unwrap()).build().unwrap());
    let handle = running(bed, &worker.id);
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let (squall, handle) = (Arc::clone(&squall), &handle);
            scope.spawn(move || {
                for turn in 0..6 {
                    let code = thread * 6 + turn;
                    let spec = ExecSpec::new(["/bin/probe".to_owned(), "exit".to_owned(), code.to_string()]);
                    let session = squall.exec(handle, &spec, squall::Stdio::null().unwrap()).unwrap();
                    let ExecEnd::Exited(exit) = session.wait().unwrap() else { panic!("it is lost") };
                    assert_eq!(exit.exit, Exit::Code { code });
                    session.remove().unwrap();
                }
            });
        }
    });
    worker.kill();
}

fn it_is_stopped_and_removed_by_its_handle(bed: &Bed) {
    let worker = worker(bed, &[]);
    let squall = bed.library().build().unwrap();
    let (handle, null) = (running(bed, &worker.id), || squall::Stdio::null().unwrap());
    let spec = ExecSpec::new(["/bin/probe", "ignore-term", "600000"]).seccomp(Seccomp::Default);
    let session = squall.exec(&handle, &spec, null()).unwrap();
    until("it ignores it", || host::ignores(session.pid() as u32, libc::SIGTERM).then_some(()));
    assert_eq!(session.clone().remove().unwrap_err().kind(), ErrorKind::Phase, "it runs");
    let ExecEnd::Exited(exit) = session.stop(libc::SIGTERM, Duration::from_millis(100)).unwrap() else {
        panic!("lost")
    };
    assert_eq!((exit.exit, exit.reason), (Exit::Signal { signal: 9, core_dumped: false }, EndReason::KilledAfterGrace));
    assert_eq!(session.signal(libc::SIGTERM).unwrap_err().kind(), ErrorKind::Phase);
    session.clone().remove().unwrap();
    assert_eq!(session.end().unwrap_err().kind(), ErrorKind::NotFound);
    let Container::Running(_) = bed.library().build().unwrap().attach(&worker.id).unwrap() else { panic!("it runs") };
    worker.kill();
}

/// A worker looks at every process that comes, as fast as it can, while programs are executed.
fn nobody_inside_sees_anything_of_the_host_in_it(bed: &Bed) {
    for user in ["65534:65534", "0:0"] {
        let out = bed.file(&format!("seen-{}", &user[..1]));
        let worker = bed.start(&["--user", user, "--stdout", &out], &["stalk"]);
        for _ in 0..60 {
            assert_eq!(exec(&worker, bed, &[], &["exit", "0"]).stdin("").output().code(), 0);
        }
        bed.squall(&["stop", "--time", "20", &worker.id]).ok();
        let seen: Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
        assert!(seen["processes"].as_u64().unwrap() > 5, "it has seen them: {seen}");
        // What the program itself has: its file, its root, and the caller's streams.
        let own = |text: &str| {
            ["exe /bin/probe", "cwd /", "root /"].contains(&text)
                || ["fd/0 ", "fd/1 ", "fd/2 "].iter().any(|stream| text.starts_with(stream))
                // Its runtime looks for its stack.
                || (text.starts_with("fd/3 /proc/") && text.ends_with("/maps"))
        };
        let strange: Vec<&str> =
            seen["seen"].as_array().unwrap().iter().filter_map(Value::as_str).filter(|text| !own(text)).collect();
        assert_eq!(strange, <[&str; 0]>::default());
    }
}

fn no_descriptor_of_the_runtime_is_a_way_out(bed: &Bed) {
    let image = bed.image("links", |writer| {
        add_probe(writer, "bin/probe", 0o755);
        for number in 3..12 {
            writer
                .symlink(format!("way-{number}"), &Attributes::new(0o777), format!("/proc/self/fd/{number}"))
                .unwrap();
        }
    });
    for user in ["65534:65534", "0:0"] {
        let id = bed.run_layers(&[&image], &["-d", "--user", user], &["/bin/probe", "sleep", "600000"]).ok().text();
        for number in 3..12 {
            let ways = [format!("/proc/self/fd/{number}"), format!("/way-{number}"), format!("/proc/1/fd/{number}")];
            for way in ways.iter().chain([&format!("/proc/self/fd/{number}/../..")]) {
                let out = bed.squall(&["exec", "-w", way, &id, "/bin/probe", "try", "list", "."]).output();
                assert!(
                    out.code() == 125 && (out.stderr.contains("working directory") || out.stderr.contains("--workdir")),
                    "{way}: {out}"
                );
                let program = bed.squall(&["exec", &id, way]).output();
                assert!([126, 127].contains(&program.code()), "{way}: {program}");
            }
        }
        bed.worker(&id).kill();
    }
}

fn its_program_is_none_of_the_hosts(bed: &Bed) {
    let image = bed.image("selves", |writer| {
        add_probe(writer, "bin/probe", 0o755);
        writer.symlink("bin/self", &Attributes::new(0o777), "/proc/self/exe").unwrap();
        writer.file("bin/script", &Attributes::new(0o755), &b"#!/proc/self/exe\n"[..]).unwrap();
    });
    let before = fs::read(bed.program()).unwrap();
    for user in ["65534:65534", "0:0"] {
        let id = bed.run_layers(&[&image], &["-d", "--user", user], &["/bin/probe", "sleep", "600000"]).ok().text();
        for program in ["/bin/self", "/bin/script", "/proc/self/exe"] {
            let out = bed.squall(&["exec", &id, program, "version"]).output();
            assert!([64, 126, 127].contains(&out.code()) && out.stdout.is_empty(), "{program}: {out}");
        }
        bed.worker(&id).kill();
    }
    assert!(fs::read(bed.program()).unwrap() == before);
}

fn the_recorded_pid_of_another_process_is_not_entered(bed: &Bed) {
    let (one, other) = (worker(bed, &[]), worker(bed, &[]));
    let handle = running(bed, &one.id);
    let path = bed.run_root().join("containers").join(&one.id).join("record.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut record: Value = serde_json::from_str(&text).unwrap();
    // As if init had ended, and its pid had been given to the other one.
    record["init"]["pid"] = json!(other.pid());
    fs::File::create(&path).unwrap().write_all(record.to_string().as_bytes()).unwrap();
    let out = exec(&one, bed, &[], &["report"]).output();
    assert!(out.code() == 125 && out.stdout.is_empty(), "{out}");
    let squall = bed.library().build().unwrap();
    let error = squall.exec(&handle, &ExecSpec::new(["/bin/probe"]), squall::Stdio::null().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Phase, "the handle is that of another container by now: {error}");
    fs::write(&path, text).unwrap();
    exec(&one, bed, &[], &["exit", "0"]).ok();
    one.kill();
    other.kill();
}
