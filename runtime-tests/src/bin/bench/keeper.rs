//! The outer process: it owns the bed, and clears it however the measurer ends.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode};

use runtime_tests::{Bed, leaks, needs};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use squall::SignalStream;

use crate::Outcome;
use crate::args::Args;

/// The tag of the bed, in the environment of the measurer and so of everything that it starts.
pub const TAG: &str = "SQUALL_BENCH_TAG";

/// What the peers make for themselves, whatever directory they are told to use.
const PEERS_OWN: [&str; 2] = ["/run/runc", "/run/crun"];

/// Runs the measurer and looks for what is left.
pub fn keep(args: &Args) -> Outcome<ExitCode> {
    needs::check()?;
    let program = crate::ground::program(args)?;
    let tag = format!("bench-{:07}", std::process::id());
    let bed = Bed::new(&tag, &program);
    bed.make().map_err(|error| format!("cannot make {}: {error}", bed.directory().display()))?;
    let absent: Vec<&Path> = PEERS_OWN.iter().map(Path::new).filter(|path| !path.exists()).collect();
    // Before the first process is started, so that none can come in between.
    let signals = SignalStream::of(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP])?;
    let mut measurer = Command::new(std::env::current_exe()?);
    measurer.args(std::env::args_os().skip(1)).env(TAG, &tag);
    // SAFETY: between fork and exec it makes one system call.
    unsafe { measurer.pre_exec(unblock_signals) };
    let mut measurer = measurer.spawn()?;
    let (interrupted, code) = wait(&mut measurer, &signals)?;
    let left = leaks::look_and_clear(&bed);
    // Only an empty one can be removed: another's containers stay.
    absent.iter().for_each(|path| drop(std::fs::remove_dir(path)));
    if interrupted {
        // What ran has been ended by the clearing: that is no leak.
        eprintln!("bench: interrupted; cleared away");
        return Ok(ExitCode::from(130));
    }
    left.iter().for_each(|object| eprintln!("bench: {object}"));
    Ok(ExitCode::from(if left.is_empty() { code } else { 1 }))
}

/// Blocked signals would reach the workers of everybody who does not unblock them, and these could
/// not be told to end.
fn unblock_signals() -> io::Result<()> {
    // SAFETY: an empty set is valid, and outlives the call.
    let result = unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for its end, and brings that about when a signal comes.
fn wait(measurer: &mut Child, signals: &SignalStream) -> Outcome<(bool, u8)> {
    let pidfd = pidfd_open(Pid::from_child(measurer), PidfdFlags::empty())?;
    let mut waiting = [PollFd::new(&pidfd, PollFlags::IN), PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    poll(&mut waiting, None)?;
    let interrupted = !waiting[1].revents().is_empty();
    if interrupted {
        measurer.kill()?;
    }
    let code = measurer.wait()?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok((interrupted, code))
}
