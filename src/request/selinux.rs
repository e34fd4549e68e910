//! The SELinux label that a worker runs under, as a caller asks for it.

use serde::{Deserialize, Serialize};

use crate::document::{BadValue, checked_text, quoted};

/// Longest label in bytes: what the kernel takes at one write to `/proc/<pid>/attr`, a page of 4
/// KiB less a NUL.
const MAX_BYTES: usize = 4095;

/// The label that the worker's program is executed under. Kernel: any with SELinux enabled; a
/// launch is refused without it. Files and mounts get no label: they have what the policy gives
/// them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Selinux {
    /// That of [`SquallBuilder::default_selinux`](crate::SquallBuilder::default_selinux); without
    /// one as [`Selinux::Disable`].
    #[default]
    Default,
    /// None is set: the worker has the label that the policy gives it.
    Disable,
    /// A whole label.
    Label(SelinuxLabel),
}

/// A label, also called a context: `USER:ROLE:TYPE` or `USER:ROLE:TYPE:LEVEL`, of at most 4095
/// printable ASCII characters without white space; user, role and type are not empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SelinuxLabel(String);

impl SelinuxLabel {
    /// Checks a label. Whether the host's policy knows it is not asked here.
    ///
    /// # Errors
    /// What is wrong with the label.
    pub fn new(label: impl AsRef<str>) -> Result<SelinuxLabel, BadValue> {
        let label = label.as_ref();
        let parts: Vec<&str> = label.splitn(4, ':').collect();
        let whole = parts.len() >= 3 && parts.iter().all(|part| !part.is_empty());
        if !whole || label.len() > MAX_BYTES || !label.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadValue::new(format!(
                "{} is not a label: expected USER:ROLE:TYPE or USER:ROLE:TYPE:LEVEL, at most {MAX_BYTES} characters without white space",
                quoted(label)
            )));
        }
        Ok(SelinuxLabel(label.to_owned()))
    }

    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

checked_text! { SelinuxLabel }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_whole_one() {
        let whole = ["system_u:system_r:container_t:s0:c1,c2", "a:b:c", "u:r:t:s0-s0:c0.c1023"];
        for label in whole {
            assert_eq!(SelinuxLabel::new(label).unwrap().as_str(), label);
        }
        let long = format!("a:b:{}", "c".repeat(MAX_BYTES));
        for label in
            ["", "container_t", "a:b", "a::c", ":b:c", "a:b:c:", "a:b:c d", "a:b:c\n", "a:b:c\0", "a:b:é", &long]
        {
            assert!(SelinuxLabel::new(label).is_err(), "{label:?}");
            let json = serde_json::to_string(label).unwrap();
            assert!(serde_json::from_str::<SelinuxLabel>(&json).is_err(), "{label:?}");
        }
    }
}
