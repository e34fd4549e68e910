//! A further program in a running container.
//!
//! The process that is forked for it stays outside: it clones a child into the container's pid
//! namespace and cgroup, which enters the other namespaces by itself, and then becomes the child's
//! monitor, as a launch process does. So the program's end is known whoever asked for it is gone.
//!
//! libcontainer is not in it: what init has of it takes a socket on a file system of its own, which
//! a running container does not have.
//!
//! The container may be hostile, and is awake. Until it executes something the child is the host's
//! program with the caller's memory: nobody inside can trace it or look into it, because it is not
//! dumpable from its parent's first step on, has capabilities, and changes its ids (each of which
//! is enough). The program in between cannot be read by its user, and so is not dumpable either;
//! the program itself has nothing but its three streams. The namespaces are those of init's pidfd,
//! which is opened first and compared with the record then.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, fchmod};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior, setsid, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, ThreadNameSpaceType, move_into_thread_name_spaces, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_res_gid, set_thread_res_uid,
};

use super::handoff::{Prepared, Watched};
use super::init::worker::{self, Never, Worker};
use super::init::{exec_stub, home};
use super::job::{ExecJob, Goal};
use super::progress::Line;
use super::report::{Outcome, Reporter, read_report};
use super::undo::{self, Undo};
use super::{
    Started, admit, identify, inheritance, leave_callers_cgroup, protect_from_oom_killer, root_guard, streams, text_of,
};
use crate::cgroup::{self, Cgroup, CgroupPath, Joining, Layout, Scope};
use crate::error::{Context, Error, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::host::{ClockId, boot_id, check_proc, nanoseconds, pid_namespace};
use crate::lsm::Confinement;
use crate::oci::UMASK;
use crate::phase::Phase;
use crate::request::{LaunchSpec, OnExit};
use crate::stage::Stage;
use crate::state::claim;
use crate::state::record::{Draft, LaunchRecord, SCHEMA};
use crate::sys::{self, Cloned, Fork, ParentDeath};

/// How long the child may take to become the program.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks whether the container has been frozen, while the child takes longer than
/// usual: cgroup v1 tells nobody of it.
const LOOK: Duration = Duration::from_secs(1);

/// What errors call the child.
const OBJECT: &str = "exec'd program";

/// The namespaces that the child enters: all of the container's but the one of its pids, which it
/// is born in.
const NAMESPACES: ThreadNameSpaceType = ThreadNameSpaceType::MOUNT
    .union(ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION)
    .union(ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME)
    .union(ThreadNameSpaceType::NETWORK)
    .union(ThreadNameSpaceType::CONTROL_GROUP);

/// Executes the program, as a straight line. What a step made is told to `undo` at once.
pub(super) fn steps(job: &ExecJob, line: &Line, undo: &mut Undo) -> Result<Started> {
    let entered = entered(job, line, undo);
    // Whatever failed, it failed because the container ended meanwhile.
    entered.map_err(|error| if job.container.init.is_alive() { error } else { has_ended(job) })
}

fn entered(job: &ExecJob, line: &Line, undo: &mut Undo) -> Result<Started> {
    let created_unix_ns = nanoseconds(ClockId::Realtime);
    let mut notes = inheritance::clean()?;

    line.enter(Stage::Claim)?;
    check_proc()?;
    let (layout, spec) = (Layout::detect()?, &job.spec);
    let exposed = cgroup::is_delegated(&layout)?;
    if exposed {
        leave(&layout, job)?;
    }
    let init = init_of(job)?;
    refuse_frozen(&layout, job)?;
    let directory = claim::make_exec(&job.directory, &job.container)?;
    undo.directory(&directory.path);
    let stdio = streams::protect(&job.stdio, &spec.user)?;

    line.enter(Stage::Clone)?;
    let step = unreadable_step()?;
    let root_filter = root_guard::filter_for(spec)?;
    let (report, report_writing) = pipe_with(PipeFlags::CLOEXEC).at(Stage::Clone, "report", "pipe2")?;
    let (admission, admission_writing) = pipe_with(PipeFlags::CLOEXEC).at(Stage::Clone, "admission", "pipe2")?;
    let inode = job.container.cgroup_inode;
    let cgroup = Cgroup::open_made(&layout, &spec.cgroup, inode)?.ok_or_else(|| has_ended(job))?;
    let joining = if cgroup.clone_into_fd().is_some() { Joining::AfterCloneInto } else { Joining::Everywhere };
    let procs = cgroup.procs_fds(joining)?;
    // Of this process's children alone.
    move_into_thread_name_spaces(init.as_fd(), ThreadNameSpaceType::PROCESS_ID).at(
        Stage::Clone,
        OBJECT,
        "setns(CLONE_NEWPID)",
    )?;
    let child = match sys::clone3(0, cgroup.clone_into_fd())
        .at(Stage::Clone, OBJECT, "clone3")
        .at_limit(libc::EAGAIN, Limit::Processes)?
    {
        Fork::Child => {
            drop((report, admission_writing));
            let worker = Worker {
                spec,
                admission: &admission,
                step: &step,
                stdio: stdio.each_ref().map(AsFd::as_fd),
                console: job.console.as_ref(),
                filter: job.filter.as_ref(),
                root_filter: root_filter.as_ref(),
            };
            become_program(&worker, init, report_writing)
        }
        Fork::Parent(child) => child,
    };
    undo.child(&child);
    drop((report_writing, init));

    line.enter(Stage::Join)?;
    match cgroup::place(&procs, child.pid) {
        Ok(()) => (0..2).try_for_each(|_| admit(&admission_writing))?,
        Err(failure) if failure.errno == libc::ESRCH => {}
        Err(failure) => return Err(cgroup.join_error(joining, failure)),
    }
    if !exposed {
        leave(&layout, job)?;
    }
    notes.extend(protect_from_oom_killer());
    line.enter(Stage::Monitor)?;
    let path = directory.path.clone();
    let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let prepared = Prepared::make(directory, &format!("exec session '{id}'"), Goal::Start)?;

    line.enter(Stage::Become)?;
    until_executed(&report, &layout, job, &child)?;
    succeeded(read_report(&report, spec, Goal::Start, PATIENCE)?.outcome, &child)?;

    line.enter(Stage::Record)?;
    let confinement = Confinement::of(spec).and_then(|confinement| confinement.in_force(child.pid));
    let record = LaunchRecord {
        schema: SCHEMA,
        id,
        boot_id: boot_id()?,
        init: identify(child.pid)?,
        monitor: identify(rustix::process::getpid().as_raw_pid())?,
        created_unix_ns,
        started_boot_ns: nanoseconds(ClockId::Boottime),
        pid_namespace: pid_namespace()?,
        cgroup: job.container.cgroup.clone(),
        cgroup_inode: inode,
        layers: Vec::new(),
        adjustments: Vec::new(),
        notes,
        confined_by: confinement,
        launch_microseconds: crate::host::monotonic_ns().saturating_sub(job.called_ns) / 1000,
        stages: Vec::new(),
        spec: serde_json::to_value(spec).expect("a spec is plain data"),
    };
    let text = text_of(&record);
    let draft = Draft::reserve(path.join("record.json"), text.len(), 0o600).at(Stage::Record, "record.json", "open")?;
    draft.finish(&text).at(Stage::Record, "record.json", "write")?;
    let watched = Watched {
        id: record.id.clone(),
        boot_id: record.boot_id.clone(),
        created_unix_ns,
        started_boot_ns: record.started_boot_ns,
        timeout: spec.timeout,
        // Not the worker's: an exec'd program may be anything.
        stop_signal: libc::SIGTERM,
        on_exit: OnExit::Keep,
        prepared,
        child,
        container: None,
        gate: None,
        output: Vec::new(),
    };
    Ok((record, watched))
}

fn object(job: &ExecJob) -> String {
    format!("container '{}'", job.container.id)
}

fn has_ended(job: &ExecJob) -> Error {
    Error::wrong_phase(Stage::Clone, object(job), "exec", Phase::Exited, Phase::Running)
}

/// Init's pidfd, held while it is entered: of exactly the process on record, and in this pid
/// namespace.
fn init_of(job: &ExecJob) -> Result<OwnedFd> {
    let record = &job.container;
    if record.pid_namespace != pid_namespace()? {
        let text = "it was launched from another pid namespace: its pids mean nothing here";
        return Err(Error::malformed(Stage::Claim, object(job), "exec", text));
    }
    let of_this_boot = record.boot_id == boot_id()?;
    record.init.open().filter(|_| of_this_boot).ok_or_else(|| has_ended(job))
}

fn refuse_frozen(layout: &Layout, job: &ExecJob) -> Result<()> {
    match cgroup::frozen(layout, &job.spec.cgroup) {
        None => Ok(()),
        Some(frozen) => Err(Error::frozen(Stage::Join, object(job), frozen)),
    }
}

/// Goes where the container's own monitor is.
fn leave(layout: &Layout, job: &ExecJob) -> Result<()> {
    match job.spec.scope().as_ref().map(Scope::monitor) {
        Some(monitor) => join(layout, &monitor),
        None => leave_callers_cgroup(layout, None, &job.settings),
    }
}

fn join(layout: &Layout, path: &CgroupPath) -> Result<()> {
    cgroup::join_monitors(layout, path)?;
    sys::forget_pending(libc::SIGTERM);
    Ok(())
}

/// The program in between in a file that its user can execute and not read: then the kernel makes a
/// process that executes it not dumpable.
fn unreadable_step() -> Result<OwnedFd> {
    let step = exec_stub::file()?;
    fchmod(&step, Mode::from_raw_mode(0o111)).at(Stage::Clone, "squall-step", "fchmod")?;
    Ok(step)
}

/// Waits until the child has executed the program, or has ended. A container that is frozen
/// meanwhile holds it up, and is not waited for: the child is taken out, so that it can be ended.
fn until_executed(report: &OwnedFd, layout: &Layout, job: &ExecJob, child: &Cloned) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = Instant::now();
        if crate::wait::hangs_up_by(report.as_fd(), deadline.min(now + LOOK)).at(Stage::Become, OBJECT, "poll")? {
            return Ok(());
        }
        if let Err(frozen) = refuse_frozen(layout, job) {
            // Where this process is by now. Cgroup v1 lets nobody die in a frozen one.
            let monitors = job.spec.scope().map_or_else(|| job.settings.monitors.clone(), |scope| scope.monitor());
            let procs = Cgroup::open(layout, &monitors).and_then(|own| own.procs_fds(Joining::Everywhere));
            let _ = procs.map(|procs| cgroup::place(&procs, child.pid));
            return Err(frozen);
        }
        if now >= deadline {
            let text = "it did not become the program in time";
            return Err(Error::timed_out(Stage::Become, OBJECT, "poll", PATIENCE, text).of_process(Some(child.pid)));
        }
    }
}

fn succeeded(outcome: Outcome, child: &Cloned) -> Result<()> {
    let stage = match outcome {
        Outcome::Executed => return Ok(()),
        Outcome::Failed(error) => return Err(error),
        Outcome::Ready => Stage::Init,
        Outcome::Vanished(stage) => stage,
    };
    let text = "it died before it became the program";
    Err(Error::process_ended(stage, OBJECT, "wait", undo::end_of(child), text))
}

/// Becomes the program, or reports why not and ends this process.
fn become_program(worker: &Worker<'_>, init: OwnedFd, report: OwnedFd) -> ! {
    let report = Rc::new(report);
    let error = match child_steps(worker, init, &report) {
        Err(error) => error,
        Ok(never) => match never {},
    };
    Reporter(report.as_fd()).fail(&error);
    sys::exit_now(1)
}

/// Who we are: a copy of the process outside, in the container's pid namespace and on the way into
/// its cgroup; root with all of its capabilities. One thread.
fn child_steps(worker: &Worker<'_>, init: OwnedFd, report: &Rc<OwnedFd>) -> Result<Never> {
    let (reporter, spec) = (Reporter(report.as_fd()), worker.spec);
    reporter.enter(Stage::Clone);
    worker.close_all_but(report, [init.as_fd()]);
    sys::on_parent_death(ParentDeath::Kill).at(Stage::Clone, OBJECT, "prctl(PR_SET_PDEATHSIG)")?;
    hide()?;
    setsid().at(Stage::Clone, OBJECT, "setsid")?;
    sys::join_new_session_keyring().at(Stage::Clone, "session keyring", "keyctl(JOIN_SESSION_KEYRING)")?;
    umask(Mode::from_raw_mode(UMASK));
    worker.take_streams()?;

    reporter.enter(Stage::Root);
    move_into_thread_name_spaces(init.as_fd(), NAMESPACES).at(Stage::Root, OBJECT, "setns")?;
    drop(init);
    let root = root()?;
    let home = home::variable(root.as_fd(), spec);
    let terminal = worker.make_terminal(root.as_fd())?;
    let working_directory = worker::open_working_directory(root.as_fd(), spec)?;
    worker::enter_working_directory(&working_directory, spec)?;
    drop((root, working_directory));

    reporter.enter(Stage::Join);
    worker::wait_for_admission(worker.admission)?;

    reporter.enter(Stage::Init);
    worker::reopen_null_streams()?;
    let workload = worker.workload(home, terminal, report)?;
    drop_privileges(spec)?;
    Err(workload.become_program(&reporter))
}

/// The container's root, where entering its mount namespace has led.
fn root() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/", flags, Mode::empty()).at(Stage::Root, "root", "open")
}

/// The user's ids and groups, no capability in any set, and no way to get one by executing a
/// program.
fn drop_privileges(spec: &LaunchSpec) -> Result<()> {
    const CAPABILITIES: &str = "capabilities";
    let empty = CapabilitySet::empty();
    caps::clear(None, caps::CapSet::Bounding)
        .map_err(|error| Error::malformed(Stage::Init, CAPABILITIES, "prctl(PR_CAPBSET_DROP)", error))?;
    worker::set_groups(spec)?;
    // A change of ids may make it dumpable (sysctl fs.suid_dumpable): until it is not, nobody of its
    // new user may trace what has capabilities.
    set_keep_capabilities(true).at(Stage::Init, OBJECT, "prctl(PR_SET_KEEPCAPS)")?;
    let (uid, gid) = (Uid::from_raw(spec.user.uid()), Gid::from_raw(spec.user.gid()));
    set_thread_res_gid(gid, gid, gid).at(Stage::Init, OBJECT, "setresgid")?;
    set_thread_res_uid(uid, uid, uid).at(Stage::Init, OBJECT, "setresuid")?;
    hide()?;
    let none = CapabilitySets { effective: empty, permitted: empty, inheritable: empty };
    set_capabilities(None, none).at(Stage::Init, CAPABILITIES, "capset")?;
    set_no_new_privs(true).at(Stage::Init, OBJECT, "prctl(PR_SET_NO_NEW_PRIVS)")
}

/// Nobody may trace this process or look into it who has not every capability.
fn hide() -> Result<()> {
    let no_dump = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    no_dump.at(Stage::Init, OBJECT, "prctl(PR_SET_DUMPABLE)")
}
