//! Calling a program: bounded in time, and whole in what comes back.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use crate::host;

/// How long a call may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A call that has not been made yet. Its streams are files in memory, so nothing that outlives the
/// program keeps us waiting.
#[derive(Debug)]
pub struct Call {
    command: Command,
    stdin: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub struct Output {
    /// The call, for messages.
    pub call: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Call {
    /// Of this program.
    pub fn new(command: Command) -> Call {
        Call { command, stdin: Vec::new() }
    }

    /// With these bytes on standard input.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Call {
        self.stdin = bytes.into();
        self
    }

    /// With this variable.
    pub fn env(mut self, key: &str, value: &str) -> Call {
        self.command.env(key, value);
        self
    }

    /// With more arguments at the end.
    pub fn args<S: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Call {
        self.command.args(args);
        self
    }

    /// Through another program, which executes it: `nice -n 7 …`. Its environment is the call's.
    pub fn under(self, wrapper: &[&str]) -> Call {
        let Some((program, args)) = wrapper.split_first() else { return self };
        let mut command = Command::new(program);
        command.args(args).arg(self.command.get_program()).args(self.command.get_args());
        for (key, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        Call { command, ..self }
    }

    /// The call as a command, for tests that want its streams for themselves.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Makes the call and waits for its end.
    pub fn output(self) -> Output {
        self.attempt().unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// As [`Call::output`], for programs that go on when a call cannot be made or does not end.
    pub fn attempt(mut self) -> Result<Output, String> {
        let call = format!("{:?}", self.command);
        self.try_output(&call).map_err(|error| format!("{call}: {error}"))
    }

    fn try_output(&mut self, call: &str) -> io::Result<Output> {
        let mut streams = [memory_file("stdin")?, memory_file("stdout")?, memory_file("stderr")?];
        streams[0].write_all(&self.stdin)?;
        streams[0].rewind()?;
        let copy = |index: usize| streams[index].try_clone().map(Stdio::from);
        let mut child = self.command.stdin(copy(0)?).stdout(copy(1)?).stderr(copy(2)?).spawn()?;
        let Some(status) = wait_for_end(&mut child, PATIENCE)? else {
            return Err(io::Error::other(format!("did not end within {PATIENCE:?}")));
        };
        let [stdout, stderr] = [1, 2].map(|index| {
            let mut bytes = Vec::new();
            let file = &mut streams[index];
            file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map(|_| bytes)
        });
        // The copies that `command` holds are closed with it.
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Output {
            call: call.to_owned(),
            status,
            stdout: stdout?,
            stderr: String::from_utf8_lossy(&stderr?).into_owned(),
        })
    }

    /// Makes the call, which has to succeed.
    pub fn ok(self) -> Output {
        let output = self.output();
        assert!(output.status.success(), "{output}");
        output
    }

    /// Makes the call, which has to succeed and to print JSON.
    pub fn json(self) -> Value {
        self.ok().json()
    }
}

impl Output {
    /// Its exit code; 128 and the signal's number for one that a signal ended.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }

    /// Standard output as text, without white space at its end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{self}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stdout: String = String::from_utf8_lossy(&self.stdout).chars().take(4000).collect();
        write!(f, "{}\n{}\nstdout: {stdout}\nstderr: {}", self.call, self.status, self.stderr)
    }
}

/// A file in memory.
pub fn memory_file(name: &str) -> io::Result<File> {
    Ok(memfd_create(name, MemfdFlags::CLOEXEC)?.into())
}

/// Waits for a child; kills it if it takes too long ([`host::bound`]), and then there is no status.
pub fn wait_for_end(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let patience = host::bound(patience);
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
    let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout))? > 0;
    if !ended {
        child.kill()?;
    }
    let status = child.wait()?;
    Ok(ended.then_some(status))
}
