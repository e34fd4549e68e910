//! Making and removing the directories of cgroups.
//!
//! Owns mkdir and rmdir in a hierarchy, the races with others that do the same, and the memory of
//! what was made. It writes no limits. Used by the launch process; the monitor only removes.

use rustix::fs::{AtFlags, CWD, Mode, chmodat, mkdirat, unlinkat};
use rustix::io::Errno;

use crate::cgroup::explain::explained;
use crate::cgroup::machine::layout::Hierarchy;
use crate::cgroup::path::CgroupPath;
use crate::error::{Error, ErrorKind, Result};
use crate::stage::Stage;

/// How often a directory is tried again that others make and remove at the same time.
const ATTEMPTS: u32 = 16;

/// The directories that one operation made, so that exactly they can be taken back.
#[derive(Default)]
pub(in crate::cgroup) struct Made(Vec<String>);

impl Made {
    /// Removes them, the last made first, and returns `error` with what could not be removed. A
    /// directory that others use by now is theirs and stays.
    pub(in crate::cgroup) fn take_back(self, error: Error) -> Error {
        self.0.iter().rev().fold(error, |error, directory| match rmdir(directory) {
            Ok(()) | Err(Errno::NOENT | Errno::BUSY | Errno::NOTEMPTY) => error,
            Err(errno) => error.leaving(Error::system(Stage::Cgroup, format!("cgroup {directory}"), "rmdir", errno)),
        })
    }
}

/// What to do with a cgroup that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::cgroup) enum Existing {
    /// Only an empty one may be taken, and only as a new one, so that its counters start at zero.
    Replace,
    /// It is as good as a new one.
    Keep,
}

/// Makes the cgroup `path` in one hierarchy, and its parents.
pub(in crate::cgroup) fn make(
    hierarchy: &Hierarchy,
    path: &CgroupPath,
    existing: Existing,
    made: &mut Made,
) -> Result<()> {
    let directory = hierarchy.directory(path);
    let failed = |call: &str, errno| explained(Error::system(Stage::Cgroup, object(hierarchy, path), call, errno));
    for _ in 0..ATTEMPTS {
        match mkdir(&directory) {
            Ok(()) => {
                made.0.push(directory);
                return Ok(());
            }
            Err(Errno::EXIST) if existing == Existing::Keep => return Ok(()),
            Err(Errno::EXIST) => replace(hierarchy, path, &directory)?,
            // Another operation may remove a parent right after it was made here.
            Err(Errno::NOENT) => make_parents(hierarchy, path, made)?,
            Err(errno) => return Err(failed("mkdir", errno)),
        }
    }
    Err(failed("mkdir", Errno::AGAIN).explain("others kept making and removing it"))
}

/// Only the kernel can tell whether it is empty at this instant, by removing it.
fn replace(hierarchy: &Hierarchy, path: &CgroupPath, directory: &str) -> Result<()> {
    match rmdir(directory) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno @ (Errno::BUSY | Errno::NOTEMPTY)) => {
            Err(Error::system(Stage::Cgroup, object(hierarchy, path), "rmdir", errno)
                .with_kind(ErrorKind::Exists)
                .explain("it is there already and holds processes or cgroups"))
        }
        Err(errno) => Err(explained(Error::system(Stage::Cgroup, object(hierarchy, path), "rmdir", errno))),
    }
}

fn make_parents(hierarchy: &Hierarchy, path: &CgroupPath, made: &mut Made) -> Result<()> {
    for ancestor in path.ancestors() {
        let directory = hierarchy.below(ancestor);
        match mkdir(&directory) {
            Ok(()) => made.0.push(directory),
            Err(Errno::EXIST) => {}
            // Removed again from above; the caller starts over.
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => {
                let object = format!("cgroup '{ancestor}' in {}", hierarchy.mount_point);
                return Err(explained(Error::system(Stage::Cgroup, object, "mkdir", errno)));
            }
        }
    }
    Ok(())
}

/// How an error names a cgroup of one hierarchy.
pub(in crate::cgroup) fn object(hierarchy: &Hierarchy, path: &CgroupPath) -> String {
    format!("cgroup '{path}' in {}", hierarchy.mount_point)
}

/// Others may read, as in every cgroup tree: a worker looks here for its own limits.
const MODE: Mode = Mode::from_raw_mode(0o755);

/// The mode is set by itself: mkdir leaves out what the umask has, and the launch process has a
/// narrow one.
fn mkdir(directory: &str) -> std::result::Result<(), Errno> {
    mkdirat(CWD, directory, MODE)?;
    match chmodat(CWD, directory, MODE, AtFlags::empty()) {
        // Another operation may have removed it again; who needs it will see.
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    #[cfg(test)]
    crate::cgroup::fake::populate(directory);
    Ok(())
}

pub(in crate::cgroup) fn rmdir(directory: &str) -> std::result::Result<(), Errno> {
    #[cfg(test)]
    crate::cgroup::fake::depopulate(directory)?;
    unlinkat(CWD, directory, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::FakeTree;

    #[test]
    fn taking_back_removes_what_was_made_and_nothing_else() {
        let tree = FakeTree::v2("memory");
        let hierarchy = tree.layout().unified().unwrap();
        let mut first = Made::default();
        make(hierarchy, &CgroupPath::new("/a/b/c").unwrap(), Existing::Replace, &mut first).unwrap();
        assert_eq!(first.0.len(), 3);
        let mut second = Made::default();
        make(hierarchy, &CgroupPath::new("/a/b/d").unwrap(), Existing::Replace, &mut second).unwrap();
        assert_eq!(second.0.len(), 1);
        let failure = || Error::system(Stage::Cgroup, "x", "y", Errno::INVAL);
        assert_eq!(first.take_back(failure()), failure());
        assert_eq!(tree.groups(), ["/a", "/a/b", "/a/b/d"]);
        second.take_back(failure());
        assert_eq!(tree.groups(), ["/a", "/a/b"]);
    }

    #[test]
    fn an_existing_group_is_replaced_when_empty_and_refused_when_not() {
        let tree = FakeTree::v2("memory");
        let hierarchy = tree.layout().unified().unwrap();
        let path = CgroupPath::new("/a/b").unwrap();
        make(hierarchy, &path, Existing::Replace, &mut Made::default()).unwrap();
        tree.put("/a/b", "memory.peak", "4096\n");
        make(hierarchy, &path, Existing::Replace, &mut Made::default()).unwrap();
        assert_ne!(tree.read("/a/b", "memory.peak"), "4096\n", "a stale counter");

        tree.put("/a/b", "cgroup.procs", "77\n");
        let error = make(hierarchy, &path, Existing::Replace, &mut Made::default()).unwrap_err();
        assert_eq!((error.kind(), error.call()), (ErrorKind::Exists, "rmdir"));
        make(hierarchy, &path, Existing::Keep, &mut Made::default()).unwrap();
    }
}
