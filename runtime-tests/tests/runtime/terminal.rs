//! The caller's terminal, which the worker has as its streams.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runtime_tests::{Bed, call, cases, host, until};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

cases![
    a_terminal_has_its_mode_again_however_the_worker_ends,
    in_the_background_nothing_is_done_to_a_terminal_and_nobody_is_stopped,
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
