//! Who is in a cgroup.

use rustix::io::Errno;

use super::end::tree_processes;
use super::group::Cgroup;
use super::machine::controller::Controller;
use super::machine::membership::Membership;

impl Cgroup {
    /// The process ids in this cgroup and in all below it; none once it is removed. Any of them may
    /// have ended, and its id been used again, by the time they are looked at: see
    /// [`Cgroup::is_membership_of`]. Processes of pid namespaces that are not below the caller's
    /// are left out.
    pub fn members(&self) -> Result<Vec<i32>, Errno> {
        self.counted().map_or(Ok(Vec::new()), |(_, directory)| tree_processes(directory))
    }

    /// Whether a process whose `/proc/<pid>/cgroup` reads so is in this cgroup or below it.
    pub fn is_membership_of(&self, text: &str) -> bool {
        let membership = Membership::parse(text);
        self.counted().is_some_and(|(hierarchy, _)| {
            let own = hierarchy.membership_of(self.path());
            let rest = membership.path_in(hierarchy).and_then(|path| path.strip_prefix(own.as_str()));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// The hierarchy whose members count: all of a container is where it can be frozen.
    fn counted(&self) -> Option<(&super::Hierarchy, std::os::fd::BorrowedFd<'_>)> {
        let freezer = self.directories().find(|(hierarchy, _)| hierarchy.has(Controller::Freezer));
        let v2 = || self.directories().find(|(hierarchy, _)| hierarchy.is_v2());
        freezer.or_else(v2).or_else(|| self.directories().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::CgroupPath;
    use crate::cgroup::fake::FakeTree;

    #[test]
    fn members_are_those_of_the_cgroup_and_below_it() {
        let tree = FakeTree::v2("");
        for group in ["/a", "/a/b", "/ab"] {
            tree.add(group);
        }
        tree.put("/a", "cgroup.procs", "11\n12\n0\n");
        tree.put("/a/b", "cgroup.procs", "13\n");
        tree.put("/ab", "cgroup.procs", "14\n");
        let cgroup = Cgroup::open(tree.layout(), &CgroupPath::new("/a").unwrap()).unwrap();
        assert_eq!(cgroup.members().unwrap(), [11, 12, 13]);
        for (text, expected) in
            [("0::/a\n", true), ("0::/a/b\n", true), ("0::/ab\n", false), ("0::/\n", false), ("1:cpu:/a\n", false)]
        {
            assert_eq!(cgroup.is_membership_of(text), expected, "{text}");
        }
    }

    #[test]
    fn on_v1_those_count_that_can_be_frozen() {
        let tree = FakeTree::v1();
        for mount in ["cpu", "freezer", "unified"] {
            tree.add(&format!("{mount}/a"));
        }
        tree.put("freezer/a", "cgroup.procs", "7\n");
        tree.put("cpu/a", "cgroup.procs", "8\n");
        let cgroup = Cgroup::open(tree.layout(), &CgroupPath::new("/a").unwrap()).unwrap();
        assert_eq!(cgroup.members().unwrap(), [7]);
        assert!(cgroup.is_membership_of("6:freezer:/a\n0::/\n") && !cgroup.is_membership_of("6:freezer:/\n0::/a\n"));
    }
}
