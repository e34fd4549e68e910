//! In which cgroup of each hierarchy a process is, by `/proc/<pid>/cgroup`.
//!
//! Owns the parsing of that file and asks nothing else. The launch process uses it to see which
//! groups it need not join again.

use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;

use super::layout::{Hierarchy, Kind, Layout};
use crate::cgroup::file;
use crate::error::{Error, ErrorKind, Result};
use crate::stage::Stage;

/// The cgroups of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership(Vec<Entry>);

/// One line of the file: a hierarchy, and the process's cgroup there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The controllers of a v1 hierarchy; empty for a named one and for v2.
    pub controllers: Vec<String>,
    /// The name of a named hierarchy.
    pub name: Option<String>,
    /// The cgroup, as the kernel prints it; ` (deleted)` at its end may mean that it was removed.
    pub path: String,
}

impl Entry {
    /// Whether the line is that of cgroup v2.
    pub fn is_v2(&self) -> bool {
        self.controllers.is_empty() && self.name.is_none()
    }
}

impl Membership {
    /// The cgroups of the calling process.
    ///
    /// # Errors
    /// `System` where `/proc` cannot be read.
    pub fn of_self(layout: &Layout) -> Result<Membership> {
        Membership::read(layout.procfs(), "self")
    }

    /// The cgroups of the process `pid`. Needs no privilege unless `/proc` is mounted with
    /// `hidepid`.
    ///
    /// # Errors
    /// `NotFound` where there is no such process, `System` where `/proc` cannot be read.
    #[cfg(any(test, feature = "testing"))]
    pub fn of(layout: &Layout, pid: u32) -> Result<Membership> {
        Membership::read(layout.procfs(), &pid.to_string())
    }

    /// A kernel built without cgroups has no such file for any process: that is no membership, and
    /// no error.
    pub(in crate::cgroup) fn read(procfs: &Path, pid: &str) -> Result<Membership> {
        let process = procfs.join(pid);
        match file::read_whole(CWD, &process.join("cgroup").to_string_lossy()) {
            Ok(bytes) => Ok(Membership::parse(&String::from_utf8_lossy(&bytes))),
            Err(Errno::NOENT) if process.exists() => Ok(Membership(Vec::new())),
            Err(errno) => {
                let error = Error::system(Stage::Cgroup, format!("process {pid}"), "read(cgroup)", errno);
                let gone = matches!(errno, Errno::NOENT | Errno::SRCH);
                Err(if gone { error.with_kind(ErrorKind::NotFound).explain("no such process") } else { error })
            }
        }
    }

    /// Parses the text of a `/proc/<pid>/cgroup`; lines that are not of its form are left out.
    pub fn parse(text: &str) -> Membership {
        Membership(text.lines().filter_map(entry).collect())
    }

    /// Every line, in the kernel's order.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The process's cgroup in `hierarchy`, as the kernel prints it.
    pub fn path_in(&self, hierarchy: &Hierarchy) -> Option<&str> {
        let entry = self.0.iter().find(|entry| match &hierarchy.kind {
            Kind::V2 { .. } => entry.is_v2(),
            Kind::V1 { controllers, name } => {
                !entry.is_v2()
                    && entry.name == *name
                    && entry.controllers.len() == controllers.len()
                    && entry.controllers.iter().all(|controller| controllers.contains(controller))
            }
        })?;
        Some(&entry.path)
    }
}

fn entry(line: &str) -> Option<Entry> {
    // The path comes last and may hold any number of colons.
    let mut fields = line.splitn(3, ':');
    let (number, subsystems, path) = (fields.next()?, fields.next()?, fields.next()?);
    let number: u32 = number.parse().ok()?;
    // Only v2 has the number 0 and no subsystems.
    if !path.starts_with('/') || (number == 0) != subsystems.is_empty() {
        return None;
    }
    let mut entry = Entry { controllers: Vec::new(), name: None, path: path.to_owned() };
    for subsystem in subsystems.split(',').filter(|subsystem| !subsystem.is_empty()) {
        match subsystem.strip_prefix("name=") {
            Some(name) => entry.name = Some(name.to_owned()),
            None => entry.controllers.push(subsystem.to_owned()),
        }
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::FakeTree;
    use proptest::prelude::*;

    const TEXT: &str = "9:name=systemd:/a\n5:cpuacct,cpu:/squall/x:y\n4:memory:/gone (deleted)\n0::/user.slice/a b\n";

    fn hierarchy(kind: Kind) -> Hierarchy {
        Hierarchy { mount_point: "/m".into(), root: "/".into(), kind }
    }

    #[test]
    fn each_hierarchy_finds_its_own_line() {
        let membership = Membership::parse(TEXT);
        let v1 = |names: &[&str], name: Option<&str>| {
            hierarchy(Kind::V1 {
                controllers: names.iter().map(|name| name.to_string()).collect(),
                name: name.map(Into::into),
            })
        };
        assert_eq!(membership.entries().len(), 4);
        for (hierarchy, path) in [
            (v1(&[], Some("systemd")), Some("/a")),
            (v1(&["cpu", "cpuacct"], None), Some("/squall/x:y")),
            (v1(&["memory"], None), Some("/gone (deleted)")),
            (v1(&["cpu"], None), None),
            (v1(&["pids"], None), None),
            (hierarchy(Kind::V2 { controllers: vec!["cpu".into()] }), Some("/user.slice/a b")),
        ] {
            assert_eq!(membership.path_in(&hierarchy), path, "{hierarchy:?}");
        }
    }

    #[test]
    fn lines_of_another_form_are_left_out() {
        for text in ["", "\n\n", "0:", "0::", "0::relative", "x::/a", "3::/a", "0:cpu:/a", "-1:cpu:/a", "cpu:/a"] {
            assert_eq!(Membership::parse(text).entries(), [], "{text}");
        }
    }

    #[test]
    fn a_process_that_is_not_there_is_told_from_a_kernel_without_cgroups() {
        let tree = FakeTree::v2("");
        assert_eq!(Membership::of(tree.layout(), 4000).unwrap_err().kind(), ErrorKind::NotFound);
        std::fs::create_dir(tree.layout().procfs().join("4000")).unwrap();
        assert_eq!(Membership::of(tree.layout(), 4000).unwrap().entries(), []);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "([0-9]|:|/|,|=|name=|\n|é){0,40}") {
            prop_assert!(Membership::parse(&text).entries().iter().all(|entry| entry.path.starts_with('/')));
        }
    }
}
