//! Frozen cgroups: finding the one that holds processes, refusing to put more into it, freezing and
//! thawing a container's own.
//!
//! What is frozen by cgroup v1 neither runs nor dies: a launch below it would hang, and so would
//! its end. In v2 a frozen process can be killed. Only a container's own cgroup is ever thawed;
//! those above it belong to somebody else.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;

use super::file;
use super::group::Cgroup;
use super::machine::controller::Controller;
use super::machine::layout::{Hierarchy, Layout};
use super::path::CgroupPath;
use crate::error::{Cause, Context, Error, Result};
use crate::stage::Stage;
use crate::wait::changes_by;

/// The nearest frozen cgroup among `path` and those above it. Those that do not exist are not
/// frozen.
pub fn frozen(layout: &Layout, path: &CgroupPath) -> Option<CgroupPath> {
    let lines = freezing(layout).map(|hierarchy| nearest(hierarchy, Some(path.clone())));
    lines.flatten().max_by_key(|found| found.as_str().len())
}

/// The nearest cgroup above `path` in which cgroup v1 keeps what is killed from dying: the
/// container cannot be ended before it is thawed.
pub fn frozen_above(layout: &Layout, path: &CgroupPath) -> Option<CgroupPath> {
    let freezer =
        layout.hierarchies().iter().find(|hierarchy| !hierarchy.is_v2() && hierarchy.has(Controller::Freezer));
    nearest(freezer?, path.parent())
}

fn nearest(hierarchy: &Hierarchy, path: Option<CgroupPath>) -> Option<CgroupPath> {
    std::iter::successors(path, CgroupPath::parent).find(|path| is_frozen_itself(hierarchy, path))
}

/// Whether somebody froze this very cgroup. The file says so from the moment of the request on,
/// whether its processes stand still yet or not.
fn is_frozen_itself(hierarchy: &Hierarchy, path: &CgroupPath) -> bool {
    let file = if hierarchy.is_v2() { "cgroup.freeze" } else { "freezer.self_freezing" };
    let text = file::read_short(CWD, &format!("{}/{file}", hierarchy.directory(path)));
    text.is_ok_and(|text| text.as_str().trim_end() == "1")
}

/// Refuses a cgroup in which nothing would run.
pub(super) fn refuse(layout: &Layout, path: &CgroupPath) -> Result<()> {
    match frozen(layout, path) {
        None => Ok(()),
        Some(found) => Err(Error::frozen(Stage::Cgroup, format!("cgroup '{path}'"), found)),
    }
}

/// What to say of a frozen cgroup.
pub fn words(frozen: &CgroupPath) -> String {
    Cause::Frozen { cgroup: frozen.to_string() }.to_string()
}

/// Whether this very cgroup is frozen, by whichever hierarchy.
pub fn is_frozen(layout: &Layout, path: &CgroupPath) -> bool {
    freezing(layout).any(|hierarchy| is_frozen_itself(hierarchy, path))
}

/// The hierarchies in which a cgroup can be frozen.
fn freezing(layout: &Layout) -> impl Iterator<Item = &Hierarchy> {
    layout.hierarchies().iter().filter(|hierarchy| hierarchy.is_v2() || hierarchy.has(Controller::Freezer))
}

/// How long processes may take to stand still. One that waits in the kernel, for a device or a
/// network file system, does not before that answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks at the freezer of cgroup v1, which has nothing to wait on.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

impl Cgroup {
    /// Makes the processes of this cgroup, and of all below it, stand still; returns when they do.
    /// Where they do not within five seconds, they are thawed again. `object` is whose they are.
    pub fn freeze(&self, object: &str) -> Result<()> {
        let stands = |(hierarchy, directory): (&Hierarchy, BorrowedFd<'_>)| match hierarchy.is_v2() {
            true => freeze_v2(directory),
            false => freeze_v1(directory),
        };
        let freezers =
            || self.directories().filter(|(hierarchy, _)| !hierarchy.is_v2() && hierarchy.has(Controller::Freezer));
        let unified = || self.directories().filter(|(hierarchy, _)| hierarchy.is_v2());
        let Some(freezer) = freezers().next().or_else(|| unified().next()) else {
            let text = "neither the freezer of cgroup v1 nor a tree of cgroup v2 is mounted";
            return Err(Error::lacking(Stage::Watch, object, "freeze", "freezer", text));
        };
        if stands(freezer).at(Stage::Watch, object, "write(freezer state)")? {
            return Ok(());
        }
        self.thaw();
        let text = "a process of it does not stand still: it waits in the kernel, perhaps; all run again";
        Err(Error::timed_out(Stage::Watch, object, "read(freezer state)", PATIENCE, text))
    }

    /// Lets the processes of this cgroup run again. One that is not frozen stays as it is, and what
    /// is frozen further up stays frozen.
    pub fn thaw(&self) {
        for (hierarchy, directory) in self.directories() {
            thaw(hierarchy, directory);
        }
    }
}

pub(super) fn thaw(hierarchy: &Hierarchy, directory: BorrowedFd<'_>) {
    if hierarchy.is_v2() {
        let _ = set(directory, "cgroup.freeze", "0");
    } else if hierarchy.has(Controller::Freezer) {
        let _ = set(directory, "freezer.state", "THAWED");
    }
}

/// Whether all stand still in time.
fn freeze_v1(directory: BorrowedFd<'_>) -> std::result::Result<bool, Errno> {
    let deadline = Instant::now() + PATIENCE;
    set(directory, "freezer.state", "FROZEN")?;
    loop {
        // Looking is what makes the kernel look.
        if file::read_short(directory, "freezer.state")?.as_str().trim_end() == "FROZEN" {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// Whether all stand still in time.
fn freeze_v2(directory: BorrowedFd<'_>) -> std::result::Result<bool, Errno> {
    let deadline = Instant::now() + PATIENCE;
    let events = file::open(directory, "cgroup.events", OFlags::RDONLY)?;
    set(directory, "cgroup.freeze", "1")?;
    loop {
        // Polling reports what changed since this read.
        if file::value_of(file::show(&events)?.as_str(), "frozen") == Some(1) {
            return Ok(true);
        }
        if !changes_by(events.as_fd(), deadline)? {
            return Ok(false);
        }
    }
}

pub(super) fn set(directory: BorrowedFd<'_>, file: &str, value: &str) -> std::result::Result<(), Errno> {
    file::write(file::open(directory, file, OFlags::WRONLY)?, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Limits;
    use crate::cgroup::fake::FakeTree;
    use crate::error::ErrorKind;

    fn path(text: &str) -> CgroupPath {
        CgroupPath::new(text).unwrap()
    }

    #[test]
    fn a_cgroup_below_a_frozen_one_is_refused_by_the_name_of_that() {
        let (v1, v2) = (FakeTree::v1(), FakeTree::v2("memory"));
        let table = [
            (&v1, "freezer/a", "freezer.self_freezing"),
            (&v1, "unified/a", "cgroup.freeze"),
            (&v2, "a", "cgroup.freeze"),
        ];
        for (tree, group, file) in table {
            tree.add(group);
            assert_eq!(frozen(tree.layout(), &path("/a/b/c")), None);
            tree.put(group, file, "1\n");
            assert_eq!(frozen(tree.layout(), &path("/a/b/c")), Some(path("/a")), "{file}");
            assert_eq!(frozen(tree.layout(), &path("/b/c")), None);
            let error = Cgroup::create(tree.layout(), &path("/a/b"), &Limits::none()).unwrap_err();
            assert_eq!((error.kind(), error.stage()), (ErrorKind::Phase, Stage::Cgroup));
            assert!(error.to_string().contains("'/a' is frozen"), "{error}");
            tree.put(group, file, "0\n");
        }
    }

    #[test]
    fn only_v1_keeps_what_is_killed_from_dying() {
        let (v1, v2) = (FakeTree::v1(), FakeTree::v2(""));
        v1.add("freezer/a");
        v2.add("a");
        v1.put("freezer/a", "freezer.self_freezing", "1\n");
        v2.put("a", "cgroup.freeze", "1\n");
        assert_eq!(frozen_above(v1.layout(), &path("/a/b")), Some(path("/a")));
        assert_eq!(frozen_above(v1.layout(), &path("/a")), None);
        assert_eq!(frozen_above(v2.layout(), &path("/a/b")), None);
    }

    #[test]
    fn a_container_is_thawed_by_its_own_cgroup_alone() {
        let tree = FakeTree::v1();
        let (cgroup, _) = Cgroup::create(tree.layout(), &path("/a/b"), &Limits::none()).unwrap();
        tree.put("freezer/a/b", "freezer.state", "FROZEN");
        tree.put("freezer/a", "freezer.state", "FROZEN");
        cgroup.thaw();
        assert_eq!(
            (tree.read("freezer/a/b", "freezer.state"), tree.read("freezer/a", "freezer.state")),
            ("THAWED".into(), "FROZEN".into())
        );
    }
}
