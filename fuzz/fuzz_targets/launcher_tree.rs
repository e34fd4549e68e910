//! A tree that is made of the bytes, walked and removed by Storm's launcher while its owner changes
//! it, as the bytes have it.
//!
//! The owner's changes are made with the owner's file-system ids and no capability, so what the
//! kernel refuses to users it refuses here. Needs root.
#![no_main]

use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags, mknodat, renameat_with};
use squall::request::{AbsolutePath, Identity};
use worker_launcher::tree::{Access, Parties, Setgid, permit_as, remove_as};

const SUPERVISOR: u32 = 21_000;
const USER: u32 = 21_001;
const GROUP: u32 = 21_100;

/// Bounds of a tree: so many changes make it, and so many are made again and again meanwhile.
const MOST: usize = 24;

/// How long the owner may go on: every walk ends long before.
const PATIENCE: Duration = Duration::from_secs(10);

fuzz_target!(|bytes: &[u8]| {
    let Some((how, changes)) = bytes.split_first() else { return };
    let changes: Vec<Change> = changes.chunks_exact(3).map(Change::of).collect();
    let (first, meanwhile) = changes.split_at(changes.len().min(MOST));
    let scene = Scene::new();
    scene.as_owner(first, 1).join().expect("the owner's thread");
    scene.add_of_others(*how);
    let before = scene.protected_state();
    let (access, setgid) =
        (if how & 1 == 0 { Access::Read } else { Access::Write }, if how & 2 == 0 { Setgid::Yes } else { Setgid::No });
    let meanwhile = &meanwhile[..meanwhile.len().min(MOST)];
    let owner = (!meanwhile.is_empty()).then(|| scene.as_owner(meanwhile, u64::MAX));
    // What is refused is refused; what must hold is that nothing else is touched.
    let _ = permit_as(&parties(), &scene.path(), access, setgid);
    if how & 4 != 0 {
        let _ = remove_as(&parties(), &scene.path());
    }
    scene.done.store(true, Ordering::Relaxed);
    if let Some(owner) = owner {
        owner.join().expect("the owner's thread");
    }
    assert_eq!(scene.protected_state(), before, "something outside of the tree was changed");
    // What was the supervisor's in it is the user's to remove then.
    let _ = permit_as(&parties(), &scene.path(), Access::Write, Setgid::Yes);
    remove_as(&parties(), &scene.path()).expect("a tree that nobody changes can be removed");
    assert!(scene.tree.symlink_metadata().is_err(), "the tree is still there");
    assert_eq!(scene.protected_state(), before, "something outside of the tree was removed");
});

fn parties() -> Parties {
    let identity = |uid, gid| Identity::new(uid, gid, []).expect("ids");
    Parties { user: identity(USER, USER), supervisor: identity(SUPERVISOR, GROUP), group: GROUP }
}

/// A change of a tree: what, and the two paths that it is about.
#[derive(Debug, Clone, Copy)]
struct Change {
    what: u8,
    one: u8,
    two: u8,
}

impl Change {
    fn of(bytes: &[u8]) -> Change {
        Change { what: bytes[0], one: bytes[1], two: bytes[2] }
    }

    /// At most four levels deep, of few names, so that they meet.
    fn path(tree: &Path, bits: u8) -> PathBuf {
        let levels = usize::from(bits >> 6) + 1;
        (0..levels).fold(tree.to_owned(), |path, level| path.join(format!("{}", bits >> (2 * level).min(4) & 3)))
    }

    /// Makes it, as far as the kernel lets the calling thread.
    fn make(self, tree: &Path, protected: &Path) {
        let (one, two) = (Change::path(tree, self.one), Change::path(tree, self.two));
        let targets = ["", "secret", "public", "inner", "inner/file"].map(|name| protected.join(name));
        let target = &targets[usize::from(self.two) % targets.len()];
        let mode = u32::from(self.two & 7) << 6 | u32::from(self.one & 0o77);
        let _ = match self.what % 12 {
            0 | 1 => fs::create_dir(&one),
            // A FIFO without a reader is not waited for.
            2 => {
                let nonblock = OFlags::NONBLOCK.bits().cast_signed();
                fs::OpenOptions::new().write(true).create(true).custom_flags(nonblock).open(&one).map(drop)
            }
            3 => symlink(target, &one),
            4 => symlink(&two, &one),
            5 => fs::hard_link(target, &one),
            6 => fs::rename(&one, &two),
            7 => renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).map_err(Into::into),
            8 => fs::hard_link(&one, &two),
            9 => mknodat(CWD, &one, FileType::Fifo, Mode::from_raw_mode(0o600), 0).map_err(Into::into),
            10 => fs::set_permissions(&one, fs::Permissions::from_mode(mode)),
            _ => fs::remove_file(&one).or_else(|_| fs::remove_dir(&one)),
        };
    }
}

/// A directory of the supervisor's with the tree in it, and what may not change.
struct Scene {
    top: tempfile::TempDir,
    tree: PathBuf,
    protected: PathBuf,
    /// The owner stops.
    done: Arc<AtomicBool>,
}

impl Scene {
    fn new() -> Scene {
        assert!(rustix::process::geteuid().is_root(), "this changes owners: run it as root");
        let top = tempfile::tempdir().expect("a directory");
        let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
        open(top.path(), 0o755);
        chown(top.path(), Some(SUPERVISOR), Some(GROUP)).expect("chown");
        let (tree, protected) = (top.path().join("tree"), top.path().join("protected"));
        fs::create_dir(&tree).expect("mkdir");
        chown(&tree, Some(USER), Some(USER)).expect("chown");
        fs::create_dir_all(protected.join("inner")).expect("mkdir");
        for (name, mode) in [("secret", 0o600), ("public", 0o644), ("inner/file", 0o644)] {
            fs::write(protected.join(name), "content").expect("write");
            open(&protected.join(name), mode);
        }
        Scene { top, tree, protected, done: Arc::default() }
    }

    fn path(&self) -> AbsolutePath {
        AbsolutePath::new(&self.tree).expect("a path")
    }

    /// Owner, group, mode, content and, but for what may be linked to, the time of change.
    fn protected_state(&self) -> Vec<String> {
        let names = ["", "secret", "public", "inner", "inner/file"];
        let state = |name: &str| {
            let path = self.protected.join(name);
            let metadata = path.symlink_metadata().expect("it is there");
            let changed = (name != "secret").then(|| (metadata.ctime(), metadata.ctime_nsec()));
            let content = fs::read(&path).unwrap_or_default();
            format!("{name} {} {} {:o} {changed:?} {content:?}", metadata.uid(), metadata.gid(), metadata.mode())
        };
        names
            .into_iter()
            .map(state)
            .chain([format!("{}", self.top.path().metadata().expect("it is there").uid())])
            .collect()
    }

    /// The owner's changes, all of them so many times or until it is to stop, on a thread of its own.
    fn as_owner(&self, changes: &[Change], times: u64) -> JoinHandle<()> {
        let (done, changes) = (Arc::clone(&self.done), changes.to_vec());
        let (tree, protected) = (self.tree.clone(), self.protected.clone());
        std::thread::spawn(move || {
            let changed = squall::as_user(&parties().user, "the owner's changes", PATIENCE, move || {
                for _ in (0..times).take_while(|_| !done.load(Ordering::Relaxed)) {
                    changes.iter().for_each(|change| change.make(&tree, &protected));
                }
                Ok(())
            });
            changed.expect("the owner's changes");
        })
    }

    /// What the supervisor has put into the tree, and a link to a file of root's, which users of
    /// some kernels can make.
    fn add_of_others(&self, how: u8) {
        if how & 8 != 0 {
            let _ = lchown(self.tree.join("0"), Some(SUPERVISOR), Some(GROUP));
        }
        if how & 16 != 0 {
            let _ = fs::hard_link(self.protected.join("secret"), self.tree.join("3"));
        }
    }
}
