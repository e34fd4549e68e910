//! A worker in the foreground: the signals of its caller and of its terminal have the effect that
//! they have on a plain program.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Stdio};
use std::time::Duration;

use runtime_tests::host::until;
use runtime_tests::{Bed, call, cases, host};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::life_cycle::{foreground, takes_signals};

cases![
    every_signal_that_would_end_the_program_reaches_the_worker,
    a_signal_without_a_handler_ends_the_worker_and_the_record_says_how,
    a_signal_that_the_worker_ignores_or_waits_for_does_not_end_it,
    a_signal_that_the_caller_ignores_is_not_taken,
    a_key_of_the_terminal_reaches_the_workers_whole_group,
    a_signal_of_a_process_reaches_the_first_process_alone,
    a_key_of_the_terminal_ends_a_worker_that_does_not_handle_it,
];

fn send(child: &Child, signal: i32) {
    // SAFETY: plain numbers; the child has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0, "signal {signal}");
}

fn code_of(child: &mut Child) -> Option<i32> {
    call::wait_for_end(child, Duration::from_secs(20)).unwrap().expect("it ends").code()
}

fn every_signal_that_would_end_the_program_reaches_the_worker(bed: &Bed) {
    for signal in [6, 14, 16, 24, 26, 27, 29, 30, 34, 64] {
        let (mut child, worker) = foreground(bed, &["--rm"], &["exit-on-signal", "600000"]);
        takes_signals(&worker);
        send(&child, signal);
        assert_eq!(code_of(&mut child), Some(signal), "the worker's code is the signal's number");
    }
}

fn a_signal_without_a_handler_ends_the_worker_and_the_record_says_how(bed: &Bed) {
    for signal in [1, 2, 3, 10, 14, 15, 27, 34, 64] {
        let (mut child, worker) = foreground(bed, &[], &["sleep", "600000"]);
        send(&child, signal);
        assert_eq!(code_of(&mut child), Some(128 + signal), "signal {signal}");
        let exit = worker.inspect()["exit"].clone();
        assert_eq!((&exit["exit"]["signal"], &exit["reason"]), (&9.into(), &"killed-after-grace".into()), "{exit}");
        bed.squall(&["rm", "front"]).ok();
    }
}

fn a_signal_that_the_worker_ignores_or_waits_for_does_not_end_it(bed: &Bed) {
    for (probe, signal) in [("ignore-term", libc::SIGTERM), ("block", libc::SIGTERM)] {
        let (mut child, worker) = foreground(bed, &["--rm"], &[probe, "600000"]);
        let set = |key: &str| u64::from_str_radix(&host::status(worker.pid(), key), 16).unwrap_or_default();
        until("the worker is ready", || ((set("SigIgn") | set("SigBlk")) & 1 << (signal - 1) != 0).then_some(()));
        send(&child, signal);
        send(&child, libc::SIGWINCH);
        send(&child, libc::SIGALRM);
        assert_eq!(code_of(&mut child), Some(128 + libc::SIGALRM), "{probe}: it is not TERM that ends it");
    }
}

fn a_signal_that_the_caller_ignores_is_not_taken(bed: &Bed) {
    let call = bed.run(&["--rm", "--name", "front"], &["exit-on-signal", "600000"]);
    let mut command = call.under(&["env", "--ignore-signal=HUP,INT"]).into_command();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the worker runs", || (bed.squall(&["ps", "--json"]).json()[0]["phase"] == "running").then_some(()));
    takes_signals(&bed.worker("front"));
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        send(&child, signal);
    }
    assert_eq!(
        code_of(&mut child),
        Some(libc::SIGTERM),
        "HUP and INT are ignored, as nohup(1) and a shell's & promise"
    );
}

/// `squall run` with a terminal of its own, and that terminal's other side.
fn on_a_terminal(bed: &Bed, probe: &[&str]) -> (Child, File) {
    let other_side = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&other_side).unwrap();
    unlockpt(&other_side).unwrap();
    let path = ptsname(&other_side, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(path).unwrap();
    let side = || Stdio::from(terminal.try_clone().unwrap());
    let call = bed.run(&["--rm"], probe).under(&["setsid", "--ctty"]);
    let mut command = call.into_command();
    let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
    (child, other_side.into())
}

/// What is written to the terminal up to this word.
fn read_until(terminal: &mut File, word: &str) -> String {
    let mut seen = String::new();
    until(word, || {
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(terminal.as_fd(), rustix::event::PollFlags::IN)];
        if rustix::event::poll(&mut fds, Some(&rustix::time::Timespec::default())).unwrap() > 0 {
            let mut bytes = [0; 1024];
            let length = terminal.read(&mut bytes).unwrap_or(0);
            seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        seen.contains(word).then_some(())
    });
    seen
}

const KEYS: [(&[u8], i32); 2] = [(b"\x03", libc::SIGINT), (b"\x1c", libc::SIGQUIT)];

fn a_key_of_the_terminal_reaches_the_workers_whole_group(bed: &Bed) {
    for (key, signal) in KEYS {
        let (mut child, mut terminal) = on_a_terminal(bed, &["shell", "exit-after", "600000", "0"]);
        // Once of the shell itself, once of its child.
        read_until(&mut terminal, "ready\r\nready");
        terminal.write_all(key).unwrap();
        read_until(&mut terminal, &format!("child ended: {signal}"));
        assert_eq!(code_of(&mut child), Some(0));
    }
}

fn a_signal_of_a_process_reaches_the_first_process_alone(bed: &Bed) {
    let (mut child, mut terminal) = on_a_terminal(bed, &["shell", "exit-after", "1500", "7"]);
    read_until(&mut terminal, "ready\r\nready");
    send(&child, libc::SIGINT);
    read_until(&mut terminal, "child ended: 7");
    assert_eq!(code_of(&mut child), Some(0));
}

fn a_key_of_the_terminal_ends_a_worker_that_does_not_handle_it(bed: &Bed) {
    for (key, signal) in KEYS {
        let (mut child, mut terminal) = on_a_terminal(bed, &["exit-after", "600000", "0"]);
        read_until(&mut terminal, "ready");
        terminal.write_all(key).unwrap();
        assert_eq!(code_of(&mut child), Some(128 + signal));
    }
}
