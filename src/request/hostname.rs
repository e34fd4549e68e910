//! The container's host name.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::id::ContainerId;
use crate::document::{BadValue, checked_text, quoted};

/// Longest host name in bytes: the kernel's `__NEW_UTS_LEN`.
const MAX_BYTES: usize = 64;

/// A host name: 1 to 64 characters, letters, digits, `-`, `_` and `.`, a letter or digit first and
/// last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(String);

impl Hostname {
    /// Checks a host name.
    pub fn new(name: impl AsRef<str>) -> Result<Hostname, BadValue> {
        let name = name.as_ref();
        let plain = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let ends = plain(name.bytes().next()) && plain(name.bytes().last());
        let all = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !ends || !all || name.contains("..") || name.len() > MAX_BYTES {
            return Err(BadValue::new(format!(
                "{} is not a host name: expected 1 to {MAX_BYTES} characters of a-z A-Z 0-9 - _ ., a letter or digit first and last",
                quoted(name)
            )));
        }
        Ok(Hostname(name.to_owned()))
    }

    /// The host name of a container that nobody named a host for: its id, without what ids may have
    /// and host names may not.
    #[must_use]
    pub fn of_id(id: &ContainerId) -> Hostname {
        let mut name = id.as_str().trim_end_matches(|last: char| !last.is_ascii_alphanumeric()).to_owned();
        while name.contains("..") {
            name = name.replace("..", ".");
        }
        Hostname(name)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

checked_text! { Hostname }

impl FromStr for Hostname {
    type Err = BadValue;

    fn from_str(name: &str) -> Result<Hostname, BadValue> {
        Hostname::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_a_host_name() {
        let longest = "i".repeat(64);
        for (id, name) in
            [("job-", "job"), ("a", "a"), ("w.-_", "w"), ("a...b..c-", "a.b.c"), ("a_b", "a_b"), (&longest, &longest)]
        {
            let hostname = Hostname::of_id(&ContainerId::new(id).unwrap());
            assert_eq!(hostname.as_str(), name);
            assert_eq!(Hostname::new(name).unwrap(), hostname);
        }
    }

    #[test]
    fn a_host_name_fits_the_kernel_and_the_resolver() {
        let longest = "h".repeat(MAX_BYTES);
        for name in ["a", "worker-1", "w1.example.org", "my_host", longest.as_str()] {
            assert!(Hostname::new(name).is_ok(), "{name}");
        }
        let too_long = "h".repeat(MAX_BYTES + 1);
        for name in ["", "-a", "a-", ".a", "a.", "a..b", "a b", "a\0", "ü", too_long.as_str()] {
            assert!(Hostname::new(name).is_err(), "{name}");
        }
    }
}
