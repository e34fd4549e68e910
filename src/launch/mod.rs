//! The launch process: makes one container, answers its caller, and becomes the container's
//! monitor.
//!
//! It is forked for one launch, from a process with a single thread (the command line program
//! itself, or the spawner), because it calls libcontainer, which clones without exec and changes
//! what is the process's own. On success it never returns: its last act is to execute the monitor,
//! which keeps its pid and with it the parenthood of init. On failure it takes back every step and
//! reports.

mod enter;
mod exit_file;
pub(crate) mod handoff;
pub(crate) mod inheritance;
mod init;
pub(crate) mod job;
pub(crate) mod pid_file;
pub(crate) mod place;
pub(crate) mod progress;
mod report;
mod rlimits;
mod root_guard;
mod streams;
mod undo;
pub(crate) mod wire;

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::Value;

use crate::cgroup::{Cgroup, Joining, Layout, Scope};
use crate::error::{Context, Error, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::host::{ClockId, boot_id, check_proc, monotonic_ns, nanoseconds, pid_namespace};
use crate::layer::{LayerStore, OpenLayer, check_layers, without_repeats};
use crate::log::Logging;
use crate::lsm::Confinement;
use crate::request::{LaunchSpec, Network, OnExit};
use crate::root::binds::Sources;
use crate::root::upper;
use crate::settings::Settings;
use crate::stage::Stage;
use crate::state::claim::Claim;
use crate::state::record::{
    Draft, LaunchRecord, LayerRecord, MOST_REMOVED, ProcessId, SCHEMA, StageTime, microseconds,
};
use crate::sys::{self, Cloned, Fork};
use crate::systemd;
use init::Init;
use init::worker::Worker;
pub(crate) use job::{ExecJob, Goal, Job, Order};
use place::{Place, Which};
use progress::{Answer, Line};
pub(crate) use report::start_failure;
use report::{Outcome, Report, read_report};
use undo::Undo;

/// How long init may take to become the workload. It waits for nothing but the kernel and the
/// image's file system; half a minute is what a cold network file system may need, and what Storm's
/// own launcher allows a busy mount.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does what is asked for, and watches what it has started; does not return. The caller of the fork
/// gets one [`Answer`] through `answer`.
pub(crate) fn run(order: Order, answer: OwnedFd) -> ! {
    let line = Line::new(answer);
    // libcontainer logs through whatever the embedding program has set up, which may have lost its
    // threads in the fork.
    let _silence = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
    let started = match &order {
        Order::Launch(job) => taken_back_unless(&line, |undo| steps(job, &line, undo)),
        Order::Exec(job) => taken_back_unless(&line, |undo| enter::steps(job, &line, undo)),
    };
    let code = match started {
        Ok((record, watched)) => {
            line.answer(&Answer::Launched(Box::new(record)));
            watched.become_monitor()
        }
        Err(error) => {
            line.answer(&Answer::Failed(error));
            1
        }
    };
    sys::exit_now(code)
}

/// The life of a process that the spawner forked: its order comes over the socket on which it
/// answers.
pub(crate) fn serve(socket: OwnedFd) -> ! {
    let stream = std::os::unix::net::UnixStream::from(socket);
    match wire::receive_order(&stream) {
        Ok(order) => run(order, stream.into()),
        Err(error) => {
            Line::new(stream.into()).answer(&Answer::Failed(error));
            sys::exit_now(1)
        }
    }
}

/// The clock of the stages.
struct Stopwatch {
    began: u64,
    last: u64,
    stages: Vec<StageTime>,
}

impl Stopwatch {
    /// Runs since the caller's call.
    fn since(called_ns: u64) -> Stopwatch {
        Stopwatch { began: called_ns, last: called_ns, stages: Vec::new() }
    }

    /// The stage ends now.
    fn lap(&mut self, stage: Stage) {
        let now = monotonic_ns();
        self.push(stage, self.last, now);
        self.last = now;
    }

    fn push(&mut self, stage: Stage, from: u64, to: u64) {
        self.stages
            .push(StageTime { stage, microseconds: microseconds(Duration::from_nanos(to.saturating_sub(from))) });
    }

    /// Init's stages: each ends where the next begins, and the last with the pipe. The first one,
    /// the clone, began before there was an init to say so: with the end of the stage before it.
    fn add_report(&mut self, report: &Report, end: u64) {
        let ends = report.entered.iter().skip(1).map(|(_, instant)| *instant).chain([end]);
        for ((stage, _), end) in report.entered.iter().zip(ends) {
            self.push(*stage, self.last, end);
            self.last = end;
        }
    }
}

/// What came of the steps; where they fail, what they made is taken back.
fn taken_back_unless(line: &Line, steps: impl FnOnce(&mut Undo) -> Result<Started>) -> Result<Started> {
    let mut undo = Undo::default();
    let started = steps(&mut undo);
    started.map_err(|error| {
        line.announce(Stage::Remove);
        undo.take_back(error)
    })
}

/// What runs now, as it is recorded and as it is watched.
type Started = (LaunchRecord, handoff::Watched);

/// The launch, as a straight line. What a step made is told to `undo` at once.
fn steps(job: &Job, line: &Line, undo: &mut Undo) -> Result<Started> {
    let mut clock = Stopwatch::since(job.called_ns);
    let created_unix_ns = nanoseconds(ClockId::Realtime);

    let mut notes = job.notes.clone();
    notes.extend(inheritance::clean()?);
    let users = job.settings.users();
    let foreseen = job.own_user.as_ref().map(|_| users.preview(job.spec.clone())).transpose()?;
    let spec = foreseen.as_ref().unwrap_or(&job.spec);
    notes.extend(spec.root.note());
    let files = job.files.as_ref();
    let by_path = match files {
        None => {
            let layers = check_layers(spec)?;
            notes.extend(job.settings.check_image_roots(spec, &layers)?);
            without_repeats(layers)
        }
        Some(_) => Vec::new(),
    };
    let layer_files = files.map_or(&by_path, |files| &files.layers);
    clock.lap(Stage::Request);

    line.enter(Stage::Claim)?;
    check_proc()?;
    let pid_place = Place::of_job(Which::PidFile, spec, files)?;
    let exit_place = exit_file::place(spec, files)?;
    job.settings.run_root.prepare()?;
    let (layout, scope) = (Layout::detect()?, spec.scope());
    // Whoever the caller's cgroup is delegated to can stop what is in it at any moment, with every
    // lock that it holds.
    let exposed = crate::cgroup::is_delegated(&layout)?;
    if exposed {
        leave_callers_cgroup(&layout, scope.as_ref(), &job.settings)?;
    }
    let claimed = job.own_user.as_ref().map(|own| users.claim(spec.clone(), &own.files)).transpose()?;
    let spec = claimed.as_ref().map_or(spec, |(spec, _)| spec);
    let claim = Claim::make(&job.settings.run_root, spec)?;
    undo.directory(&claim.path);
    job.own_user.as_ref().map_or(Ok(()), |own| streams::give(&job.stdio, &own.streams, &spec.user))?;
    let log = Logging::prepare(spec, &claim.path)?;
    log.iter().for_each(|log| undo.log(log));
    let stdio = streams::protect(&job.stdio, &spec.user)?;
    let stdio = match &log {
        None => stdio.each_ref().map(AsFd::as_fd),
        Some(log) => streams::with_output(&stdio, log.streams()),
    };
    notes.extend(users.note(spec)?);
    let given = job.settings.ledger().claim(spec, &claim, &layout)?;
    let spec = given.as_ref().unwrap_or(spec);
    let removed = job.settings.run_root.removed();
    removed.forget(spec.id.as_str())?;
    pid_place.iter().for_each(|place| undo.pid_place(place));
    let pid_file = pid_place.map(|place| place.make(&spec.id, &claim)).transpose()?;
    clock.lap(Stage::Claim);

    line.enter(Stage::Layers)?;
    let store = LayerStore::new(job.settings.run_root.layers(), job.settings.keep_layers);
    let layers = store.mount_all(layer_files, || line.go_on(Stage::Layers))?;
    clock.lap(Stage::Layers);

    line.enter(Stage::Cgroup)?;
    let spec = &job.settings.default_limits.complete(spec, &layout)?;
    if scope.is_some() && !exposed {
        leave_callers_cgroup(&layout, scope.as_ref(), &job.settings)?;
    }
    let (cgroup, adjustments) = Cgroup::create(&layout, &spec.cgroup, &spec.limits)?;
    let cgroup_inode = crate::cgroup::inode_of(&layout, &spec.cgroup);
    undo.cgroup(&layout, &spec.cgroup, cgroup_inode);
    claim.note_cgroup(cgroup_inode)?;
    let above = upper::above_overlay(spec, files)?;
    clock.lap(Stage::Cgroup);

    line.enter(Stage::Binds)?;
    let sources = Sources::clone_all(spec, files, &layout)?;
    let masked = crate::oci::masked_paths(&spec.user);
    clock.lap(Stage::Binds);

    line.enter(Stage::Clone)?;
    let step = init::exec_stub::file()?;
    let root_filter = root_guard::filter_for(spec)?;
    let (report, report_writing) = pipe_with(PipeFlags::CLOEXEC).at(Stage::Clone, "report", "pipe2")?;
    let (admission, admission_writing) = pipe_with(PipeFlags::CLOEXEC).at(Stage::Clone, "admission", "pipe2")?;
    let joining = if cgroup.clone_into_fd().is_some() { Joining::AfterCloneInto } else { Joining::Everywhere };
    let procs = cgroup.procs_fds(joining)?;
    let worker = Worker {
        spec,
        admission: &admission,
        step: &step,
        stdio,
        console: job.console.as_ref(),
        filter: job.filter.as_ref(),
        root_filter: root_filter.as_ref(),
    };
    let init =
        Init { worker, layout: &layout, layers: &layers, sources: &sources, above: above.as_ref(), masked: &masked };
    let child = match sys::clone3(namespaces(spec), cgroup.clone_into_fd())
        .at(Stage::Clone, "init", "clone3")
        .at_limit(libc::EAGAIN, Limit::Processes)
        .at_limit(libc::ENOSPC, Limit::Namespaces)?
    {
        Fork::Child => {
            drop((report, admission_writing));
            init::become_workload(&init, report_writing)
        }
        Fork::Parent(child) => child,
    };
    undo.child(&child);
    drop(report_writing);
    let layer_sources: Vec<_> = layers.iter().map(|layer| layer.source).collect();
    drop((layers, sources));

    // Init builds its root by now. It is admitted twice: when it is in its cgroups, and when nothing
    // is left that could be refused.
    line.enter(Stage::Join)?;
    let in_cgroups = enter_cgroups(&cgroup, joining, &procs, &child)?;
    if in_cgroups {
        admit(&admission_writing)?;
    }
    // Late, because the first move between cgroups waits for the kernel, and init works meanwhile.
    if scope.is_none() && !exposed {
        leave_callers_cgroup(&layout, None, &job.settings)?;
    }
    notes.extend(protect_from_oom_killer());
    line.enter(Stage::Monitor)?;
    let output = log.map_or(Ok(Vec::new()), |log| log.start(child.pid, child.pidfd.as_fd()))?;
    if let Some(file) = &pid_file {
        file.write(child.pid, &claim)?;
    }
    let confinement = Confinement::of(spec);
    let mut record = LaunchRecord {
        schema: SCHEMA,
        id: spec.id.as_str().to_owned(),
        boot_id: boot_id()?,
        init: identify(child.pid)?,
        monitor: identify(rustix::process::getpid().as_raw_pid())?,
        created_unix_ns,
        started_boot_ns: 0,
        pid_namespace: pid_namespace()?,
        cgroup: spec.cgroup.as_str().to_owned(),
        cgroup_inode,
        layers: layer_records(layer_files, &layer_sources),
        adjustments,
        notes,
        // As long as the kernel's words will be, or nearly: room is taken for it.
        confined_by: confinement.as_ref().map(|confinement| confinement.name().to_owned()),
        launch_microseconds: 0,
        stages: Vec::new(),
        spec: serde_json::to_value(spec).expect("a spec is plain data"),
    };
    let room = text_of(&record).len() + ROOM_FOR_THE_REST;
    let draft = Draft::reserve(claim.path.join("record.json"), room, 0o600).at(Stage::Record, "record.json", "open")?;
    let prepared = handoff::Prepared::make(claim.into(), &format!("container '{}'", spec.id), job.goal)?;
    if spec.on_exit == OnExit::Remove {
        undo.removed_exit(removed.keep(prepared.directory.open.as_fd(), spec.id.as_str())?);
    }
    // Of one that is only created, its monitor admits init.
    let held_back = match job.goal {
        Goal::Create => Some(admission_writing),
        Goal::Start => {
            if in_cgroups {
                admit(&admission_writing)?;
            }
            None
        }
    };
    let oom = handoff::watch_memory(&layout, &spec.cgroup);
    store.trim_after(&layer_sources);
    removed.trim(MOST_REMOVED);

    line.enter(Stage::Become)?;
    let reached = read_report(&report, spec, job.goal, PATIENCE)?;
    clock.add_report(&reached, monotonic_ns());
    succeeded(reached.outcome, job.goal, &child)?;
    match job.goal {
        Goal::Create => record.confined_by = None,
        Goal::Start => {
            record.started_boot_ns = nanoseconds(ClockId::Boottime);
            record.notes.extend(note_owner(&child, spec));
            record.confined_by = confinement.and_then(|confinement| confinement.in_force(child.pid));
        }
    }

    line.enter(Stage::PidFile)?;
    exit_place.as_ref().map_or(Ok(()), exit_file::remove_old)?;
    pid_file.map_or(Ok(()), |file| file.publish())?;
    clock.lap(Stage::PidFile);

    line.enter(Stage::Record)?;
    record.launch_microseconds = microseconds(Duration::from_nanos(clock.last - clock.began));
    record.stages = clock.stages;
    draft.finish(&text_of(&record)).at(Stage::Record, "record.json", "write")?;
    let container = handoff::Whole { cgroup, upper: above.map(|above| above.upper), oom, exit_file: exit_place };
    let watched = handoff::Watched {
        id: record.id.clone(),
        boot_id: record.boot_id.clone(),
        created_unix_ns,
        started_boot_ns: record.started_boot_ns,
        timeout: spec.timeout,
        stop_signal: spec.stop_signal,
        on_exit: spec.on_exit,
        prepared,
        child,
        container: Some(container),
        gate: held_back.map(|admission| handoff::Gate { admission, report }),
        output,
    };
    // The caller knows its own spec.
    let answer = if *spec == job.spec { LaunchRecord { spec: Value::Null, ..record } } else { record };
    Ok((answer, watched))
}

/// What a record grows by after its room was taken: the time of each stage and the last note.
const ROOM_FOR_THE_REST: usize = 4096;

fn text_of(record: &LaunchRecord) -> Vec<u8> {
    serde_json::to_vec(record).expect("a record is plain data")
}

/// Goes where the monitor will be. What signals came while this process was in its caller's cgroup
/// were for the caller; from here on they are for the monitor, which stops its container.
fn leave_callers_cgroup(layout: &Layout, scope: Option<&Scope>, settings: &Settings) -> Result<()> {
    match scope {
        Some(scope) => systemd::enter(layout, scope)?,
        None => crate::cgroup::join_monitors(layout, &settings.monitors)?,
    }
    sys::forget_pending(libc::SIGTERM);
    Ok(())
}

/// Moves init into its cgroups. False: it has ended already, and has said why in its report.
fn enter_cgroups(cgroup: &Cgroup, joining: Joining, procs: &[OwnedFd], child: &Cloned) -> Result<bool> {
    match crate::cgroup::place(procs, child.pid) {
        Ok(()) => Ok(true),
        Err(failure) if failure.errno == libc::ESRCH => Ok(false),
        Err(failure) => Err(cgroup.join_error(joining, failure)),
    }
}

/// Lets init go on. One that has ended has said why in its report.
fn admit(admission: &OwnedFd) -> Result<()> {
    match rustix::io::write(admission, &[1]) {
        Ok(_) | Err(rustix::io::Errno::PIPE) => Ok(()),
        Err(errno) => Err(errno).at(Stage::Join, "admission", "write"),
    }
}

/// The namespaces of init from its birth. Uts is left to libcontainer, which sets the host name in
/// it, and cgroup comes after joining.
pub(crate) fn namespaces(spec: &LaunchSpec) -> u64 {
    let own_network = match spec.network {
        Network::Host => 0,
        Network::None => libc::CLONE_NEWNET,
    };
    (libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | own_network) as u64
}

/// The monitor should be the last thing to be killed. This takes CAP_SYS_RESOURCE, which root may
/// lack.
fn protect_from_oom_killer() -> Option<String> {
    match std::fs::write("/proc/self/oom_score_adj", "-999") {
        Ok(()) => None,
        Err(error) => Some(format!("oom_score_adj of the monitor stays as it was: {error}")),
    }
}

fn succeeded(outcome: Outcome, goal: Goal, child: &Cloned) -> Result<()> {
    let stage = match (outcome, goal) {
        (Outcome::Executed, _) | (Outcome::Ready, Goal::Create) => return Ok(()),
        (Outcome::Failed(error), _) => return Err(error),
        (Outcome::Ready, Goal::Start) => Stage::Init,
        (Outcome::Vanished(stage), _) => stage,
    };
    let text = "it died before the workload started";
    Err(Error::process_ended(stage, "init", "wait", undo::end_of(child), text))
}

/// What to note of who `/proc/<pid>` belongs to after exec: the user, unless the worker has hidden
/// itself already (`PR_SET_DUMPABLE`), or a handler of binfmt_misc cannot be read. Init has looked
/// at the program and its interpreters before. A supervisor that compares owners takes such a
/// process for a stranger's.
fn note_owner(child: &Cloned, spec: &LaunchSpec) -> Option<String> {
    let path = format!("/proc/{}", child.pid);
    // No entry: it has ended, and there is nobody to own it.
    let uid = rustix::fs::stat(path.as_str()).ok()?.st_uid;
    let hidden = uid != spec.user.uid() && !undo::has_ended(child);
    hidden.then(|| {
        format!(
            "{path}: it belongs to uid {uid}: the worker made itself not dumpable, or its user cannot read what runs it"
        )
    })
}

fn layer_records(layers: &[OpenLayer], sources: &[crate::layer::LayerSource]) -> Vec<LayerRecord> {
    let records = layers.iter().zip(sources).map(|(layer, source)| LayerRecord {
        path: layer.path.as_str().to_owned(),
        layer_id: layer.identity.layer_id(),
        source: Some(*source),
    });
    records.collect()
}

fn identify(pid: i32) -> Result<ProcessId> {
    ProcessId::of(pid).ok_or_else(|| {
        let object = format!("/proc/{pid}/stat");
        Error::process_ended(Stage::Record, object, "read", None, "the process is not to be seen in /proc")
    })
}
