//! The name of a container.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::document::{BadValue, checked_text, quoted};

/// Longest id in bytes: the same as docker's full ids, and it leaves room in the 107 bytes of a
/// socket's path.
const MAX_BYTES: usize = 64;

/// A container's id: 1 to 64 characters, letters, digits, `_`, `.` and `-`, a letter or digit
/// first. So it is always one plain component of a path and never an option of a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks an id.
    pub fn new(id: impl AsRef<str>) -> Result<ContainerId, BadValue> {
        let id = id.as_ref();
        let first = id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let rest = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if !first || !rest || id.len() > MAX_BYTES {
            return Err(BadValue::new(format!(
                "{} is not a container id: expected 1 to {MAX_BYTES} characters of a-z A-Z 0-9 _ . -, a letter or digit first",
                quoted(id)
            )));
        }
        Ok(ContainerId(id.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

checked_text! { ContainerId }

impl AsRef<str> for ContainerId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerId {
    type Err = BadValue;

    fn from_str(id: &str) -> Result<ContainerId, BadValue> {
        ContainerId::new(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_harmless_component_of_a_path() {
        let longest = "x".repeat(MAX_BYTES);
        for id in ["a", "0", "web-1.2_b", "6700-0b1d", longest.as_str()] {
            assert_eq!(ContainerId::new(id).unwrap().as_str(), id);
        }
        let too_long = "x".repeat(MAX_BYTES + 1);
        for id in ["", ".", "..", "-rf", "_a", "a/b", "a b", "a\0", "ä", "a\n", too_long.as_str()] {
            assert!(ContainerId::new(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn deserialising_runs_the_same_check() {
        assert!(serde_json::from_str::<ContainerId>("\"../x\"").is_err());
        assert_eq!(serde_json::from_str::<ContainerId>("\"x\"").unwrap().as_str(), "x");
    }
}
