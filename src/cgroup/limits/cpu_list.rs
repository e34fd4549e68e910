//! A list of processors or memory nodes in the kernel's own notation.
//!
//! Owns the text form `0-3,7` and its meaning as a set. It never asks which processors are there:
//! that answer changes while the machine runs, and the kernel gives it when the list is written.
//! Any process may use it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The highest number accepted: `NR_CPUS` of x86 is at most 8192 (`arch/x86/Kconfig`), memory nodes
/// are at most 1024.
pub const NUMBER_MAX: u16 = 8191;

/// A set of processors (`cpuset.cpus`) or memory nodes (`cpuset.mems`), never empty, kept in its
/// shortest form: ascending, joined.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuList(Vec<(u16, u16)>);

/// Why a text is no list of processors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpuListProblem {
    /// There is nothing in it, or nothing between two commas.
    #[error("a list of processors holds numbers and ranges such as '0-3,7', and nothing is empty")]
    Empty,
    /// An element is neither a number nor a range.
    #[error("'{0}' is neither a number nor a range such as '0-3'")]
    NotANumber(String),
    /// A number is higher than any kernel supports.
    #[error("'{0}' is above {NUMBER_MAX}, the highest number of a processor")]
    TooHigh(String),
    /// A range ends before it begins.
    #[error("the range '{0}' ends before it begins")]
    Backwards(String),
}

impl CpuList {
    /// Those that are not in the other list; nothing where that has them all.
    pub(crate) fn without(&self, other: &CpuList) -> Option<CpuList> {
        let members = |list: &CpuList| list.numbers().collect::<BTreeSet<u16>>();
        CpuList::of(members(self).difference(&members(other)).copied())
    }

    /// The list of these numbers; nothing where there is none, or one is too high.
    pub(crate) fn of(numbers: impl IntoIterator<Item = u16>) -> Option<CpuList> {
        let numbers = numbers.into_iter().map(|number| number.to_string()).collect::<Vec<_>>();
        numbers.join(",").parse().ok()
    }

    /// Its numbers, ascending.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u16> {
        self.0.iter().flat_map(|(from, to)| *from..=*to)
    }

    /// How many processors or nodes the list holds.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(|(from, to)| usize::from(to - from) + 1).sum()
    }
}

impl FromStr for CpuList {
    type Err = CpuListProblem;

    fn from_str(text: &str) -> Result<CpuList, CpuListProblem> {
        let mut ranges = text.split(',').map(range).collect::<Result<Vec<_>, _>>()?;
        ranges.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (from, to) in ranges {
            match joined.last_mut() {
                Some((_, last)) if from <= *last + 1 => *last = to.max(*last),
                _ => joined.push((from, to)),
            }
        }
        Ok(CpuList(joined))
    }
}

fn range(text: &str) -> Result<(u16, u16), CpuListProblem> {
    match text.split_once('-') {
        None => number(text).map(|only| (only, only)),
        Some((from, to)) => {
            let (from, to) = (number(from)?, number(to)?);
            if from > to { Err(CpuListProblem::Backwards(text.to_owned())) } else { Ok((from, to)) }
        }
    }
}

fn number(text: &str) -> Result<u16, CpuListProblem> {
    if text.is_empty() {
        return Err(CpuListProblem::Empty);
    }
    // The standard parser would take a sign.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CpuListProblem::NotANumber(text.to_owned()));
    }
    match text.parse() {
        Ok(number) if number <= NUMBER_MAX => Ok(number),
        _ => Err(CpuListProblem::TooHigh(text.to_owned())),
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (from, to)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if from == to {
                write!(f, "{comma}{from}")?;
            } else {
                write!(f, "{comma}{from}-{to}")?;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for CpuList {
    type Error = CpuListProblem;

    fn try_from(text: String) -> Result<CpuList, CpuListProblem> {
        text.parse()
    }
}

impl From<CpuList> for String {
    fn from(list: CpuList) -> String {
        list.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(text: &str) -> CpuList {
        text.parse().unwrap()
    }

    #[test]
    fn lists_are_kept_in_their_shortest_form() {
        for (text, shortest, count) in [
            ("0", "0", 1),
            ("0-3,7", "0-3,7", 5),
            ("7,0-3", "0-3,7", 5),
            ("0,1,2,3", "0-3", 4),
            ("2-5,0-3,3", "0-5", 6),
            ("0-8191", "0-8191", 8192),
            ("007", "7", 1),
        ] {
            assert_eq!((list(text).to_string().as_str(), list(text).count()), (shortest, count), "{text}");
        }
    }

    #[test]
    fn what_another_list_has_is_left_out() {
        for (text, other, left) in
            [("0-7", "2-3", Some("0-1,4-7")), ("0-1", "5", Some("0-1")), ("0-1", "0-7", None), ("3", "3", None)]
        {
            assert_eq!(list(text).without(&list(other)), left.map(list), "{text} {other}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_reason() {
        let high = |text: &str| CpuListProblem::TooHigh(text.into());
        for (text, problem) in [
            ("", CpuListProblem::Empty),
            (",", CpuListProblem::Empty),
            ("0,,1", CpuListProblem::Empty),
            ("0-", CpuListProblem::Empty),
            ("-1", CpuListProblem::Empty),
            ("3-1", CpuListProblem::Backwards("3-1".into())),
            ("a", CpuListProblem::NotANumber("a".into())),
            ("0 ", CpuListProblem::NotANumber("0 ".into())),
            ("+1", CpuListProblem::NotANumber("+1".into())),
            ("0-1-2", CpuListProblem::NotANumber("1-2".into())),
            ("0-7:2/4", CpuListProblem::NotANumber("7:2/4".into())),
            ("٣", CpuListProblem::NotANumber("٣".into())),
            ("8192", high("8192")),
            ("0-99999999999999999999", high("99999999999999999999")),
        ] {
            assert_eq!(text.parse::<CpuList>(), Err(problem), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_and_what_is_printed_parses_back(text in "[0-9,\\- a]{0,24}") {
            if let Ok(parsed) = text.parse::<CpuList>() {
                prop_assert_eq!(parsed.to_string().parse::<CpuList>(), Ok(parsed));
            }
        }

        #[test]
        fn the_list_is_the_set_of_its_numbers(ranges in prop::collection::vec((0u16..200, 0u16..20), 1..8)) {
            let text = ranges.iter().map(|(from, span)| format!("{from}-{}", from + span)).collect::<Vec<_>>().join(",");
            let expected: BTreeSet<u16> = ranges.iter().flat_map(|(from, span)| *from..=from + span).collect();
            let parsed = list(&text);
            let members: BTreeSet<u16> = parsed.0.iter().flat_map(|(from, to)| *from..=*to).collect();
            prop_assert_eq!(&members, &expected);
            prop_assert!(parsed.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "not joined: {}", parsed);
        }
    }
}
