//! Which cgroup hierarchies this machine has, and where they are mounted.
//!
//! Owns the difference between v1, hybrid and v2 machines; everything else in this module is handed
//! a [`Layout`]. It never makes or changes a cgroup. The launch process detects it once; it is
//! plain data and can be handed on to the monitor.
//!
//! Reading `mountinfo` costs the kernel about a microsecond for each mount of the machine, so it is
//! the last resort: a pure v2 machine is known by one `statfs`, a v1 machine by the names that
//! every distribution uses below `/sys/fs/cgroup`, each of them verified.

use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::controller::Controller;
use super::membership::Membership;
use super::mountinfo;
use crate::cgroup::file;
use crate::cgroup::path::CgroupPath;
use crate::error::{Context as _, Result};
use crate::stage::Stage;

/// Where every init system mounts cgroups.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// The hierarchies of a machine and the place of its `/proc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    hierarchies: Vec<Hierarchy>,
    procfs: PathBuf,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// Where it is mounted, without a final slash.
    pub mount_point: String,
    /// Which of its cgroups is found at the mount point: `/`, except inside some containers.
    pub root: String,
    /// v1 or v2, and what it controls.
    pub kind: Kind,
}

/// What kind of hierarchy it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A hierarchy of cgroup v1.
    V1 {
        /// Its controllers, several where they are mounted together; none for a named hierarchy
        /// such as `name=systemd`.
        controllers: Vec<String>,
        /// The name of a named hierarchy.
        name: Option<String>,
    },
    /// The hierarchy of cgroup v2, which on a hybrid machine exists beside those of v1.
    V2 {
        /// The controllers that its root offers (`cgroup.controllers`).
        controllers: Vec<String>,
    },
}

impl Layout {
    /// A layout of these hierarchies, for machines with unusual mounts; `procfs` is where processes
    /// are looked up.
    pub fn new(hierarchies: Vec<Hierarchy>, procfs: impl Into<PathBuf>) -> Layout {
        Layout { hierarchies, procfs: procfs.into() }
    }

    /// What this machine has: a pure v2 mount at `/sys/fs/cgroup`, else the usual names below it,
    /// else whatever mountinfo lists. A kernel without cgroups gives a layout without hierarchies.
    /// Needs no privilege.
    ///
    /// # Errors
    /// `System` where `/proc` cannot be read.
    pub fn detect() -> Result<Layout> {
        if file_system_of(CGROUP_ROOT) == Some(FileSystem::V2) {
            return Ok(Layout::new(vec![pure_v2()], "/proc"));
        }
        let listed = Membership::read(Path::new("/proc"), "self")?;
        match by_convention(&listed) {
            Some(hierarchies) => Ok(Layout::new(hierarchies, "/proc")),
            None => Layout::from_mountinfo(),
        }
    }

    /// The same from `/proc/self/mountinfo` alone, without the short cuts of [`Layout::detect`].
    ///
    /// # Errors
    /// `System` where `/proc/self/mountinfo` cannot be read.
    pub fn from_mountinfo() -> Result<Layout> {
        let file = "/proc/self/mountinfo";
        let bytes = file::read_whole(CWD, file).at(Stage::Cgroup, format!("file '{file}'"), "read")?;
        let mut hierarchies = mountinfo::hierarchies_in_mountinfo(&String::from_utf8_lossy(&bytes));
        for hierarchy in &mut hierarchies {
            let controllers_file = hierarchy.file_of_root("cgroup.controllers");
            if let Kind::V2 { controllers } = &mut hierarchy.kind {
                *controllers = words_of(&controllers_file).unwrap_or_default();
            }
        }
        Ok(Layout::new(hierarchies, "/proc"))
    }

    /// Every hierarchy.
    #[must_use]
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// Where `/proc` is.
    #[must_use]
    pub fn procfs(&self) -> &Path {
        &self.procfs
    }

    /// The v2 hierarchy, also the one of a hybrid machine.
    #[must_use]
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.is_v2())
    }

    /// The hierarchy in which `controller` works. The kernel gives each controller to one hierarchy
    /// only.
    #[must_use]
    pub fn holder(&self, controller: Controller) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.has(controller))
    }
}

impl Hierarchy {
    /// Whether this is cgroup v2.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        matches!(self.kind, Kind::V2 { .. })
    }

    /// Whether `controller` works here.
    #[must_use]
    pub fn has(&self, controller: Controller) -> bool {
        match &self.kind {
            Kind::V1 { controllers, .. } => controllers.iter().any(|name| name == controller.v1_name()),
            Kind::V2 { controllers } => {
                controller.v2_name().is_some_and(|v2| controllers.iter().any(|name| name == v2))
            }
        }
    }

    /// The directory of the cgroup `path`.
    #[must_use]
    pub fn directory(&self, path: &CgroupPath) -> String {
        self.below(path.as_str())
    }

    /// What `/proc/<pid>/cgroup` shows for a process in the cgroup `path`.
    #[must_use]
    pub fn membership_of(&self, path: &CgroupPath) -> String {
        format!("{}{path}", self.root.trim_end_matches('/'))
    }

    pub(in crate::cgroup) fn below(&self, path: &str) -> String {
        [self.mount_point.as_str(), path].concat()
    }

    pub(in crate::cgroup) fn file_of_root(&self, file: &str) -> String {
        format!("{}/{file}", self.mount_point)
    }
}

fn pure_v2() -> Hierarchy {
    let controllers = words_of(&format!("{CGROUP_ROOT}/cgroup.controllers")).unwrap_or_default();
    Hierarchy { mount_point: CGROUP_ROOT.into(), root: "/".into(), kind: Kind::V2 { controllers } }
}

/// The hierarchies that `/proc/self/cgroup` lists, each found below [`CGROUP_ROOT`] under its usual
/// name; `None` as soon as one is not.
fn by_convention(listed: &Membership) -> Option<Vec<Hierarchy>> {
    listed
        .entries()
        .iter()
        .map(|entry| if entry.is_v2() { hybrid_v2() } else { usual_v1(&entry.controllers, entry.name.as_deref()) })
        .collect()
}

fn hybrid_v2() -> Option<Hierarchy> {
    let mount_point = format!("{CGROUP_ROOT}/unified");
    // Every cgroup but the root has a `cgroup.type`.
    if file_system_of(&mount_point) != Some(FileSystem::V2) || Path::new(&mount_point).join("cgroup.type").exists() {
        return None;
    }
    let controllers = words_of(&format!("{mount_point}/cgroup.controllers")).ok()?;
    Some(Hierarchy { mount_point, root: "/".into(), kind: Kind::V2 { controllers } })
}

fn usual_v1(controllers: &[String], name: Option<&str>) -> Option<Hierarchy> {
    // Together they are mounted as `cpu,cpuacct`; a symlink `cpu` may be all there is.
    let joined = controllers.join(",");
    let usual = name.unwrap_or(&joined);
    let first = controllers.first().map_or(usual, String::as_str);
    let mount_point = [usual, first].map(|name| format!("{CGROUP_ROOT}/{name}")).into_iter().find(|directory| {
        // Only the root of a v1 hierarchy has a `release_agent`, so one call shows both that this
        // is v1 and that nothing but the root is here.
        file_system_of(&format!("{directory}/release_agent")) == Some(FileSystem::V1)
    })?;
    let kind = Kind::V1 { controllers: controllers.to_vec(), name: name.map(str::to_owned) };
    Some(Hierarchy { mount_point, root: "/".into(), kind })
}

#[derive(Debug, PartialEq, Eq)]
enum FileSystem {
    V1,
    V2,
    Other,
}

fn file_system_of(path: &str) -> Option<FileSystem> {
    let magic = rustix::fs::statfs(path).ok()?.f_type;
    Some(match magic {
        libc::CGROUP_SUPER_MAGIC => FileSystem::V1,
        libc::CGROUP2_SUPER_MAGIC => FileSystem::V2,
        _ => FileSystem::Other,
    })
}

fn words_of(file: &str) -> std::result::Result<Vec<String>, Errno> {
    Ok(file::read_short(CWD, file)?.as_str().split_ascii_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::FakeTree;

    #[test]
    fn a_controller_is_found_in_the_one_hierarchy_that_has_it() {
        let hybrid = FakeTree::v1();
        assert!(hybrid.layout().holder(Controller::Memory).unwrap().mount_point.ends_with("/memory"));
        assert!(hybrid.layout().unified().is_some());
        let together = FakeTree::v1_together();
        assert_eq!(together.layout().holder(Controller::Cpu), together.layout().holder(Controller::Cpuacct));
        let pure = FakeTree::v2("cpu memory");
        assert!(pure.layout().holder(Controller::Cpu).unwrap().is_v2());
        assert_eq!(pure.layout().holder(Controller::Pids), None);
        assert_eq!(pure.layout().holder(Controller::Devices), None);
    }

    #[test]
    fn the_membership_of_a_group_includes_the_part_that_is_not_mounted() {
        let kind = Kind::V2 { controllers: vec![] };
        let path = CgroupPath::new("/squall/a").unwrap();
        for (root, expected) in [("/", "/squall/a"), ("/docker/1", "/docker/1/squall/a")] {
            let hierarchy = Hierarchy { mount_point: "/m".into(), root: root.into(), kind: kind.clone() };
            assert_eq!(hierarchy.membership_of(&path), expected);
            assert_eq!(hierarchy.directory(&path), "/m/squall/a");
        }
    }

    #[test]
    fn a_layout_crosses_a_process_border_unchanged() {
        let tree = FakeTree::v1_together();
        let text = serde_json::to_string(tree.layout()).unwrap();
        assert_eq!(&serde_json::from_str::<Layout>(&text).unwrap(), tree.layout());
    }
}
