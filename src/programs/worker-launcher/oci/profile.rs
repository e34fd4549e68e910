//! `profile-oci-container`: the administrator's profiler, in a worker's container.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use squall::record::Exit;
use squall::request::ExecSpec;
use squall::{Container, ExecEnd, ExecSession, Running, Squall, Stdio};

use super::settings;
use crate::exit::{Code, Failure, Result, WithCode};
use crate::{Launcher, Outcome, profile};

/// Profiles: `<pid> <arguments file>`. The exit code is the profiler's own.
pub(crate) fn run(launcher: &Launcher, arguments: &[OsString]) -> Outcome {
    let [pid, file] = arguments else { return Err(Failure::new(Code::Arguments, "two are needed")) };
    let pid = host_pid(pid).ok_or_else(|| Failure::new(Code::Exec, "the pid is no number above 0"))?;
    let argv = profile::profile_arguments(launcher, Path::new(file))?;
    let squall = settings::existing(launcher)?;
    let container = container_of(launcher, &squall, pid)?;
    say!("command is {}", argv.join(" "));
    execute(&squall, &container, &ExecSpec::new(argv))
}

/// The pid that the supervisor names, if it can be one.
pub fn host_pid(text: &OsStr) -> Option<i32> {
    text.to_str()?.parse().ok().filter(|pid| *pid > 0)
}

/// The user's own container whose first process this is: the pid comes from a file that the user
/// can write to.
fn container_of(launcher: &Launcher, squall: &Squall, pid: i32) -> Result<Running> {
    let listing = squall.containers().code(Code::Other, "containers")?;
    let found = listing.containers.into_iter().find_map(|container| match container {
        Container::Running(running) if running.record().init.pid == pid => Some(running),
        _ => None,
    });
    let owned = found.filter(|running| running.record().uid() == Some(launcher.user.identity.uid()));
    owned.ok_or_else(|| {
        Failure::new(Code::Exec, format!("user '{}' has no container with pid {pid}", launcher.user.name))
    })
}

fn execute(squall: &Squall, container: &Running, spec: &ExecSpec) -> Outcome {
    let object = format!("container '{}'", container.record().id);
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).code(Code::Other, &object)?;
    rustix::fs::fcntl_setfl(&writing, rustix::fs::OFlags::empty()).code(Code::Other, &object)?;
    let second = writing.try_clone().code(Code::Other, &object)?;
    let [stdin, ..] = Stdio::null().code(Code::Other, &object)?.streams;
    let session = squall.exec(container, spec, Stdio::new([stdin, writing, second])).code(Code::Exec, &object)?;
    pass_output_on(&session, reading);
    let end = session.wait().code(Code::Other, &object)?;
    let _ = session.remove();
    match end {
        ExecEnd::Exited(exit) => Ok(match exit.exit {
            Exit::Code { code } => i32::from(code),
            Exit::Signal { signal, .. } => 128 + i32::from(signal),
        }),
        _ => Err(Failure::new(Code::Other, format!("{object}: how the profiler ended is not known"))),
    }
}

/// Through a pipe of the launcher's own: what the profiler leaves running must not hold the
/// launcher's output open, whose end the supervisor waits for.
fn pass_output_on(session: &ExecSession, reading: OwnedFd) {
    let mut output = File::from(reading);
    while let Some(process) = session.process() {
        let mut fds = [PollFd::new(&process, PollFlags::IN), PollFd::new(&output, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        let [process, readable] = fds.map(|fd| !fd.revents().is_empty());
        if readable && copy(&mut output) == 0 {
            return;
        }
        if process && !session.is_alive() {
            break;
        }
    }
    copy(&mut output);
}

/// What there is to be read now, in bytes.
fn copy(output: &mut File) -> u64 {
    let mut stdout = std::io::stdout();
    std::io::copy(output, &mut stdout).unwrap_or(1)
}
