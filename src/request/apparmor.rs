//! The AppArmor profile that a worker runs under, as a caller asks for it.

use serde::{Deserialize, Serialize};

use crate::document::{BadValue, checked_text, quoted};

/// Longest name in bytes. The kernel takes one page of 4 KiB at a write to `/proc/<pid>/attr`
/// (`proc_pid_attr_write`), and what is written is `exec NAME`.
const MAX_BYTES: usize = 4096 - "exec ".len();

/// The word for "no profile", in AppArmor itself and in the options of docker and podman.
const UNCONFINED: &str = "unconfined";

/// The profile that the worker's program is executed under. Kernel: any with AppArmor enabled; a
/// launch is refused without it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AppArmor {
    /// That of [`SquallBuilder::default_apparmor`](crate::SquallBuilder::default_apparmor); without
    /// one as [`AppArmor::Unconfined`].
    #[default]
    Default,
    /// None: the worker has whatever confines the program that launches it, which is nothing for an
    /// unconfined one.
    Unconfined,
    /// A profile that is loaded on the host.
    Profile(AppArmorProfile),
}

impl AppArmor {
    /// `unconfined`, or the name of a profile.
    ///
    /// # Errors
    /// Those of [`AppArmorProfile::new`].
    pub fn new(text: impl AsRef<str>) -> Result<AppArmor, BadValue> {
        match text.as_ref() {
            UNCONFINED => Ok(AppArmor::Unconfined),
            name => AppArmorProfile::new(name).map(AppArmor::Profile),
        }
    }
}

/// The name of an AppArmor profile: 1 to 4091 bytes of UTF-8 without control characters, no white
/// space first or last (the kernel would cut it off), and not `unconfined`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppArmorProfile(String);

impl AppArmorProfile {
    /// Checks a name. Whether such a profile is loaded is not asked here.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn new(name: impl AsRef<str>) -> Result<AppArmorProfile, BadValue> {
        let name = name.as_ref();
        let expected =
            format!("expected 1 to {MAX_BYTES} bytes without control characters, no white space first or last");
        if name == UNCONFINED {
            return Err(BadValue::new(format!("'{UNCONFINED}' means no profile: it is not the name of one")));
        }
        if name.is_empty() || name.len() > MAX_BYTES || name.trim() != name || name.contains(char::is_control) {
            return Err(BadValue::new(format!("{} is not a profile's name: {expected}", quoted(name))));
        }
        Ok(AppArmorProfile(name.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

checked_text! { AppArmorProfile }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_the_kernel_takes_whole() {
        for name in ["docker-default", "/usr/bin/x", "a b", "a//child", ":ns:x", "a//&b", "é", &"x".repeat(MAX_BYTES)]
        {
            assert_eq!(AppArmorProfile::new(name).unwrap().as_str(), name);
        }
        for name in ["", " a", "a ", "\ta", "a\n", "a\0b", "a\x1bb", "unconfined", &"x".repeat(MAX_BYTES + 1)] {
            assert!(AppArmorProfile::new(name).is_err(), "{name:?}");
            let json = serde_json::to_string(name).unwrap();
            assert!(serde_json::from_str::<AppArmorProfile>(&json).is_err(), "{name:?}");
        }
        assert_eq!(AppArmor::new("unconfined"), Ok(AppArmor::Unconfined));
    }
}
