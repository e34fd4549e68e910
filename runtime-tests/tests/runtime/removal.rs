//! Containers that are removed with their end, and commands for several of which some are not
//! there.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use runtime_tests::{Bed, call, cases, host, until};
use serde_json::Value;

cases![
    whoever_waits_in_time_learns_the_end_of_a_container_that_is_removed_with_it,
    what_ends_a_container_that_is_removed_with_its_end_succeeds,
    a_removed_containers_end_is_known_until_somebody_reaps,
    a_failed_launch_leaves_no_end_to_be_known,
    the_library_learns_an_end_after_the_removal,
    a_command_for_several_does_all_and_fails_with_the_first_failure,
    who_waits_is_told_of_memory_that_ran_out,
];

const RM: [&str; 3] = ["--rm", "--name", "w"];

fn waiter(bed: &Bed, id: &str) -> Child {
    let mut waiter = bed.squall(&["wait", id]).into_command();
    let waiter = waiter.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("it waits", || waits(waiter.id()).then_some(()));
    waiter
}

/// Whether it has the file open that the end will be written to.
fn waits(pid: u32) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut files = files.filter_map(|entry| fs::read_link(entry.path()).ok());
    files.any(|file| file.to_string_lossy().contains("exit.json"))
}

/// The next container takes the same id as soon as it is free, while some of the waiters have not
/// looked yet.
fn whoever_waits_in_time_learns_the_end_of_a_container_that_is_removed_with_it(bed: &Bed) {
    for (signal, code) in [("TERM", "15\n"), ("HUP", "1\n"), ("INT", "2\n")] {
        let pid = bed.start(&RM, &["exit-on-signal", "600000"]).pid();
        until("it takes signals", || host::catches(pid, libc::SIGTERM).then_some(()));
        let waiters: Vec<Child> = (0..6).map(|_| waiter(bed, "w")).collect();
        bed.squall(&["kill", "--signal", signal, "w"]).ok();
        until("the id is free again", || {
            let next = bed.run(&["--detach", "--rm", "--name", "w"], &["sleep", "600000"]).output();
            (next.code() == 0).then_some(())
        });
        for waiter in waiters {
            let output = waiter.wait_with_output().unwrap();
            let said = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
            assert_eq!((output.status.code(), said), (Some(0), (code.to_owned(), String::new())), "{signal}");
        }
        bed.squall(&["rm", "--force", "w"]).ok();
        until("it is gone", || (bed.squall(&["ps", "--all", "--json"]).json() == Value::Array(vec![])).then_some(()));
    }
    // The same of one that its own program in the foreground removes.
    let mut command = bed.run(&RM, &["exit-after", "1500", "5"]).into_command();
    let mut front = command.stdin(Stdio::null()).spawn().unwrap();
    until("it runs", || (bed.squall(&["ps", "--json"]).json()[0]["phase"] == "running").then_some(()));
    let waiter = waiter(bed, "w");
    assert_eq!(waiter.wait_with_output().unwrap().stdout, b"5\n");
    assert_eq!(call::wait_for_end(&mut front, Duration::from_secs(20)).unwrap().unwrap().code(), Some(5));
}

fn what_ends_a_container_that_is_removed_with_its_end_succeeds(bed: &Bed) {
    for command in [&["stop", "--time", "0", "w"][..], &["stop", "--time", "9", "w"], &["rm", "--force", "w"]] {
        bed.start(&RM, &["exit-on-signal", "600000"]);
        let output = bed.squall(command).output();
        assert_eq!((output.code(), output.text().as_str(), output.stderr.as_str()), (0, "w", ""), "{output}");
        until("it is gone", || (bed.squall(&["ps", "--all", "--json"]).json() == Value::Array(vec![])).then_some(()));
    }
}

fn a_removed_containers_end_is_known_until_somebody_reaps(bed: &Bed) {
    bed.start(&RM, &["exit", "7"]);
    until("it is gone", || (bed.squall(&["ps", "--all", "--json"]).json() == Value::Array(vec![])).then_some(()));
    assert_eq!(bed.squall(&["wait", "w"]).ok().text(), "7");
    let whole = bed.squall(&["wait", "--json", "w"]).json();
    assert_eq!((&whole["code"], &whole["exit"]["reason"]), (&7.into(), &"exited".into()), "{whole}");
    assert_eq!(bed.squall(&["stop", "w"]).ok().text(), "w");
    bed.squall(&["rm", "--force", "w"]).ok();
    for command in ["kill", "rm", "inspect", "stats"] {
        let output = bed.squall(&[command, "w"]).output();
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
        assert!(output.stderr.contains("ended with code 7, and was removed"), "{output}");
    }
    let ends = |report: &Value| -> Vec<(String, bool)> {
        let rows = report.as_array().unwrap().iter().filter(|row| row["kind"] == "exit");
        rows.map(|row| (row["name"].as_str().unwrap().to_owned(), row["goes"] == true)).collect()
    };
    let running = bed.start(&["--rm", "--name", "runs"], &["sleep", "600000"]);
    assert_eq!(ends(&bed.squall(&["reap", "--dry-run", "--json"]).json()), [("w".to_owned(), true)]);
    assert_eq!(bed.squall(&["wait", "w"]).ok().text(), "7");
    assert_eq!(ends(&bed.squall(&["reap", "--json"]).json()), [("w".to_owned(), true)]);
    assert_eq!(bed.squall(&["wait", "w"]).output().code(), 125);
    // A new container of the id is not taken for the old one, nor the old one for the new.
    bed.start(&RM, &["exit", "3"]);
    until("it is gone", || (bed.squall(&["wait", "w"]).ok().text() == "3").then_some(()));
    bed.run(&["--name", "w"], &["exit", "4"]).output();
    assert_eq!(bed.squall(&["wait", "w"]).ok().text(), "4");
    bed.squall(&["rm", "w"]).ok();
    assert_eq!(bed.squall(&["wait", "w"]).output().code(), 125, "what is removed by hand is not kept");
    running.kill();
}

fn a_failed_launch_leaves_no_end_to_be_known(bed: &Bed) {
    let failed = bed.run_layers(&[bed.probe()], &["--detach", "--rm", "--name", "w"], &["/bin/missing"]).output();
    assert_eq!(failed.code(), 127, "{failed}");
    assert_eq!(fs::read_dir(bed.run_root().join("removed")).unwrap().count(), 0);
    assert_eq!(bed.squall(&["wait", "w"]).output().code(), 125);
}

fn the_library_learns_an_end_after_the_removal(bed: &Bed) {
    let squall = bed.library().build().unwrap();
    bed.start(&RM, &["exit-after", "3000", "7"]);
    let Ok(squall::Container::Running(running)) = squall.attach("w") else { panic!("it runs for three seconds") };
    let gone = || squall.attach("w").is_err_and(|error| error.kind() == squall::ErrorKind::NotFound);
    until("it is gone", || gone().then_some(()));
    let squall::Ended::Exited(exited) = running.wait().unwrap() else { panic!("its end is known") };
    assert_eq!(exited.exit().exit, squall::record::Exit::Code { code: 7 });
    assert_eq!(squall.removed_exit("w").unwrap().as_ref(), Some(exited.exit()));
    assert_eq!(squall.removed_exit("never").unwrap(), None);
    exited.remove().unwrap();
}

fn a_command_for_several_does_all_and_fails_with_the_first_failure(bed: &Bed) {
    let start = || {
        for name in ["a", "b"] {
            bed.start(&["--name", name], &["exit-on-signal", "600000"]);
        }
    };
    let both = |phase: &str| ["a", "b"].iter().all(|name| bed.worker(name).phase() == phase);
    start();
    for (command, phase, code) in [
        (&["kill", "--signal", "USR1"][..], "running", 125),
        (&["stop", "--time", "0"], "exited", 125),
        (&["wait"], "exited", 125),
        (&["rm"], "", 125),
        (&["rm", "--force"], "", 0),
        (&["rm", "--force"], "", 0),
    ] {
        if command == ["rm", "--force"] && bed.squall(&["ps", "--all", "--json"]).json() == Value::Array(vec![]) {
            start();
        }
        let output = bed.squall(command).args(["a", "gone", "b", "lost"]).output();
        assert_eq!(output.code(), code, "{output}");
        let named = output.stderr.lines().filter(|line| line.contains("'gone'") || line.contains("'lost'")).count();
        assert_eq!(named, if code == 0 { 0 } else { 2 }, "{output}");
        match command[0] {
            "rm" => assert_eq!(bed.squall(&["ps", "--all", "--json"]).json(), Value::Array(vec![]), "{output}"),
            "wait" => assert_eq!(output.text().lines().count(), 2, "{output}"),
            _ => assert_eq!((output.text().as_str(), both(phase)), ("a\nb", true), "{output}"),
        }
    }
    assert_eq!(bed.squall(&["rm", "--force", "gone", "a/b"]).output().code(), 125, "that is no id");
}

fn who_waits_is_told_of_memory_that_ran_out(bed: &Bed) {
    let hungry = ["allocate", "67108864"];
    let told = |stderr: &str| {
        stderr
            .lines()
            .filter(|line| line.contains("out of memory: the kernel killed 1 process, at its own limit"))
            .count()
    };
    for flags in [&["-m", "32m"][..], &["-m", "32m", "--rm"]] {
        let output = bed.run(flags, &hungry).output();
        assert_eq!((output.code(), told(&output.stderr), output.stderr.lines().count()), (137, 1, 1), "{output}");
    }
    let worker = bed.start(&["-m", "32m", "--rm"], &hungry);
    let waited = bed.squall(&["wait", &worker.id]).ok();
    assert_eq!((waited.text().as_str(), told(&waited.stderr)), ("137", 1), "{waited}");
    let content = bed.run(&["-m", "32m"], &["exit", "9"]).output();
    assert_eq!((content.code(), content.stderr.as_str()), (9, ""), "{content}");
}
