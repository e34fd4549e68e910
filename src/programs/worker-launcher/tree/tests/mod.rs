//! As root, with users by number that the machine need not know.

mod deep;
mod hostile;
mod links;
mod modes;
mod mounts;
mod moving;
mod random;
mod removal;
mod together;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use squall::request::{AbsolutePath, Identity};

use super::{Access, Parties, Setgid, permit, remove};
use crate::exit::{Code, Result};

const SUPERVISOR: u32 = 21000;
const USER: u32 = 21001;
const OTHER: u32 = 21002;
const GROUP: u32 = 21100;

/// A directory of the supervisor's, and beside it one that nothing here may change.
struct Place {
    _top: tempfile::TempDir,
    /// The supervisor's own.
    tree: PathBuf,
    /// Root's, with files of several modes.
    protected: PathBuf,
}

impl Place {
    fn new() -> Place {
        assert!(rustix::process::geteuid().is_root(), "these tests change owners: run them as root");
        let top = tempfile::tempdir().unwrap();
        set_mode(top.path(), 0o755);
        let place = Place { tree: top.path().join("tree"), protected: top.path().join("protected"), _top: top };
        directory(&place.tree, SUPERVISOR, 0o755);
        directory(&place.protected, 0, 0o755);
        file(&place.protected.join("secret"), 0, 0o600);
        file(&place.protected.join("public"), 0, 0o644);
        directory(&place.protected.join("inner"), 0, 0o755);
        file(&place.protected.join("inner/file"), 0, 0o644);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tree.join(name)
    }

    fn permit(&self, access: Access) -> Result<()> {
        permit_at(&self.tree, access)
    }
}

fn parties() -> Parties {
    let identity = |uid, gid| Identity::new(uid, gid, []).unwrap();
    Parties { user: identity(USER, USER), supervisor: identity(SUPERVISOR, GROUP), group: GROUP }
}

fn permit_at(path: &Path, access: Access) -> Result<()> {
    permit::tree(&parties(), &AbsolutePath::new(path).unwrap(), access, Setgid::Yes)
}

fn remove_at(path: &Path) -> Result<()> {
    remove::tree(&parties(), &AbsolutePath::new(path).unwrap())
}

fn code<T>(result: Result<T>) -> Option<Code> {
    result.err().map(|failure| failure.code)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn give(path: &Path, owner: u32) {
    lchown(path, Some(owner), Some(owner)).unwrap();
}

fn directory(path: &Path, owner: u32, mode: u32) {
    fs::create_dir(path).unwrap();
    give(path, owner);
    set_mode(path, mode);
}

fn file(path: &Path, owner: u32, mode: u32) {
    fs::write(path, "content").unwrap();
    give(path, owner);
    set_mode(path, mode);
}

fn link(target: impl AsRef<Path>, path: &Path, owner: u32) {
    std::os::unix::fs::symlink(target, path).unwrap();
    give(path, owner);
}

/// Owner, group and mode.
fn state(path: &Path) -> (u32, u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
}

/// Everything below a directory with what must not change: its ctime too, so that a change that was
/// taken back is seen.
fn snapshot(directory: &Path) -> Vec<String> {
    let metadata = fs::symlink_metadata(directory).unwrap();
    let ids = (metadata.uid(), metadata.gid(), metadata.mode(), metadata.ctime(), metadata.ctime_nsec());
    let mut all = vec![format!("{} {ids:?}", directory.display())];
    if metadata.is_dir() {
        for entry in fs::read_dir(directory).unwrap() {
            all.extend(snapshot(&entry.unwrap().path()));
        }
    }
    all.sort();
    all
}

/// Does something again and again on another thread until the work is done, which can ask whether
/// that has been done so many times, or has failed.
fn meanwhile<T>(disturb: impl Fn(u64) + Sync, work: impl FnOnce(&dyn Fn(u64) -> bool) -> T) -> T {
    let (done, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let disturbing = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                disturb(rounds.load(Ordering::Relaxed));
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let result = work(&|times| rounds.load(Ordering::Relaxed) >= times || disturbing.is_finished());
        done.store(true, Ordering::Relaxed);
        disturbing.join().unwrap();
        result
    })
}

/// Works that many times, and on until it was disturbed that many times.
fn disturbed(times: u64, disturb: impl Fn(u64) + Sync, mut work: impl FnMut()) {
    meanwhile(disturb, |has_been| {
        let mut worked = 0;
        while worked < times || !has_been(times) {
            work();
            worked += 1;
        }
    });
}

/// Runs an ignored test of this program in a process of its own.
fn in_process_of_its_own(wrapper: &[&str], test: &str) {
    let own = std::env::current_exe().unwrap();
    let mut words: Vec<&str> = wrapper.to_vec();
    words.push(own.to_str().unwrap());
    let arguments = ["--exact", test, "--ignored", "--nocapture", "--test-threads=1"];
    let output = Command::new(words[0]).args(&words[1..]).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
