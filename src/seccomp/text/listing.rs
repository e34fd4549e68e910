//! A profile as people read it: calls grouped by what is done with them.

use std::fmt;

use serde::Serialize;

use crate::seccomp::filter::program;
use crate::seccomp::profile::action::Action;
use crate::seccomp::profile::architecture::NATIVE;
use crate::seccomp::profile::condition::all_of;
use crate::seccomp::profile::treatment::{Otherwise, Treatment, Treatments};
use crate::seccomp::profile::{Profile, call};

/// Calls that are treated alike, whatever their arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Group {
    /// What is done.
    pub action: Action,
    /// The calls' names, in the order of their numbers.
    pub calls: Vec<&'static str>,
}

/// Calls whose arguments decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Conditional {
    /// The calls' names.
    pub calls: Vec<&'static str>,
    /// Conditions in the order in which they are looked at, and what is done when one is met.
    pub cases: Vec<Case>,
    /// What is done when none is.
    pub otherwise: Action,
}

/// One case of a conditional treatment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Case {
    /// The conditions: `arg0 == 0x10 and arg2 != 0x9`.
    pub when: String,
    /// What is done.
    pub action: Action,
}

/// All of a profile in readable form. Calls that rules do not decide are not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Listing {
    /// Calls that rules decide without looking at arguments, the strictest action last.
    pub unconditional: Vec<Group>,
    /// Calls whose arguments decide.
    pub conditional: Vec<Conditional>,
    /// What is done with all others.
    pub default: Action,
    /// Above this number calls answer ENOSYS: the highest that the profile names.
    pub newer_than: Option<u32>,
    /// Whether clone3 answers ENOSYS although the profile does not name it.
    pub clone3_absent: bool,
    /// What is done with calls of a second table that stays closed (x32), where there is one.
    pub second_table: Option<Action>,
}

impl Profile {
    /// The profile in readable form.
    #[must_use]
    pub fn listing(&self) -> Listing {
        let treatments = Treatments::of(self);
        let mut listing = Listing {
            unconditional: Vec::new(),
            conditional: Vec::new(),
            default: self.default,
            newer_than: None,
            clone3_absent: treatments.get(call::CLONE3).otherwise == Otherwise::Clone3,
            second_table: NATIVE.second_table.map(|_| program::second_table(self)),
        };
        if treatments.all().last().is_some_and(|last| last.otherwise == Otherwise::Newer) {
            listing.newer_than = Some(treatments.highest_named());
        }
        for (number, treatment) in (0..).zip(treatments.all()) {
            let name = call::name_of(number).unwrap_or_default();
            match treatment.clauses.as_slice() {
                [] => {}
                [only, ..] if only.conditions.is_empty() => listing.add_group(only.rule.action, name),
                _ => listing.add_conditional(treatment, treatments.action(treatment.otherwise), name),
            }
        }
        listing.unconditional.sort_by_key(|group| std::cmp::Reverse(group.action.strictness()));
        listing
    }
}

impl Listing {
    fn add_group(&mut self, action: Action, name: &'static str) {
        match self.unconditional.iter_mut().find(|group| group.action == action) {
            Some(group) => group.calls.push(name),
            None => self.unconditional.push(Group { action, calls: vec![name] }),
        }
    }

    fn add_conditional(&mut self, treatment: &Treatment<'_>, otherwise: Action, name: &'static str) {
        let clauses = treatment.clauses.iter();
        let cases = clauses.map(|clause| Case { when: all_of(clause.conditions), action: clause.rule.action });
        let cases: Vec<Case> = cases.collect();
        match self.conditional.iter_mut().find(|known| known.cases == cases && known.otherwise == otherwise) {
            Some(known) => known.calls.push(name),
            None => self.conditional.push(Conditional { calls: vec![name], cases, otherwise }),
        }
    }
}

/// Widest line of calls.
const WIDTH: usize = 100;

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in &self.unconditional {
            writeln!(f, "{} ({}):", group.action, group.calls.len())?;
            write_words(f, &group.calls)?;
        }
        for conditional in &self.conditional {
            writeln!(f, "by arguments: {}", conditional.calls.join(", "))?;
            for case in &conditional.cases {
                writeln!(f, "  if {}: {}", case.when, case.action)?;
            }
            writeln!(f, "  else: {}", conditional.otherwise)?;
        }
        writeln!(f, "everything else: {}", self.default)?;
        if self.clone3_absent {
            writeln!(f, "clone3: {} (its flags cannot be seen; C libraries use clone)", ABSENT)?;
        }
        if let Some(highest) = self.newer_than {
            writeln!(f, "above call {highest}: {} (newer than the profile)", ABSENT)?;
        }
        if let Some(action) = self.second_table {
            writeln!(f, "x32 calls: {action}")?;
        }
        write!(f, "calls of other architectures (32-bit): {}", Action::KillProcess)
    }
}

const ABSENT: Action = Action::Errno(libc::ENOSYS as u16);

/// Words in lines, indented.
fn write_words(f: &mut fmt::Formatter<'_>, words: &[&str]) -> fmt::Result {
    let mut line = String::new();
    for word in words {
        if line.len() + word.len() > WIDTH {
            writeln!(f, " {line}")?;
            line.clear();
        }
        line.push(' ');
        line.push_str(word);
    }
    writeln!(f, " {line}")
}
