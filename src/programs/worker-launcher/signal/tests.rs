use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command};

use super::*;
use crate::testing::*;

#[test]
fn numbers_are_decimal_and_keep_their_sign() {
    for (text, expected) in [
        ("15", Some(15)),
        ("+9", Some(9)),
        ("-1", Some(-1)),
        ("2147483648", Some(2_147_483_648)),
        ("-99999999999999999999", Some(-i64::MAX)),
    ] {
        assert_eq!(number(text.as_ref(), "pid").ok(), expected, "{text}");
    }
    for text in ["", "-", "+-1", "1x", " 1", "0x1", "TERM", "1\n"] {
        assert_eq!(number(text.as_ref(), "pid").unwrap_err().code, Code::Arguments, "{text:?}");
    }
}

#[test]
fn what_is_no_signal_is_refused() {
    assert_eq!(Wanted::of(15).unwrap(), Wanted::Signal(Signal::TERM));
    assert_eq!(Wanted::of(0).unwrap(), Wanted::Nothing);
    for number in [-1, 32, 34, 64, 65, i64::MAX] {
        assert_eq!(Wanted::of(number).unwrap_err().code, Code::SignalRefused, "{number}");
    }
}

#[test]
#[ignore = "run by others, in a process of its own"]
fn own_process() {
    let words =
        std::fs::read_to_string(format!("{}/arguments", std::env::var("WORKER_LAUNCHER_TEST").unwrap())).unwrap();
    as_launcher("", signal, &words.split(' ').collect::<Vec<_>>());
}

fn signalled(words: &str) -> (Option<i32>, String) {
    let directory = directory();
    std::fs::write(directory.path().join("arguments"), words).unwrap();
    let output = in_own_process("signal::tests::own_process", directory.path());
    (output.status.code(), said(&output))
}

/// A process of the user's, or of root's, that leads a group or not, and does nothing.
fn sleeper(uid: u32, leads: bool) -> Child {
    let mut command = Command::new("sleep");
    command.arg("1000").uid(uid);
    if leads {
        command.process_group(0);
    }
    command.spawn().unwrap()
}

#[test]
fn a_group_is_signalled_as_a_group_and_a_process_alone() {
    for (leads, expected) in [(true, "Killing process group "), (false, "Killing process ")] {
        let mut child = sleeper(UID, leads);
        let (code, said) = signalled(&format!("{} 15", child.id()));
        if code != Some(0) {
            let _ = child.kill();
        }
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(&format!("{expected}{} with 15", child.id())), "{said}");
        assert_eq!(child.wait().unwrap().signal(), Some(15));
        assert_eq!(signalled(&format!("{} 15", child.id())).0, Some(9));
    }
}

#[test]
fn what_is_not_the_users_gets_nothing() {
    let mut child = sleeper(0, true);
    let (code, said) = signalled(&format!("{} 9", child.id()));
    let still_there = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(still_there);
    assert_eq!(code, Some(255), "{said}");
}

#[test]
fn pids_that_mean_more_than_a_process_are_refused() {
    for (words, code) in [
        ("1 9", 255),
        ("0 9", 9),
        ("-1 9", 9),
        ("-2147483648 9", 9),
        ("2147483647 9", 9),
        ("2147483648 9", 9),
        ("4294967297 9", 9),
        ("x 9", 1),
        ("1 x", 1),
    ] {
        let (given, said) = signalled(words);
        assert_eq!(given, Some(code), "{words}: {said}");
    }
}
