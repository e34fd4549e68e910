//! What a spec may ask for and this version cannot do: refused, because to leave it out would be to
//! claim more than is true. Pure; runs in the caller.

use crate::cgroup::CgroupPath;
use crate::error::{Error, Problem, Result};
use crate::request::{LaunchSpec, Mount, Propagation};
use crate::root::devices;

/// Checks a spec for a run root whose monitors live in this cgroup.
///
/// # Errors
/// `Invalid` with every field that cannot be done.
pub(crate) fn check(spec: &LaunchSpec, monitors: &CgroupPath) -> Result<()> {
    let mut problems = Vec::new();
    let mut refuse = |field: String, reason: String| problems.push(Problem { field, reason });
    if spec.scope().is_none() && overlaps(&spec.cgroup, monitors) {
        refuse("cgroup".to_owned(), format!("it is '{monitors}', where monitors live, or above or below it"));
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        if let Some(reason) = taken(mount.destination().as_str()) {
            refuse(format!("mounts[{index}].destination"), reason.to_owned());
        }
        if let Some(word) = impossible_propagation(mount) {
            let reason = format!(
                "propagation '{word}' cannot be given: mounts of a container stay there, and are copied with its root"
            );
            refuse(format!("mounts[{index}].options"), reason);
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::invalid(format!("container '{}'", spec.id), problems)) }
}

/// Why nothing can be mounted there, if that is so. What stands at `/dev/null` is bound over the
/// masked paths, and what a program takes for a device has to be one.
fn taken(destination: &str) -> Option<&'static str> {
    let name = destination.strip_prefix("/dev")?;
    match name.strip_prefix('/') {
        None if name.is_empty() => Some("the container's devices are made there: mount below it"),
        Some(name) if devices::is_own(name) => Some("one of the container's own devices is made there"),
        _ => None,
    }
}

/// Whether one of two cgroups lies within the other.
fn overlaps(one: &CgroupPath, other: &CgroupPath) -> bool {
    let below = |inner: &CgroupPath, outer: &CgroupPath| {
        inner.as_str().strip_prefix(outer.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below(one, other) || below(other, one)
}

fn impossible_propagation(mount: &Mount) -> Option<&'static str> {
    let Mount::Bind(bind) = mount else { return None };
    match bind.options.propagation {
        Propagation::Shared | Propagation::RecursiveShared => Some("shared"),
        Propagation::Unbindable | Propagation::RecursiveUnbindable => Some("unbindable"),
        _ => None,
    }
}
