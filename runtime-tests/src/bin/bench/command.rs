//! Running a program, and the time that takes.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runtime_tests::call::{memory_file, wait_for_end};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Outcome;

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that has ended well.
pub struct Done {
    /// From before the fork until its end was known.
    pub microseconds: f64,
    /// What it said.
    pub stdout: String,
    /// What it said of itself.
    pub stderr: String,
}

/// Has the program start in this mount namespace, or, without one, in ours; both ways fork alike,
/// so that they cost alike.
pub fn within(mut command: Command, namespace: Option<&OwnedFd>) -> Outcome<Command> {
    let namespace = namespace.map(|namespace| namespace.try_clone()).transpose()?;
    let enter = move || match &namespace {
        Some(namespace) => Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?),
        None => Ok(()),
    };
    // SAFETY: between fork and exec it makes one system call, on a descriptor that it owns.
    unsafe { command.pre_exec(enter) };
    Ok(command)
}

/// Runs it to its end. Its streams are files in memory: nothing that outlives it keeps us waiting.
pub fn timed(mut command: Command) -> Outcome<Done> {
    let (mut stdout, mut stderr) = (memory_file("stdout")?, memory_file("stderr")?);
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let began = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let status = wait_for_end(&mut child, PATIENCE)?;
    let microseconds = began.elapsed().as_secs_f64() * 1e6;
    let (stdout, stderr) = (text(&mut stdout)?, text(&mut stderr)?);
    match status {
        Some(status) if status.success() => Ok(Done { microseconds, stdout, stderr }),
        Some(status) => {
            let program = command.get_program().to_string_lossy();
            Err(format!("{program}: {status}: {} {}", stdout.trim(), stderr.trim()).into())
        }
        None => Err(format!("{command:?}: did not end within {PATIENCE:?}").into()),
    }
}

fn text(file: &mut File) -> Outcome<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
