//! What stands in the way of a launch, as far as looking can tell.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;

use caps::{CapSet, Capability};
use rustix::process::geteuid;

use super::cgroups::Machine;
use crate::error::Error;
use crate::launch::inheritance;
use crate::launch::place::{Place, Which};
use crate::lsm::{Confinement, Host};
use crate::privilege;
use crate::request::{AbsolutePath, HostDirectory, LaunchSpec, Mount, RootMode};
use crate::root::upper_quota;
use crate::settings::Settings;

/// Why the launch would fail now: each in the words of an error, but all of them.
pub(super) fn of(spec: &LaunchSpec, settings: &Settings, machine: &Machine, cgroups: Vec<String>) -> Vec<String> {
    let mut obstacles: Vec<String> = privilege::check(spec.network).err().iter().map(ToString::to_string).collect();
    let confinement = Confinement::of(spec).and_then(|confinement| Host::this().check(&confinement).err());
    obstacles.extend(confinement.map(|error| error.to_string()));
    obstacles.extend(machine.trouble.clone());
    obstacles.extend(cgroups);
    let claimed = settings.run_root.container(&spec.id);
    if fs::symlink_metadata(&claimed).is_ok() {
        obstacles.push(format!("there is a container '{}' already", spec.id));
    }
    let files =
        [Which::PidFile, Which::ExitFile].into_iter().filter_map(|which| file_obstacle(which, which.path(spec)?));
    obstacles.extend(files.map(|error| error.to_string()));
    obstacles.extend(missing_sources(spec));
    obstacles.extend(bound_that_is_not_kept(&spec.root));
    obstacles
}

/// Skipped without read access.
fn bound_that_is_not_kept(root: &RootMode) -> Option<String> {
    let RootMode::Directory(HostDirectory { path, size_bytes: Some(_) }) = root else { return None };
    let directory = fs::File::open(path.as_path()).ok()?;
    let refused = upper_quota::check(directory.as_fd(), &format!("writable directory '{}'", path.as_str()));
    refused.err().map(|error| error.to_string())
}

/// Why no such file could be written there. One in a directory that this process may not search is
/// unknown.
fn file_obstacle(which: Which, path: &AbsolutePath) -> Option<Error> {
    match Place::find(which, path) {
        Ok(place) => place.obstacle(),
        Err(error) => Some(error).filter(|error| error.errno() != Some(libc::EACCES) || geteuid().is_root()),
    }
}

fn missing_sources(spec: &LaunchSpec) -> impl Iterator<Item = String> {
    let binds = spec.mounts.iter().filter_map(|mount| match mount {
        Mount::Bind(bind) => Some(("bind source", bind.source.as_str())),
        Mount::Tmpfs(_) => None,
    });
    let upper = match &spec.root {
        RootMode::Directory(directory) => Some(("writable directory", directory.path.as_str())),
        RootMode::ReadOnly | RootMode::Writable { .. } => None,
    };
    // Who may not look does not know.
    let missing = |path: &str| fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    let gone = binds.chain(upper).filter(move |(_, path)| missing(path));
    gone.map(|(what, path)| format!("{what} '{path}' does not exist on the host"))
}

/// What the record will note: of the root, and of what there is no privilege for.
pub(super) fn notes(root: &RootMode) -> Vec<String> {
    let mut notes: Vec<String> = root.note().into_iter().collect();
    let held = caps::read(None, CapSet::Effective).unwrap_or_default();
    if !held.contains(&Capability::CAP_SYS_RESOURCE) {
        notes.push("oom_score_adj of the monitor stays as it is: lowering it takes CAP_SYS_RESOURCE".to_owned());
        notes.extend(inheritance::preview_short_limits());
    }
    notes
}
