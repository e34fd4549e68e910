//! The library's examples, run: this program is each of them under its name.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use runtime_tests::roles::{self, Role};
use runtime_tests::{Bed, Call, cases, host, until};
use serde_json::json;

#[path = "../../../examples/async_supervisor.rs"]
mod async_supervisor;
#[path = "../../../examples/job_runner.rs"]
mod job_runner;
#[path = "../../../examples/reattach.rs"]
mod reattach;
#[path = "../../../examples/supervisor.rs"]
mod supervisor;

cases![
    the_smallest_supervisor_says_how_its_worker_ended,
    the_asynchronous_one_waits_for_two_workers_and_the_events,
    one_that_is_killed_finds_its_worker_again,
    a_job_runner_starts_shows_and_cancels_jobs_and_may_be_killed,
];

pub const ROLES: &[Role] = &[
    ("example-supervisor", |_| supervisor::main().unwrap()),
    ("example-async-supervisor", |_| async_supervisor::main().unwrap()),
    ("example-reattach", |_| reattach::main().unwrap()),
    ("example-job-runner", |_| job_runner::main().unwrap()),
];

fn example(bed: &Bed, name: &str, probe: &[&str]) -> Command {
    let mut command = roles::command(name);
    command.arg(bed.run_root()).args([&bed.cgroup(), bed.probe(), "/bin/probe"]).args(probe);
    command
}

fn nothing_is_kept(bed: &Bed) {
    assert_eq!(bed.squall(&["ps", "--all", "--json"]).json(), json!([]));
}

fn the_smallest_supervisor_says_how_its_worker_ended(bed: &Bed) {
    let said = Call::new(example(bed, "example-supervisor", &["exit", "7"])).ok().text();
    assert_eq!(said, "it ended: Code { code: 7 }, Exited");
    nothing_is_kept(bed);
    let mut usage = roles::command("example-supervisor");
    usage.arg("too-few");
    assert_ne!(Call::new(usage).output().code(), 0);
}

fn the_asynchronous_one_waits_for_two_workers_and_the_events(bed: &Bed) {
    let said = Call::new(example(bed, "example-async-supervisor", &["exit", "4"])).ok().text();
    for id in ["left", "right"] {
        let of_it: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix(id)?.strip_prefix(": ")).collect();
        assert_eq!(of_it, ["launching", "started", "exited", "Code { code: 4 }"], "{said}");
    }
    nothing_is_kept(bed);
}

fn one_that_is_killed_finds_its_worker_again(bed: &Bed) {
    let start = || {
        let mut command = example(bed, "example-reattach", &["exit-on-signal", "600000"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        (child, lines)
    };
    for expected in ["launched", "found running", "found running"] {
        let (mut child, mut lines) = start();
        assert_eq!(lines.next().as_deref(), Some(expected));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (mut child, mut lines) = start();
    assert_eq!(lines.next().as_deref(), Some("found running"));
    let pid = bed.worker("kept").pid();
    until("it takes signals", || host::catches(pid, libc::SIGTERM).then_some(()));
    bed.squall(&["kill", "--signal", "TERM", "kept"]).ok();
    assert_eq!(lines.next().as_deref(), Some("it ended: Code { code: 15 }"));
    assert!(child.wait().unwrap().success());
    nothing_is_kept(bed);
}

/// What the server at this address answers: status and text.
fn ask(address: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "{method} {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), text.to_owned())
}

fn a_job_runner_starts_shows_and_cancels_jobs_and_may_be_killed(bed: &Bed) {
    let start = || {
        let mut command = roles::command("example-job-runner");
        command.arg(bed.run_root()).args([&bed.cgroup(), bed.probe(), "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        (child, line.strip_prefix("listening on ").unwrap().to_owned())
    };
    let (mut runner, address) = start();
    let created = |id: &str| (201, id.to_owned());
    assert_eq!(ask(&address, "POST", "/jobs", "/bin/probe\nsay\none\nline"), created("1"));
    assert_eq!(ask(&address, "POST", "/jobs", "/bin/probe\nexit-on-signal\n600000"), created("2"));
    let told = |address: &str, id: &str| ask(address, "GET", &format!("/jobs/{id}"), "").1;
    until("the first has ended", || (told(&address, "1") == "Code { code: 0 }, Exited\n").then_some(()));
    until("its log is copied", || (ask(&address, "GET", "/jobs/1/log", "").1 == "one line\none line\n").then_some(()));
    assert_eq!(ask(&address, "GET", "/jobs/none", "").0, 404);
    assert_eq!(ask(&address, "POST", "/jobs", "/bin/missing").0, 400);
    runner.kill().unwrap();
    runner.wait().unwrap();
    let (mut runner, address) = start();
    assert_eq!(told(&address, "2"), "running\n");
    let pid = bed.worker("2").pid();
    until("it takes signals", || host::catches(pid, libc::SIGTERM).then_some(()));
    assert_eq!(ask(&address, "DELETE", "/jobs/2", "").1, "Code { code: 15 }, Stopped\n");
    runner.kill().unwrap();
    runner.wait().unwrap();
    bed.squall(&["rm", "1", "2"]).ok();
    nothing_is_kept(bed);
}
