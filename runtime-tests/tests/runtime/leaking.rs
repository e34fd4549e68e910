//! The harness itself: something left behind fails a test, and is named.
//!
//! The tests that leak are there only in a second harness, which the visible tests start.

use std::fs;
use std::process::{Command, Stdio};

use runtime_tests::{Bed, Call, Case, cases, host, leaks};

/// Makes the leaking tests appear.
const LEAKING: &str = "SQUALL_TEST_LEAKING";

cases![
    every_kind_of_leak_fails_a_test_and_is_named,
    what_a_test_left_is_cleared_away_also_where_it_fails,
    a_test_that_fails_says_why,
    a_test_ignores_no_signal_although_its_caller_does,
];

/// Tests that leak: in the second harness only.
pub fn leaking() -> &'static [Case] {
    const LEAKS: &[Case] = &[
        case("leaves_a_container", |bed| drop(bed.start(&[], &["sleep", "600000"]))),
        case("leaves_a_cgroup", leave_a_cgroup),
        case("leaves_a_process", |_| assert!(sleeping() > 0)),
        case("leaves_a_file", leave_a_file),
        case("leaves_a_mount", leave_a_mount),
        case("leaves_a_loop_device", leave_a_loop_device),
        case("leaves_a_descriptor", |_| std::mem::forget(fs::File::open("/dev/null").unwrap())),
        case("fails_and_leaves_all_of_it", |bed| {
            drop(bed.start(&[], &["sleep", "600000"]));
            assert_eq!(sleeping(), 0);
        }),
        case("leaves_nothing_and_fails", |_| panic!("the moon is full")),
        case("says_what_it_ignores", |_| panic!("ignored: {}", host::status(std::process::id(), "SigIgn"))),
    ];
    if std::env::var_os(LEAKING).is_some() { LEAKS } else { &[] }
}

const fn case(name: &'static str, run: fn(&Bed)) -> Case {
    Case { module: "runtime::leaking", name, run }
}

fn sleeping() -> u32 {
    Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
        .id()
}

/// Not an empty one: reaping takes that away.
fn leave_a_cgroup(bed: &Bed) {
    let directory = host::hierarchies()[0].join(&bed.cgroup()[1..]);
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("cgroup.procs"), sleeping().to_string()).unwrap();
}

fn leave_a_file(bed: &Bed) {
    fs::create_dir(bed.run_root()).unwrap();
    fs::write(bed.run_root().join("left"), "").unwrap();
}

fn leave_a_mount(bed: &Bed) {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "none"]).arg(bed.work());
    Call::new(mount).ok();
}

fn leave_a_loop_device(bed: &Bed) {
    let mut attach = Command::new("losetup");
    attach.args(["--find", "--read-only", bed.probe()]);
    Call::new(attach).ok();
}

fn every_kind_of_leak_fails_a_test_and_is_named(_: &Bed) {
    const NAMES: [(&str, &str); 7] = [
        ("leaves_a_container", "leak: container {"),
        ("leaves_a_cgroup", "leak: cgroup /"),
        ("leaves_a_process", "leak: process "),
        ("leaves_a_file", "leak: file /"),
        ("leaves_a_mount", "leak: mount none /"),
        ("leaves_a_loop_device", "leak: loop device loop"),
        ("leaves_a_descriptor", "leak: descriptors"),
    ];
    let output = second_harness("leaves_a_");
    assert!(output.contains("test result: FAILED. 0 passed; 7 failed"), "{output}");
    for (name, object) in NAMES {
        let told =
            output.split(&format!("---- leaking::{name} ----")).nth(1).and_then(|rest| rest.split("\n---- ").next());
        assert!(told.is_some_and(|told| told.contains(object)), "{name} is not told by '{object}':\n{output}");
    }
}

fn what_a_test_left_is_cleared_away_also_where_it_fails(bed: &Bed) {
    let output = ["fails_and_leaves", "leaves_a_"].map(second_harness).concat();
    let named = output.split("squall-test-").skip(1).filter_map(|rest| rest.get(..12));
    let tags: std::collections::BTreeSet<&str> = named.collect();
    assert!(tags.len() >= 5, "{output}");
    for tag in tags {
        let other = Bed::new(tag, bed.program());
        assert_eq!(leaks::look(&other), Vec::<String>::new());
        assert!(!other.directory().exists(), "{}", other.directory().display());
    }
}

fn a_test_that_fails_says_why(_: &Bed) {
    let output = second_harness("leaves_nothing_and_fails");
    assert!(output.contains("the moon is full") && output.contains("0 passed; 1 failed"), "{output}");
    assert!(!output.contains("leak:"), "{output}");
}

/// As `nohup` or a shell's `&` start the harness.
fn a_test_ignores_no_signal_although_its_caller_does(_: &Bed) {
    let output = second_harness_under(&["env", "--ignore-signal=HUP,INT,QUIT,TERM,RTMAX"], "says_what_it_ignores");
    let ignored = output.split("ignored: ").nth(1).and_then(|rest| u64::from_str_radix(rest.get(..16)?, 16).ok());
    let ignored = ignored.unwrap_or_else(|| panic!("{output}"));
    assert_eq!([1, 2, 3, 15, 64].map(|signal| ignored >> (signal - 1) & 1), [0; 5], "{output}");
}

fn second_harness(filter: &str) -> String {
    second_harness_under(&[], filter)
}

fn second_harness_under(wrapper: &[&str], filter: &str) -> String {
    let mut harness = Command::new(std::env::current_exe().unwrap());
    harness.arg(filter).env(LEAKING, "1").env(leaks::PATIENCE_MS, "500").env_remove(runtime_tests::harness::CASE);
    let output = Call::new(harness).under(wrapper).output();
    assert_eq!(output.code(), 101, "{output}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
