//! Whether a cgroup is in use, and removing one that is not.
//!
//! For the group of monitors and the one above it, which outlive every container: only a cgroup
//! that holds neither process nor cgroup goes.

use std::fs;
use std::path::Path;

use super::machine::layout::{Hierarchy, Layout};
use super::path::CgroupPath;

/// What is in a cgroup, over all hierarchies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupancy {
    /// It exists in no hierarchy.
    Absent,
    /// It exists, and nothing is in it.
    Empty,
    /// A process or a cgroup is in it, in one hierarchy at least.
    Occupied,
}

impl Occupancy {
    /// Looks at the cgroup `path`, as if those of `gone` that are in it were not there. What cannot
    /// be read counts as occupied.
    pub fn of(layout: &Layout, path: &CgroupPath, gone: &[CgroupPath]) -> Occupancy {
        let mut occupancy = Occupancy::Absent;
        let within = |cgroup: &&CgroupPath| cgroup.parent().as_ref() == Some(path);
        let gone_within: Vec<&str> = gone.iter().filter(within).map(CgroupPath::name).collect();
        for hierarchy in layout.hierarchies() {
            let directory = hierarchy.directory(path);
            match (Path::new(&directory).is_dir(), is_empty(&directory, &gone_within)) {
                (false, _) => {}
                (true, true) => occupancy = Occupancy::Empty,
                (true, false) => return Occupancy::Occupied,
            }
        }
        occupancy
    }
}

/// The inode of a cgroup's directory in the first hierarchy that has it. Inodes of cgroups are not
/// used again, so this tells a cgroup from a later one of the same path.
pub fn inode_of(layout: &Layout, path: &CgroupPath) -> Option<u64> {
    let stat = |hierarchy: &Hierarchy| rustix::fs::stat(hierarchy.directory(path).as_str()).ok();
    layout.hierarchies().iter().find_map(stat).map(|stat| stat.st_ino)
}

fn is_empty(directory: &str, gone: &[&str]) -> bool {
    let no_processes = fs::read_to_string(format!("{directory}/cgroup.procs")).is_ok_and(|text| text.is_empty());
    let stays = |entry: fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir())
            && !entry.file_name().to_str().is_some_and(|name| gone.contains(&name))
    };
    no_processes && fs::read_dir(directory).is_ok_and(|entries| !entries.flatten().any(stays))
}

/// Removes the cgroup where it is empty, in each hierarchy by itself: the kernel refuses where
/// somebody came in meanwhile.
pub fn remove_empty(layout: &Layout, path: &CgroupPath) {
    for hierarchy in layout.hierarchies() {
        let _ = rustix::fs::rmdir(hierarchy.directory(path).as_str());
    }
}
