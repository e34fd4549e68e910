//! A container's directory, claimed.
//!
//! Whoever gives a directory the container's name has the id. The directory is locked before it
//! gets the name and stays so for as long as the launch process, and after it the monitor, lives:
//! the lock says, in every pid namespace, whether a launch is under way or a monitor at work, and
//! whoever removes a directory holds it while doing so. A file in it notes what the launch makes
//! elsewhere ([`Notes`]), so that it can be cleared away whenever the launch process is killed.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    FlockOperation, Mode, OFlags, RenameFlags, flock, fstat, mkdir, mkdirat, open, openat, renameat_with,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::ledger::Holding;
use super::run_root::RunRoot;
use crate::cgroup::CgroupPath;
use crate::crash::{self, Role};
use crate::error::{Cause, Context, Error, ErrorKind, Result};
use crate::host::{ClockId, absent, boot_id, nanoseconds};
use crate::phase::Phase;
use crate::request::{AbsolutePath, ContainerId, Identity, LaunchSpec};
use crate::stage::Stage;
use crate::state::record::{self, LaunchRecord};

/// The file with the notes: a line of JSON each, which is only ever added to. So a note is there as
/// a whole or not at all, and a file system that has become full takes nothing of what was noted
/// before.
const NOTES: &str = "claim";

/// What a directory is called before it has its name. No id begins with a point.
const UNNAMED: &str = ".claim-";

/// How many directories are made, at most, for one claim.
const ATTEMPTS: u32 = 1000;

/// What a launch makes outside the directory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Notes {
    /// The boot in which the launch takes place: what it made is gone with it, and what is called
    /// the same now is somebody else's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot_id: Option<String>,
    /// The cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cgroup: Option<CgroupPath>,
    /// The inode of its directory, once that is made: another cgroup of the same name is not ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cgroup_inode: Option<u64>,
    /// The pid file that is about to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid_file: Option<AbsolutePath>,
    /// What it may be called before, in the same directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    temporary: Option<String>,
    /// With whose file-system ids it is made and removed, if not root's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid_file_user: Option<Identity>,
    /// What will be in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    /// What the container has of its host for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holding: Option<Holding>,
}

impl Notes {
    /// The notes of a container's directory. Where there are none, the launch had made nothing yet.
    pub(crate) fn read(directory: &Path) -> Result<Notes> {
        let text = match fs::read_to_string(directory.join(NOTES)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Notes::default()),
            Err(error) => return Err(error).at(Stage::Watch, directory.display(), "read(claim)"),
        };
        // A line that was not finished is none.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        Ok(whole.filter_map(|line| serde_json::from_str(line).ok()).fold(Notes::default(), Notes::and))
    }

    fn and(self, later: Notes) -> Notes {
        Notes {
            boot_id: later.boot_id.or(self.boot_id),
            cgroup: later.cgroup.or(self.cgroup),
            cgroup_inode: later.cgroup_inode.or(self.cgroup_inode),
            pid_file: later.pid_file.or(self.pid_file),
            temporary: later.temporary.or(self.temporary),
            pid_file_user: later.pid_file_user.or(self.pid_file_user),
            pid: later.pid.or(self.pid),
            holding: later.holding.or(self.holding),
        }
    }

    /// The cgroup, and the inode by which it is known for ours, if it was made in this boot.
    pub(crate) fn cgroup(&self) -> Result<Option<(&CgroupPath, Option<u64>)>> {
        let inode = if self.is_of_this_boot()? { self.cgroup_inode } else { None };
        Ok(self.cgroup.as_ref().map(|cgroup| (cgroup, inode)))
    }

    /// What the container has of its host for itself, by its last note of that.
    pub(crate) fn holding(self) -> Option<Holding> {
        self.holding
    }

    /// The pid file and its temporary name.
    pub(crate) fn pid_file(&self) -> Option<(&AbsolutePath, &str)> {
        Some((self.pid_file.as_ref()?, self.temporary.as_deref()?))
    }

    /// With whose file-system ids the pid file was made; nothing where they were root's.
    pub(crate) fn pid_file_user(&self) -> Option<&Identity> {
        self.pid_file_user.as_ref()
    }

    /// What the pid file holds if it is ours; nothing before the pid is known.
    pub(crate) fn pid_line(&self) -> String {
        self.pid.map(pid_line).unwrap_or_default()
    }

    fn is_of_this_boot(&self) -> Result<bool> {
        Ok(self.boot_id.as_deref() == Some(boot_id()?.as_str()))
    }
}

/// What a pid file holds.
pub(crate) fn pid_line(pid: i32) -> String {
    format!("{pid}\n")
}

/// A directory of ours.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) path: PathBuf,
    /// Open and locked.
    pub(crate) directory: OwnedFd,
    notes: File,
}

/// A directory that is held by the process that watches what it is about.
#[derive(Debug)]
pub(crate) struct LockedDirectory {
    pub(crate) path: PathBuf,
    /// Open and locked.
    pub(crate) open: OwnedFd,
}

impl From<Claim> for LockedDirectory {
    fn from(claim: Claim) -> LockedDirectory {
        LockedDirectory { path: claim.path, open: claim.directory }
    }
}

impl Claim {
    /// Claims the spec's id.
    pub(crate) fn make(run_root: &RunRoot, spec: &LaunchSpec) -> Result<Claim> {
        let object = format!("container '{}'", spec.id);
        let (unnamed, directory) = make_and_lock(run_root, &spec.id, &object)?;
        let claim = Claim::name(directory, &unnamed, run_root.container(&spec.id), spec, &object);
        claim.inspect_err(|_| {
            let _ = fs::remove_dir_all(&unnamed);
        })
    }

    fn name(directory: OwnedFd, unnamed: &Path, path: PathBuf, spec: &LaunchSpec, object: &str) -> Result<Claim> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let notes =
            openat(&directory, NOTES, flags, Mode::from_raw_mode(0o600)).at(Stage::Claim, object, "open(claim)")?;
        let claim = Claim { path, directory, notes: notes.into() };
        claim.note(
            Stage::Claim,
            &Notes { boot_id: Some(boot_id()?), cgroup: Some(spec.cgroup.clone()), ..Notes::default() },
        )?;
        match renameat_with(rustix::fs::CWD, unnamed, rustix::fs::CWD, &claim.path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(claim),
            Err(Errno::EXIST) => {
                let holder = record::read_launch(&claim.path).ok().flatten();
                let cause = Cause::IdTaken { init_pid: holder.map(|record| record.init.pid) };
                Err(Error::new(ErrorKind::Exists, Stage::Claim, object, "renameat2", cause))
            }
            Err(errno) => Err(errno).at(Stage::Claim, object, "renameat2"),
        }
    }

    /// Notes that the cgroup has been made, and which it is.
    pub(crate) fn note_cgroup(&self, inode: Option<u64>) -> Result<()> {
        self.note(Stage::Cgroup, &Notes { cgroup_inode: inode, ..Notes::default() })
    }

    /// Notes that a pid file is about to be made, what it may be called until it has its name, and
    /// as whom it is made, if not as root.
    pub(crate) fn note_pid_file(&self, path: &AbsolutePath, temporary: &str, user: Option<&Identity>) -> Result<()> {
        let (pid_file, temporary) = (Some(path.clone()), Some(temporary.to_owned()));
        self.note(Stage::Claim, &Notes { pid_file, temporary, pid_file_user: user.cloned(), ..Notes::default() })
    }

    /// Notes what is about to be written to it.
    pub(crate) fn note_pid(&self, pid: i32) -> Result<()> {
        self.note(Stage::Clone, &Notes { pid: Some(pid), ..Notes::default() })
    }

    /// Notes what the container has of its host for itself, in place of what was noted before.
    pub(crate) fn note_holding(&self, holding: &Holding) -> Result<()> {
        self.note(Stage::Claim, &Notes { holding: Some(holding.clone()), ..Notes::default() })
    }

    fn note(&self, stage: Stage, notes: &Notes) -> Result<()> {
        append(&self.notes, &self.path, stage, notes)
    }
}

/// Notes for a container that is there what it has of its host for itself from now on.
pub(crate) fn note_holding(directory: &Path, holding: &Holding) -> Result<()> {
    let file = File::options().append(true).open(lock_file(directory));
    let file = file.at(Stage::Claim, directory.display(), "open(claim)")?;
    append(&file, directory, Stage::Claim, &Notes { holding: Some(holding.clone()), ..Notes::default() })
}

fn append(mut file: &File, directory: &Path, stage: Stage, notes: &Notes) -> Result<()> {
    let mut line = serde_json::to_vec(notes).expect("notes are plain data");
    line.push(b'\n');
    file.write_all(&line).at(stage, directory.display(), "write(claim)")
}

/// Where the exec sessions of a container are, in its directory: one directory each, with the same
/// files as a container's.
pub(crate) const EXEC: &str = "exec";

/// Makes and locks the directory of a further program in a running container, under a new id.
pub(crate) fn make_exec(container: &Path, record: &LaunchRecord) -> Result<LockedDirectory> {
    let object = format!("container '{}'", record.id);
    let gone = || Error::wrong_phase(Stage::Claim, &object, "exec", Phase::Exited, Phase::Running);
    // Held first and looked into then: by the same path there may be another container by now.
    let held = open_directory(container).map_err(|errno| match errno {
        Errno::NOENT => gone(),
        errno => Error::system(Stage::Claim, &object, "open", errno),
    })?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    if record::read_launch(&path)?.is_none_or(|found| found.init != record.init) {
        return Err(gone());
    }
    let private = Mode::from_raw_mode(0o700);
    match mkdirat(&held, EXEC, private) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).at(Stage::Claim, &object, "mkdir(exec)"),
    }
    for _ in 0..ATTEMPTS {
        let name = format!("{EXEC}/{}", new_id());
        match mkdirat(&held, &name, private) {
            Err(Errno::EXIST) => continue,
            other => other.at(Stage::Claim, &object, "mkdir(exec)")?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = openat(&held, &name, flags, Mode::empty()).at(Stage::Claim, &object, "open(exec)")?;
        flock(&open, FlockOperation::NonBlockingLockExclusive).at(Stage::Claim, &object, "flock(exec)")?;
        return Ok(LockedDirectory { path: container.join(name), open });
    }
    let cause = Cause::LostRace { attempts: ATTEMPTS, prize: "an id for it".to_owned() };
    Err(Error::new(ErrorKind::Exhausted, Stage::Claim, object, "mkdir(exec)", cause))
}

/// Twelve hexadecimal digits, as podman shows of its ids: the clock's, and so another one each time.
fn new_id() -> String {
    format!("{:012x}", nanoseconds(ClockId::Realtime) & 0xffff_ffff_ffff)
}

/// Makes a directory without a name and locks it. Until it is locked it looks as if its launch had
/// been killed, and somebody who reaps takes it away: then another is made, and nobody is waited
/// for.
fn make_and_lock(run_root: &RunRoot, id: &ContainerId, object: &str) -> Result<(PathBuf, OwnedFd)> {
    for number in 0..ATTEMPTS {
        let name = format!("{UNNAMED}{}-{number}-{id}", std::process::id());
        let unnamed = run_root.containers().join(name);
        match mkdir(&unnamed, Mode::from_raw_mode(0o700)) {
            // Of an earlier process with this pid.
            Err(Errno::EXIST) => continue,
            other => other.at(Stage::Claim, object, "mkdir")?,
        }
        let directory = match open_directory(&unnamed) {
            Err(Errno::NOENT) => continue,
            other => other.at(Stage::Claim, object, "open")?,
        };
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => continue,
            other => other.at(Stage::Claim, object, "flock")?,
        }
        if fstat(&directory).at(Stage::Claim, object, "fstat")?.st_nlink > 0 {
            return Ok((unnamed, directory));
        }
    }
    let cause = Cause::LostRace { attempts: ATTEMPTS, prize: "its directory away".to_owned() };
    Err(Error::new(ErrorKind::Exhausted, Stage::Claim, object, "mkdir", cause))
}

fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Whether a launch process or a monitor lives that holds this directory.
pub(crate) fn is_held(directory: &Path) -> Result<bool> {
    lock(directory, FlockOperation::NonBlockingLockShared).map(|lock| lock.is_none() && directory.exists())
}

/// Whoever holds a directory, watched through one open descriptor.
pub(crate) struct Holder {
    directory: OwnedFd,
    path: PathBuf,
}

impl Holder {
    /// Nothing where there is no such directory.
    pub(crate) fn of(directory: &Path) -> Result<Option<Holder>> {
        match open_directory(directory) {
            Err(Errno::NOENT) => Ok(None),
            other => {
                let opened = other.at(Stage::Watch, directory.display(), "open")?;
                Ok(Some(Holder { directory: opened, path: directory.to_owned() }))
            }
        }
    }

    /// Whether a launch process or a monitor lives that holds it.
    pub(crate) fn is_alive(&self) -> Result<bool> {
        match flock(&self.directory, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => Ok(true),
            other => other.and_then(|()| flock(&self.directory, FlockOperation::Unlock)).map(|()| false).at(
                Stage::Watch,
                self.path.display(),
                "flock",
            ),
        }
    }
}

/// The file of a container's directory by whose lock changes of the container come one after the
/// other.
pub(crate) fn lock_file(directory: &Path) -> PathBuf {
    directory.join(NOTES)
}

/// Holds the directory for the one that removes it, until the answer is dropped. Nothing: somebody
/// else holds it, or it is gone.
pub(crate) fn hold(directory: &Path) -> Result<Option<OwnedFd>> {
    lock(directory, FlockOperation::NonBlockingLockExclusive)
}

fn lock(directory: &Path, operation: FlockOperation) -> Result<Option<OwnedFd>> {
    let opened = match open_directory(directory) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.at(Stage::Watch, directory.display(), "open")?,
    };
    match flock(opened.as_fd(), operation) {
        Ok(()) => Ok(Some(opened)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno).at(Stage::Watch, directory.display(), "flock"),
    }
}

/// Removes directories that never got a name, of launches that were killed in that moment.
pub(crate) fn remove_unnamed(containers: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(containers) else { return Ok(()) };
    for entry in entries.flatten().filter(|entry| is_unnamed(&entry.file_name().to_string_lossy())) {
        if let Some(_held) = hold(&entry.path())? {
            fs::remove_dir_all(entry.path()).at(Stage::Reap, entry.path().display(), "rmdir")?;
        }
    }
    Ok(())
}

/// Whether a directory of this name is no container.
pub(crate) fn is_unnamed(name: &str) -> bool {
    name.starts_with(UNNAMED)
}

/// Removes a container's directory. One that does not exist is fine.
///
/// It loses its name first: with its record and without its exit record the container would be
/// taken for lost, should this process be killed between the two files. What then remains has no
/// name, and reaping takes it.
pub(crate) fn remove_directory(directory: &Path) -> Result<()> {
    let Some(unnamed) = take_name(directory).at(Stage::Remove, directory.display(), "renameat2")? else {
        return Ok(());
    };
    crash::point(Role::Caller, Stage::Remove);
    remove_all(&unnamed)
}

/// Removes a directory with everything in it. Whoever watches an exec session may be writing its
/// end just now, and has nothing to write after it.
fn remove_all(directory: &Path) -> Result<()> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match absent(fs::remove_dir_all(directory)) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => last = Some(error),
            other => return other.at(Stage::Remove, directory.display(), "rmdir"),
        }
    }
    last.map_or(Ok(()), Err).at(Stage::Remove, directory.display(), "rmdir")
}

/// Where the directory is now; `None` where it is not there (any more).
fn take_name(directory: &Path) -> rustix::io::Result<Option<PathBuf>> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    for number in 0..ATTEMPTS {
        let unnamed = directory.with_file_name(format!("{UNNAMED}{}-{number}-{name}", std::process::id()));
        match renameat_with(rustix::fs::CWD, directory, rustix::fs::CWD, &unnamed, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(Some(unnamed)),
            Err(Errno::NOENT) => return Ok(None),
            // Of an earlier process with this pid.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_loses_its_name_before_any_of_its_files() {
        let run = tempfile::tempdir().unwrap();
        let container = run.path().join("one");
        fs::create_dir(&container).unwrap();
        fs::write(container.join("exit.json"), "{}").unwrap();
        let unnamed = take_name(&container).unwrap().unwrap();
        assert!(!container.exists() && unnamed.join("exit.json").exists());
        assert!(is_unnamed(&unnamed.file_name().unwrap().to_string_lossy()));
        assert_eq!(take_name(&container).unwrap(), None);
        fs::create_dir(&container).unwrap();
        assert_ne!(take_name(&container).unwrap().unwrap(), unnamed, "a name in use is left alone");
        remove_directory(&container).unwrap();
    }

    #[test]
    fn notes_add_up_and_an_unfinished_line_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let read = || Notes::read(directory.path()).unwrap();
        assert!(read().cgroup.is_none());
        let boot = boot_id().unwrap();
        let mut text = format!("{{\"boot_id\":\"{boot}\",\"cgroup\":\"/a/b\"}}\n");
        fs::write(directory.path().join(NOTES), &text).unwrap();
        assert_eq!(read().cgroup().unwrap(), Some((&CgroupPath::new("/a/b").unwrap(), None)));
        text.push_str("{\"cgroup_inode\":7}\n{\"pid\":5}\n{\"pid_file\":\"/p\\nq\",\"temporary\":\".t\"}");
        fs::write(directory.path().join(NOTES), &text).unwrap();
        assert_eq!(read().cgroup().unwrap().unwrap().1, Some(7));
        assert!(read().pid_file().is_none());
        text.push('\n');
        fs::write(directory.path().join(NOTES), &text).unwrap();
        let path = AbsolutePath::new("/p\nq").unwrap();
        assert_eq!((read().pid_file(), read().pid_line().as_str()), (Some((&path, ".t")), "5\n"));
    }

    #[test]
    fn a_cgroup_of_another_boot_is_not_ours_whatever_its_inode() {
        let notes = Notes {
            boot_id: Some("another".to_owned()),
            cgroup: Some(CgroupPath::new("/a").unwrap()),
            cgroup_inode: Some(7),
            ..Notes::default()
        };
        assert_eq!(notes.cgroup().unwrap(), Some((&CgroupPath::new("/a").unwrap(), None)));
    }
}
