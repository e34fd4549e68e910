//! Which device nodes a container may use.
//!
//! Owns the standard list and the text form of one rule. v1 has files that take them, for v2 they
//! become a program. It never decides whether rules can be enforced: see
//! [`Got::NotEnforced`](crate::cgroup::Got). Any process may use it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What every container may do with devices: make any node (useless without the right to open it),
/// and open null, zero, full, random, urandom, tty, ptmx and the pseudo terminals. The numbers are
/// those of the kernel's `Documentation/admin-guide/devices.txt`.
pub const STANDARD: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// The device nodes of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum DeviceRules {
    /// Whatever the parent cgroup allows; nothing is written.
    Inherit,
    /// Everything is denied but [`STANDARD`] and these.
    Standard {
        /// Further rules that allow something.
        #[serde(default)]
        allow: Vec<DeviceRule>,
    },
}

impl DeviceRules {
    /// Everything that is allowed, rule by rule; nothing where the parent's rules stay.
    pub(in crate::cgroup) fn allowed(&self) -> Option<Vec<String>> {
        let DeviceRules::Standard { allow } = self else { return None };
        let standard = STANDARD.iter().map(|rule| rule.to_string());
        Some(standard.chain(allow.iter().map(|rule| rule.as_str().to_owned())).collect())
    }
}

impl Default for DeviceRules {
    fn default() -> DeviceRules {
        DeviceRules::Standard { allow: Vec::new() }
    }
}

/// One rule in the kernel's form: `c 10:200 rwm`, `b *:* m`, kept as it is written to
/// `devices.allow`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceRule(String);

/// Why a text is no device rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no device rule such as 'c 10:200 rwm'")]
pub struct DeviceRuleProblem(String);

impl DeviceRule {
    /// The rule as the kernel takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceRule {
    type Err = DeviceRuleProblem;

    fn from_str(text: &str) -> Result<DeviceRule, DeviceRuleProblem> {
        if is_rule(text) { Ok(DeviceRule(text.to_owned())) } else { Err(DeviceRuleProblem(text.to_owned())) }
    }
}

fn is_rule(text: &str) -> bool {
    let mut fields = text.split(' ');
    let (Some(kind), Some(numbers), Some(access), None) = (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return false;
    };
    let Some((major, minor)) = numbers.split_once(':') else { return false };
    let known_access = !access.is_empty() && access.bytes().all(|byte| b"rwm".contains(&byte));
    // "a" would allow every device, which is what `Inherit` is for. Majors have 12 bits, minors 20
    // (`linux/kdev_t.h`).
    matches!(kind, "b" | "c")
        && is_number(major, 0xfff)
        && is_number(minor, 0xf_ffff)
        && known_access
        && access.len() <= 3
}

fn is_number(text: &str, max: u32) -> bool {
    text == "*"
        || (text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u32>().is_ok_and(|number| number <= max))
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for DeviceRule {
    type Error = DeviceRuleProblem;

    fn try_from(text: String) -> Result<DeviceRule, DeviceRuleProblem> {
        text.parse()
    }
}

impl From<DeviceRule> for String {
    fn from(rule: DeviceRule) -> String {
        rule.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_taken_only_in_the_form_of_the_kernel() {
        for text in STANDARD.iter().chain(&["c 10:200 rwm", "b 7:* r", "c 4095:1048575 w"]) {
            assert_eq!(text.parse::<DeviceRule>().unwrap().as_str(), *text);
        }
        for text in [
            "",
            "a",
            "a *:* rwm",
            "c 1:3",
            "c 1 rwm",
            "c 1:3 ",
            "c 1:3 x",
            "c 1:3 rwmr",
            "c  1:3 r",
            "c -1:3 r",
            "c 4096:0 r",
            "c 1:3 r\n",
        ] {
            assert_eq!(text.parse::<DeviceRule>(), Err(DeviceRuleProblem(text.into())), "{text}");
        }
    }
}
