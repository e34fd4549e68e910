//! `profile-docker-container`: the profiler in the namespaces of a worker that docker runs.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::docker_line::is_worker_id;
use rustix::fs::{Mode, OFlags, fstat, open, openat};
use rustix::process::umask;
use rustix::thread::set_no_new_privs;

use super::client::Client;
use crate::exit::{Code, Failure, Result, WithCode};
use crate::profile::profile_arguments;
use crate::{Launcher, Outcome, trusted};

const NSENTER_KEY: &str = "nsenter.binary";
const NSENTER: &str = "/usr/bin/nsenter";

/// Runs the profiler in the container and answers with its exit code.
pub fn profile(launcher: &Launcher, arguments: &[OsString]) -> Outcome {
    let [id, file] = arguments else { return Err(Failure::new(Code::Arguments, "wrong arguments")) };
    let id = id.to_str().filter(|id| is_worker_id(id));
    let id = id.ok_or_else(|| Failure::new(Code::Exec, "this is no worker id"))?;
    let profiler = profile_arguments(launcher, Path::new(file))?;
    let pid = inspect(launcher, id)?;
    let namespaces = Namespaces::of(pid, launcher.user.identity.uid())?;
    let status = run(launcher, &namespaces, &profiler)?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
}

/// The pid of the container's first process, by docker, which is root here: whether the user may
/// ask is not the question.
fn inspect(launcher: &Launcher, id: &str) -> Result<u32> {
    let failed = |problem: String| Failure::new(Code::Exec, format!("docker inspect of '{id}': {problem}"));
    let mut command = Client::find(launcher)?.command();
    command.args(["inspect", "--format", "{{.State.Pid}}", id]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let mut output = String::new();
    // A pid and a line end; docker writes no more than that, and is not read further.
    let read = child.stdout.take().map(|stdout| stdout.take(64).read_to_string(&mut output));
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    match read {
        Some(Ok(_)) if status.success() => pid_of(&output).ok_or_else(|| failed("it does not run".to_owned())),
        _ => Err(failed(status.to_string())),
    }
}

/// The pid in docker's answer: one line of digits. 0 is that of a container that does not run.
fn pid_of(output: &str) -> Option<u32> {
    let digits = output.strip_suffix('\n').unwrap_or(output);
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|pid| is_plain && *pid > 0 && i32::try_from(*pid).is_ok())
}

/// The namespaces of a container that the profiler enters, held open.
struct Namespaces {
    mount: OwnedFd,
    pid: OwnedFd,
}

impl Namespaces {
    /// Those of a process of this user's. All of it is read by one open directory of `/proc`: if
    /// the process ends meanwhile, its number leads to nothing there, not to another process.
    fn of(pid: u32, user: u32) -> Result<Namespaces> {
        let object = format!("process {pid} of the container");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let path = format!("/proc/{pid}");
        let process = open(&path, flags | OFlags::DIRECTORY, Mode::empty()).code(Code::Exec, &object)?;
        let file = |name: &str| openat(&process, name, flags, Mode::empty()).code(Code::Other, &object);
        let namespaces = Namespaces { mount: file("ns/mnt")?, pid: file("ns/pid")? };
        let mut status = String::new();
        std::fs::File::from(file("status")?).read_to_string(&mut status).code(Code::Other, &object)?;
        if !is_of(&status, user) {
            return Err(Failure::new(Code::Other, format!("{object}: it does not run as user {user}")));
        }
        for (held, own) in [(&namespaces.mount, "/proc/self/ns/mnt"), (&namespaces.pid, "/proc/self/ns/pid")] {
            let held = fstat(held).code(Code::Other, &object)?;
            let own = rustix::fs::stat(own).code(Code::Other, own)?;
            if (held.st_dev, held.st_ino) == (own.st_dev, own.st_ino) {
                return Err(Failure::new(Code::Other, format!("{object}: it is in a namespace of the host")));
            }
        }
        Ok(namespaces)
    }

    /// How another process names one of them while this one holds it.
    fn path(namespace: &OwnedFd) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd())
    }
}

/// Whether all four user ids in a process's `status` are this one.
fn is_of(status: &str, user: u32) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let ids: Vec<Option<u32>> = ids.into_iter().flat_map(str::split_whitespace).map(|id| id.parse().ok()).collect();
    ids == [Some(user); 4]
}

/// Runs the profiler by nsenter, which is root until it is in the namespaces. It is told of them by
/// what is held open here: by a pid it would look them up anew.
fn run(launcher: &Launcher, namespaces: &Namespaces, profiler: &[String]) -> Result<ExitStatus> {
    let nsenter = launcher.config.path(NSENTER_KEY)?.unwrap_or_else(|| PathBuf::from(NSENTER));
    let nsenter =
        trusted::program(&nsenter).map_err(|problem| Failure::new(Code::Other, format!("nsenter: {problem}")))?;
    let user = &launcher.user.identity;
    let mut command = Command::new(&nsenter);
    command.env_clear().env("PATH", super::client::PATH).env("USER", &launcher.user.name).stdin(Stdio::null());
    command.arg(format!("--mount={}", Namespaces::path(&namespaces.mount)));
    command.arg(format!("--pid={}", Namespaces::path(&namespaces.pid)));
    command.args(["--setuid", &user.uid().to_string(), "--setgid", &user.gid().to_string(), "--"]).args(profiler);
    say!("command is {}", profiler.join(" "));
    umask(Mode::from_raw_mode(0o027));
    // No setuid program of the image's makes the profiler anybody else.
    set_no_new_privs(true).code(Code::Other, "no_new_privs")?;
    command.status().code(Code::Other, format_args!("nsenter '{}'", nsenter.display()))
}

#[cfg(test)]
mod tests;
