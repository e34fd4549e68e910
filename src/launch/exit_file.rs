//! The exit file, as far as the launch goes: it looks at the place before the workload is executed,
//! and removes an old one when nothing is left that can fail but the pid file's name. The container's
//! monitor writes it (`src/monitor/exit_file.rs`).
//!
//! A launch that fails leaves an old one, as it leaves an old pid file.

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::place::{Place, Which};
use crate::error::{Context, Result};
use crate::opened::HostFiles;
use crate::request::LaunchSpec;
use crate::stage::Stage;

/// Where it will be, if the spec has one.
///
/// # Errors
/// Those of [`Place::of_job`]; a directory that may not be written to.
pub(super) fn place(spec: &LaunchSpec, files: Option<&HostFiles>) -> Result<Option<Place>> {
    let place = Place::of_job(Which::ExitFile, spec, files)?;
    if let Some(place) = &place {
        place.as_user(Stage::Claim, |place| place.obstacle().map_or(Ok(()), Err))?;
    }
    Ok(place)
}

/// Removes the one of an earlier container: whoever sees one from here on sees this container's.
pub(super) fn remove_old(place: &Place) -> Result<()> {
    place.as_user(Stage::PidFile, |place| match unlinkat(&place.directory, place.name.as_str(), AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed.at(Stage::PidFile, place.object(), "unlink"),
    })
}
