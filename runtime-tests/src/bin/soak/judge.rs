//! Whether what is told of an end is true.

use squall::record::{EndReason, ExitRecord};

use crate::door::Answer;
use crate::plan::{Door, End, Fate, Plan, Victim};
use crate::tally::Problem;

/// What is told of a container in the end.
#[derive(Debug)]
pub enum Told {
    Exited(Box<ExitRecord>),
    /// Lost; with what the kernel may still have known.
    Lost(Option<Fate>),
    /// There is no such container.
    Absent,
    /// Its launch died half way.
    HalfWay,
    /// It is there, and no answer came.
    Refused(String),
}

/// What is wrong, if anything.
pub fn judge(plan: &Plan, struck: Option<Victim>, answer: &Answer, code: Option<i32>, told: &Told) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(of_launch(plan, struck, answer, told));
    problems.extend(of_end(plan, struck, answer, told));
    problems.extend(code.and_then(|code| of_code(plan, struck, answer, code, told)));
    problems
}

fn of_launch(plan: &Plan, struck: Option<Victim>, answer: &Answer, told: &Told) -> Option<Problem> {
    match answer {
        Answer::Failed { missing: true, .. } if plan.end == End::Missing => None,
        // Whoever was killed, the launch may have failed by it.
        Answer::Failed { .. } if struck.is_some() => None,
        Answer::Failed { text, .. } => Some(Problem::Launch(text.clone())),
        Answer::Launched if plan.end == End::Missing => {
            Some(Problem::False(format!("there is no such program, and it was launched: {told:?}")))
        }
        Answer::Silence if struck.is_none() => Some(Problem::Broken("the caller says nothing".to_owned())),
        _ => None,
    }
}

fn of_end(plan: &Plan, struck: Option<Victim>, answer: &Answer, told: &Told) -> Option<Problem> {
    let fates = fates(plan, struck);
    match told {
        Told::Exited(exit) => {
            let fate = Fate::of(&exit.exit);
            if !fates.contains(&fate) {
                return Some(Problem::False(format!("{fate:?} is told, and true is one of {fates:?}: {exit:?}")));
            }
            of_reason(plan, struck, exit)
        }
        Told::Lost(_) if !may_be_lost(struck) => {
            Some(Problem::False("lost, and its monitor was left alone".to_owned()))
        }
        Told::Lost(Some(known)) if !fates.contains(known) => {
            Some(Problem::False(format!("the kernel is said to know {known:?}, and true is one of {fates:?}")))
        }
        Told::Lost(_) => None,
        Told::Absent if matches!(answer, Answer::Launched) && plan.door != Door::Remove && !may_be_lost(struck) => {
            Some(Problem::False("it was launched, and there is no record of it".to_owned()))
        }
        Told::Absent => None,
        Told::HalfWay if struck.is_none() || answer == &Answer::Launched => {
            Some(Problem::Launch("the launch died half way, and nobody killed it".to_owned()))
        }
        Told::HalfWay => None,
        Told::Refused(text) => Some(Problem::Command(text.clone())),
    }
}

/// The reason, and what belongs to it.
fn of_reason(plan: &Plan, struck: Option<Victim>, exit: &ExitRecord) -> Option<Problem> {
    if struck == Some(Victim::Init) {
        return None;
    }
    let by_memory = exit.oom.as_ref().and_then(|oom| oom.kills) >= Some(1);
    let limit_met = plan.end != End::OutOfMemory || by_memory;
    let reason = exit.reason == plan.reason() && limit_met;
    (!reason).then(|| {
        let kind: EndReason = plan.reason();
        Problem::False(format!("the reason was {kind:?}, and told is {exit:?}"))
    })
}

/// The exit code of a program in the foreground is the worker's.
fn of_code(plan: &Plan, struck: Option<Victim>, answer: &Answer, code: i32, told: &Told) -> Option<Problem> {
    if *answer != Answer::Launched {
        return None;
    }
    let right = match told {
        Told::Exited(exit) => code == Fate::of(&exit.exit).as_code() || (code == 125 && may_be_lost(struck)),
        _ => {
            let true_codes: Vec<i32> = fates(plan, struck).into_iter().map(Fate::as_code).collect();
            true_codes.contains(&code) || (code == 125 && may_be_lost(struck))
        }
    };
    (!right).then(|| Problem::False(format!("squall run ends with {code}, and told is {told:?}")))
}

fn fates(plan: &Plan, struck: Option<Victim>) -> Vec<Fate> {
    let killed = Fate::Signal(libc::SIGKILL as u8);
    // The kill may have come too late, so the planned end is true as well.
    let by_kill = match (struck, plan.end) {
        (Some(Victim::Init), _) => true,
        // Without a monitor somebody has to end it.
        (Some(Victim::Monitor | Victim::Launch), End::Heeded | End::Timeout) => true,
        _ => false,
    };
    let mut fates = plan.fates();
    fates.extend(by_kill.then_some(killed));
    fates
}

fn may_be_lost(struck: Option<Victim>) -> bool {
    matches!(struck, Some(Victim::Monitor | Victim::Launch))
}
