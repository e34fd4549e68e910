//! The same profile decided by seccompiler's whole filters, for tests and fuzzing.
//!
//! seccompiler's filters know one action for what matches and one for what does not. So a profile
//! is a stack: one filter that allows what any rule matches and does the default with the rest, and
//! one for each rule that does not allow. Of several answers the kernel takes the strictest.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch};

use super::interpreter::{CallData, interpret};
use crate::seccomp::profile::action::Action;
use crate::seccomp::profile::architecture::NATIVE;
use crate::seccomp::profile::rule::Rule;
use crate::seccomp::profile::{Profile, call};
use crate::sys::instruction::Instruction;

/// A stack of filters, in the order in which of equally strict answers the first counts.
pub struct CrossCheck {
    filters: Vec<Vec<Instruction>>,
    /// Where the profile denies by default: the highest number it names, and whether clone3 is one.
    denies: Option<(Option<u32>, bool)>,
    named: Vec<u32>,
}

impl CrossCheck {
    /// Builds the stack.
    pub fn of(profile: &Profile) -> CrossCheck {
        let mut named: Vec<u32> = profile.rules.iter().flat_map(|rule| rule.calls.clone()).collect();
        named.sort_unstable();
        let denies =
            matches!(profile.default, Action::Errno(_)).then(|| (named.last().copied(), named.contains(&call::CLONE3)));
        let counting: Vec<Rule> = counting(profile);
        let mut filters: Vec<_> = Vec::new();
        filters.extend(filter(&counting, profile.default, Action::Allow));
        for rule in &counting {
            filters.extend(filter(std::slice::from_ref(rule), Action::Allow, rule.action));
        }
        let mut named: Vec<u32> = counting.iter().flat_map(|rule| rule.calls.clone()).collect();
        named.sort_unstable();
        CrossCheck { filters, denies, named }
    }

    /// What the stack does with a call.
    pub fn decide(&self, number: u32, args: &[u64; 6]) -> Action {
        if let Some((highest, clone3)) = self.denies {
            let newer = highest.is_some_and(|highest| number > highest);
            if newer || (number == call::CLONE3 && !clone3) {
                assert!(self.named.binary_search(&number).is_err());
                return Action::Errno(libc::ENOSYS as u16);
            }
        }
        let call = CallData { number, architecture: NATIVE.audit, instruction_pointer: 0, args: *args };
        let answers = self.filters.iter().map(|filter| interpret(filter, &call).expect("a well-formed program"));
        let actions: Vec<Action> = answers.map(Action::from_kernel).collect();
        actions.into_iter().min_by_key(|action| action.strictness()).unwrap_or(Action::Allow)
    }
}

/// The rules that count, each with the calls for which it does.
fn counting(profile: &Profile) -> Vec<Rule> {
    let rules: Vec<Rule> = profile.rules.iter().filter(|rule| rule.action != profile.default).cloned().collect();
    let unconditional = |rule: &Rule| rule.alternatives.iter().any(Vec::is_empty);
    let mut decided: BTreeMap<u32, usize> = BTreeMap::new();
    for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| unconditional(rule)) {
        for number in &rule.calls {
            decided.entry(*number).or_insert(at);
        }
    }
    let kept = |(at, mut rule): (usize, Rule)| {
        rule.calls.retain(|number| decided.get(number).is_none_or(|decider| *decider == at));
        rule
    };
    rules.into_iter().enumerate().map(kept).collect()
}

fn filter(rules: &[Rule], mismatch: Action, matching: Action) -> Option<Vec<Instruction>> {
    let mut chains: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in rules {
        for number in &rule.calls {
            let chain = chains.entry((*number).into()).or_default();
            for conditions in rule.alternatives.iter().filter(|conditions| !conditions.is_empty()) {
                let conditions = conditions.iter().map(|condition| condition.to_seccompiler().unwrap()).collect();
                chain.push(SeccompRule::new(conditions).unwrap());
            }
        }
    }
    let target = TargetArch::try_from(std::env::consts::ARCH).expect("an architecture of seccompiler's");
    // Equal actions make no filter, and need none.
    let filter = SeccompFilter::new(chains, to_seccompiler(mismatch), to_seccompiler(matching), target).ok()?;
    // One that is too long for the kernel is good enough to be interpreted, but seccompiler does
    // not give it.
    let program = BpfProgram::try_from(filter).expect("a filter that is not too long");
    Some(program.into_iter().map(Instruction::from).collect())
}

fn to_seccompiler(action: Action) -> SeccompAction {
    match action {
        Action::KillProcess => SeccompAction::KillProcess,
        Action::KillThread => SeccompAction::KillThread,
        Action::Trap => SeccompAction::Trap,
        Action::Errno(errno) => SeccompAction::Errno(errno.into()),
        Action::Trace(message) => SeccompAction::Trace(message.into()),
        Action::Log => SeccompAction::Log,
        Action::Allow => SeccompAction::Allow,
    }
}
