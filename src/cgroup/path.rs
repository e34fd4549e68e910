//! The name of a cgroup within every hierarchy, checked once.
//!
//! Owns what a cgroup may be called. It never looks at a file system: whether the group exists is
//! another question. Every process may use it; deserialising runs the same check, so a path that
//! came from a document is as good as one made here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name of one directory (`NAME_MAX`, `linux/limits.h`).
const COMPONENT_MAX: usize = 255;
/// A path with its final NUL fits this many bytes (`PATH_MAX`, `linux/limits.h`).
const PATH_MAX: usize = 4096;

/// Prefixes of the files that the kernel itself makes in a cgroup's directory, one for each
/// controller of v1 and v2.
const KERNEL_PREFIXES: [&str; 20] = [
    "blkio",
    "cgroup",
    "cpu",
    "cpuacct",
    "cpuset",
    "debug",
    "devices",
    "dmem",
    "freezer",
    "hugetlb",
    "io",
    "irq",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
    "schedtune",
];

/// Files of a v1 cgroup without a prefix.
const KERNEL_FILES: [&str; 3] = ["tasks", "notify_on_release", "release_agent"];

/// An absolute path of a cgroup below the root of each hierarchy: `/squall/abc`. Never the root
/// itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CgroupPath(String);

/// Why a text names no cgroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathProblem {
    /// It does not start with `/`.
    #[error("a cgroup path starts with '/'")]
    NotAbsolute,
    /// It is `/`: limits and kills never apply to the whole machine.
    #[error("the root cgroup cannot be used")]
    Root,
    /// It has 4096 bytes or more.
    #[error("a cgroup path has fewer than {PATH_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// Two slashes follow each other, or the last byte is one.
    #[error("a cgroup path has no empty component")]
    EmptyComponent,
    /// A component is `.` or `..`.
    #[error("a cgroup path has no component '{0}'")]
    Dots(String),
    /// A component has more than 255 bytes.
    #[error("a component of a cgroup path has at most {COMPONENT_MAX} bytes, one has {0}")]
    ComponentTooLong(usize),
    /// It holds a NUL, a newline (which the kernel refuses in cgroup names) or another control
    /// character.
    #[error("a cgroup path has no control characters")]
    Control,
    /// A component is called like a file that the kernel makes in a cgroup.
    #[error("'{0}' is a name the kernel uses for its own files in a cgroup")]
    KernelFile(String),
}

impl CgroupPath {
    /// Checks `text`; no system call.
    ///
    /// # Errors
    /// The first [`PathProblem`] found.
    pub fn new(text: impl Into<String>) -> Result<CgroupPath, PathProblem> {
        let text = text.into();
        check(&text)?;
        Ok(CgroupPath(text))
    }

    /// The path as text, with its leading `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The cgroup above, or `None` where that is the root.
    #[must_use]
    pub fn parent(&self) -> Option<CgroupPath> {
        let (parent, _) = self.0.rsplit_once('/')?;
        (!parent.is_empty()).then(|| CgroupPath(parent.to_owned()))
    }

    /// The cgroup `name` right below this one.
    ///
    /// # Errors
    /// Where `name` is not one valid component, or the whole gets too long.
    pub fn child(&self, name: &str) -> Result<CgroupPath, PathProblem> {
        check_component(name)?;
        if name.contains('/') {
            return Err(PathProblem::EmptyComponent);
        }
        CgroupPath::new(format!("{}/{name}", self.0))
    }

    /// Every cgroup above this one as a slice of the path, topmost first, without the root and
    /// without itself.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').skip(1).map(|(at, _)| &self.0[..at])
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CgroupPath {
    type Error = PathProblem;

    fn try_from(text: String) -> Result<CgroupPath, PathProblem> {
        CgroupPath::new(text)
    }
}

impl std::str::FromStr for CgroupPath {
    type Err = PathProblem;

    fn from_str(text: &str) -> Result<CgroupPath, PathProblem> {
        CgroupPath::new(text)
    }
}

impl From<CgroupPath> for String {
    fn from(path: CgroupPath) -> String {
        path.0
    }
}

fn check(text: &str) -> Result<(), PathProblem> {
    let below_root = text.strip_prefix('/').ok_or(PathProblem::NotAbsolute)?;
    if below_root.is_empty() {
        return Err(PathProblem::Root);
    }
    if text.len() >= PATH_MAX {
        return Err(PathProblem::TooLong(text.len()));
    }
    below_root.split('/').try_for_each(check_component)
}

fn check_component(component: &str) -> Result<(), PathProblem> {
    if component.is_empty() {
        return Err(PathProblem::EmptyComponent);
    }
    if component == "." || component == ".." {
        return Err(PathProblem::Dots(component.to_owned()));
    }
    if component.len() > COMPONENT_MAX {
        return Err(PathProblem::ComponentTooLong(component.len()));
    }
    if component.chars().any(char::is_control) {
        return Err(PathProblem::Control);
    }
    if is_kernel_file(component) {
        return Err(PathProblem::KernelFile(component.to_owned()));
    }
    Ok(())
}

fn is_kernel_file(component: &str) -> bool {
    if KERNEL_FILES.contains(&component) {
        return true;
    }
    component.split_once('.').is_some_and(|(prefix, _)| KERNEL_PREFIXES.contains(&prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_paths_are_accepted_as_they_are() {
        for text in [
            "/squall",
            "/squall/abc",
            "/storm/6700-6d1c",
            "/a:b/c d",
            "/system.slice/squall.service",
            "/cpu",
            "/.hidden",
            "/é",
        ] {
            assert_eq!(CgroupPath::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_could_leave_the_hierarchy_or_clash_with_the_kernel_is_refused() {
        let long_name = format!("/{}", "x".repeat(256));
        let long_path = format!("/{}", "x/".repeat(2047)) + "x";
        let table = [
            ("", PathProblem::NotAbsolute),
            ("squall/abc", PathProblem::NotAbsolute),
            ("/", PathProblem::Root),
            ("//", PathProblem::EmptyComponent),
            ("/squall/", PathProblem::EmptyComponent),
            ("/squall//abc", PathProblem::EmptyComponent),
            ("/squall/../abc", PathProblem::Dots("..".into())),
            ("/.", PathProblem::Dots(".".into())),
            ("/a\0b", PathProblem::Control),
            ("/a\nb", PathProblem::Control),
            ("/squall/cgroup.procs", PathProblem::KernelFile("cgroup.procs".into())),
            ("/memory.slice/a", PathProblem::KernelFile("memory.slice".into())),
            ("/tasks", PathProblem::KernelFile("tasks".into())),
            (long_name.as_str(), PathProblem::ComponentTooLong(256)),
            (long_path.as_str(), PathProblem::TooLong(4096)),
        ];
        for (text, problem) in table {
            assert_eq!(CgroupPath::new(text), Err(problem), "{text:.40}");
        }
        assert!(CgroupPath::new(&long_path[..4095]).is_err(), "ends with a slash");
        assert!(CgroupPath::new(&long_path[..4094]).is_ok());
    }

    #[test]
    fn a_document_cannot_carry_a_wrong_path() {
        assert_eq!(serde_json::from_str::<CgroupPath>("\"/squall/a\"").unwrap().name(), "a");
        let error = serde_json::from_str::<CgroupPath>("\"/squall/..\"").unwrap_err();
        assert!(error.to_string().contains("no component '..'"), "{error}");
    }

    #[test]
    fn parents_and_ancestors_stop_below_the_root() {
        let path = CgroupPath::new("/a/b/c").unwrap();
        assert_eq!(path.ancestors().collect::<Vec<_>>(), ["/a", "/a/b"]);
        assert_eq!(path.parent().unwrap().as_str(), "/a/b");
        assert_eq!(CgroupPath::new("/a").unwrap().parent(), None);
        assert_eq!(path.child("d").unwrap().as_str(), "/a/b/c/d");
        for name in ["", "..", "d/e", "cgroup.kill"] {
            assert!(path.child(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_path_stays_below_the_mount_point(text in "[/.a-c\\x00\\n]{0,40}") {
            if let Ok(path) = CgroupPath::new(text.clone()) {
                prop_assert_eq!(path.as_str(), text.as_str());
                let below = std::path::Path::new("/mnt").join(&path.as_str()[1..]);
                prop_assert!(below.components().skip(2).count() >= 1);
                let all_names = below.components().all(|part| !matches!(part, std::path::Component::ParentDir | std::path::Component::CurDir));
                prop_assert!(all_names);
            }
        }
    }
}
