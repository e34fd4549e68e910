//! A profile made into one program.
//!
//! ```text
//! the architecture is another?           kill the process
//! the number is in x32's table?          ENOSYS, or the default action where that is stricter
//! binary search for the number's range   ranges of numbers that are treated alike, merged
//! conditions, by seccompiler             only for calls that have some
//! ```

use seccompiler::{BpfProgram, SeccompRule};

use super::assembly::{Assembly, Label};
use crate::error::Problem;
use crate::seccomp::profile::Profile;
use crate::seccomp::profile::action::Action;
use crate::seccomp::profile::architecture::NATIVE;
use crate::seccomp::profile::condition::Condition;
use crate::seccomp::profile::treatment::{Clause, Treatment, Treatments};
use crate::sys::instruction::{
    ARCHITECTURE_AT, Instruction, JUMP, JUMP_EQUAL, JUMP_GREATER_OR_EQUAL, LOAD, NUMBER_AT, RETURN,
};

/// Longest program that the kernel takes: `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

/// Makes the program, or says that it would be too long.
pub(in crate::seccomp) fn compile(profile: &Profile) -> Result<Vec<Instruction>, Problem> {
    let treatments = Treatments::of(profile);
    let ranges = ranges(&treatments);
    let mut code = Code { treatments: &treatments, assembly: Assembly::default(), made: Vec::new() };
    let entry = code.search(&ranges)?;
    let entry = match NATIVE.second_table {
        Some(first) => {
            let denied = code.assembly.answer(second_table(profile));
            code.assembly.branch(JUMP_GREATER_OR_EQUAL, first, denied, entry)
        }
        None => entry,
    };
    let program = code.assembly.finish(entry, &prologue());
    if program.len() > MAX_INSTRUCTIONS { Err(too_long()) } else { Ok(program) }
}

/// What is done with x32's calls: they do not exist, as on a kernel that was built without them,
/// unless the default is stricter.
pub(in crate::seccomp) fn second_table(profile: &Profile) -> Action {
    let absent = Action::Errno(libc::ENOSYS as u16);
    if profile.default.strictness() < absent.strictness() { profile.default } else { absent }
}

fn prologue() -> [Instruction; 4] {
    [
        Instruction::plain(LOAD, ARCHITECTURE_AT),
        Instruction { code: JUMP_EQUAL, jt: 1, jf: 0, k: NATIVE.audit },
        Instruction::plain(RETURN, Action::KillProcess.to_kernel()),
        Instruction::plain(LOAD, NUMBER_AT),
    ]
}

fn too_long() -> Problem {
    let reason = format!(
        "needs more than {MAX_INSTRUCTIONS} instructions, the most that the kernel takes: use fewer conditions"
    );
    Problem { field: "syscalls".to_owned(), reason }
}

/// Numbers from this one to the next range's are treated alike.
struct Range<'t, 'p> {
    from: u32,
    treatment: &'t Treatment<'p>,
}

fn ranges<'t, 'p>(treatments: &'t Treatments<'p>) -> Vec<Range<'t, 'p>> {
    let alike = |one: &Treatment<'_>, other: &Treatment<'_>| {
        one.clauses == other.clauses
            && (one.is_unconditional() || treatments.action(one.otherwise) == treatments.action(other.otherwise))
    };
    let mut ranges: Vec<Range<'t, 'p>> = Vec::new();
    for (from, treatment) in (0..).zip(treatments.all()) {
        if ranges.last().is_none_or(|last| !alike(last.treatment, treatment)) {
            ranges.push(Range { from, treatment });
        }
    }
    ranges
}

/// The program being made.
struct Code<'t, 'p> {
    treatments: &'t Treatments<'p>,
    assembly: Assembly,
    /// Conditional treatments that are there already.
    made: Vec<(&'t Treatment<'p>, Label)>,
}

impl<'t, 'p> Code<'t, 'p> {
    /// The search among these ranges, by halves.
    fn search(&mut self, ranges: &[Range<'t, 'p>]) -> Result<Label, Problem> {
        if let [range] = ranges {
            return self.treatment(range.treatment);
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let from = high[0].from;
        let high = self.search(high)?;
        let low = self.search(low)?;
        Ok(self.assembly.branch(JUMP_GREATER_OR_EQUAL, from, high, low))
    }

    fn treatment(&mut self, treatment: &'t Treatment<'p>) -> Result<Label, Problem> {
        if let [only] = treatment.clauses.as_slice()
            && only.conditions.is_empty()
        {
            return Ok(self.assembly.answer(only.rule.action));
        }
        let otherwise = self.treatments.action(treatment.otherwise);
        if treatment.clauses.is_empty() {
            return Ok(self.assembly.answer(otherwise));
        }
        let alike = |made: &&(&Treatment<'_>, Label)| {
            made.0.clauses == treatment.clauses && self.treatments.action(made.0.otherwise) == otherwise
        };
        if let Some((_, label)) = self.made.iter().find(alike) {
            return Ok(*label);
        }
        let mut label = self.assembly.answer_here(otherwise);
        for clause in treatment.clauses.iter().rev() {
            label = self.clause(clause)?;
        }
        self.made.push((treatment, label));
        Ok(label)
    }

    /// One clause, before the code that goes on where its conditions are not met. seccompiler's
    /// code falls through when they are, and skips one instruction, the answer, when not.
    fn clause(&mut self, clause: &Clause<'_>) -> Result<Label, Problem> {
        if self.assembly.len() > MAX_INSTRUCTIONS {
            return Err(too_long());
        }
        let code = conditions(clause.conditions).map_err(|error| Problem {
            field: clause.rule.field(),
            reason: format!("seccompiler does not take its conditions: {error}"),
        })?;
        self.assembly.answer_here(clause.rule.action);
        Ok(self.assembly.prepend_all(code.into_iter().map(Instruction::from)))
    }
}

/// The code of conditions of which all must be met. It begins with two jumps that only
/// seccompiler's own chain of rules needs.
fn conditions(conditions: &[Condition]) -> Result<BpfProgram, seccompiler::BackendError> {
    let conditions = conditions.iter().map(|condition| condition.to_seccompiler()).collect::<Result<_, _>>()?;
    let mut code = BpfProgram::from(SeccompRule::new(conditions)?);
    if code.first().is_some_and(|first| first.code == JUMP && first.k == 1) {
        code.drain(..2);
    }
    Ok(code)
}
