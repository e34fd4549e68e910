//! Ending a cgroup: killing what is in it, and removing it.
//!
//! Owns both, and the waiting for them. It never removes a parent, and never kills by a process id
//! alone: ids are used again. The monitor calls it when its container ends; whoever clears away
//! after a crash calls it too. Never call it from inside the cgroup.

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::explain::explained;
use super::file;
use super::freeze::{set, thaw};
use super::group::{Cgroup, directory};
use super::machine::controller::Controller;
use super::machine::layout::{Hierarchy, Layout};
use super::occupancy::remove_empty;
use super::path::CgroupPath;
use crate::error::{Error, ErrorKind, Result};
use crate::stage::Stage;

/// Rounds of signals at most. One is enough for frozen processes; without a freezer each round
/// catches what was forked during the one before.
const ROUNDS: u32 = 64;
/// Reads of a v1 freezer's state at most: freezing takes well under a millisecond but for processes
/// that wait for a device.
const FREEZE_READS: u32 = 200;
/// The shortest and the longest pause where the kernel has no event to wait for (v1 without a
/// unified tree).
const PAUSE_MIN: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(10);

/// How long dying processes may take to leave a cgroup that is being removed.
const REMOVE_PATIENCE: Duration = Duration::from_secs(10);

/// How everything in a cgroup was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KilledBy {
    /// One write; the kernel leaves out nobody, processes that fork meanwhile included.
    CgroupKill,
    /// Signals, in this many rounds.
    Signals(u32),
}

impl Cgroup {
    /// Sends SIGKILL to every process in the cgroup and below it: by `cgroup.kill` (Linux 5.14, also
    /// in the unified tree of a hybrid machine) where there is one, else by signals. They are dying when this returns,
    /// not gone; [`remove`] waits for that. On a hybrid machine `cgroup.kill` reaches what is in
    /// the v2 tree, the signals what is in the freezer: a process that joined only some hierarchies
    /// may need both. What was frozen in the cgroup is thawed, because v1 lets nothing die that is
    /// frozen.
    ///
    /// # Errors
    /// `TimedOut`: new processes kept appearing (signals only). `Privilege`, `System`: the kernel
    /// refused.
    pub fn kill_all(&self) -> Result<KilledBy> {
        if self.kill_by_file()? {
            self.kill_what_the_file_misses()?;
            self.thaw();
            return Ok(KilledBy::CgroupKill);
        }
        self.kill_by_signals()
    }

    fn kill_by_file(&self) -> Result<bool> {
        let Some((hierarchy, directory)) = self.directories().find(|(hierarchy, _)| hierarchy.is_v2()) else {
            return Ok(false);
        };
        let written = file::open(directory, "cgroup.kill", OFlags::WRONLY).and_then(|file| file::write(file, "1"));
        match written {
            Ok(()) => Ok(true),
            // An older kernel, or the cgroup is gone; the other way finds out which.
            Err(Errno::NOENT | Errno::NODEV) => Ok(false),
            Err(errno) => Err(failed(hierarchy, self.path(), "write(cgroup.kill)", errno)),
        }
    }

    /// `cgroup.kill` signals the first thread of each process: one whose first thread has ended
    /// lives on (seen on Linux 6.18). A signal by pidfd reaches whichever thread is left.
    fn kill_what_the_file_misses(&self) -> Result<()> {
        let Some((hierarchy, directory)) = self.directories().find(|(hierarchy, _)| hierarchy.is_v2()) else {
            return Ok(());
        };
        let rounds = kill_rounds(directory).map(drop);
        rounds.map_err(|errno| failed(hierarchy, self.path(), "pidfd_send_signal(SIGKILL)", errno))
    }

    /// [`Cgroup::kill_all`] as older kernels need it: freeze, then a signal to each process. A
    /// frozen process neither forks nor ends, so one round gets all of them. The processes are
    /// taken from the hierarchy that freezes.
    ///
    /// # Errors
    /// As [`Cgroup::kill_all`].
    pub fn kill_by_signals(&self) -> Result<KilledBy> {
        let freezer = self.directories().find(|(hierarchy, _)| hierarchy.has(Controller::Freezer));
        let v2 = || self.directories().find(|(hierarchy, _)| hierarchy.is_v2());
        let Some((hierarchy, directory)) = freezer.or_else(v2).or_else(|| self.directories().next()) else {
            return Ok(KilledBy::Signals(0));
        };
        freeze(hierarchy, directory);
        let outcome = kill_rounds(directory);
        thaw(hierarchy, directory);
        let rounds = outcome.map(KilledBy::Signals);
        rounds.map_err(|errno| failed(hierarchy, self.path(), "pidfd_send_signal(SIGKILL)", errno))
    }

    /// [`remove`] of this cgroup.
    ///
    /// # Errors
    /// As [`remove`].
    #[cfg(any(test, feature = "testing"))]
    pub fn remove(self, patience: Duration) -> Result<()> {
        remove(&self.layout().clone(), &self.path().clone(), patience)
    }
}

/// Removes the cgroup `path` from every hierarchy, and cgroups that its processes made below it,
/// but no parent. A cgroup that is not there counts as removed, so a failed call can be made again.
/// Waits up to `patience` for dying processes: on the kernel's own event in v2 (and so on a hybrid
/// machine, whose v2 tree is taken first), by short pauses in v1 alone.
///
/// The directory in the first hierarchy goes last, when all others are gone: a container's cgroup
/// is known by its inode ([`super::inode_of`]), and without it nobody could go on with a removal
/// that was cut short.
///
/// # Errors
/// `TimedOut`: processes are left; the message names some. `Privilege`, `System`: the kernel
/// refused. What can be removed of the others is removed all the same.
pub fn remove(layout: &Layout, path: &CgroupPath, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    let Some((first, others)) = layout.hierarchies().split_first() else { return Ok(()) };
    let (v2, v1): (Vec<_>, Vec<_>) = others.iter().partition(|hierarchy| hierarchy.is_v2());
    let mut outcome = Ok(());
    for hierarchy in v2.into_iter().chain(v1) {
        outcome = outcome.and(remove_from(hierarchy, path, deadline));
    }
    outcome.and_then(|()| remove_from(first, path, deadline))
}

fn remove_from(hierarchy: &Hierarchy, path: &CgroupPath, deadline: Instant) -> Result<()> {
    let directory = hierarchy.directory(path);
    let mut pause = PAUSE_MIN;
    loop {
        match directory::rmdir(&directory) {
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY | Errno::INTR) => {}
            Err(errno) => return Err(failed(hierarchy, path, "rmdir", errno)),
        }
        remove_children(&directory);
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // What was removed or ended since the last try counts.
            return directory::rmdir(&directory).or_else(gone).map_err(|_| still_busy(hierarchy, path, &directory));
        }
        if !wait_until_empty(&directory, left) {
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

fn gone(errno: Errno) -> std::result::Result<(), Errno> {
    if errno == Errno::NOENT { Ok(()) } else { Err(errno) }
}

/// Removes what is empty below, deepest first. What is not stays, and the caller finds its own
/// rmdir refused.
fn remove_children(directory: &str) {
    for child in children(directory) {
        remove_children(&child);
        let _ = directory::rmdir(&child);
    }
}

fn children(directory: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| entry.path().into_os_string().into_string().ok()).collect()
}

/// Waits for the kernel to report that a v2 cgroup holds no process. Returns whether there was
/// anything to wait for.
fn wait_until_empty(directory: &str, left: Duration) -> bool {
    let Ok(events) = file::open(CWD, &format!("{directory}/cgroup.events"), OFlags::RDONLY) else { return false };
    // Polling reports what changed since this read.
    match file::show(&events) {
        Ok(text) if file::value_of(text.as_str(), "populated") == Some(1) => {}
        _ => return false,
    }
    let timeout =
        Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
    let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout));
    true
}

fn still_busy(hierarchy: &Hierarchy, path: &CgroupPath, directory: &str) -> Error {
    let mut processes = file::open_directory(directory).and_then(file::processes).unwrap_or_default();
    processes.truncate(5);
    let text = if processes.is_empty() {
        "it holds other cgroups".to_owned()
    } else {
        format!("it still holds processes, such as {processes:?}")
    };
    Error::system(Stage::Remove, directory::object(hierarchy, path), "rmdir", Errno::BUSY)
        .with_kind(ErrorKind::TimedOut)
        .explain(text)
}

/// Without success the signals go out all the same: more rounds may be needed then.
fn freeze(hierarchy: &Hierarchy, directory: BorrowedFd<'_>) {
    if hierarchy.is_v2() {
        // SIGKILL ends a process of v2 frozen or not, so there is no need to wait for all to be.
        let _ = set(directory, "cgroup.freeze", "1");
        return;
    }
    if !hierarchy.has(Controller::Freezer) || set(directory, "freezer.state", "FROZEN").is_err() {
        return;
    }
    for _ in 0..FREEZE_READS {
        match file::read_short(directory, "freezer.state") {
            Ok(state) if state.as_str().trim_end() == "FREEZING" => std::thread::yield_now(),
            _ => return,
        }
    }
}

/// Until a round finds nobody that has not had its signal.
fn kill_rounds(directory: BorrowedFd<'_>) -> std::result::Result<u32, Errno> {
    let mut signalled: Vec<i32> = Vec::new();
    for round in 0..ROUNDS {
        let fresh: Vec<i32> = tree_processes(directory)?.into_iter().filter(|pid| !signalled.contains(pid)).collect();
        if fresh.is_empty() {
            return Ok(round);
        }
        signalled.extend(kill(directory, &fresh)?);
    }
    Err(Errno::TIMEDOUT)
}

/// An id may belong to a stranger by the time of the signal. A pidfd taken before cannot: if the id
/// is still listed after it was taken, the pidfd is that of a member, or of one that has ended and
/// gets nothing. Returns those that were dealt with.
fn kill(directory: BorrowedFd<'_>, pids: &[i32]) -> std::result::Result<Vec<i32>, Errno> {
    let take = |pid: &i32| Some((*pid, pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()?));
    let mut taken: Vec<(i32, OwnedFd)> = pids.iter().filter_map(take).collect();
    let members = tree_processes(directory)?;
    taken.retain(|(pid, _)| members.contains(pid));
    for (_, pidfd) in &taken {
        match pidfd_send_signal(pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(taken.into_iter().map(|(pid, _)| pid).collect())
}

/// The processes in a cgroup and in all below it.
pub(super) fn tree_processes(directory: BorrowedFd<'_>) -> std::result::Result<Vec<i32>, Errno> {
    let mut found = match file::processes(directory) {
        Ok(processes) => processes,
        // Removed meanwhile: nobody is in it.
        Err(Errno::NOENT | Errno::NODEV) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let listing = file::open(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY).and_then(rustix::fs::Dir::new);
    let Ok(listing) = listing else { return Ok(found) };
    for entry in listing.flatten() {
        let name = entry.file_name().to_string_lossy();
        if entry.file_type().is_dir() && name != "." && name != ".." {
            let child = file::open(directory, &name, OFlags::PATH | OFlags::DIRECTORY);
            if let Ok(child) = child {
                found.extend(tree_processes(std::os::fd::AsFd::as_fd(&child))?);
            }
        }
    }
    Ok(found)
}

fn failed(hierarchy: &Hierarchy, path: &CgroupPath, call: &str, errno: Errno) -> Error {
    explained(Error::system(Stage::Remove, directory::object(hierarchy, path), call, errno))
}

/// Kills what is in a container's cgroup and removes it. One that does not exist is fine.
///
/// `inode` is that of the directory that was made for the container. Where it is unknown, or the
/// directory is another one, nothing is killed: it may be somebody else's cgroup by now.
pub(crate) fn end(layout: &Layout, path: &CgroupPath, inode: Option<u64>) -> Result<()> {
    if inode.is_none() {
        remove_empty(layout, path);
        return Ok(());
    }
    let Some(cgroup) = Cgroup::open_made(layout, path, inode)? else { return Ok(()) };
    cgroup.kill_all()?;
    remove(layout, path, REMOVE_PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Limits;
    use crate::cgroup::fake::FakeTree;

    fn path() -> CgroupPath {
        CgroupPath::new("/squall/a").unwrap()
    }

    #[test]
    fn removing_takes_the_group_everywhere_leaves_the_parents_and_can_be_repeated() {
        for tree in [FakeTree::v1(), FakeTree::v1_together(), FakeTree::v2("memory")] {
            let (cgroup, _) = Cgroup::create(tree.layout(), &path(), &Limits::none()).unwrap();
            cgroup.remove(Duration::ZERO).unwrap();
            assert_eq!(tree.groups().len(), tree.layout().hierarchies().len(), "{:?}", tree.groups());
            remove(tree.layout(), &path(), Duration::ZERO).unwrap();
        }
    }

    #[test]
    fn groups_below_go_too() {
        let tree = FakeTree::v2("");
        for group in ["/squall", "/squall/a", "/squall/a/b", "/squall/a/b/c"] {
            tree.add(group);
        }
        remove(tree.layout(), &path(), Duration::ZERO).unwrap();
        assert_eq!(tree.groups(), ["/squall"]);
    }

    #[test]
    fn a_group_with_processes_is_named_and_the_other_hierarchies_are_cleared_but_the_first_which_tells_whose_it_is() {
        let tree = FakeTree::v1();
        let (cgroup, _) = Cgroup::create(tree.layout(), &path(), &Limits::none()).unwrap();
        tree.put("unified/squall/a", "cgroup.procs", "4711\n");
        let error = cgroup.remove(Duration::ZERO).unwrap_err();
        assert_eq!((error.kind(), error.stage()), (ErrorKind::TimedOut, Stage::Remove));
        assert!(error.to_string().contains("[4711]"), "{error}");
        let left: Vec<String> = tree.groups().into_iter().filter(|group| group.ends_with("/a")).collect();
        let first = tree.layout().hierarchies()[0].mount_point.rsplit('/').next().unwrap();
        assert_eq!(left, [format!("{first}/squall/a"), "unified/squall/a".to_owned()]);
        tree.put("unified/squall/a", "cgroup.procs", "");
        remove(tree.layout(), &path(), Duration::ZERO).unwrap();
        assert!(!tree.groups().iter().any(|group| group.ends_with("/a")), "{:?}", tree.groups());
    }

    #[test]
    fn killing_is_one_write_where_the_kernel_offers_it() {
        let tree = FakeTree::v2("");
        let (cgroup, _) = Cgroup::create(tree.layout(), &path(), &Limits::none()).unwrap();
        assert_eq!(cgroup.kill_all().unwrap(), KilledBy::CgroupKill);
        assert_eq!(tree.read("/squall/a", "cgroup.kill"), "1");
        tree.remove_file("/squall/a", "cgroup.kill");
        assert_eq!(cgroup.kill_all().unwrap(), KilledBy::Signals(0));
        assert_eq!(tree.read("/squall/a", "cgroup.freeze"), "0");
    }

    #[test]
    fn an_empty_group_is_not_waited_for() {
        let tree = FakeTree::v2("");
        tree.add("/squall");
        let directory = tree.layout().unified().unwrap().below("/squall");
        assert!(!wait_until_empty(&directory, Duration::from_secs(60)));
        assert!(!wait_until_empty("/nowhere", Duration::from_secs(60)));
    }
}
