//! Which system calls a worker may make, as a caller asks for it.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::seccomp::{Filter, Profile, brief_warnings};

/// The filter that a worker gets as the last thing before its program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    /// Squall's own for ordinary workers: `seccomp-profiles/default.json`.
    #[default]
    Default,
    /// None. Everything that the kernel allows a process without capabilities is open, except what a worker of uid 0 is denied always:
    /// user namespaces.
    Unconfined,
    /// An OCI profile, the object `linux.seccomp`, as it came.
    Profile(Value),
}

/// The text of [`Seccomp::Default`].
const DEFAULT_PROFILE: &str = include_str!("../../seccomp-profiles/default.json");

impl Seccomp {
    /// The profile, read and checked; nothing where none is asked for.
    ///
    /// Errors: `Invalid` with every problem of a profile.
    pub fn profile(&self) -> Result<Option<Profile>> {
        match self {
            Seccomp::Default => Profile::parse(DEFAULT_PROFILE.as_bytes()).map(Some),
            Seccomp::Unconfined => Ok(None),
            Seccomp::Profile(value) => Profile::from_value(value).map(Some),
        }
    }

    /// What of a profile of the caller's is not done as it is written.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let Seccomp::Profile(value) = self else { return Vec::new() };
        Profile::from_value(value).map_or_else(|_| Vec::new(), |profile| brief_warnings(profile.warnings()))
    }

    /// The profile as a program for the kernel. The default one is compiled once in a program's life.
    ///
    /// Errors: those of [`Seccomp::profile`], and `Invalid` for a profile that the kernel would not take.
    pub fn filter(&self) -> Result<Option<Filter>> {
        static DEFAULT: OnceLock<Filter> = OnceLock::new();
        let compiled = || self.profile()?.map(|profile| profile.compile()).transpose();
        match (self, DEFAULT.get()) {
            (Seccomp::Default, Some(filter)) => Ok(Some(filter.clone())),
            (Seccomp::Default, None) => Ok(compiled()?.map(|filter| DEFAULT.get_or_init(|| filter).clone())),
            _ => compiled(),
        }
    }
}
