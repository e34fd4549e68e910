//! Whether the record of a worker says what is true.

use serde_json::{Value, json};
use squall::record::{EndReason, Exit, ExitRecord, StoppedBy};
use squall::{Container, ErrorKind, ExecEnd, Exited};

use crate::Outcome;
use crate::journal::Journal;
use crate::kernel_log::KernelLog;
use crate::life::sessions_of;
use crate::plan::{End, Exec, FORBIDDEN, Fate, Plan, Stopper};
use crate::word::Deed;

/// How long the monitor leaves a worker that does not heed its deadline, in nanoseconds.
const DEADLINE_GRACE_NS: u64 = 10_000_000_000;

/// What is wrong with what is found of a worker, if anything.
pub fn judge(plan: &Plan, found: &squall::Result<Container>, journal: &Journal, log: &KernelLog) -> Vec<String> {
    let mut problems: Vec<String> = of_refusals(plan, journal).into_iter().collect();
    match found {
        Err(error) if plan.leaves_no_record() && error.kind() == ErrorKind::NotFound => {}
        Err(error) => problems.push(format!("no record of it: {error}")),
        Ok(Container::Exited(_)) if plan.leaves_no_record() => problems.push("a record of what cannot begin".into()),
        Ok(Container::Exited(exited)) => {
            problems.extend(of_end(plan, exited, journal, log));
            problems.extend(of_what_was_told(plan, exited.exit(), journal));
            for (place, exec) in plan.execs.iter().enumerate() {
                let container = Container::Exited(exited.clone());
                problems.extend(
                    of_exec(plan, place, *exec, &container, journal).unwrap_or_else(|error| Some(error.to_string())),
                );
            }
        }
        Ok(other) => problems.push(format!("it is {}", other.phase().name())),
    }
    problems
}

/// Every refusal says what it was by, and nothing else was refused.
fn of_refusals(plan: &Plan, journal: &Journal) -> Option<String> {
    let refused = journal.refused(plan.number);
    let truth = match plan.fate {
        Fate::Missing if refused.is_empty() => return Some("its launch was not refused".into()),
        Fate::Missing => ("program-not-found", "become", libc::ENOENT),
        _ => ("program-not-executable", "become", libc::ENOEXEC),
    };
    let said = |error: &Value| json!([error["kind"], error["stage"], error["errno"]]);
    let truth = json!([truth.0, truth.1, truth.2]);
    refused.iter().find(|error| said(error) != truth).map(|error| format!("refused by {error}, and true is {truth}"))
}

fn of_end(plan: &Plan, exited: &Exited, journal: &Journal, log: &KernelLog) -> Option<String> {
    let exit = exited.exit();
    let Some(truth) = plan.fate.truth() else { return of_start(exited) };
    let end = end_of(&exit.exit);
    let unheeded = matches!(plan.fate, Fate::Deadline { after_ms }
        if end == End::Signal(libc::SIGKILL as u8) && exit.wall_ns >= Some(after_ms * 1_000_000 + DEADLINE_GRACE_NS));
    if (end != truth.end && !unheeded) || exit.reason != truth.reason {
        return Some(format!("it ended by {end:?}, {:?}, and true is {truth:?}", exit.reason));
    }
    let stopper = match (truth.stopper, exit.stopped_by) {
        (Stopper::Nobody, None) | (Stopper::Deadline, Some(StoppedBy::Deadline)) => true,
        (Stopper::Program, Some(StoppedBy::Request { pid })) => journal.intents(plan.number, Deed::Stop).contains(&pid),
        _ => false,
    };
    if !stopper {
        let meant = journal.intents(plan.number, Deed::Stop);
        return Some(format!("stopped by {:?}, and true is {:?} of {meant:?}", exit.stopped_by, truth.stopper));
    }
    of_memory(plan, exit).or_else(|| of_filter(plan, exited, log))
}

/// The kernel refused the program.
fn of_start(exited: &Exited) -> Option<String> {
    let error = exited.start_error().map(|error| (error.kind(), error.stage().to_string(), error.errno()));
    let truth = (ErrorKind::ProgramNotExecutable, "become".to_owned(), Some(libc::ENOEXEC));
    let never = exited.exit().reason == EndReason::NeverStarted && exited.exit().wall_ns.is_none();
    (!never || error.as_ref() != Some(&truth)).then(|| format!("it never started, by {error:?}, and true is {truth:?}"))
}

/// Of a hierarchy without the counter nothing is told.
fn of_memory(plan: &Plan, exit: &ExitRecord) -> Option<String> {
    let oom = exit.oom.as_ref();
    let (kills, own) = (oom.and_then(|oom| oom.kills), oom.and_then(|oom| oom.own));
    let right = match plan.fate {
        Fate::OutOfMemory => kills >= Some(1) && own != Some(0),
        _ => kills.unwrap_or(0) == 0,
    };
    (!right).then(|| format!("out of memory: {oom:?}"))
}

/// The kernel's log leaves lines out when there are many; what it has, the record has to have.
fn of_filter(plan: &Plan, exited: &Exited, log: &KernelLog) -> Option<String> {
    let (kill, pid) = (exited.exit().seccomp_kill, exited.record().init.pid);
    let right = match (plan.fate, kill) {
        (Fate::Filtered, Some(kill)) => kill.name() == Some(FORBIDDEN),
        (Fate::Filtered, None) => !log.names(pid),
        (_, kill) => kill.is_none(),
    };
    (!right).then(|| format!("killed by its filter for {kill:?}; the kernel's log names it: {}", log.names(pid)))
}

/// Whoever waited, and the stream, told what is on record.
fn of_what_was_told(plan: &Plan, exit: &ExitRecord, journal: &Journal) -> Option<String> {
    let told = journal.told(plan.number);
    let record = json!(exit);
    let false_one = told.iter().find(|told| told.exit != record);
    match false_one {
        Some(told) => Some(format!("a {} told {}, and on record is {record}", told.by, told.exit)),
        None if told.iter().all(|told| told.by != "stream") => Some("the stream did not tell its end".into()),
        None => None,
    }
}

/// There may be as many sessions as there were intents. Where one was meant to be killed and an
/// embedder was killed meanwhile, it may have been left to end with its container.
fn of_exec(plan: &Plan, place: usize, exec: Exec, container: &Container, journal: &Journal) -> Outcome<Option<String>> {
    let sessions = sessions_of(container, place)?;
    let most = journal.intents(plan.number, Deed::Exec(place)).len();
    if sessions.is_empty() || sessions.len() > most {
        return Ok(Some(format!("program {place}: {} sessions, {most} times meant", sessions.len())));
    }
    let mut ends = Vec::new();
    for session in &sessions {
        match session.end()? {
            Some(ExecEnd::Exited(exit)) => ends.push(end_of(&exit.exit)),
            other => return Ok(Some(format!("program {place}: {other:?}"))),
        }
    }
    let left = |end: &End| matches!(exec, Exec::Killed { .. }) && sessions.len() > 1 && *end == Exec::Left.end();
    let right = ends.contains(&exec.end()) && ends.iter().all(|end| *end == exec.end() || left(end));
    Ok((!right).then(|| format!("program {place}: {ends:?}, and true is {exec:?}")))
}

fn end_of(exit: &Exit) -> End {
    match exit {
        Exit::Code { code } => End::Code(*code),
        Exit::Signal { signal, .. } => End::Signal(*signal),
    }
}
