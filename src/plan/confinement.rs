//! The security module's part: which profile or label, and how it is applied.

use serde::Serialize;

use crate::lsm::Confinement;
use crate::request::LaunchSpec;

/// What confines the worker from its exec on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct PlannedConfinement {
    /// `AppArmor` or `SELinux`.
    pub module: &'static str,
    /// The profile's name, or the label.
    pub name: String,
    /// The file that the worker's process writes it to, right before its exec.
    pub file: String,
    /// What it writes.
    pub text: String,
}

/// That of a spec; nothing where it names none.
pub(super) fn of(spec: &LaunchSpec) -> Option<PlannedConfinement> {
    let confinement = Confinement::of(spec)?;
    Some(PlannedConfinement {
        module: confinement.module(),
        name: confinement.name().to_owned(),
        file: format!("/proc/{}", confinement.attribute()),
        text: confinement.text(),
    })
}
