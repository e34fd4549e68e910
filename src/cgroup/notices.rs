//! Files of a cgroup by which inotify tells that something has changed, and what they say.
//!
//! The kernel reports each change of a v2 `cgroup.events` (frozen, populated) and `memory.events`
//! to those who watch the file (`Documentation/admin-guide/cgroup-v2.rst`). v1 reports nothing of
//! itself; but whoever freezes or thaws a cgroup there writes `freezer.state`, and that write is
//! reported as that of any file. For its memory v1 has an eventfd ([`super::oom_eventfd()`]).

use rustix::fs::CWD;

use super::file;
use super::machine::controller::Controller;
use super::machine::layout::{Hierarchy, Layout};
use super::path::CgroupPath;

/// The files of the cgroup `path` to watch for modification. One may not be there.
pub fn notifying_files(layout: &Layout, path: &CgroupPath) -> Vec<String> {
    let of = |hierarchy: &Hierarchy| {
        let directory = hierarchy.directory(path);
        names(hierarchy).iter().map(move |name| format!("{directory}/{name}")).collect::<Vec<_>>()
    };
    layout.hierarchies().iter().flat_map(of).collect()
}

fn names(hierarchy: &Hierarchy) -> &'static [&'static str] {
    match (hierarchy.is_v2(), hierarchy.has(Controller::Memory), hierarchy.has(Controller::Freezer)) {
        (true, true, _) => &["cgroup.events", "memory.events"],
        (true, false, _) => &["cgroup.events"],
        (false, _, true) => &["freezer.state"],
        (false, _, false) => &[],
    }
}

/// How many processes of the cgroup the kernel has killed for want of memory; `None` where that is
/// not to be read.
pub fn oom_kills(layout: &Layout, path: &CgroupPath) -> Option<u64> {
    let hierarchy = layout.holder(Controller::Memory)?;
    let name = if hierarchy.is_v2() { "memory.events" } else { "memory.oom_control" };
    let text = file::read_short(CWD, &format!("{}/{name}", hierarchy.directory(path))).ok()?;
    file::value_of(text.as_str(), "oom_kill")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::FakeTree;

    #[test]
    fn each_machine_has_its_files_that_tell_of_changes() {
        let path = CgroupPath::new("/a").unwrap();
        let table = [
            (FakeTree::v1(), vec!["freezer/a/freezer.state", "unified/a/cgroup.events"]),
            (FakeTree::v1_together(), vec!["freezer/a/freezer.state"]),
            (FakeTree::v2("cpu memory"), vec!["a/cgroup.events", "a/memory.events"]),
            (FakeTree::v2("cpu"), vec!["a/cgroup.events"]),
        ];
        for (tree, expected) in table {
            let files = notifying_files(tree.layout(), &path);
            let ends: Vec<&str> = files
                .iter()
                .zip(&expected)
                .map(|(file, end)| if file.ends_with(&format!("/{end}")) { *end } else { file.as_str() })
                .collect();
            assert_eq!((ends, files.len()), (expected.clone(), expected.len()));
        }
    }

    /// The texts are those of Linux 6.18 (v1) and 6.1 (v2).
    #[test]
    fn kills_are_read_from_the_file_of_each_version() {
        let path = CgroupPath::new("/a").unwrap();
        let v2 = "low 0\nhigh 0\nmax 245\noom 3\noom_kill 2\noom_group_kill 0\n";
        for (tree, group, file, text) in [
            (FakeTree::v1(), "memory/a", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            (FakeTree::v2("memory"), "a", "memory.events", v2),
        ] {
            assert_eq!(oom_kills(tree.layout(), &path), None);
            tree.add(group);
            tree.put(group, file, text);
            assert_eq!(oom_kills(tree.layout(), &path), Some(2), "{file}");
        }
        assert_eq!(oom_kills(FakeTree::v2("cpu").layout(), &path), None);
    }
}
