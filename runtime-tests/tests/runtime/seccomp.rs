//! System call filters, as the kernel shows them and as a worker meets them.

use std::fs;

use runtime_tests::{Bed, Output, cases};
use serde_json::{Value, json};

use crate::storm;

cases![
    the_demonstration_shows_a_call_that_the_filter_denies,
    every_worker_of_the_command_line_and_the_library_has_the_default_filter,
    without_a_filter_only_when_asked_for,
    storms_door_takes_what_the_document_has,
    every_action_of_a_profile_is_in_force,
    a_profile_of_dockers_format_is_resolved,
    the_filter_comes_last_and_need_not_allow_what_the_launch_itself_does,
    what_is_wrong_with_a_profile_is_told_by_its_place_before_anything_is_touched,
    a_profile_under_which_nothing_could_start_is_refused,
    unknown_calls_are_skipped_with_a_warning,
    the_command_checks_and_explains_profiles,
];

/// Programs need these to start, to find out what the probe tries, and to end.
const START: [&str; 34] = [
    "execve",
    "brk",
    "mmap",
    "munmap",
    "mprotect",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "prlimit64",
    "read",
    "write",
    "close",
    "fstat",
    "newfstatat",
    "readlink",
    "readlinkat",
    "rt_sigaction",
    "rt_sigprocmask",
    "sigaltstack",
    "poll",
    "ppoll",
    "getrandom",
    "futex",
    "exit",
    "exit_group",
    "mremap",
    "madvise",
    "sched_getaffinity",
    "gettid",
    "tgkill",
    "uname",
    "openat",
    "fcntl",
];

/// A profile file that starts programs, and has these rules beside.
fn profile(bed: &Bed, name: &str, mut top: Value, rules: Value) -> String {
    let mut all = vec![json!({ "names": START.as_slice(), "action": "SCMP_ACT_ALLOW" })];
    all.extend(rules.as_array().unwrap().iter().cloned());
    top["syscalls"] = all.into();
    let path = bed.file(name);
    fs::write(&path, top.to_string()).unwrap();
    format!("seccomp={path}")
}

fn mode(bed: &Bed, flags: &[&str]) -> String {
    bed.report(&[&["--rm"], flags].concat())["status"]["Seccomp"].as_str().unwrap().to_owned()
}

fn every_worker_of_the_command_line_and_the_library_has_the_default_filter(bed: &Bed) {
    for user in ["65534:65534", "0:0"] {
        assert_eq!(mode(bed, &["--user", user]), "2", "{user}");
        assert_eq!(mode(bed, &["--user", user, "--security-opt", "seccomp=default"]), "2", "{user}");
    }
    let squall = bed.library().build().unwrap();
    let spec = crate::traps::spec(bed, &["sleep", "600000"]).build().unwrap();
    let running = squall.launch(&spec, squall::Stdio::null().unwrap()).unwrap();
    assert_eq!(runtime_tests::host::status(running.record().init.pid as u32, "Seccomp"), "2");
    running.kill_tree().unwrap().remove().unwrap();
}

fn without_a_filter_only_when_asked_for(bed: &Bed) {
    let flags = ["--security-opt", "seccomp=unconfined", "--user"];
    assert_eq!(mode(bed, &[&flags[..], &["65534:65534"]].concat()), "0");
    // Root is kept from user namespaces all the same.
    assert_eq!(mode(bed, &[&flags[..], &["0:0"]].concat()), "2");
}

fn storms_door_takes_what_the_document_has(bed: &Bed) {
    let directory = storm::worker_directory(bed);
    let document = storm::document(bed, &directory);
    let with = |seccomp: Value, flags: &[&str]| {
        let mut document = document.clone();
        document["ociRuntimeConfig"]["process"]["args"] = json!(["/opt/probe", "report"]);
        document["ociRuntimeConfig"]["linux"]["seccomp"] = seccomp;
        let path = storm::write(bed, &document);
        let output = bed.squall(&["run", "--rm", "--spec", &path]).args(flags).output();
        let _ = fs::remove_file(document["pidFile"].as_str().unwrap());
        output
    };
    let mode = |output: Output| output.json()["status"]["Seccomp"].as_str().unwrap().to_owned();
    assert_eq!(mode(with(Value::Null, &[])), "0");
    assert_eq!(mode(with(json!({ "defaultAction": "SCMP_ACT_ALLOW" }), &[])), "2");
    assert_eq!(mode(with(Value::Null, &["--security-opt", "seccomp=default"])), "2");
    let odd = with(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": 5, "action": "x" }] }), &[]);
    assert_eq!((odd.code(), odd.stderr.lines().count()), (125, 1), "{odd}");
    assert!(odd.stderr.contains("ociRuntimeConfig.linux.seccomp.syscalls[0].names"), "{odd}");
}

fn every_action_of_a_profile_is_in_force(bed: &Bed) {
    let argument =
        |op: &str, value: u64, second: u64| json!([{ "index": 0, "op": op, "value": value, "valueTwo": second }]);
    let rules = json!([
        { "names": ["getuid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99 },
        { "names": ["getgid"], "action": "SCMP_ACT_ERRNO" },
        { "names": ["getsid"], "action": "SCMP_ACT_KILL_PROCESS" },
        { "names": ["getpgrp"], "action": "SCMP_ACT_TRAP" },
        { "names": ["getppid"], "action": "SCMP_ACT_LOG" },
        { "names": ["getpgid"], "action": "SCMP_ACT_TRACE", "errnoRet": 7 },
        { "names": ["dup"], "action": "SCMP_ACT_ALLOW", "args": argument("SCMP_CMP_EQ", 1, 0) },
        { "names": ["umask"], "action": "SCMP_ACT_ALLOW", "args": argument("SCMP_CMP_MASKED_EQ", 0o777, 0o22) },
        { "names": ["alarm"], "action": "SCMP_ACT_ALLOW", "args": argument("SCMP_CMP_GT", 5, 0) },
    ]);
    let option = profile(bed, "profile", json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 42 }), rules);
    let call = |number: libc::c_long, arguments: &str| {
        bed.run(&["--rm", "--security-opt", &option], &["try", "syscall", arguments, &number.to_string()]).output()
    };
    let errno = |number, arguments: &str| call(number, arguments).json()["errno"].as_i64();
    assert_eq!(errno(libc::SYS_getuid, "0"), Some(99));
    assert_eq!(errno(libc::SYS_getgid, "0"), Some(1), "EPERM where the rule names none");
    assert_eq!(errno(libc::SYS_chdir, "0"), Some(42), "the default");
    assert_eq!(errno(libc::SYS_dup, "1"), None);
    assert_eq!(errno(libc::SYS_dup, "2"), Some(42));
    assert_eq!(errno(libc::SYS_umask, &(0o7022).to_string()), None);
    assert_eq!(errno(libc::SYS_umask, "0"), Some(42));
    assert_eq!(errno(libc::SYS_alarm, "6"), None);
    assert_eq!(errno(libc::SYS_alarm, "5"), Some(42));
    assert_eq!(errno(libc::SYS_alarm, "18446744073709551615"), None, "compared without a sign");
    assert_eq!(errno(libc::SYS_getppid, "0"), None, "logged and made");
    assert_eq!(errno(libc::SYS_getpgid, "0"), Some(i64::from(libc::ENOSYS)), "nobody traces");
    assert_eq!(call(libc::SYS_getsid, "0").code(), 128 + libc::SIGSYS);
    if cfg!(target_arch = "x86_64") {
        assert_eq!(call(111, "0").code(), 128 + libc::SIGSYS, "getpgrp");
    }
}

fn a_profile_of_dockers_format_is_resolved(bed: &Bed) {
    let rules = json!([
        { "names": ["getuid"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN"] } },
        { "names": ["getgid"], "action": "SCMP_ACT_ALLOW", "excludes": { "caps": ["CAP_SYS_ADMIN"] } },
    ]);
    let top = json!({ "defaultAction": "SCMP_ACT_ERRNO", "archMap": [] });
    let option = profile(bed, "docker", top, rules);
    let call = |number: libc::c_long| {
        bed.run(&["--rm", "--security-opt", &option], &["try", "syscall", "0", &number.to_string()]).output()
    };
    assert_eq!(call(libc::SYS_getuid).json()["errno"], 1);
    let allowed = call(libc::SYS_getgid);
    assert_eq!(allowed.json()["ok"], "");
    assert!(allowed.stderr.contains("docker"), "{allowed}");
}

/// libcontainer, the search for the program, and what goes between init and a worker that is root
/// make calls that this profile denies.
fn the_filter_comes_last_and_need_not_allow_what_the_launch_itself_does(bed: &Bed) {
    let option = profile(bed, "narrow", json!({ "defaultAction": "SCMP_ACT_ERRNO" }), json!([]));
    for user in ["65534:65534", "0:0"] {
        let output = bed.run(&["--rm", "--user", user, "--security-opt", &option], &["exit", "7"]).output();
        assert_eq!(output.code(), 7, "{user}: {output}");
        let denied = bed.run(&["--rm", "--user", user, "--security-opt", &option], &["try", "mkdir", "/tmp/x"]).json();
        assert_eq!(denied["errno"], 1, "{user}: {denied}");
    }
}

fn what_is_wrong_with_a_profile_is_told_by_its_place_before_anything_is_touched(bed: &Bed) {
    let path = bed.file("wrong");
    let option = format!("seccomp={path}");
    let run = || bed.run(&["--security-opt", &option], &["exit", "0"]).output();
    let table = [
        (r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#, "defaultAction"),
        ("{\n \"syscalls\": []}", "defaultAction"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}"#,
            "syscalls[0].action",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL","args":[{"index":6,"op":"SCMP_CMP_EQ","value":1}]}]}"#,
            "syscalls[0].args[0].index",
        ),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","colour":1}"#, "colour"),
        ("[", "line 1"),
        ("", "line 1"),
    ];
    for (text, place) in table {
        fs::write(&path, text).unwrap();
        let output = run();
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{text}: {output}");
        assert!(output.stderr.contains(place), "{text}: {output}");
    }
    for odd in ["/dev/zero", "/nowhere", bed.work().to_str().unwrap()] {
        let output = bed.run(&["--security-opt", &format!("seccomp={odd}")], &["exit", "0"]).output();
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
        assert!(output.stderr.contains(odd), "{output}");
    }
    let output = bed.run(&["--security-opt", "systempaths=unconfined"], &["exit", "0"]).output();
    assert!(output.code() == 125 && output.stderr.contains("--security-opt"), "{output}");
    assert!(!bed.run_root().exists());
}

fn a_profile_under_which_nothing_could_start_is_refused(bed: &Bed) {
    let path = bed.file("closed");
    for text in [
        r#"{"defaultAction":"SCMP_ACT_KILL_PROCESS"}"#,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["execve"],"action":"SCMP_ACT_ERRNO"}]}"#,
    ] {
        fs::write(&path, text).unwrap();
        let output = bed.run(&["--security-opt", &format!("seccomp={path}")], &["exit", "0"]).output();
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
        assert!(output.stderr.contains("execve"), "{output}");
    }
    assert!(!bed.run_root().exists());
}

fn unknown_calls_are_skipped_with_a_warning(bed: &Bed) {
    let rules = json!([{ "names": ["getuid", "no_such_call"], "action": "SCMP_ACT_ERRNO" }]);
    let option = profile(bed, "unknown", json!({ "defaultAction": "SCMP_ACT_ALLOW" }), rules);
    let output = bed
        .run(&["--name", "worker", "--security-opt", &option], &["try", "syscall", "0", &libc::SYS_getuid.to_string()]);
    let output = output.output();
    assert_eq!(output.json()["errno"], 1, "{output}");
    assert!(output.stderr.contains("no_such_call") && output.stderr.contains("warning"), "{output}");
}

fn the_command_checks_and_explains_profiles(bed: &Bed) {
    let run = |args: &[&str]| bed.squall(&[&["seccomp"], args].concat()).output();
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../seccomp-profiles/default.json");
    let good = run(&["check", default, "--json"]);
    assert_eq!((good.code(), &good.json()["valid"]), (0, &json!(true)), "{good}");
    let wrong = bed.file("wrong");
    fs::write(
        &wrong,
        "{\n  \"defaultAction\": \"SCMP_ACT_ALLOW\",\n  \"syscalls\": [{\"names\": [\"read\"], \"action\": \"NO\"}]\n}",
    )
    .unwrap();
    let refused = run(&["check", &wrong]);
    assert_eq!(refused.code(), 125, "{refused}");
    let told = refused.text() + &refused.stderr;
    assert!(told.contains("syscalls[0].action") && told.contains("line 3"), "{refused}");
    let socket = run(&["explain", default, "socket", "17", "3", "--json"]).json();
    assert_eq!(socket["action"]["action"], "SCMP_ACT_ERRNO", "{socket}");
    let allowed = run(&["explain", default, "read"]);
    assert!(allowed.code() == 0 && allowed.text().contains("allow"), "{allowed}");
    assert_eq!(run(&["explain", default, "no_such_call"]).code(), 125);
    assert!(!bed.run_root().exists());
}

fn the_demonstration_shows_a_call_that_the_filter_denies(bed: &Bed) {
    let report = bed.squall(&["demo", "--json"]).json();
    let findings = report["findings"].as_array().unwrap();
    let filter = findings.iter().find(|finding| finding["name"] == "filter").unwrap();
    assert_eq!(
        (&filter["passed"], &filter["measured"]["denied"]["errno"]),
        (&true.into(), &libc::EPERM.into()),
        "{filter}"
    );
    assert_ne!(
        filter["measured"]["denied"], filter["measured"]["without"],
        "it is the filter that denies it: {filter}"
    );
}
