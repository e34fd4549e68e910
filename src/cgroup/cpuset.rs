//! Giving a new v1 cpuset its processors and memory nodes.
//!
//! A new v1 cpuset is empty and takes no process (ENOSPC) until both files are filled, and each of its parents must
//! be filled before. v2 has no such rule. Used by the launch process. It never changes a cpuset that has values.

use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;

use super::control;
use super::controller::Controller;
use super::layout::Hierarchy;
use super::limits::Limits;
use super::meaning::with_meaning;
use super::path::CgroupPath;
use crate::error::{Error, Result};
use crate::stage::Stage;

/// Whether groups of this hierarchy begin without processors.
pub(super) fn needs_values(hierarchy: &Hierarchy) -> bool {
    !hierarchy.is_v2() && hierarchy.has(Controller::Cpuset)
}

/// Fills the cpuset `path` from the nearest ancestor that has values, and every empty one between. What `limits`
/// give is left to them, but the parents are filled all the same: a cpuset can only have what its parent has.
pub(super) fn inherit(hierarchy: &Hierarchy, path: &CgroupPath, limits: &Limits) -> Result<()> {
    let parent = path.ancestors().last().unwrap_or_default();
    for (file, given) in [("cpuset.cpus", &limits.cpuset_cpus), ("cpuset.mems", &limits.cpuset_mems)] {
        fill(hierarchy, if given.is_some() { parent } else { path.as_str() }, file)?;
    }
    Ok(())
}

/// The writes of [`inherit`], file and value, as far as they can be known without making the cgroup.
pub(super) fn foresee(hierarchy: &Hierarchy, path: &CgroupPath, limits: &Limits) -> Vec<(String, String)> {
    let mut writes = Vec::new();
    for (file, given) in [("cpuset.cpus", &limits.cpuset_cpus), ("cpuset.mems", &limits.cpuset_mems)] {
        let own = given.is_none().then_some(path.as_str());
        let mut nearest = String::new();
        for cgroup in std::iter::once("").chain(path.ancestors()).chain(own) {
            let name = format!("{}/{file}", hierarchy.below(cgroup));
            // The container's own is made anew.
            let shown = match cgroup == path.as_str() {
                true => String::new(),
                false => control::read_short(CWD, &name)
                    .map(|value| value.as_str().trim_end().to_owned())
                    .unwrap_or_default(),
            };
            match shown.is_empty() {
                true => writes.push((name, nearest.clone())),
                false => nearest = shown,
            }
        }
    }
    writes
}

/// The value of `file` in the cgroup `path` (`""` is the root), after filling it where it is empty.
fn fill(hierarchy: &Hierarchy, path: &str, file: &str) -> Result<String> {
    let failed = |call: &str, errno| {
        let shown = if path.is_empty() { "/" } else { path };
        with_meaning(Error::system(Stage::Cgroup, format!("cgroup '{shown}' {file}"), call, errno))
    };
    let parent = path.rsplit_once('/').map(|(parent, _)| parent);
    let access = if parent.is_some() { OFlags::RDWR } else { OFlags::RDONLY };
    let name = format!("{}/{file}", hierarchy.below(path));
    let open = control::open(CWD, &name, access).map_err(|errno| failed("open", errno))?;
    let shown = control::show(&open).map_err(|errno| failed("read", errno))?;
    let value = shown.as_str().trim_end();
    let Some(parent) = parent.filter(|_| value.is_empty()) else {
        return Ok(value.to_owned());
    };
    let value = fill(hierarchy, parent, file)?;
    match control::write(&open, &value) {
        // Somebody else removed it meanwhile; who needs it will see.
        Ok(()) | Err(Errno::NODEV) => Ok(value),
        Err(errno) => Err(failed(&format!("write({value})"), errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::FakeTree;

    #[test]
    fn every_empty_cpuset_on_the_way_is_filled_from_the_nearest_that_is_not() {
        let tree = FakeTree::v1();
        let hierarchy = tree.layout().holder(Controller::Cpuset).unwrap();
        tree.put("cpuset", "cpuset.cpus", "0-7\n");
        tree.put("cpuset", "cpuset.mems", "0\n");
        for group in ["cpuset/a", "cpuset/a/b", "cpuset/a/b/c"] {
            tree.add(group);
        }
        tree.put("cpuset/a", "cpuset.cpus", "2-3\n");
        inherit(hierarchy, &CgroupPath::new("/a/b/c").unwrap(), &Limits::none()).unwrap();
        for (group, cpus, mems) in
            [("cpuset/a", "2-3\n", "0"), ("cpuset/a/b", "2-3", "0"), ("cpuset/a/b/c", "2-3", "0")]
        {
            assert_eq!(
                (tree.read(group, "cpuset.cpus").as_str(), tree.read(group, "cpuset.mems").as_str()),
                (cpus, mems),
                "{group}"
            );
        }
    }

    #[test]
    fn a_value_that_a_limit_gives_is_not_written_twice() {
        let tree = FakeTree::v1();
        for group in ["cpuset/a", "cpuset/a/b"] {
            tree.add(group);
        }
        let limits = Limits { cpuset_cpus: Some("0".parse().unwrap()), ..Limits::none() };
        inherit(tree.layout().holder(Controller::Cpuset).unwrap(), &CgroupPath::new("/a/b").unwrap(), &limits).unwrap();
        for (group, cpus) in [("cpuset/a", "0-1"), ("cpuset/a/b", "")] {
            assert_eq!(
                (tree.read(group, "cpuset.cpus").as_str(), tree.read(group, "cpuset.mems").as_str()),
                (cpus, "0"),
                "{group}"
            );
        }
    }
}
