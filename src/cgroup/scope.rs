//! The cgroup of a container that systemd is asked for: names only.
//!
//! ```text
//! <slice>/squall-<id>.scope      the unit, delegated: systemd makes it, and removes it with everything below when nobody is left in it
//!   monitor                      the container's monitor
//!   container                    the worker, with its limits
//! ```
//!
//! The monitor is in the scope because a scope lives as long as a process in it: so the counters
//! are there until the monitor has read them. Limits, kills and `memory.events` are those of
//! `container`, which holds the worker alone; what an administrator sets on the unit binds both.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::path::{CgroupPath, PathProblem};

/// Where systemd puts what is not told where to go: services and scopes of the system.
pub const DEFAULT_SLICE: &str = "system.slice";

const CONTAINER: &str = "container";
const MONITOR: &str = "monitor";

/// The longest name of a unit (systemd's `UNIT_NAME_MAX`, 255 with the final NUL).
const NAME_MAX: usize = 254;

/// Who makes a container's cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Manager {
    /// Squall itself, in the cgroup file system: at a path that its caller owns, below a cgroup
    /// that was delegated for example.
    #[default]
    Cgroupfs,
    /// systemd, asked for a scope over D-Bus. Takes cgroup v2.
    Systemd,
}

/// A slice of systemd's: a name that says where it is, `a-b.slice` lies in `a.slice`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    name: String,
    /// Its cgroup, `None` for the root slice.
    path: Option<CgroupPath>,
}

/// Why a text names no slice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SliceProblem {
    /// It is no name of a slice.
    #[error(
        "a slice is called NAME.slice, of letters, digits and : _ . - @ \\, with single dashes between other characters"
    )]
    Name,
    /// Its cgroup cannot be called so.
    #[error(transparent)]
    Path(#[from] PathProblem),
}

impl Slice {
    /// Checks a name; asks nobody whether it exists, which systemd makes it do.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn new(name: &str) -> Result<Slice, SliceProblem> {
        let stem = name.strip_suffix(".slice").ok_or(SliceProblem::Name)?;
        if stem == "-" {
            return Ok(Slice { name: name.to_owned(), path: None });
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":_.-@\\".contains(&byte);
        if name.len() > NAME_MAX || !stem.bytes().all(allowed) || stem.split('-').any(str::is_empty) {
            return Err(SliceProblem::Name);
        }
        let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
        let path: String = ends.map(|end| format!("/{}.slice", &stem[..end])).collect();
        let path = CgroupPath::new(path)?;
        // So that whatever scope it is to hold fits.
        path.child(&"x".repeat(NAME_MAX))?.child(CONTAINER)?;
        Ok(Slice { name: name.to_owned(), path: Some(path) })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The scope of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    slice: Slice,
    directory: CgroupPath,
}

impl Scope {
    /// The scope of the container `id` in a slice.
    ///
    /// # Errors
    /// The id is no part of a cgroup's name.
    pub fn new(slice: Slice, id: &str) -> Result<Scope, PathProblem> {
        let unit = format!("squall-{id}.scope");
        let directory = match &slice.path {
            Some(path) => path.child(&unit),
            None => CgroupPath::new(format!("/{unit}")),
        }?;
        Ok(Scope { slice, directory })
    }

    /// The scope to which a container's cgroup belongs, if it is one that [`Scope::container`]
    /// gives.
    #[must_use]
    pub fn of(container: &CgroupPath) -> Option<Scope> {
        let directory = container.parent().filter(|_| container.name() == CONTAINER)?;
        let id = directory.name().strip_prefix("squall-")?.strip_suffix(".scope")?;
        let slice = directory.parent().map_or_else(|| Slice::new("-.slice"), |slice| Slice::new(slice.name())).ok()?;
        Scope::new(slice, id).ok().filter(|scope| scope.directory == directory)
    }

    /// The name of its slice.
    #[must_use]
    pub fn slice(&self) -> &str {
        self.slice.name()
    }

    /// The name of the unit.
    #[must_use]
    pub fn unit(&self) -> &str {
        self.directory.name()
    }

    /// The unit's own cgroup. No process stays in it: one with processes hands no controllers down.
    #[must_use]
    pub fn directory(&self) -> &CgroupPath {
        &self.directory
    }

    /// The worker's cgroup.
    #[must_use]
    pub fn container(&self) -> CgroupPath {
        self.below(CONTAINER)
    }

    /// The monitor's cgroup.
    #[must_use]
    pub fn monitor(&self) -> CgroupPath {
        self.below(MONITOR)
    }

    fn below(&self, name: &str) -> CgroupPath {
        self.directory.child(name).expect("there was room for the longest name when it was made")
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(slice: &str, id: &str) -> CgroupPath {
        Scope::new(Slice::new(slice).unwrap(), id).unwrap().container()
    }

    #[test]
    fn a_slice_lies_where_its_name_says() {
        let table = [
            ("system.slice", "/system.slice/squall-w.1.scope/container"),
            ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice/squall-w.1.scope/container"),
            ("-.slice", "/squall-w.1.scope/container"),
        ];
        for (slice, path) in table {
            assert_eq!(container(slice, "w.1").as_str(), path);
            let scope = Scope::of(&container(slice, "w.1")).unwrap();
            assert_eq!((scope.slice(), scope.unit()), (slice, "squall-w.1.scope"));
            assert_eq!(scope.monitor().parent(), Some(scope.directory().clone()));
        }
    }

    #[test]
    fn what_is_no_slice_is_refused() {
        for name in
            ["", "slice", ".slice", "a", "-a.slice", "a-.slice", "a--b.slice", "a/b.slice", "ä.slice", "cpu.slice"]
        {
            assert!(Slice::new(name).is_err(), "{name}");
        }
        assert!(Slice::new(&format!("{}.slice", "x".repeat(NAME_MAX))).is_err());
        // A name of many dashes is short, and its path is not.
        assert!(Slice::new(&format!("{}x.slice", "x-".repeat(120))).is_err());
    }

    #[test]
    fn no_other_cgroup_passes_for_a_scopes() {
        for path in [
            "/squall/w",
            "/system.slice/squall-w.scope",
            "/system.slice/squall-w.scope/monitor",
            "/system.slice/other.scope/container",
            "/a-b.slice/squall-w.scope/container",
            "/system.slice/x/squall-w.scope/container",
        ] {
            assert_eq!(Scope::of(&CgroupPath::new(path).unwrap()), None, "{path}");
        }
    }
}
