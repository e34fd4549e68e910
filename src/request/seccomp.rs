//! Which system calls a worker may make, as a caller asks for it.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::seccomp::{Filter, Profile, brief_warnings};

/// The filter that a worker gets as the last thing before its program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Seccomp {
    /// Squall's own for ordinary workers: `seccomp-profiles/default.json`.
    #[default]
    Default,
    /// None. Everything that the kernel allows a process without capabilities is open, except what
    /// a worker of uid 0 is denied always: user namespaces.
    Unconfined,
    /// A profile of the caller's.
    Profile(ProfileDocument),
}

/// An OCI profile, the object `linux.seccomp`. It is read and checked once, when that is first
/// asked for; copies share the outcome.
///
/// Serialises as the object that it was made of. One that is read back is checked anew.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Value", into = "Value")]
pub struct ProfileDocument(Arc<Document>);

#[derive(Debug)]
struct Document {
    value: Value,
    checked: OnceLock<Result<Profile>>,
}

impl ProfileDocument {
    /// The object as it came.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.0.value
    }

    /// The profile, read and checked.
    ///
    /// # Errors
    /// `Invalid` with every problem (the first 100).
    pub fn profile(&self) -> Result<&Profile> {
        self.0.checked.get_or_init(|| Profile::from_value(&self.0.value)).as_ref().map_err(Clone::clone)
    }
}

impl From<Value> for ProfileDocument {
    fn from(value: Value) -> ProfileDocument {
        ProfileDocument(Arc::new(Document { value, checked: OnceLock::new() }))
    }
}

impl From<ProfileDocument> for Value {
    fn from(document: ProfileDocument) -> Value {
        document.0.value.clone()
    }
}

impl From<Profile> for ProfileDocument {
    /// What was read from a file need not be checked again.
    fn from(profile: Profile) -> ProfileDocument {
        ProfileDocument(Arc::new(Document { value: profile.to_value(), checked: OnceLock::from(Ok(profile)) }))
    }
}

impl PartialEq for ProfileDocument {
    fn eq(&self, other: &ProfileDocument) -> bool {
        self.value() == other.value()
    }
}

/// The text of [`Seccomp::Default`].
const DEFAULT_PROFILE: &str = include_str!("../../seccomp-profiles/default.json");

impl Seccomp {
    /// The profile, read and checked; nothing where none is asked for.
    ///
    /// Errors: `Invalid` with every problem of a profile.
    pub fn profile(&self) -> Result<Option<Cow<'_, Profile>>> {
        match self {
            Seccomp::Default => Profile::parse(DEFAULT_PROFILE.as_bytes()).map(|profile| Some(Cow::Owned(profile))),
            Seccomp::Unconfined => Ok(None),
            Seccomp::Profile(document) => document.profile().map(|profile| Some(Cow::Borrowed(profile))),
        }
    }

    /// What of a profile of the caller's is not done as it is written.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let Seccomp::Profile(document) = self else { return Vec::new() };
        document.profile().map_or_else(|_| Vec::new(), |profile| brief_warnings(profile.warnings()))
    }

    /// The profile as a program for the kernel. The default one is compiled once in a program's
    /// life.
    ///
    /// Errors: those of [`Seccomp::profile`], and `Invalid` for a profile that the kernel would not
    /// take.
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
