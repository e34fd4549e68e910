//! From the call to the end that is known.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use runtime_tests::bed::add_probe;
use runtime_tests::{Bed, Worker, call, cases, host, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use squall::squashfs::Attributes;

cases![
    the_workers_code_is_the_programs_code,
    a_signal_that_ends_the_worker_is_128_and_its_number,
    what_cannot_be_run_is_told_by_its_code,
    a_scripts_interpreter_that_is_missing_is_named,
    what_the_user_cannot_have_interpreted_is_refused_before_it_runs,
    a_directory_that_the_user_may_not_search_is_named_with_its_mode,
    a_detached_worker_is_listed_waited_for_and_removed,
    a_name_in_use_is_refused_and_free_again_after_removal,
    a_worker_with_rm_leaves_no_record,
    signals_to_a_program_in_the_foreground_reach_the_worker,
    a_time_limit_ends_the_worker,
    several_waiters_all_learn_the_code,
    stop_is_heeded_or_ends_in_a_kill_of_the_whole_tree,
    kill_sends_the_signal_asked_for,
    what_runs_is_removed_only_by_force,
    stats_are_those_of_the_kernel,
    reaping_says_what_it_would_do_and_then_does_it,
    a_container_of_a_later_version_is_listed_stopped_waited_for_and_removed,
];

fn the_workers_code_is_the_programs_code(bed: &Bed) {
    for code in ["0", "1", "7", "255"] {
        let output = bed.run(&["--rm"], &["exit", code]).output();
        assert_eq!(output.code().to_string(), code, "{output}");
    }
}

fn a_signal_that_ends_the_worker_is_128_and_its_number(bed: &Bed) {
    for (signal, number) in [("TERM", 15), ("KILL", 9), ("USR1", 10), ("ABRT", 6)] {
        let worker = bed.start(&[], &["sleep", "600000"]);
        bed.squall(&["kill", "--signal", signal, &worker.id]).ok();
        // Init of a pid namespace heeds from outside what it has no handler for only if it is KILL.
        if signal == "KILL" {
            assert_eq!(worker.wait(), 128 + number, "{signal}");
            assert_eq!(worker.inspect()["exit"]["exit"]["signal"], number);
        } else {
            assert_eq!(worker.phase(), "running", "{signal} has no handler in a first process");
            worker.kill();
        }
    }
}

fn what_cannot_be_run_is_told_by_its_code(bed: &Bed) {
    let plain = bed.image("plain", |writer| {
        let attributes = |mode| squall::squashfs::Attributes::new(mode);
        writer.file("bin/plain", &attributes(0o644), &b"text"[..]).unwrap();
        writer.file("bin/text", &attributes(0o755), &b"text"[..]).unwrap();
        writer.file("bin/unreadable", &attributes(0o711), squall_cli::demo::PROBE).unwrap();
        writer.file("bin/orphan", &attributes(0o755), &b"#!/bin/missing\n"[..]).unwrap();
    });
    let table = [
        ("/bin/missing", 127),
        ("missing", 127),
        ("/bin/plain", 126),
        ("/bin/text", 126),
        ("/bin", 126),
        ("/bin/unreadable", 126),
        ("/bin/orphan", 127),
        ("/bin/plain/below", 127),
    ];
    for (program, code) in table {
        for flags in [&["--rm"][..], &["--detach"]] {
            let output = bed.run_layers(&[&plain], flags, &[program]).output();
            assert_eq!((output.code(), output.stderr.lines().count()), (code, 1), "{output}");
            assert!(output.stdout.is_empty() && output.stderr.contains(program), "{output}");
        }
    }
    assert_eq!(bed.squall(&["ps", "--all", "--json"]).json(), Value::Array(vec![]), "a failed launch leaves nothing");
}

fn a_scripts_interpreter_that_is_missing_is_named(bed: &Bed) {
    let long = format!("#!/{}\n", "a".repeat(300));
    let scripts: [(&str, &str, i32, &str); 4] = [
        (
            "crlf",
            "#!/bin/probe\r\ntrue\r\n",
            127,
            r"its interpreter '/bin/probe\r' does not exist in the image: the script's lines end with CR LF",
        ),
        ("missing", "#! /bin/absent -x\n", 127, "its interpreter '/bin/absent' does not exist in the image"),
        ("long", &long, 126, "more than the 256 bytes"),
        ("fine", "#!/bin/probe exit\n", 64, ""),
    ];
    let layer = bed.image("scripts", |writer| {
        add_probe(writer, "bin/probe", 0o755);
        for (name, text, ..) in scripts {
            writer.file(format!("opt/{name}"), &Attributes::new(0o755), text.as_bytes()).unwrap();
        }
    });
    for user in ["65534:65534", "0:0"] {
        for (name, _, code, said) in scripts {
            let output = bed.run_layers(&[&layer], &["--rm", "-u", user], &[&format!("/opt/{name}")]).output();
            assert!(output.code() == code && output.stderr.contains(said), "{name}: {output}");
        }
    }
}

/// An ELF program of 64 bits that names this loader, and has nothing else.
fn program_with_loader(loader: &str) -> Vec<u8> {
    let path = [loader.as_bytes(), b"\0"].concat();
    let mut program = vec![0; 120];
    program[..6].copy_from_slice(b"\x7fELF\x02\x01");
    // e_phoff, e_phentsize, e_phnum; then p_type, p_offset, p_filesz.
    for (at, number) in [(32, 64), (54, 56), (56, 1), (64, 3), (72, 120), (96, path.len())] {
        program[at..at + 2].copy_from_slice(&(number as u16).to_le_bytes());
    }
    [program, path].concat()
}

fn what_the_user_cannot_have_interpreted_is_refused_before_it_runs(bed: &Bed) {
    let layer = bed.image("interpreters", |writer| {
        add_probe(writer, "bin/probe", 0o755);
        add_probe(writer, "bin/closed", 0o711);
        let mut file = |name: &str, bytes: &[u8]| writer.file(name, &Attributes::new(0o755), bytes).unwrap();
        file("opt/script", b"#!/bin/closed exit\n");
        file("opt/outer", b"#!/opt/script\n");
        file("opt/loaded", &program_with_loader("/bin/closed"));
        file("opt/alone", &program_with_loader("/lib/absent.so"));
        file("opt/0", b"#!/bin/probe exit\n");
        for depth in 1..=6 {
            file(&format!("opt/{depth}"), format!("#!/opt/{}\n", depth - 1).as_bytes());
        }
    });
    let closed = "the user may execute its interpreter '/bin/closed' but not read it";
    let table = [
        ("script", 126, closed),
        ("outer", 126, closed),
        ("loaded", 126, closed),
        ("alone", 127, "its interpreter '/lib/absent.so' does not exist in the image"),
        ("4", 64, ""),
        ("5", 126, "more than 5 scripts in a row"),
        ("6", 126, "more than 5 scripts in a row"),
    ];
    let pid_file = bed.file("interpreters.pid");
    let flags = ["--rm", "-u", "65534:65534", "--pidfile", pid_file.as_str()];
    for (name, code, said) in table {
        let output = bed.run_layers(&[&layer], &flags, &[&format!("/opt/{name}")]).output();
        assert!(output.code() == code && output.stderr.contains(said), "{name}: {output}");
        assert!(said.is_empty() || !Path::new(&pid_file).exists(), "{name}: a pid file of what never ran");
        let _ = std::fs::remove_file(&pid_file);
    }
}

fn a_directory_that_the_user_may_not_search_is_named_with_its_mode(bed: &Bed) {
    let closed_root = bed.image("closed-root", |writer| {
        writer.directory("", &Attributes::new(0o700)).unwrap();
        add_probe(writer, "bin/probe", 0o755);
    });
    let closed_below = bed.image("closed-below", |writer| {
        writer.directory("opt", &Attributes::new(0o710)).unwrap();
        add_probe(writer, "opt/in/probe", 0o755);
    });
    let table = [
        (&closed_root, "probe", "program 'probe'", "the image's root directory '/' has mode 0700 and owner 0:0"),
        (
            &closed_root,
            "/bin/probe",
            "program '/bin/probe'",
            "the image's root directory '/' has mode 0700 and owner 0:0",
        ),
        (&closed_below, "/opt/in/probe", "program '/opt/in/probe'", "the directory '/opt' has mode 0710 and owner 0:0"),
    ];
    for (layer, program, object, reason) in table {
        let output = bed.run_layers(&[layer], &["--rm"], &[program]).output();
        assert_eq!((output.code(), output.stderr.lines().count()), (126, 1), "{output}");
        assert!(output.stderr.contains(object) && output.stderr.contains(reason), "{output}");
    }
}

fn a_detached_worker_is_listed_waited_for_and_removed(bed: &Bed) {
    let worker = bed.start(&["--name", "listed"], &["ignore-term", "600000"]);
    assert_eq!(worker.id, "listed");
    let listed = bed.squall(&["ps", "--json"]).json();
    assert_eq!((&listed[0]["id"], &listed[0]["phase"]), (&"listed".into(), &"running".into()), "{listed}");
    assert_eq!(listed[0]["pid"], worker.pid());
    assert!(bed.squall(&["ps"]).ok().text().lines().any(|line| line.starts_with("listed ")));
    worker.kill();
    assert_eq!(bed.squall(&["ps", "--json"]).json(), Value::Array(vec![]));
    let all = bed.squall(&["ps", "--all", "--json"]).json();
    assert_eq!((&all[0]["phase"], &all[0]["exit"]["signal"]), (&"exited".into(), &9.into()), "{all}");
    assert_eq!(worker.wait(), 137);
    bed.squall(&["rm", "listed"]).ok();
    for command in ["inspect", "wait", "stop", "kill", "rm", "stats"] {
        let output = bed.squall(&[command, "listed"]).output();
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
        assert!(output.stderr.contains("listed"), "{output}");
    }
}

fn a_name_in_use_is_refused_and_free_again_after_removal(bed: &Bed) {
    let worker = bed.start(&["--name", "one"], &["sleep", "600000"]);
    let second = bed.run(&["--detach", "--name", "one"], &["exit", "0"]).output();
    assert_eq!((second.code(), second.stderr.lines().count()), (125, 1), "{second}");
    assert!(second.stderr.contains("one"), "{second}");
    assert_eq!(worker.phase(), "running", "the first is left alone");
    worker.kill();
    assert_eq!(bed.run(&["--name", "one"], &["exit", "0"]).output().code(), 125, "its record is still there");
    bed.squall(&["rm", "one"]).ok();
    assert_eq!(bed.run(&["--name", "one", "--rm"], &["exit", "3"]).output().code(), 3);
}

fn a_worker_with_rm_leaves_no_record(bed: &Bed) {
    bed.run(&["--rm"], &["exit", "0"]).ok();
    assert_eq!(bed.squall(&["ps", "--all", "--json"]).json(), Value::Array(vec![]));
    bed.run(&[], &["exit", "0"]).ok();
    assert_eq!(bed.squall(&["ps", "--all", "--json"]).json().as_array().unwrap().len(), 1);
}

/// `squall run` in the foreground; answers when its worker runs.
pub(super) fn foreground<'a>(bed: &'a Bed, flags: &[&str], probe: &[&str]) -> (Child, Worker<'a>) {
    let mut command = bed.run(&[&["--name", "front"], flags].concat(), probe).into_command();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let running = || bed.squall(&["ps", "--json"]).json()[0]["phase"] == "running";
    until("the worker runs", || running().then_some(()));
    (child, bed.worker("front"))
}

/// Waits until the worker has a handler for TERM: bit 14 of the set.
pub(super) fn takes_signals(worker: &Worker<'_>) {
    let pid = worker.pid();
    let caught = || u64::from_str_radix(&host::status(pid, "SigCgt"), 16).unwrap_or_default();
    until("the worker takes signals", || (caught() & 1 << 14 != 0).then_some(()));
}

fn signals_to_a_program_in_the_foreground_reach_the_worker(bed: &Bed) {
    for (last, number) in [(Signal::TERM, 15), (Signal::INT, 2), (Signal::HUP, 1), (Signal::QUIT, 3)] {
        let (mut child, worker) = foreground(bed, &["--rm"], &["exit-on-signal", "600000"]);
        takes_signals(&worker);
        for signal in [Signal::USR1, Signal::USR2, Signal::WINCH, last] {
            kill_process(Pid::from_child(&child), signal).unwrap();
        }
        let status = call::wait_for_end(&mut child, Duration::from_secs(20)).unwrap().expect("it ends");
        assert_eq!(status.code(), Some(number), "the worker's code is the last signal's number");
    }
}

fn a_time_limit_ends_the_worker(bed: &Bed) {
    let output = bed.run(&["--timeout", "0.3", "--name", "limited"], &["sleep", "600000"]).output();
    assert!([137, 143].contains(&output.code()), "{output}");
    assert_eq!(bed.worker("limited").inspect()["exit"]["reason"], "timeout");
}

fn several_waiters_all_learn_the_code(bed: &Bed) {
    let (mut child, worker) = foreground(bed, &[], &["exit-on-signal", "600000"]);
    takes_signals(&worker);
    let start = |_| {
        let mut waiter = bed.squall(&["wait", "front"]).into_command();
        waiter.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let waiters: Vec<Child> = (0..12).map(start).collect();
    bed.squall(&["kill", "--signal", "USR1", "front"]).ok();
    bed.squall(&["kill", "--signal", "TERM", "front"]).ok();
    for waiter in waiters {
        let output = waiter.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"15\n"[..]));
    }
    assert_eq!(child.wait().unwrap().code(), Some(15));
    assert_eq!(worker.wait(), 15, "and one who comes late");
}

fn stop_is_heeded_or_ends_in_a_kill_of_the_whole_tree(bed: &Bed) {
    let gentle = bed.start(&[], &["exit-on-signal", "600000"]);
    takes_signals(&gentle);
    bed.squall(&["stop", "--time", "60", &gentle.id]).ok();
    assert_eq!((gentle.wait(), gentle.inspect()["exit"]["reason"].as_str()), (15, Some("stopped")));

    let stubborn = bed.start(&[], &["family", "600000"]);
    let family = || {
        host::cgroup_directories(&stubborn.cgroup())
            .first()
            .map(|cgroup| host::processes_in(cgroup))
            .unwrap_or_default()
    };
    let pids = until("two processes", || Some(family()).filter(|pids| pids.len() == 2));
    bed.squall(&["stop", "--time", "0.2", &stubborn.id]).ok();
    assert_eq!((stubborn.wait(), stubborn.inspect()["exit"]["reason"].as_str()), (137, Some("killed-after-grace")));
    assert!(pids.iter().all(|pid| !host::is_alive(*pid)), "the child in a session of its own goes as well");
    bed.squall(&["stop", &stubborn.id]).ok();
}

fn kill_sends_the_signal_asked_for(bed: &Bed) {
    for (signal, number) in [("TERM", 15), ("sigusr2", 12), ("1", 1)] {
        let worker = bed.start(&[], &["exit-on-signal", "600000"]);
        takes_signals(&worker);
        bed.squall(&["kill", "--signal", signal, &worker.id]).ok();
        if ["sigusr2"].contains(&signal) {
            bed.squall(&["kill", "--signal", "TERM", &worker.id]).ok();
            assert_eq!(worker.wait(), 15);
        } else {
            assert_eq!(worker.wait(), number, "{signal}");
        }
    }
}

fn what_runs_is_removed_only_by_force(bed: &Bed) {
    let worker = bed.start(&[], &["sleep", "600000"]);
    let (pid, monitor) = (worker.pid(), worker.monitor());
    let refused = bed.squall(&["rm", &worker.id]).output();
    assert_eq!((refused.code(), worker.phase().as_str()), (125, "running"), "{refused}");
    bed.squall(&["rm", "--force", &worker.id]).ok();
    until("both are gone", || (!host::is_alive(pid) && !host::is_alive(monitor)).then_some(()));
    assert_eq!(bed.squall(&["ps", "--all", "--json"]).json(), Value::Array(vec![]));
}

fn stats_are_those_of_the_kernel(bed: &Bed) {
    let worker = bed.start(&["--memory", "64m", "--pids-limit", "20"], &["sleep", "600000"]);
    let stats = &bed.squall(&["stats", "--no-stream", "--json", &worker.id]).json()[0];
    assert_eq!(
        (&stats["id"], &stats["memory_limit_bytes"]),
        (&worker.id.as_str().into(), &(64u64 << 20).into()),
        "{stats}"
    );
    assert_eq!((&stats["pids_current"], &stats["pids_limit"]), (&1.into(), &20.into()), "{stats}");
    for key in ["cpu_usage_us", "memory_current_bytes"] {
        assert!(stats[key].as_u64().is_some_and(|number| number > 0), "{key}: {stats}");
    }
    assert!(bed.squall(&["stats", "--no-stream", &worker.id]).ok().text().contains("64.0 MiB"));
    worker.kill();
}

fn reaping_says_what_it_would_do_and_then_does_it(bed: &Bed) {
    let running = bed.start(&["--name", "runs"], &["sleep", "600000"]);
    bed.run(&["--name", "ended"], &["exit", "0"]).ok();
    let idle = bed.image("idle", |writer| writer.directory("idle", &Attributes::new(0o755)).unwrap());
    bed.run_layers(&[bed.probe(), &idle], &["--rm"], &["/bin/probe", "exit", "0"]).ok();
    let pins =
        || fs::read_to_string("/proc/self/mounts").unwrap().lines().filter(|line| line.contains(bed.tag())).count();
    let before = pins();
    let report = |flags: &[&str]| bed.squall(&[&["reap", "--json"], flags].concat()).json();
    let goes = |report: &Value, kind: &str| {
        let rows = report.as_array().unwrap().iter().filter(|row| row["kind"] == kind && row["goes"] == true);
        rows.count()
    };
    let decided = |report: &Value| -> Vec<String> {
        let rows = report.as_array().unwrap().iter();
        rows.map(|row| format!("{} {} {}", row["kind"], row["name"], row["goes"])).collect()
    };
    let planned = report(&["--dry-run", "--keep", "0"]);
    assert_eq!((goes(&planned, "container"), goes(&planned, "layer"), pins()), (0, 1, before), "{planned}");
    assert!(planned.as_array().unwrap().iter().all(|row| !row["reason"].as_str().unwrap().is_empty()), "{planned}");
    assert_eq!(goes(&report(&["--keep", "5"]), "layer"), 0);
    let done = report(&["--keep", "0"]);
    assert_eq!((decided(&done), pins()), (decided(&planned), before - 1));
    assert_eq!(running.phase(), "running");
    assert_eq!(bed.run(&["--rm"], &["exit", "4"]).output().code(), 4, "and the layer can be mounted again");
    assert_eq!(bed.worker("ended").wait(), 0, "a record stays until it is removed");
    // With nobody left the monitors' cgroup goes too, and the one above it, which holds nothing
    // else.
    running.kill();
    let planned = report(&["--dry-run", "--keep", "0"]);
    assert_eq!(goes(&planned, "cgroup"), 2, "{planned}");
    assert_eq!(decided(&report(&["--keep", "0"])), decided(&planned));
}

/// The record as a later version might write it: fields and words that this one does not know, and
/// a spec that breaks its rules.
fn a_container_of_a_later_version_is_listed_stopped_waited_for_and_removed(bed: &Bed) {
    let worker = bed.start(&["--name", "later", "--user", "4711:4712"], &["sleep", "600000"]);
    let path = bed.run_root().join("containers/later/record.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["schema"] = 7.into();
    record["unheard_of"] = "new".into();
    record["layers"][0]["source"] = "unheard-of".into();
    record["stages"][0]["stage"] = "unheard-of".into();
    record["spec"]["unheard_of"] = "new".into();
    record["spec"]["args"] = Value::Array(Vec::new());
    fs::write(&path, record.to_string()).unwrap();

    let listed = bed.squall(&["ps", "--json"]).json();
    assert_eq!((&listed[0]["phase"], &listed[0]["uid"]), (&"running".into(), &4711.into()), "{listed}");
    let layers = bed.squall(&["layers", "--json"]).json();
    assert_eq!(layers[0]["users"][0], "later", "it counts as a user of its layers: {layers}");
    let reaped = bed.squall(&["reap", "--keep", "0", "--json"]).json();
    let rows = reaped.as_array().unwrap();
    assert!(rows.iter().filter(|row| row["kind"] != "cgroup").all(|row| row["goes"] == false), "{reaped}");
    bed.squall(&["stop", "--time", "0", "later"]).ok();
    assert_eq!(worker.wait(), 137);
    bed.squall(&["rm", "later"]).ok();
    assert!(!path.exists());
}
