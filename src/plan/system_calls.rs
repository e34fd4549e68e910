//! The seccomp filter, to be read.

use serde::Serialize;

use crate::error::Result;
use crate::request::LaunchSpec;
use crate::seccomp::{Listing, Warning};

/// What becomes of each system call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedFilter {
    /// Calls by what is done with them.
    pub listing: Listing,
    /// Instructions of the program; the kernel takes 4096.
    pub instructions: usize,
    /// What of the profile is not done as it is written.
    pub warnings: Vec<Warning>,
}

/// The filter of a launch; nothing where none is asked for.
pub(super) fn of(spec: &LaunchSpec) -> Result<Option<PlannedFilter>> {
    let Some(profile) = spec.seccomp.profile()? else { return Ok(None) };
    let instructions = profile.compile()?.program().len();
    Ok(Some(PlannedFilter { listing: profile.listing(), instructions, warnings: profile.warnings().to_vec() }))
}
