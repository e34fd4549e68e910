//! What a container asks of its host for itself: processors that no other container gets, and
//! memory that is promised to nobody else.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::document::{BadValue, quoted};

/// Processors that a container is to have for itself: chosen at the launch, among those that no
/// other container of the run root names. Containers that name no processors run on all of their
/// parent cgroup's, these included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExclusiveCpus {
    /// How many.
    pub count: u16,
    /// Where.
    #[serde(default)]
    pub placement: Placement,
}

/// Where processors are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Placement {
    /// Of one memory node (NUMA) where one has enough, of several otherwise.
    #[default]
    Anywhere,
    /// Of one memory node, and the container's memory is of that node too.
    OneNode,
}

/// What memory is promised to a container: no further promise is made of it until its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MemoryPromise {
    /// None.
    #[default]
    Nothing,
    /// As much as its memory limit.
    Limit,
}

impl MemoryPromise {
    /// Whether nothing is promised.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == MemoryPromise::Nothing
    }
}

impl FromStr for ExclusiveCpus {
    type Err = BadValue;

    /// `auto:N` or `auto:N,numa`.
    fn from_str(text: &str) -> Result<ExclusiveCpus, BadValue> {
        let wrong = || {
            BadValue::new(format!("{} names no processors: expected auto:N or auto:N,numa, N from 1 on", quoted(text)))
        };
        let asked = text.strip_prefix("auto:").ok_or_else(wrong)?;
        let (number, placement) = match asked.split_once(',') {
            None => (asked, Placement::Anywhere),
            Some((number, "numa")) => (number, Placement::OneNode),
            Some(_) => return Err(wrong()),
        };
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let count = number.parse().ok().filter(|count| digits && *count > 0).ok_or_else(wrong)?;
        Ok(ExclusiveCpus { count, placement })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_processors_is_read_with_and_without_one_node() {
        for (text, count, placement) in [("auto:2", 2, Placement::Anywhere), ("auto:16,numa", 16, Placement::OneNode)] {
            assert_eq!(text.parse(), Ok(ExclusiveCpus { count, placement }), "{text}");
        }
        for text in
            ["auto", "auto:", "auto:0", "auto:-1", "auto:+1", "auto:1,", "auto:1,node", "auto:99999", "2", "0-1"]
        {
            assert!(text.parse::<ExclusiveCpus>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_document_gives_back_the_same() {
        let one = ExclusiveCpus { count: 2, placement: Placement::OneNode };
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(text, r#"{"count":2,"placement":"one-node"}"#);
        assert_eq!(serde_json::from_str::<ExclusiveCpus>(&text).unwrap(), one);
        assert!(serde_json::from_str::<ExclusiveCpus>(r#"{"count":2,"where":"here"}"#).is_err());
    }
}
