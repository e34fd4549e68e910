//! A worker starts clean, whatever its caller is.

use std::fs;

use runtime_tests::{Bed, cases};
use serde_json::{Value, json};

cases![
    whatever_the_callers_circumstances_the_worker_starts_the_same,
    the_callers_securebits_are_not_the_workers,
    signals_that_the_caller_ignores_or_blocks_reach_the_worker,
    a_caller_that_ignores_the_end_of_its_children_still_learns_the_workers,
    the_environment_is_the_specs_alone_in_its_order_and_the_later_of_two_wins,
    the_working_directory_is_the_one_asked_for,
    a_caller_without_standard_streams_gives_the_worker_empty_ones,
];

/// What of a report must not depend on the caller.
fn start_of(report: &Value) -> Value {
    let keys = [
        "session",
        "process_group",
        "nice",
        "personality",
        "scheduler",
        "io_priority",
        "parent_death_signal",
        "securebits",
        "cwd",
    ];
    let more = ["env", "limits", "oom_score_adj", "timerslack_ns"];
    let status = [
        "Umask",
        "Groups",
        "SigBlk",
        "SigIgn",
        "SigPnd",
        "ShdPnd",
        "NoNewPrivs",
        "Cpus_allowed_list",
        "CapBnd",
        "CapAmb",
        "Seccomp",
    ];
    let mut start = json!({ "fds": report["fds"].as_object().unwrap().keys().collect::<Vec<_>>() });
    for key in keys.iter().chain(&more) {
        start[*key] = report[*key].clone();
    }
    for key in status {
        start[key] = report["status"][key].clone();
    }
    start
}

/// Two workers of one user can be compared.
const FLAGS: [&str; 3] = ["--rm", "--user", "65534:65534"];

fn whatever_the_callers_circumstances_the_worker_starts_the_same(bed: &Bed) {
    let in_shell = |script: &'static str| vec!["sh", "-c", script, "sh"];
    let table = [
        vec!["nice", "-n", "7"],
        vec!["ionice", "-c", "3"],
        vec!["taskset", "--cpu-list", "0"],
        vec!["chrt", "--batch", "0"],
        vec!["choom", "-n", "500", "--"],
        vec!["setarch", "-R"],
        vec!["setpriv", "--groups", "1,2,3"],
        vec!["setpriv", "--pdeathsig", "KILL"],
        vec!["env", "--ignore-signal=PIPE,HUP,INT,TERM,USR1", "--block-signal=USR1,USR2,WINCH,CHLD"],
        vec!["env", "LISTEN_FDS=1", "LISTEN_PID=1", "LD_PRELOAD=", "NOTIFY_SOCKET=/run/x", "TZ=x", "SECRET=1"],
        in_shell("exec 5</etc/passwd 7>/dev/null 9</dev/zero && exec \"$@\""),
        in_shell("umask 0 && exec \"$@\""),
        in_shell("umask 0777 && exec \"$@\""),
        in_shell("echo 1000000 > /proc/$$/timerslack_ns; exec \"$@\""),
        in_shell("cd \"$(mktemp -d)\" && rmdir \"$PWD\" && exec \"$@\""),
        vec!["prlimit", "--nofile=64:"],
        vec!["prlimit", "--stack=1048576:", "--core=0:", "--memlock=65536:"],
        vec!["prlimit", "--nproc=1:"],
        // Seconds that an emulated processor does not use up.
        vec!["prlimit", "--cpu=30:"],
        vec!["prlimit", "--fsize=0:"],
        vec![
            "prlimit",
            "--as=4000000000:",
            "--data=4000000000:",
            "--sigpending=1:",
            "--msgqueue=1:",
            "--locks=1:",
            "--rss=1:",
        ],
    ];
    let clean = start_of(&bed.report(&FLAGS));
    assert_eq!(clean["fds"], json!(["0", "1", "2"]));
    assert_eq!(
        (&clean["Umask"], &clean["cwd"], &clean["SigBlk"]),
        (&json!("0022"), &json!("/"), &json!("0000000000000000"))
    );
    let problems: Vec<String> = table.iter().flat_map(|caller| differences(bed, caller, &clean)).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// What a worker of this caller has otherwise.
fn differences(bed: &Bed, caller: &[&str], clean: &Value) -> Vec<String> {
    let output = bed.run(&FLAGS, &["report"]).under(caller).output();
    if output.code() != 0 {
        return vec![output.to_string()];
    }
    let start = start_of(&output.json());
    let differ = clean.as_object().unwrap().iter().filter(|(key, value)| start[key.as_str()] != **value);
    differ.map(|(key, value)| format!("called by {caller:?}: {key} is {}, not {value}", start[key])).collect()
}

fn the_callers_securebits_are_not_the_workers(bed: &Bed) {
    let clean = start_of(&bed.report(&FLAGS));
    assert_eq!(differences(bed, &["setpriv", "--securebits", "+no_setuid_fixup"], &clean), Vec::<String>::new());
}

/// `cat` of the host, by binds: the probe, as every Rust program, changes its own signals.
fn host_programs() -> Vec<String> {
    let there = ["/usr", "/bin", "/lib", "/lib64"].into_iter().filter(|path| fs::metadata(path).is_ok());
    there.flat_map(|path| ["--volume".to_owned(), format!("{path}:{path}:ro")]).collect()
}

fn signals_that_the_caller_ignores_or_blocks_reach_the_worker(bed: &Bed) {
    let flags = host_programs();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(["--rm"]).collect();
    let caller = ["env", "--ignore-signal=PIPE,HUP,INT,TERM,USR1,RTMIN", "--block-signal"];
    let status = bed.run_layers(&[bed.probe()], &flags, &["cat", "/proc/self/status"]).under(&caller).ok().text();
    for key in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] {
        let value = status.lines().find_map(|line| line.strip_prefix(&format!("{key}:\t")));
        assert_eq!(value, Some("0000000000000000"), "{key}");
    }
}

fn a_caller_that_ignores_the_end_of_its_children_still_learns_the_workers(bed: &Bed) {
    let output = bed.run(&["--rm"], &["exit", "7"]).under(&["env", "--ignore-signal=CHLD"]).output();
    assert_eq!(output.code(), 7, "{output}");
}

fn the_environment_is_the_specs_alone_in_its_order_and_the_later_of_two_wins(bed: &Bed) {
    let flags =
        ["--rm", "-e", "B=1", "-e", "A=first", "-e", "EMPTY=", "-e", "A=x=y z", "-e", "PATH=/bin", "-e", "LAST=ä\n"];
    let flags = [flags.as_slice(), &["-e", "HOME=/h"]].concat();
    let report = bed.run(&flags, &["report"]).env("OF_THE_CALLER", "1").json();
    assert_eq!(report["env"], json!(["PATH=/bin", "B=1", "A=x=y z", "EMPTY=", "LAST=ä\n", "HOME=/h"]));
}

fn the_working_directory_is_the_one_asked_for(bed: &Bed) {
    for cwd in ["/", "/bin", "/tmp", "/proc/self"] {
        let report = bed.report(&["--rm", "--workdir", cwd]);
        let expected = if cwd == "/proc/self" { "/proc/1" } else { cwd };
        assert_eq!(report["cwd"], expected);
    }
}

fn a_caller_without_standard_streams_gives_the_worker_empty_ones(bed: &Bed) {
    let out = bed.file("out");
    let caller = ["sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh"];
    bed.run(&["--rm", "--stdout", &out], &["report"]).under(&caller).ok();
    let report: Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    assert_eq!(report["fds"], json!({ "0": "/dev/null", "1": out, "2": "/dev/null" }));
}
