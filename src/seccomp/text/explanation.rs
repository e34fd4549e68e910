//! Why a call is decided as it is.

use std::fmt;

use serde::Serialize;

use crate::seccomp::filter::program;
use crate::seccomp::profile::action::Action;
use crate::seccomp::profile::architecture::NATIVE;
use crate::seccomp::profile::condition::{Condition, all_of};
use crate::seccomp::profile::treatment::{Otherwise, Treatments};
use crate::seccomp::profile::{Profile, call};

/// What decides a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// A rule.
    Rule {
        /// Its place: `syscalls[12]`.
        field: String,
        /// The conditions that the arguments meet; nothing for a rule without conditions.
        conditions: Option<String>,
    },
    /// No rule; the default action counts.
    Default {
        /// Rules for this call whose conditions the arguments do not meet.
        not_met: Vec<String>,
    },
    /// The call is newer than everything that the profile names.
    Newer {
        /// The rule that everything newer gets.
        than: u32,
    },
    /// clone3, whose flags no filter can see.
    Clone3,
    /// A call of a second table that stays closed: x32.
    SecondTable,
}

/// What happens to a call, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The call's number.
    pub number: u32,
    /// Its name, where it has one.
    pub name: Option<&'static str>,
    /// Its arguments.
    pub args: [u64; 6],
    /// What happens.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

impl Profile {
    /// The number of a call that a person gave by its name, or by its number in decimal or with
    /// `0x`.
    #[must_use]
    pub fn call_number(text: &str) -> Option<u32> {
        call::parse(text)
    }

    /// What happens to a call with these arguments, and why, from the rules themselves;
    /// [`crate::seccomp::Filter::decide`] asks the program.
    #[must_use]
    pub fn explain(&self, number: u32, args: &[u64; 6]) -> Explanation {
        let explanation =
            |action, reason| Explanation { number, name: call::name_of(number), args: *args, action, reason };
        if NATIVE.second_table.is_some_and(|first| number >= first) {
            return explanation(program::second_table(self), Reason::SecondTable);
        }
        let treatments = Treatments::of(self);
        let treatment = treatments.get(number);
        let met = |conditions: &[Condition]| conditions.iter().all(|condition| condition.is_met_by(args));
        if let Some(clause) = treatment.clauses.iter().find(|clause| met(clause.conditions)) {
            let conditions = (!clause.conditions.is_empty()).then(|| all_of(clause.conditions));
            return explanation(clause.rule.action, Reason::Rule { field: clause.rule.field(), conditions });
        }
        let reason = match treatment.otherwise {
            Otherwise::Newer => Reason::Newer { than: treatments.highest_named() },
            Otherwise::Clone3 => Reason::Clone3,
            Otherwise::Default => {
                let text = |(field, conditions)| format!("{field}: {conditions}");
                let clauses = treatment.clauses.iter();
                Reason::Default {
                    not_met: clauses.map(|clause| text((clause.rule.field(), all_of(clause.conditions)))).collect(),
                }
            }
        };
        explanation(treatments.action(treatment.otherwise), reason)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => write!(f, "{name} ({}): {}: {}", self.number, self.action, self.reason),
            None => write!(f, "call {} (no name here): {}: {}", self.number, self.action, self.reason),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Rule { field, conditions: None } => write!(f, "{field}, whatever the arguments"),
            Reason::Rule { field, conditions: Some(conditions) } => write!(f, "{field}, since {conditions}"),
            Reason::Default { not_met } if not_met.is_empty() => f.write_str("defaultAction, since no rule names it"),
            Reason::Default { not_met } => write!(f, "defaultAction, since these are not met: {}", not_met.join("; ")),
            Reason::Newer { than } => {
                write!(
                    f,
                    "newer than the profile, which names nothing above {than}, so that programs use the older call"
                )
            }
            Reason::Clone3 => f.write_str("a filter cannot see its flags, so that C libraries use clone"),
            Reason::SecondTable => f.write_str("the table of x32 stays closed"),
        }
    }
}
