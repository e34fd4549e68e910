//! Giving a new v1 cpuset its processors and memory nodes.
//!
//! A new v1 cpuset is empty and takes no process (ENOSPC) until both files are filled, and each of
//! its parents must be filled before. v2 has no such rule. Used by the launch process.
//!
//! Two things of the kernel's spoil what was filled once. A processor that goes offline is taken
//! out of every cpuset, and does not come back into it with the processor. So a value that was
//! written here is marked as ours, by an attribute of the directory, and widened to what the parent
//! has before a container is made below it; a value that somebody else gave is never changed. And a
//! sibling may have processors for itself (`cpuset.cpu_exclusive`): these are left out.

use std::path::Path;

use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;

use crate::cgroup::explain::explained;
use crate::cgroup::file;
use crate::cgroup::limits::cpu_list::CpuList;
use crate::cgroup::limits::{Field, Limits};
use crate::cgroup::machine::controller::Controller;
use crate::cgroup::machine::layout::{Hierarchy, Layout};
use crate::cgroup::path::CgroupPath;
use crate::error::{Error, Result};
use crate::stage::Stage;

/// The two files, and what makes a sibling's value its own alone.
const FILES: [(&str, &str); 2] = [("cpuset.cpus", "cpuset.cpu_exclusive"), ("cpuset.mems", "cpuset.mem_exclusive")];

/// The limits that they carry.
const FIELDS: [Field; 2] = [Field::CpusetCpus, Field::CpusetMems];

/// Whether groups of this hierarchy begin without processors.
pub(in crate::cgroup) fn needs_values(hierarchy: &Hierarchy) -> bool {
    !hierarchy.is_v2() && hierarchy.has(Controller::Cpuset)
}

/// Fills the cpuset `path` from the nearest ancestor that has values of somebody else's, and every
/// empty one between; widens those between that were filled here. What `limits` give is left to
/// them, but the parents are filled all the same: a cpuset can only have what its parent has.
pub(in crate::cgroup) fn inherit(hierarchy: &Hierarchy, path: &CgroupPath, limits: &Limits) -> Result<()> {
    let parent = path.ancestors().last().unwrap_or_default();
    for ((file, exclusive), given) in FILES.into_iter().zip([&limits.cpuset_cpus, &limits.cpuset_mems]) {
        let values = Values { hierarchy, file, exclusive };
        values.fill(if given.is_some() { parent } else { path.as_str() })?;
    }
    Ok(())
}

/// The writes of [`inherit`], file and value, as far as they can be known without making the
/// cgroup; and why it cannot succeed.
pub(in crate::cgroup) fn preview(
    hierarchy: &Hierarchy,
    path: &CgroupPath,
    limits: &Limits,
) -> (Vec<(String, String)>, Vec<String>) {
    let (mut writes, mut obstacles) = (Vec::new(), Vec::new());
    for ((file, exclusive), given) in FILES.into_iter().zip([&limits.cpuset_cpus, &limits.cpuset_mems]) {
        let values = Values { hierarchy, file, exclusive };
        match values.preview(path, given.is_none(), &mut writes) {
            Ok(above) => obstacles.extend(given.as_ref().and_then(|given| values.beyond(path, given, &above))),
            Err(obstacle) => obstacles.push(obstacle),
        }
    }
    (writes, obstacles)
}

/// Widens what was filled here of the cgroups above `path`, as for a new one, where its own list of
/// `changed` is to change.
pub(in crate::cgroup) fn widen_parents(hierarchy: &Hierarchy, path: &CgroupPath, changed: &[Field]) -> Result<()> {
    let parent = path.ancestors().last().unwrap_or_default();
    for ((file, exclusive), field) in FILES.into_iter().zip(FIELDS) {
        if changed.contains(&field) {
            Values { hierarchy, file, exclusive }.fill(parent)?;
        }
    }
    Ok(())
}

/// Notes of the cgroup's changed lists which are inherited, and which somebody asked for.
pub(in crate::cgroup) fn mark(hierarchy: &Hierarchy, path: &CgroupPath, limits: &Limits, changed: &[Field]) {
    let own = [limits.cpuset_cpus.is_some(), limits.cpuset_mems.is_some()];
    for (((file, _), field), own) in FILES.into_iter().zip(FIELDS).zip(own) {
        match own {
            _ if !changed.contains(&field) => {}
            true => mark::clear(&hierarchy.directory(path), file),
            false => mark::set(&hierarchy.directory(path), file),
        }
    }
}

/// The processors and the memory nodes that the cgroup `path` can have: those of its parent, but
/// for what siblings have for themselves (v1). `None` where that is not to be seen. The cgroup, and
/// those above it, need not be there.
pub(in crate::cgroup) fn available(
    hierarchy: &Hierarchy,
    path: &CgroupPath,
) -> std::result::Result<(Option<CpuList>, Option<CpuList>), String> {
    let [cpus, mems] = FILES.map(|(file, exclusive)| {
        let values = Values { hierarchy, file, exclusive };
        if hierarchy.is_v2() { Ok(values.effective_above(path)) } else { values.left_for(path) }
    });
    Ok((cpus?, mems?))
}

/// The processors that a container's cgroup at `path`, which need not be there, can have. `None`
/// where the machine has no cpusets, or siblings have all for themselves.
pub(crate) fn available_cpus(layout: &Layout, path: &CgroupPath) -> Option<CpuList> {
    available(layout.holder(Controller::Cpuset)?, path).ok()?.0
}

/// One file of every cpuset of a hierarchy.
struct Values<'h> {
    hierarchy: &'h Hierarchy,
    file: &'static str,
    exclusive: &'static str,
}

impl Values<'_> {
    /// The value of the cgroup `path` (`""` is the root), after filling or widening it.
    fn fill(&self, path: &str) -> Result<String> {
        let failed = |call: &str, errno| explained(Error::system(Stage::Cgroup, self.object(path), call, errno));
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        let access = if parent.is_some() { OFlags::RDWR } else { OFlags::RDONLY };
        let open = file::open(CWD, &self.name(path), access).map_err(|errno| failed("open", errno))?;
        let shown = file::show(&open).map_err(|errno| failed("read", errno))?;
        let value = shown.as_str().trim_end();
        let Some(parent) = parent.filter(|_| value.is_empty() || self.is_ours(path)) else {
            return Ok(value.to_owned());
        };
        let mut wanted = self.fill(parent)?;
        if wanted == value {
            return Ok(wanted);
        }
        let mut written = file::write(&open, &wanted);
        if written == Err(Errno::INVAL) {
            wanted = self.left(parent, path, &wanted).map_err(|taken| self.exclusive_error(path, &taken))?;
            written = if wanted == value { Ok(()) } else { file::write(&open, &wanted) };
        }
        match written {
            // Somebody else removed it meanwhile; who needs it will see.
            Ok(()) | Err(Errno::NODEV) => {
                mark::set(&self.hierarchy.below(path), self.file);
                Ok(wanted)
            }
            Err(errno) => Err(failed(&format!("write({wanted})"), errno)),
        }
    }

    /// What the container's parent will have, and the writes that come to it; the container's own
    /// too, if it is not `given`.
    fn preview(
        &self,
        path: &CgroupPath,
        own: bool,
        writes: &mut Vec<(String, String)>,
    ) -> std::result::Result<String, String> {
        let own = own.then_some(path.as_str());
        let mut above = String::new();
        for cgroup in std::iter::once("").chain(path.ancestors()).chain(own) {
            // The container's own is made anew.
            let shown = if cgroup == path.as_str() { String::new() } else { self.shown(cgroup) };
            let Some(parent) = cgroup.rsplit_once('/').map(|(parent, _)| parent) else {
                above = shown;
                continue;
            };
            if !shown.is_empty() && !self.is_ours(cgroup) {
                above = shown;
                continue;
            }
            let wanted = self.left(parent, cgroup, &above).map_err(|taken| self.nothing_left(cgroup, &taken))?;
            if wanted != shown {
                writes.push((self.name(cgroup), wanted.clone()));
            }
            above = wanted;
        }
        Ok(above)
    }

    /// What the parent has or will have, but for what siblings have for themselves.
    fn left_for(&self, path: &CgroupPath) -> std::result::Result<Option<CpuList>, String> {
        let above = self.preview(path, false, &mut Vec::new())?;
        let parent = path.ancestors().last().unwrap_or_default();
        let left =
            self.left(parent, path.as_str(), &above).map_err(|taken| self.nothing_left(path.as_str(), &taken))?;
        Ok(left.parse().ok())
    }

    /// On v2: what the nearest cgroup above that has the controller can use.
    fn effective_above(&self, path: &CgroupPath) -> Option<CpuList> {
        let above = std::iter::once("").chain(path.ancestors()).collect::<Vec<_>>();
        let file = format!("{}.effective", self.file);
        let shown = |cgroup: &str| file::read_short(CWD, &format!("{}/{file}", self.hierarchy.below(cgroup))).ok();
        above.into_iter().rev().find_map(shown)?.as_str().trim_end().parse().ok()
    }

    /// Of what the parent has, what no sibling has for itself; the error names the siblings that
    /// have all of it.
    fn left(&self, parent: &str, path: &str, above: &str) -> std::result::Result<String, String> {
        let Ok(mut left) = above.parse::<CpuList>() else { return Ok(above.to_owned()) };
        let mut names = Vec::new();
        for (name, list) in self.exclusive_siblings(parent, path) {
            names.push(format!("'{name}' has {list}"));
            match left.without(&list) {
                Some(some) => left = some,
                None => return Err(names.join(", ")),
            }
        }
        Ok(left.to_string())
    }

    fn exclusive_siblings(&self, parent: &str, path: &str) -> Vec<(String, CpuList)> {
        let own = path.rsplit_once('/').map_or("", |(_, name)| name);
        let directory = self.hierarchy.below(parent);
        exclusive_below(&directory, self.file, self.exclusive).into_iter().filter(|(name, _)| name != own).collect()
    }

    fn beyond(&self, path: &CgroupPath, given: &CpuList, above: &str) -> Option<String> {
        let above = above.parse::<CpuList>().ok()?;
        let missing = given.without(&above)?;
        Some(format!(
            "{}: of {given} the parent cgroup will not have {missing}: it has {above}",
            self.object(path.as_str())
        ))
    }

    fn exclusive_error(&self, path: &str, taken: &str) -> Error {
        let errno = Errno::INVAL;
        Error::system(Stage::Cgroup, self.object(path), "write", errno).explain(self.all_taken(taken))
    }

    fn nothing_left(&self, path: &str, taken: &str) -> String {
        format!("{}: {}", self.object(path), self.all_taken(taken))
    }

    fn all_taken(&self, taken: &str) -> String {
        format!("other cgroups have all of the parent's for themselves ({}): {taken}", self.exclusive)
    }

    fn is_ours(&self, path: &str) -> bool {
        mark::is_set(&self.hierarchy.below(path), self.file)
    }

    fn shown(&self, path: &str) -> String {
        file::read_short(CWD, &self.name(path)).map(|value| value.as_str().trim_end().to_owned()).unwrap_or_default()
    }

    fn name(&self, path: &str) -> String {
        format!("{}/{}", self.hierarchy.below(path), self.file)
    }

    fn object(&self, path: &str) -> String {
        format!("cgroup '{}' {}", if path.is_empty() { "/" } else { path }, self.file)
    }
}

/// The cgroups in a directory that have processors (or memory nodes) for themselves, and which.
fn exclusive_below(directory: &str, file: &str, exclusive: &str) -> Vec<(String, CpuList)> {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().trim_end().to_owned();
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| {
        let path = entry.path();
        let list = (read(&path.join(exclusive)) == "1").then(|| read(&path.join(file)).parse().ok())??;
        Some((entry.file_name().to_string_lossy().into_owned(), list))
    };
    entries.filter_map(of).collect()
}

/// What of the cpusets at the top of this machine a person should know: what is seen, and what to
/// do about it.
#[must_use]
pub fn findings(hierarchy: &Hierarchy, parent: &CgroupPath) -> Vec<(String, String)> {
    if !needs_values(hierarchy) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (file, exclusive) in FILES {
        let values = Values { hierarchy, file, exclusive };
        for (name, list) in values.exclusive_siblings("", "") {
            let advice = format!(
                "workers do without; to give it back: echo 0 > {}/{exclusive}",
                values.hierarchy.below(&format!("/{name}"))
            );
            found.push((format!("cgroup '/{name}' has {file} {list} for itself ({exclusive})"), advice));
        }
        let (root, own) = (values.shown(""), values.shown(parent.as_str()));
        if !own.is_empty() && own != root && !values.is_ours(parent.as_str()) {
            let advice = format!(
                "if that is not intended (a processor was offline, say): echo {root} > {}",
                values.name(parent.as_str())
            );
            found.push((
                format!("cgroup '{parent}' has {file} {own} of {root}, and so has every worker below it"),
                advice,
            ));
        }
    }
    found
}

/// The mark of a value that was written here.
#[cfg(not(test))]
mod mark {
    use rustix::fs::{XattrFlags, getxattr, removexattr, setxattr};

    fn name(file: &str) -> String {
        format!("trusted.squall.{file}")
    }

    /// Where the kernel keeps no attributes of cgroups (CAP_SYS_ADMIN is missing), a value stays as
    /// it is filled.
    pub(in crate::cgroup) fn set(directory: &str, file: &str) {
        let _ = setxattr(directory, name(file), b"1", XattrFlags::empty());
    }

    pub(in crate::cgroup) fn clear(directory: &str, file: &str) {
        let _ = removexattr(directory, name(file));
    }

    pub(in crate::cgroup) fn is_set(directory: &str, file: &str) -> bool {
        getxattr(directory, name(file), &mut [0; 1][..]).is_ok()
    }
}

/// The same in a tree of plain files, which need not be root's.
#[cfg(test)]
mod mark {
    fn name(directory: &str, file: &str) -> String {
        format!("{directory}/.ours.{file}")
    }

    pub(in crate::cgroup) fn set(directory: &str, file: &str) {
        if std::path::Path::new(directory).exists() {
            std::fs::write(name(directory, file), "").unwrap();
        }
    }

    pub(in crate::cgroup) fn clear(directory: &str, file: &str) {
        let _ = std::fs::remove_file(name(directory, file));
    }

    pub(in crate::cgroup) fn is_set(directory: &str, file: &str) -> bool {
        std::path::Path::new(&name(directory, file)).exists()
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

    #[test]
    fn what_was_filled_here_is_widened_again_and_what_somebody_gave_is_not() {
        let tree = FakeTree::v1();
        let hierarchy = tree.layout().holder(Controller::Cpuset).unwrap();
        tree.put("cpuset", "cpuset.cpus", "0-3\n");
        for group in ["cpuset/ours", "cpuset/ours/a", "cpuset/given", "cpuset/given/a"] {
            tree.add(group);
        }
        tree.put("cpuset/given", "cpuset.cpus", "0\n");
        let fill = |path: &str| inherit(hierarchy, &CgroupPath::new(path).unwrap(), &Limits::none()).unwrap();
        fill("/ours/a");
        // A processor went offline, and came back.
        for group in ["cpuset/ours", "cpuset/ours/a"] {
            tree.put(group, "cpuset.cpus", "0\n");
        }
        let path = CgroupPath::new("/ours/b").unwrap();
        let (writes, obstacles) = preview(hierarchy, &path, &Limits::none());
        assert_eq!((writes.iter().filter(|(_, value)| value == "0-3").count(), obstacles), (2, vec![]));
        tree.add("cpuset/ours/b");
        fill("/ours/b");
        fill("/given/a");
        for (group, cpus) in [("ours", "0-3"), ("ours/b", "0-3"), ("given", "0\n"), ("given/a", "0")] {
            assert_eq!(tree.read(&format!("cpuset/{group}"), "cpuset.cpus"), cpus, "{group}");
        }
    }

    #[test]
    fn what_a_sibling_has_for_itself_is_left_out_and_all_of_it_is_an_obstacle() {
        let tree = FakeTree::v1();
        let hierarchy = tree.layout().holder(Controller::Cpuset).unwrap();
        tree.put("cpuset", "cpuset.cpus", "0-3\n");
        tree.add("cpuset/shield");
        tree.put("cpuset/shield", "cpuset.cpus", "1-2\n");
        tree.put("cpuset/shield", "cpuset.cpu_exclusive", "1\n");
        let path = CgroupPath::new("/squall/a").unwrap();
        let cpus = |limits: &Limits| {
            let (writes, obstacles) = preview(hierarchy, &path, limits);
            let values = writes.into_iter().filter(|(file, _)| file.ends_with("cpus")).map(|(_, value)| value);
            (values.collect::<Vec<_>>(), obstacles)
        };
        assert_eq!(cpus(&Limits::none()), (vec!["0,3".to_owned(), "0,3".to_owned()], vec![]));
        let given = Limits { cpuset_cpus: Some("0-1".parse().unwrap()), ..Limits::none() };
        let (_, obstacles) = cpus(&given);
        assert!(obstacles.len() == 1 && obstacles[0].contains("will not have 1"), "{obstacles:?}");
        let found = findings(hierarchy, &CgroupPath::new("/squall").unwrap());
        assert!(found.len() == 1 && found[0].0.contains("'/shield' has cpuset.cpus 1-2"), "{found:?}");
        tree.put("cpuset/shield", "cpuset.cpus", "0-3\n");
        let (_, obstacles) = cpus(&Limits::none());
        assert!(obstacles.len() == 1 && obstacles[0].contains("'shield' has 0-3"), "{obstacles:?}");
    }
}
