//! The caller's terminal, which the worker has as its streams; and terminals of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runtime_tests::{Bed, Call, Worker, call, cases, host, until};
use rustix::fs::fcntl_getfl;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use serde_json::{Value, json};
use squall::record::Exit;
use squall::request::ExecSpec;
use squall::{Container, ExecEnd, WindowSize};

cases![
    a_terminal_has_its_mode_again_however_the_worker_ends,
    in_the_background_nothing_is_done_to_a_terminal_and_nobody_is_stopped,
    a_worker_has_a_terminal_of_its_own_and_so_has_a_program_that_is_executed,
    keys_at_the_terminal_are_the_programs_and_its_size_follows,
    nothing_is_lost_of_what_is_written_at_the_end,
    whoever_leaves_by_keys_leaves_the_program_running,
    a_terminal_is_raw_meanwhile_and_has_its_mode_again_whoever_is_killed,
    in_a_pid_namespace_whose_process_group_is_outside_it_is_no_different,
    whoever_has_left_can_come_back_and_see_the_end,
    a_kept_terminal_is_lent_to_one_at_a_time,
    a_program_that_embeds_squall_has_the_other_end,
];

/// Both ends of a terminal. The worker's end comes again by its path.
fn terminal() -> (OwnedFd, File) {
    let leader = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&leader).unwrap();
    unlockpt(&leader).unwrap();
    let path = ptsname(&leader, Vec::new()).unwrap().into_string().unwrap();
    let follower = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path).unwrap();
    (leader, follower)
}

fn echoes(terminal: &File) -> bool {
    tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ECHO)
}

/// What any worker can do to a terminal that it has as a stream; here somebody else does it, while
/// the worker runs.
fn turn_echo_off(terminal: &File) {
    let mut mode = tcgetattr(terminal).unwrap();
    mode.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON);
    tcsetattr(terminal, OptionalActions::Now, &mode).unwrap();
}

/// `squall run` in a session of its own, whose terminal this is; by a shell that runs it in the
/// foreground or the background.
fn run_on(bed: &Bed, terminal: &File, shell: &str, probe: &[&str]) -> Child {
    let run = bed.run(&["--name", "w"], probe).into_command();
    let mut command = Command::new("setsid");
    command.args(["--ctty", "sh", "-mc", shell, "sh"]).arg(run.get_program()).args(run.get_args());
    let stream = || Stdio::from(terminal.try_clone().unwrap());
    let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
    until("it runs", || (bed.squall(&["ps", "--json"]).json()[0]["phase"] == "running").then_some(()));
    child
}

fn a_terminal_has_its_mode_again_however_the_worker_ends(bed: &Bed) {
    let (_leader, terminal) = terminal();
    type End = fn(&Bed, &Child);
    let ends: [(&str, End); 4] = [
        ("by itself", |_, _| ()),
        ("stopped", |bed, _| drop(bed.squall(&["stop", "--time", "0", "w"]).ok())),
        ("killed", |bed, _| kill(bed.worker("w").pid())),
        ("removed", |bed, _| drop(bed.squall(&["rm", "--force", "w"]).ok())),
    ];
    for (how, end) in ends {
        let lives = if how == "by itself" { "1000" } else { "600000" };
        let mut child = run_on(bed, &terminal, "\"$@\"; exit 0", &["sleep", lives]);
        turn_echo_off(&terminal);
        end(bed, &child);
        call::wait_for_end(&mut child, Duration::from_secs(20)).unwrap().expect("it ends");
        assert!(echoes(&terminal), "{how}");
        bed.squall(&["rm", "--force", "w"]).ok();
    }
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

/// A shell that edits its line has the terminal in a mode of its own by then.
fn in_the_background_nothing_is_done_to_a_terminal_and_nobody_is_stopped(bed: &Bed) {
    let (_leader, terminal) = terminal();
    let done = bed.file("done");
    let shell = format!("\"$@\" & wait $!; echo $? > '{done}'; read line");
    let mut child = run_on(bed, &terminal, &shell, &["exit-after", "1000", "7"]);
    turn_echo_off(&terminal);
    until("it ends", || std::fs::read_to_string(Path::new(&done)).is_ok_and(|text| text == "7\n").then_some(()));
    assert!(!echoes(&terminal), "the mode that the foreground had given it");
    let shell = child.id();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!host::is_alive(shell));
    bed.squall(&["rm", "--force", "w"]).ok();
}

/// Somebody at a terminal, with a command on it.
struct Seat {
    leader: File,
    follower: File,
    child: Child,
    read: String,
}

impl Seat {
    /// With a window of 33 lines and 101 columns.
    fn take(call: Call) -> Seat {
        let (leader, follower) = terminal();
        tcsetwinsize(&leader, Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let call = call.into_command();
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(call.get_program()).args(call.get_args());
        let stream = || Stdio::from(follower.try_clone().unwrap());
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        let flags = rustix::fs::fcntl_getfl(&leader).unwrap();
        rustix::fs::fcntl_setfl(&leader, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
        Seat { leader: leader.into(), follower, child, read: String::new() }
    }

    fn types(&mut self, keys: &str) {
        self.leader.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until these words are there.
    fn sees(&mut self, words: &str) {
        until(words, || {
            self.look();
            self.read.contains(words).then_some(())
        });
    }

    fn look(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = self.leader.read(&mut bytes) {
            self.read.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    }

    /// The code with which the command ends, and everything that was to be read.
    fn ends(mut self) -> (Option<i32>, String) {
        let status = until("it ends", || {
            self.look();
            self.child.try_wait().unwrap()
        });
        self.look();
        assert!(echoes(&self.follower), "the mode of the terminal is as it was");
        (status.code(), self.read)
    }
}

fn started<'b>(bed: &'b Bed) -> Worker<'b> {
    bed.start(&["--user", "65534:65534"], &["sleep", "600000"])
}

fn a_worker_has_a_terminal_of_its_own_and_so_has_a_program_that_is_executed(bed: &Bed) {
    let worker = started(bed);
    let exec = bed.squall(&["exec", "-it", &worker.id, "/bin/probe", "report"]);
    let run = bed.run(&["-it", "--rm", "--user", "65534:65534"], &["report"]);
    for call in [run, exec] {
        let (code, read) = Seat::take(call).ends();
        let report: Value = serde_json::from_str(read.trim()).unwrap_or_else(|error| panic!("{error}: {read}"));
        let fds = json!({ "0": "/dev/pts/0", "1": "/dev/pts/0", "2": "/dev/pts/0" });
        let found =
            report["fds"].as_object().unwrap().iter().filter(|(_, link)| !link.as_str().unwrap().contains("/proc"));
        assert_eq!(Value::from_iter(found.map(|(name, link)| (name.clone(), link.clone()))), fds);
        assert_eq!((code, &report["session"]), (Some(0), &report["pid"]));
    }
    let opened = bed.squall(&["exec", "-it", &worker.id, "/bin/probe", "try", "write", "/dev/tty", "by its name"]);
    let (code, read) = Seat::take(opened).ends();
    assert!(code == Some(0) && read.contains("by its name") && read.contains("ok"), "{read}");
    // Without one outside there is one inside all the same.
    let size = bed.squall(&["exec", "-t", &worker.id, "/bin/probe", "report"]).stdin("").ok();
    assert_eq!(size.json()["fds"]["0"], "/dev/pts/0");
    worker.kill();
}

fn keys_at_the_terminal_are_the_programs_and_its_size_follows(bed: &Bed) {
    let worker = started(bed);
    let mut seat = Seat::take(bed.squall(&["exec", "-it", &worker.id, "/bin/probe", "window"]));
    seat.sees("size 33 101");
    tcsetwinsize(&seat.leader, Winsize { ws_row: 44, ws_col: 55, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    seat.sees("size 44 55");
    assert_eq!(seat.ends().0, Some(0));
    for (keys, code) in [("\x03", 130), ("\x1c", 131)] {
        let mut seat = Seat::take(bed.squall(&["exec", "-it", &worker.id, "/bin/probe", "sleep", "600000"]));
        until("it runs", || (!sessions(&worker).is_empty()).then_some(()));
        seat.types(keys);
        assert_eq!(seat.ends().0, Some(code));
    }
    let mut seat = Seat::take(bed.squall(&["exec", "-it", &worker.id, "/bin/probe", "copy"]));
    seat.types("one\n");
    seat.sees("one\r\none\r\n");
    seat.types("\x04");
    assert_eq!(seat.ends().0, Some(0));
    worker.kill();
}

/// The sessions that are kept of it.
fn sessions(worker: &Worker<'_>) -> Vec<Value> {
    worker.inspect()["exec_sessions"].as_array().cloned().unwrap_or_default()
}

fn nothing_is_lost_of_what_is_written_at_the_end(bed: &Bed) {
    let worker = started(bed);
    let lines: Vec<String> = (0..2000).map(|number| format!("line {number} of many")).collect();
    for _ in 0..5 {
        let words: Vec<&str> = ["exec", "-it", &worker.id, "/bin/probe", "say"]
            .into_iter()
            .chain(lines.iter().map(String::as_str))
            .collect();
        let (code, read) = Seat::take(bed.squall(&words)).ends();
        assert_eq!(code, Some(0));
        assert!(lines.iter().all(|line| read.contains(line)), "{} bytes", read.len());
    }
    worker.kill();
}

fn whoever_leaves_by_keys_leaves_the_program_running(bed: &Bed) {
    let worker = started(bed);
    let holders = || {
        let is_one = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(bed.program().as_os_str().as_encoded_bytes()) && line.ends_with(b"\0keep-terminal\0")
        };
        host::processes().into_iter().filter(is_one).count()
    };
    let mut seat = Seat::take(bed.squall(&["exec", "-it", &worker.id, "/bin/probe", "sleep", "600000"]));
    until("it runs", || (!sessions(&worker).is_empty()).then_some(()));
    seat.types("\x10\x11");
    assert_eq!(seat.ends().0, Some(0));
    let session = sessions(&worker)[0].clone();
    assert_eq!(session["phase"], "running", "its terminal is held by somebody: {session}");
    assert!(holders() == 1);
    let mut other = Seat::take(bed.squall(&[
        "exec",
        "-it",
        "--detach-keys",
        "ctrl-a,d",
        &worker.id,
        "/bin/probe",
        "exit-on-signal",
        "600000",
    ]));
    until("it runs", || (sessions(&worker).len() == 2).then_some(()));
    other.types("\x10\x11\x01d");
    assert_eq!(other.ends().0, Some(0));
    let detached = bed.run(&["-dt", "--name", "held"], &["sleep", "600000"]).ok();
    assert_eq!((detached.text().as_str(), bed.worker("held").phase().as_str()), ("held", "running"));
    until("three are held", || (holders() == 3).then_some(()));
    bed.worker("held").kill();
    worker.kill();
    until("nobody holds what is gone", || (holders() == 0).then_some(()));
}

fn a_terminal_is_raw_meanwhile_and_has_its_mode_again_whoever_is_killed(bed: &Bed) {
    let seat = Seat::take(bed.run(&["-it", "--name", "w"], &["sleep", "600000"]));
    until("it is raw", || (!echoes(&seat.follower)).then_some(()));
    kill(bed.worker("w").pid());
    assert_eq!(seat.ends().0, Some(137));
    bed.squall(&["rm", "w"]).ok();
    let seat = Seat::take(bed.run(&["-it", "--name", "w"], &["sleep", "600000"]));
    until("it is raw", || (!echoes(&seat.follower)).then_some(()));
    bed.squall(&["rm", "--force", "w"]).ok();
    let (_, read) = seat.ends();
    assert!(!read.contains("panicked"), "{read}");
    let failed = Seat::take(bed.run(&["-it", "--name", "w", "-w", "/none"], &["sleep", "1"]));
    assert_eq!(failed.ends().0, Some(125));
}

/// There the numbers of the caller's group and session are 0.
fn in_a_pid_namespace_whose_process_group_is_outside_it_is_no_different(bed: &Bed) {
    for (how, flags) in [("its own", "-it"), ("the caller's", "-i")] {
        let run = bed.run(&[flags, "--rm", "--name", "w"], &["sleep", "1000"]);
        let seat = Seat::take(run.under(&["unshare", "--pid", "--fork", "--mount-proc"]));
        if flags == "-it" {
            until("it is raw", || (!echoes(&seat.follower)).then_some(()));
        } else {
            until("it is there", || bed.squall(&["ps", "--json"]).json().get(0).map(drop));
            turn_echo_off(&seat.follower);
        }
        let (code, read) = seat.ends();
        assert_eq!(code, Some(0), "{how}: {read}");
    }
}

fn whoever_has_left_can_come_back_and_see_the_end(bed: &Bed) {
    let mut seat = Seat::take(bed.run(&["-it", "--rm", "--name", "w"], &["copy"]));
    seat.types("before\n");
    seat.sees("before\r\nbefore\r\n");
    seat.types("\x10\x11");
    assert_eq!(seat.ends().0, Some(0));
    for turn in ["first", "second"] {
        let mut back = Seat::take(bed.squall(&["attach", "w"]));
        until("it is raw", || (!echoes(&back.follower)).then_some(()));
        back.types(&format!("{turn}\n"));
        back.sees(&format!("{turn}\r\n{turn}\r\n"));
        back.types("\x10\x11");
        assert_eq!(back.ends().0, Some(0));
        assert_eq!(bed.worker("w").phase(), "running");
    }
    let mut last = Seat::take(bed.squall(&["attach", "w"]));
    until("it is raw", || (!echoes(&last.follower)).then_some(()));
    last.types("\x04");
    let (code, read) = last.ends();
    assert_eq!(code, Some(0), "{read}");
    bed.squall(&["rm", "--force", "w"]).output();
}

fn a_kept_terminal_is_lent_to_one_at_a_time(bed: &Bed) {
    bed.run(&["-dt", "--name", "w"], &["copy"]).ok();
    let mut one = Seat::take(bed.squall(&["attach", "w"]));
    until("it is raw", || (!echoes(&one.follower)).then_some(()));
    let (code, read) = Seat::take(bed.squall(&["attach", "w"])).ends();
    assert_eq!(code, Some(125));
    assert!(read.contains("in use by somebody who is attached to its terminal"), "{read}");
    one.types("still here\n");
    one.sees("still here\r\nstill here\r\n");
    // Killed instead of leaving: the terminal is given back all the same.
    kill(one.child.id());
    call::wait_for_end(&mut one.child, Duration::from_secs(10)).unwrap().expect("it is killed");
    let squall = bed.library().build().unwrap();
    let terminal = until("it is given back", || squall.attach("w").unwrap().attach_terminal().ok());
    assert!(fcntl_getfl(&terminal).is_ok());
    drop(terminal);
    let bare = started(bed);
    let refused = bed.squall(&["attach", &bare.id]).output();
    assert_eq!(refused.code(), 125);
    assert!(refused.to_string().contains("it has no terminal"), "{refused}");
    bare.kill();
    let mut session = Seat::take(bed.squall(&["exec", "-it", "w", "/bin/probe", "copy"]));
    session.types("a\n");
    session.sees("a\r\na\r\n");
    session.types("\x10\x11");
    let (_, read) = session.ends();
    let id = read.lines().last().unwrap().trim().to_owned();
    let mut back = Seat::take(bed.squall(&["attach", "--session", &id, "w"]));
    until("it is raw", || (!echoes(&back.follower)).then_some(()));
    back.types("\x04");
    assert_eq!(back.ends().0, Some(0));
    bed.worker("w").kill();
}

fn a_program_that_embeds_squall_has_the_other_end(bed: &Bed) {
    let worker = started(bed);
    let squall = bed.library().build().unwrap();
    let Container::Running(running) = squall.attach(&worker.id).unwrap() else { panic!("it runs") };
    let size = WindowSize { rows: 5, columns: 7 };
    let (stdio, end) = squall::Stdio::terminal(size).unwrap();
    let session = squall.exec(&running, &ExecSpec::new(["/bin/probe", "window"]), stdio).unwrap();
    let mut terminal = File::from(end.receive().unwrap());
    let mut read = [0; 64];
    let length = terminal.read(&mut read).unwrap();
    assert_eq!(&read[..length], b"size 5 7\r\n");
    tcsetwinsize(&terminal, Winsize { ws_row: 6, ws_col: 7, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    assert!(matches!(session.wait().unwrap(), ExecEnd::Exited(exit) if exit.exit == Exit::Code { code: 0 }));
    // Whoever closes it hangs up on the program.
    let (stdio, end) = squall::Stdio::terminal(size).unwrap();
    let session = squall.exec(&running, &ExecSpec::new(["/bin/probe", "sleep", "600000"]), stdio).unwrap();
    drop(end.receive().unwrap());
    let ExecEnd::Exited(exit) = session.wait().unwrap() else { panic!("it is lost") };
    assert_eq!(exit.exit, Exit::Signal { signal: 1, core_dumped: false });
    let (_stdio, end) = squall::Stdio::terminal(size).unwrap();
    drop(_stdio);
    assert!(end.receive().is_err(), "nothing was launched with it");
    worker.kill();
}
