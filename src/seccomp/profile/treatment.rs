//! What a profile does with each call: its rules resolved.
//!
//! Several rules for one call are resolved as libseccomp does with those that it takes, and runc
//! before it:
//!
//! 1. A rule that says what the default action says adds nothing.
//! 2. A rule without conditions makes all others for that call redundant, wherever it stands; of
//!    two, the first counts.
//! 3. Of rules with conditions that are all met, the strictest action counts, in the kernel's
//!    order; of two denials with different errnos, the first. libseccomp refuses equal conditions
//!    with different actions, and for other overlaps its answer depends on how its tree happens to
//!    be laid out (it checks the higher argument first, say), so there Squall is the stricter one.

use super::Profile;
use super::action::Action;
use super::call;
use super::condition::Condition;
use super::rule::Rule;
use super::warning::Warning;

/// One way that a call can be decided.
#[derive(Debug, Clone, Copy)]
pub(in crate::seccomp) struct Clause<'p> {
    pub(in crate::seccomp) rule: &'p Rule,
    pub(in crate::seccomp) conditions: &'p [Condition],
}

impl PartialEq for Clause<'_> {
    /// Whether the filter does the same, whichever rule it comes from.
    fn eq(&self, other: &Self) -> bool {
        self.rule.action == other.rule.action && self.conditions == other.conditions
    }
}

/// Why a call that no rule decides is decided so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::seccomp) enum Otherwise {
    /// The default action.
    Default,
    /// ENOSYS, since the number is above all that the profile names: it is newer, and programs then
    /// use the older call.
    Newer,
    /// ENOSYS, since a filter cannot see what clone3 is asked for, and C libraries then use clone.
    Clone3,
}

/// What is done with a call.
#[derive(Debug, Clone)]
pub(in crate::seccomp) struct Treatment<'p> {
    /// The first whose conditions are met decides. One without conditions is the only one.
    pub(in crate::seccomp) clauses: Vec<Clause<'p>>,
    /// What is done if none is.
    pub(in crate::seccomp) otherwise: Otherwise,
}

impl Treatment<'_> {
    /// Whether the arguments do not matter since a rule without conditions decides.
    pub(in crate::seccomp) fn is_unconditional(&self) -> bool {
        self.clauses.first().is_some_and(|clause| clause.conditions.is_empty())
    }
}

/// Treatments of all calls, by number. The last is for all numbers above.
pub(in crate::seccomp) struct Treatments<'p> {
    profile: &'p Profile,
    named: Named,
    by_number: Vec<Treatment<'p>>,
}

impl<'p> Treatments<'p> {
    /// Resolves the rules of a profile.
    pub(in crate::seccomp) fn of(profile: &'p Profile) -> Treatments<'p> {
        let named = Named::by(profile);
        let treatment = |number| Treatment { clauses: Vec::new(), otherwise: named.otherwise(number) };
        let last = named.highest.map_or(0, |highest| highest + 1).max(call::CLONE3 + 1);
        let mut by_number: Vec<_> = (0..=last).map(treatment).collect();
        for rule in profile.rules.iter().filter(|rule| rule.action != profile.default) {
            for number in &rule.calls {
                add(&mut by_number[*number as usize].clauses, rule);
            }
        }
        by_number.iter_mut().for_each(|treatment| sort(&mut treatment.clauses));
        Treatments { profile, named, by_number }
    }

    /// All, from number 0 on; the last is for all numbers from its own on.
    pub(in crate::seccomp) fn all(&self) -> &[Treatment<'p>] {
        &self.by_number
    }

    /// That of a call.
    pub(in crate::seccomp) fn get(&self, number: u32) -> &Treatment<'p> {
        &self.by_number[(number as usize).min(self.by_number.len() - 1)]
    }

    /// The highest number that any rule names; 0 if none does.
    pub(in crate::seccomp) fn highest_named(&self) -> u32 {
        self.named.highest.unwrap_or_default()
    }

    /// What becomes of calls that no clause decides.
    pub(in crate::seccomp) fn action(&self, otherwise: Otherwise) -> Action {
        match otherwise {
            Otherwise::Default => self.profile.default,
            Otherwise::Newer | Otherwise::Clone3 => Action::Errno(libc::ENOSYS as u16),
        }
    }
}

/// What a profile that denies by default knows of. Any other treats a call that it does not name as
/// its author wrote.
struct Named {
    denies: bool,
    highest: Option<u32>,
    clone3: bool,
}

impl Named {
    fn by(profile: &Profile) -> Named {
        let calls = || profile.rules.iter().flat_map(|rule| rule.calls.iter().copied());
        Named {
            denies: matches!(profile.default, Action::Errno(_)),
            highest: calls().max(),
            clone3: calls().any(|number| number == call::CLONE3),
        }
    }

    fn otherwise(&self, number: u32) -> Otherwise {
        match self.highest {
            _ if !self.denies => Otherwise::Default,
            Some(highest) if number > highest => Otherwise::Newer,
            _ if number == call::CLONE3 && !self.clone3 => Otherwise::Clone3,
            _ => Otherwise::Default,
        }
    }
}

fn add<'p>(clauses: &mut Vec<Clause<'p>>, rule: &'p Rule) {
    if clauses.first().is_some_and(|first| first.conditions.is_empty()) {
        return;
    }
    for conditions in &rule.alternatives {
        if conditions.is_empty() {
            clauses.clear();
            clauses.push(Clause { rule, conditions });
            return;
        }
        clauses.push(Clause { rule, conditions });
    }
}

/// The sort is stable: of equally strict ones the first stays first.
fn sort(clauses: &mut [Clause<'_>]) {
    if clauses.len() > 1 {
        clauses.sort_by_key(|clause| clause.rule.action.strictness());
    }
}

/// Rules that do nothing for a call although other rules for it do something.
pub(in crate::seccomp) fn warnings(profile: &Profile) -> Vec<Warning> {
    let same: Vec<&Rule> = profile.rules.iter().filter(|rule| rule.action == profile.default).collect();
    if same.is_empty() {
        return Vec::new();
    }
    let treatments = Treatments::of(profile);
    let decided = |number: &&u32| !treatments.get(**number).clauses.is_empty();
    let warning = |rule: &&Rule| {
        let number = rule.calls.iter().find(decided)?;
        let name = call::name_of(*number).unwrap_or_default().to_owned();
        Some(Warning::SameAsDefault { field: rule.field(), name })
    };
    same.iter().filter_map(warning).take(100).collect()
}
