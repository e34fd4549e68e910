//! Running one worker of the demonstration, and reading back what came of it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as ProcessStdio};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::Value;

use super::image::{Image, PROGRAM};
use squall::Stage as LaunchStage;
use squall::cgroup::{CgroupPath, Controller, Layout, Limits, Usage};
use squall::error::{Context, Error, ErrorKind, Result};
use squall::layer::Trim;
use squall::record::{ExitRecord, LaunchRecord, ProcessId};
use squall::request::{Identity, LaunchSpec, Seccomp};
use squall::{Container, Ended, Running, Squall, Stdio};

/// The unprivileged user that every worker is.
const NOBODY: u32 = 65534;

/// How long the record of a worker that runs already may be on its way.
const PATIENCE: Duration = Duration::from_secs(10);

/// A worker to be run.
pub(super) struct Worker<'a> {
    name: &'a str,
    args: Vec<String>,
    limits: Limits,
    seccomp: Seccomp,
}

impl<'a> Worker<'a> {
    pub(super) fn new(name: &'a str, args: &[&str]) -> Worker<'a> {
        // Held until its cgroup has been looked at: a worker may be quicker than we are.
        let args = [PROGRAM, "held"].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        Worker { name, args, limits: Limits::default(), seccomp: Seccomp::Default }
    }

    pub(super) fn limits(mut self, limits: Limits) -> Worker<'a> {
        self.limits = limits;
        self
    }

    /// Without a filter for system calls, to compare.
    pub(super) fn unconfined(mut self) -> Worker<'a> {
        self.seccomp = Seccomp::Unconfined;
        self
    }
}

/// What came of a worker.
pub(super) struct Done {
    pub(super) record: LaunchRecord,
    pub(super) exit: ExitRecord,
    /// Read from its cgroup right after its launch: its limits, above all.
    pub(super) usage: Usage,
    /// CPUs that its cgroup's quota amounts to, read back.
    pub(super) quota: Option<f64>,
    pub(super) output: String,
}

impl Done {
    /// What the probe said, where that is JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap_or(Value::Null)
    }
}

/// What came of a worker whose launching program was killed.
pub(super) struct Survived {
    pub(super) launcher: u32,
    pub(super) launcher_signal: i32,
    pub(super) ran_on: bool,
    pub(super) exit: ExitRecord,
}

/// Run root, cgroups and image of the demonstration.
pub(super) struct Stage {
    squall: Squall,
    run_root: PathBuf,
    cgroup: String,
    layers: Vec<String>,
    layout: Layout,
}

impl Stage {
    pub(super) fn set_up(tag: &str, image: &Image) -> Result<Stage> {
        let run_root = run_root(tag);
        let cgroup = format!("/{tag}");
        let squall = Squall::builder().run_root(&run_root).monitors(format!("{cgroup}/monitors")).build()?;
        Ok(Stage { squall, run_root, cgroup, layers: image.paths(), layout: Layout::detect()? })
    }

    /// Runs a worker to its end.
    pub(super) fn run(&self, worker: Worker<'_>) -> Result<Done> {
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC).at(LaunchStage::Request, "pipe", "pipe2")?;
        let (held, holding) = pipe_with(PipeFlags::CLOEXEC).at(LaunchStage::Request, "pipe", "pipe2")?;
        let mut stdio = Stdio::null()?;
        stdio.streams[0] = held;
        stdio.streams[1] = writing;
        let spec = self.spec(worker)?;
        let running = self.squall.launch(&spec, stdio)?;
        let record = running.record().clone();
        let usage = running.usage()?;
        let quota = self.quota(&spec.cgroup);
        drop(holding);
        let mut output = String::new();
        fs::File::from(reading).read_to_string(&mut output).at(LaunchStage::Watch, "worker's output", "read")?;
        let exit = exit_of(running)?;
        Ok(Done { record, exit, usage, quota, output })
    }

    fn spec(&self, worker: Worker<'_>) -> Result<LaunchSpec> {
        let nobody =
            Identity::new(NOBODY, NOBODY, [NOBODY]).map_err(|bad| Error::invalid("demo", vec![bad.at("user")]))?;
        LaunchSpec::builder(worker.name)
            .layers(&self.layers)
            .args(worker.args)
            .user(nobody)
            .limits(worker.limits)
            .seccomp(worker.seccomp)
            .cgroup(format!("{}/{}", self.cgroup, worker.name))
            .build()
    }

    /// Runs a worker by the command line program, which is killed as soon as the worker runs.
    pub(super) fn run_and_kill_launcher(&self, program: &Path, worker: Worker<'_>) -> Result<Survived> {
        let mut command = Command::new(program);
        command.arg("--root").arg(&self.run_root).args(["--monitor-cgroup", &format!("{}/monitors", self.cgroup)]);
        command.args(["run", "--name", worker.name, "--cgroup-parent", &self.cgroup]);
        command.args(self.layers.iter().flat_map(|layer| ["--layer", layer])).arg("--").args(&worker.args);
        let object = format!("program '{}'", program.display());
        let mut launcher = command.stdout(ProcessStdio::piped()).stdin(ProcessStdio::null()).spawn().at(
            LaunchStage::Request,
            &object,
            "spawn",
        )?;
        let mut line = String::new();
        let output = launcher.stdout.take().ok_or_else(|| missing(&object))?;
        BufReader::new(output).read_line(&mut line).at(LaunchStage::Watch, &object, "read")?;
        launcher.kill().at(LaunchStage::Stop, &object, "kill")?;
        let status = launcher.wait().at(LaunchStage::Stop, &object, "wait")?;
        // The worker may have spoken before its launch process had written the record.
        let container = settled(self.squall.attach(worker.name)?)?;
        let Container::Running(running) = container else { return Err(missing(worker.name)) };
        let ran_on = line == "ready\n" && running.record().init.is_alive();
        let exit = exit_of(running)?;
        Ok(Survived { launcher: launcher.id(), launcher_signal: status.signal().unwrap_or(0), ran_on, exit })
    }

    /// CPUs of the quota that is in force in a cgroup.
    fn quota(&self, path: &CgroupPath) -> Option<f64> {
        let hierarchy = self.layout.holder(Controller::Cpu)?;
        let directory = hierarchy.directory(path);
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number > 0.0);
        if hierarchy.is_v2() {
            let text = fs::read_to_string(format!("{directory}/cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            return Some(number(quota)? / number(period)?);
        }
        let read = |file: &str| fs::read_to_string(format!("{directory}/{file}")).ok();
        Some(number(&read("cpu.cfs_quota_us")?)? / number(&read("cpu.cfs_period_us")?)?)
    }

    /// Gives up every layer. The kernel lets go of a loop device only a moment after the last mount
    /// namespace with it has ended, on a busy machine later than we come by, and until then the
    /// layer's directory stays.
    fn reap(&self) -> Result<()> {
        const MOMENT: Duration = Duration::from_millis(20);
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.squall.reap(0, Trim::Do)?;
            let mut layers = fs::read_dir(self.run_root.join("layers")).into_iter().flatten();
            if layers.next().is_none() || Instant::now() >= deadline {
                return Ok(());
            }
            std::thread::park_timeout(MOMENT);
        }
    }

    /// Removes everything, and names every process there was. An object that cannot be removed does
    /// not keep the others; its error is the answer.
    pub(super) fn tear_down(self) -> Result<Vec<ProcessId>> {
        let mut processes = Vec::new();
        let mut outcome = Ok(());
        for container in self.squall.containers()?.containers {
            let ended = settled(container).and_then(|container| {
                processes.extend(container.record().into_iter().flat_map(|record| [record.init, record.monitor]));
                end(container)
            });
            outcome = outcome.and(ended);
        }
        outcome = outcome.and(self.reap());
        outcome?;
        // Nobody has a user of this run root any more.
        let users = self.run_root.join("users");
        absent(fs::remove_dir_all(&users)).at(LaunchStage::Remove, users.display(), "rmdir")?;
        for directory in ["layers", "containers", "logs", "removed", ""] {
            let path = self.run_root.join(directory);
            absent(fs::remove_dir(&path)).at(LaunchStage::Remove, path.display(), "rmdir")?;
        }
        Ok(processes)
    }
}

/// The run root of this tag: in memory, wherever the machine has that.
pub(super) fn run_root(tag: &str) -> PathBuf {
    /// What statfs(2) calls a tmpfs (<linux/magic.h>).
    const TMPFS: u64 = 0x0102_1994;
    let in_memory = |path: &&str| rustix::fs::statfs(*path).is_ok_and(|kind| kind.f_type as u64 == TMPFS);
    let base = ["/run", "/dev/shm"].into_iter().find(in_memory).unwrap_or("/run");
    PathBuf::from(base).join(tag)
}

/// A container whose launch is over.
fn settled(container: Container) -> Result<Container> {
    match container {
        Container::Launching(created) => created.settle(PATIENCE),
        other => Ok(other),
    }
}

fn end(container: Container) -> Result<()> {
    match container {
        Container::Created(created) => created.kill_tree()?.remove(),
        Container::Running(running) => running.kill_tree()?.remove(),
        Container::Paused(paused) => paused.kill_tree()?.remove(),
        Container::Exited(exited) => exited.remove(),
        Container::Lost(lost) => lost.remove(),
        Container::Launching(launching) => launching.abandon(),
        other => Err(missing(other.id())),
    }
}

fn exit_of(running: Running) -> Result<ExitRecord> {
    let name = running.record().id.clone();
    match running.wait()? {
        Ended::Exited(exited) => Ok(exited.exit().clone()),
        Ended::Lost(_) => Err(missing(&name)),
    }
}

fn missing(object: &str) -> Error {
    Error::found(ErrorKind::System, LaunchStage::Watch, object, "wait", "it is not there as it should be")
}

/// What is gone already need not be removed.
fn absent(result: std::io::Result<()>) -> std::io::Result<()> {
    result.or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
