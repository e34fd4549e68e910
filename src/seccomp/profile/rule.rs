//! A rule of a profile.

use super::action::Action;
use super::condition::Condition;

/// One element of `syscalls` that applies here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::seccomp) struct Rule {
    /// Which element.
    pub(in crate::seccomp) index: usize,
    /// The calls' numbers; names that are unknown here are not among them.
    pub(in crate::seccomp) calls: Vec<u32>,
    /// What is done.
    pub(in crate::seccomp) action: Action,
    /// When: one of these lists must be met as a whole. An empty list always is.
    pub(in crate::seccomp) alternatives: Vec<Vec<Condition>>,
}

impl Rule {
    /// Its place in the profile.
    pub(in crate::seccomp) fn field(&self) -> String {
        format!("syscalls[{}]", self.index)
    }
}
