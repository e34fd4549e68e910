//! A rule of a profile.

use super::action::Action;
use super::condition::Condition;

/// One element of `syscalls` that applies here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// Which element.
    pub(super) index: usize,
    /// The calls' numbers; names that are unknown here are not among them.
    pub(super) calls: Vec<u32>,
    /// What is done.
    pub(super) action: Action,
    /// When: one of these lists must be met as a whole. An empty list always is.
    pub(super) alternatives: Vec<Vec<Condition>>,
}

impl Rule {
    /// Its place in the profile.
    pub(super) fn field(&self) -> String {
        format!("syscalls[{}]", self.index)
    }
}
