//! `worker` and `profiler`: a script of the supervisor's, run as the user in place of this process.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fchmod, openat, unlinkat};
use rustix::process::{setsid, umask};

use crate::exit::{Code, Failure, Result, WithCode};
use crate::{Launcher, Outcome, ids, tree, work_directory};

/// The name of the script's copy in the work directory.
const COPY: &str = "launch_container.sh";

/// How long the file system of the script may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the script after the work directory was given to the user.
pub fn worker(launcher: &Launcher, arguments: &[OsString]) -> Outcome {
    let [work, script] = arguments else { return Err(Failure::new(Code::Arguments, "worker: wrong arguments")) };
    tree::permit_work_directory(launcher, Path::new(work))?;
    run(launcher, Path::new(work), Path::new(script))
}

/// Runs the script and leaves permissions as they are.
pub fn profiler(launcher: &Launcher, arguments: &[OsString]) -> Outcome {
    let [work, script] = arguments else { return Err(Failure::new(Code::Arguments, "profiler: wrong arguments")) };
    run(launcher, Path::new(work), Path::new(script))
}

/// Comes back only with a failure.
fn run(launcher: &Launcher, work: &Path, script: &Path) -> Outcome {
    let source = open_script(launcher, script)?;
    // A session and group of its own, by which `signal` reaches all of the worker. A process that
    // leads a group already has one.
    let _ = setsid();
    // From here on the kernel decides what the user may do, and nothing needs care any more.
    ids::become_user(&launcher.user.identity)?;
    let directory = work_directory::enter(work)?;
    let copy = work.join(COPY);
    copy_script(source, &directory).code(Code::Other, format_args!("script '{}'", copy.display()))?;
    umask(Mode::from_raw_mode(0o027));
    // By the whole path, which is what the script sees as its own name. The environment is what the
    // caller and the topology want it to be; it reaches a process that has no privilege left. The
    // standard library gives SIGPIPE its effect again.
    let environment = launcher.caller.environment.iter().map(|(name, value)| (name, value));
    let error = Command::new(&copy).env_clear().envs(environment).exec();
    Err(Failure::new(Code::Exec, format!("script '{}': exec: {error}", copy.display())))
}

/// The script, opened as the supervisor.
fn open_script(launcher: &Launcher, script: &Path) -> Result<File> {
    let object = format!("script '{}'", script.display());
    let path = script.to_owned();
    let opened = squall::as_user(&launcher.supervisor, &object, PATIENCE, move || {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(openat(CWD, &path, flags, Mode::empty()))
    });
    let opened = opened.map_err(|error| Failure::new(Code::Other, error.to_string()))?;
    let file = File::from(opened.code(Code::Other, format_args!("{object}: open as the supervisor"))?);
    if !file.metadata().code(Code::Other, format_args!("{object}: fstat"))?.is_file() {
        return Err(Failure::new(Code::Other, format!("{object}: it is no regular file")));
    }
    Ok(file)
}

/// Copies the script into the directory, where there may not be one yet.
fn copy_script(mut source: File, directory: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut copy = File::from(openat(directory, COPY, flags, Mode::RWXU)?);
    // The caller's umask may have taken from the mode.
    let copied = io::copy(&mut source, &mut copy).and_then(|_| Ok(fchmod(&copy, Mode::RWXU)?));
    if copied.is_err() {
        let _ = unlinkat(directory, COPY, AtFlags::empty());
    }
    copied
}

#[cfg(test)]
mod tests;
