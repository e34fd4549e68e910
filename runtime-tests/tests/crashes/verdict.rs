//! What came of a case.

/// Nothing, if all is well.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What was left after one reap.
    pub leaks: Vec<String>,
    /// What was told of an end and is not so.
    pub false_exits: Vec<String>,
    /// What else went wrong.
    pub other: Vec<String>,
    /// Whether the point was not passed.
    pub missed: bool,
    /// Whether an end was lost, where it may be.
    pub lost: bool,
    /// Whether somebody was killed at a random moment, and not too late.
    pub struck_at_random: bool,
}

impl Verdict {
    /// All of it.
    pub fn problems(&self) -> Vec<String> {
        let lines = |kind: &str, list: &[String]| list.iter().map(|line| format!("{kind}: {line}")).collect::<Vec<_>>();
        [lines("leak", &self.leaks), lines("false", &self.false_exits), lines("wrong", &self.other)].concat()
    }
}
