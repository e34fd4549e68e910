//! conmon, which watches a container for podman, with crun as its runtime: beside our monitor.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;

use crate::Outcome;
use crate::args::Args;
use crate::command::timed;
use crate::container;
use crate::ground::Ground;
use crate::peers::{Kind, Peer};

/// The program, and how it is left out.
pub const NAME: &str = "conmon";

/// What a table with it says below.
pub const NOTE: &str =
    "conmon: crun is its runtime; no log, no terminal, and no exit command, which removes the cgroups for podman";

/// A container that conmon watches, one at a time.
pub struct Conmon<'g> {
    peer: Peer<'g>,
    directory: PathBuf,
    exits: PathBuf,
}

/// Both processes, which are ours to reap once they have ended.
pub struct Watched {
    pub conmon: Pid,
    pub worker: Pid,
}

impl<'g> Conmon<'g> {
    /// For a container of this id; nothing where it is left out.
    pub fn new(args: &Args, ground: &'g Ground, id: &str) -> Outcome<Option<Conmon<'g>>> {
        if args.without(NAME) {
            return Ok(None);
        }
        let peer = Peer::new(ground, Kind::Crun, id, container::STAY)?;
        let directory = ground.bed.work().join(format!("{id}.conmon"));
        let exits = directory.join("exits");
        fs::create_dir_all(&exits)?;
        Ok(Some(Conmon { peer, directory, exits }))
    }

    /// Where conmon writes down how a worker ended, in a file by the container's id.
    pub fn exits(&self) -> &Path {
        &self.exits
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        self.peer.id()
    }

    /// Creates and starts the container. conmon detaches itself before its runtime has created it,
    /// and tells by a pipe what came of that.
    pub fn start(&self) -> Outcome<Watched> {
        let (reading, telling) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut command = self.command()?;
        command.env("_OCI_SYNCPIPE", telling.as_raw_fd().to_string());
        fcntl_setfd(&telling, FdFlags::empty())?;
        let began = timed(self.peer.at_home(command)?);
        drop(telling);
        began?;
        let mut line = String::new();
        BufReader::new(File::from(reading)).read_line(&mut line)?;
        let worker = worker(&line).ok_or_else(|| format!("{NAME} says '{}'", line.trim()))?;
        let conmon = fs::read_to_string(self.pid_file())?.trim().parse()?;
        timed(self.peer.start()?)?;
        Ok(Watched { conmon: Pid::from_raw(conmon).ok_or("no pid")?, worker })
    }

    /// Ends the worker if it has not ended, and removes what is kept of it.
    pub fn remove(&self, watched: &Watched) -> Outcome<()> {
        let _ = kill_process(watched.worker, Signal::KILL);
        waitpid(Some(watched.conmon), WaitOptions::empty())?;
        fs::remove_file(self.exits.join(self.id()))?;
        timed(self.peer.delete()?).map(drop)
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.join("pid")
    }

    fn command(&self) -> Outcome<Command> {
        let id = self.id();
        let mut command = Command::new(NAME);
        command
            .args(["--api-version", "1", "--cid", id, "--cuuid", id, "--name", id, "--runtime"])
            .arg(program(Kind::Crun.name())?);
        command.arg("--bundle").arg(self.peer.bundle()).arg("--conmon-pidfile").arg(self.pid_file());
        command.arg("--container-pidfile").arg(self.directory.join("worker.pid"));
        command.arg("--exit-dir").arg(&self.exits).arg("--persist-dir").arg(&self.directory);
        command.args(["--full-attach", "--log-path", "none", "--runtime-arg", "--root", "--runtime-arg"]);
        command.arg(self.peer.root());
        Ok(command)
    }
}

/// The worker that was created, as conmon tells of it: less than 1 where none was.
fn worker(line: &str) -> Option<Pid> {
    let told: Value = serde_json::from_str(line).ok()?;
    Pid::from_raw(i32::try_from(told["data"].as_i64()?).ok().filter(|pid| *pid > 0)?)
}

/// Where a program is: conmon does not look for its runtime.
fn program(name: &str) -> Outcome<PathBuf> {
    let search = std::env::var("PATH").unwrap_or_default();
    let found = search.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.exists());
    found.ok_or_else(|| format!("{name} is not there").into())
}
