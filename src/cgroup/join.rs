//! Entering cgroups.
//!
//! Owns the ways in: the open `cgroup.procs` files through which the launch process moves the
//! container's first process, or itself ([`place`]), and the group of
//! monitors, which the launch process joins before it becomes one.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::explain;
use super::file;
use super::freeze;
use super::group::directory::{self, Existing, Made};
use super::group::{Cgroup, cpuset};
use super::limits::Limits;
use super::machine::layout::{Hierarchy, Layout};
use super::machine::membership::Membership;
use super::path::CgroupPath;
use crate::error::{Error, ErrorKind, Result};
use crate::stage::Stage;

/// How often a group of monitors is made again that somebody removes meanwhile.
///
/// Somebody who does nothing else wins many times in a row: the kernel hands him its lock as soon
/// as the mkdir is done (seen, 16 of 16).
const ATTEMPTS: u32 = 64;

/// What a new process has to join itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// Every hierarchy.
    Everywhere,
    /// Those of v1 only: `CLONE_INTO_CGROUP` with [`Cgroup::clone_into_fd`] put it into the v2
    /// cgroup at birth. One move less.
    AfterCloneInto,
}

/// The fd that refused, by its index, and why. Plain data: it can cross a pipe from a child that
/// must not allocate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinFailure {
    /// Index into the fds given to [`place`].
    pub index: usize,
    /// The kernel's answer.
    pub errno: i32,
}

/// Moves the process `pid`, as this pid namespace numbers it, into every cgroup of `fds`, which
/// [`Cgroup::procs_fds`] opened, by one write for each; 0 is the caller.
///
/// The first move after a while waits for the kernel's grace period (4 to 17 ms, measured): every
/// move stops forks everywhere for a moment, and the kernel prepares for that only when it is asked
/// to. Further ones within some milliseconds cost 30 us each.
///
/// # Errors
/// The first fd that refused; in those before it the process is. [`Cgroup::join_error`] names it.
pub fn place(fds: &[OwnedFd], pid: i32) -> std::result::Result<(), JoinFailure> {
    let pid = pid.to_string();
    for (index, fd) in fds.iter().enumerate() {
        file::write(fd, &pid).map_err(|errno| JoinFailure { index, errno: errno.raw_os_error() })?;
    }
    Ok(())
}

impl Cgroup {
    /// `cgroup.procs` of each hierarchy that is left to join, write-only and close-on-exec, for
    /// [`place`].
    ///
    /// # Errors
    /// `System` where a file cannot be opened.
    pub fn procs_fds(&self, joining: Joining) -> Result<Vec<OwnedFd>> {
        self.to_join(joining)
            .map(|(hierarchy, directory)| {
                file::open(directory, "cgroup.procs", OFlags::WRONLY)
                    .map_err(|errno| failed(hierarchy, self.path(), "open(cgroup.procs)", errno))
            })
            .collect()
    }

    /// The error of a [`place`] with the fds of [`Cgroup::procs_fds`] for the same `joining`.
    pub fn join_error(&self, joining: Joining, failure: JoinFailure) -> Error {
        let errno = Errno::from_raw_os_error(failure.errno);
        match self.to_join(joining).nth(failure.index) {
            Some((hierarchy, _)) => failed(hierarchy, self.path(), "write(cgroup.procs)", errno),
            None => explained(Error::system(
                Stage::Cgroup,
                format!("cgroup '{}'", self.path()),
                "write(cgroup.procs)",
                errno,
            )),
        }
    }

    fn to_join(&self, joining: Joining) -> impl Iterator<Item = (&Hierarchy, BorrowedFd<'_>)> {
        self.directories().filter(move |(hierarchy, _)| joining == Joining::Everywhere || !hierarchy.is_v2())
    }
}

/// Moves the calling process into `path` in every hierarchy, and makes that cgroup where it is not
/// there. Hierarchies in which the process is there already cost nothing. For the monitor, which
/// must be in no worker's cgroup and not in its caller's.
///
/// # Errors
/// `System`, `Privilege`: a directory or a move was refused. `Exhausted`: others kept removing the
/// group. `Phase`: it, or a cgroup above it, is frozen.
pub fn join_monitors(layout: &Layout, path: &CgroupPath) -> Result<()> {
    freeze::refuse(layout, path)?;
    let membership = Membership::of_self(layout)?;
    for hierarchy in layout.hierarchies() {
        if membership.path_in(hierarchy) != Some(hierarchy.membership_of(path).as_str()) {
            enter(hierarchy, path)?;
        }
    }
    Ok(())
}

fn enter(hierarchy: &Hierarchy, path: &CgroupPath) -> Result<()> {
    let file = format!("{}/cgroup.procs", hierarchy.directory(path));
    let open = || file::open(rustix::fs::CWD, &file, OFlags::WRONLY);
    for _ in 0..ATTEMPTS {
        let outcome = match open() {
            Ok(procs) => file::write(procs, "0"),
            Err(errno) => Err(errno),
        };
        match outcome {
            Ok(()) => return Ok(()),
            // Not there yet, or removed as empty between two calls; a v1 cpuset that another
            // process just made may still be empty.
            Err(Errno::NOENT | Errno::NODEV | Errno::NOSPC) => {}
            Err(errno) => return Err(failed(hierarchy, path, "write(cgroup.procs)", errno)),
        }
        directory::make(hierarchy, path, Existing::Keep, &mut Made::default())?;
        if cpuset::needs_values(hierarchy) {
            match cpuset::inherit(hierarchy, path, &Limits::none()) {
                Err(error) if !matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV)) => return Err(error),
                _ => {}
            }
        }
    }
    Err(failed(hierarchy, path, "write(cgroup.procs)", Errno::NOENT)
        .with_kind(ErrorKind::Exhausted)
        .explain("others kept removing it"))
}

fn failed(hierarchy: &Hierarchy, path: &CgroupPath, call: &str, errno: Errno) -> Error {
    explained(Error::system(Stage::Cgroup, directory::object(hierarchy, path), call, errno))
}

fn explained(error: Error) -> Error {
    match error.errno().and_then(explain::of_join) {
        Some(text) => error.explain(text),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::FakeTree;

    fn path() -> CgroupPath {
        CgroupPath::new("/squall/monitors").unwrap()
    }

    #[test]
    fn joining_writes_once_to_every_hierarchy() {
        let tree = FakeTree::v1();
        let (cgroup, _) = Cgroup::create(tree.layout(), &path(), &Limits::none()).unwrap();
        let fds = cgroup.procs_fds(Joining::Everywhere).unwrap();
        assert_eq!(fds.len(), tree.layout().hierarchies().len());
        assert_eq!(cgroup.procs_fds(Joining::AfterCloneInto).unwrap().len(), fds.len() - 1);
        place(&fds, 0).unwrap();
        for mount in ["cpu", "memory", "systemd", "unified"] {
            assert_eq!(tree.read(&format!("{mount}/squall/monitors"), "cgroup.procs"), "0");
        }
    }

    #[test]
    fn a_refusal_names_the_hierarchy() {
        let tree = FakeTree::v1();
        tree.break_template("memory", "cgroup.procs");
        let (cgroup, _) = Cgroup::create(tree.layout(), &path(), &Limits::none()).unwrap();
        let failure = place(&cgroup.procs_fds(Joining::Everywhere).unwrap(), 0).unwrap_err();
        let error = cgroup.join_error(Joining::Everywhere, failure);
        assert!(error.object().ends_with("/memory"), "{error}");
        assert!(error.to_string().contains("no processors"), "{error}");
    }

    #[test]
    fn monitors_skip_the_hierarchies_in_which_they_are() {
        let tree = FakeTree::v1();
        tree.set_membership("4:memory:/squall/monitors\n1:cpu:/\n0::/squall/monitors\n");
        join_monitors(tree.layout(), &path()).unwrap();
        let groups = tree.groups();
        assert!(
            !groups.iter().any(|group| group.starts_with("memory/") || group.starts_with("unified/")),
            "{groups:?}"
        );
        assert_eq!(tree.read("cpu/squall/monitors", "cgroup.procs"), "0");
        assert_eq!(tree.read("cpuset/squall/monitors", "cpuset.cpus"), "0-1");
    }

    #[test]
    fn a_group_that_refuses_for_ever_ends_in_an_error() {
        let tree = FakeTree::v2("");
        tree.set_membership("0::/\n");
        tree.break_template("", "cgroup.procs");
        assert_eq!(join_monitors(tree.layout(), &path()).unwrap_err().kind(), ErrorKind::Exhausted);
    }
}
