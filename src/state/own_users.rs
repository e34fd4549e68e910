//! Users of their own: a range of uids of which each container gets one that no other has.
//!
//! What the kernel counts for each user of the host (inotify instances, queued signals, message
//! queues) one container could take from all others of the same user, and files and processes of
//! one user are open to each other. So who names no user gets a uid for itself.
//!
//! ```text
//! <run-root>/users/     locked while a uid is chosen
//!   next                where the search goes on: a uid comes back as late as can be
//!   <uid>               who has it, and where files of it may stay; locked while its launch is under way
//! ```
//!
//! A uid is taken for as long as its container's directory is there, and after that while a place
//! exists to which the container could write on the host: a writable directory, a volume, an output
//! file. A container with the same places gets the same uid then, so that it can go on with what is
//! there. A writable directory carries its uid in an attribute (`trusted.squall.uid`), which
//! outlives the machine's restart.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, XattrFlags, flock, getxattr, setxattr};
use serde::{Deserialize, Serialize};

use super::run_root::RunRoot;
use crate::error::{Cause, Context, Error, ErrorKind, Result};
use crate::host::create_private_directory;
use crate::request::{Access, Identity, LaunchSpec, Mount, RootMode, UidRange};
use crate::stage::Stage;
use crate::wait::lock_by;

/// The file that says where the search goes on.
const NEXT: &str = "next";

/// The attribute of a writable directory.
const ATTRIBUTE: &str = "trusted.squall.uid";

/// After how many claims those that nobody has any more are forgotten.
const SWEEP_EVERY: u32 = 256;

/// A uid's file: who has it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    container: String,
    /// Directories of the host that the container can write to, in order.
    directories: Vec<PathBuf>,
    /// Other files of the host that belong to it.
    files: Vec<PathBuf>,
}

/// How long the uids are waited for while somebody else chooses one.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a container with a user of its own is given of the host's files besides its volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OwnUser {
    /// Files that belong to the user: it is not given to another container while one of them is
    /// there.
    pub files: Vec<PathBuf>,
    /// Standard streams, by their numbers, whose files the user becomes the owner of.
    pub streams: Vec<usize>,
}

impl OwnUser {
    /// These files, and no streams.
    #[must_use]
    pub fn of_files(files: Vec<PathBuf>) -> OwnUser {
        OwnUser { files, streams: Vec::new() }
    }
}

/// A uid that is being claimed. It has to live until the container's directory is there, which
/// holds the uid from then on. Of a launch that failed before nothing stays.
#[derive(Debug)]
pub(crate) struct Claimed {
    users: Users,
    uid: u32,
    locked: Option<File>,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let Ok(_lock) = self.users.lock() else { return };
        self.locked = None;
        let _ = self.users.forget_if_free(self.uid);
    }
}

/// The users of one run root.
#[derive(Debug, Clone)]
pub(crate) struct Users {
    run_root: RunRoot,
    range: UidRange,
}

impl Users {
    pub(crate) fn new(run_root: &RunRoot, range: UidRange) -> Users {
        Users { run_root: run_root.clone(), range }
    }

    /// The spec with a uid that it has for itself; `files` are those of the host that will belong
    /// to the uid.
    pub(crate) fn claim(&self, spec: LaunchSpec, files: &[PathBuf]) -> Result<(LaunchSpec, Claimed)> {
        self.run_root.prepare()?;
        create_private_directory(&self.directory()).at(Stage::Claim, self.object(), "mkdir")?;
        let _lock = self.lock()?;
        let holder = Holder {
            container: spec.id.as_str().to_owned(),
            directories: writable_directories(&spec),
            files: files.to_vec(),
        };
        let uid = match self.known(&spec, &holder)? {
            Some(uid) => uid,
            None => self.search()?,
        };
        let locked = Some(self.write(uid, &holder)?);
        if let Some(directory) = upper(&spec) {
            // A file system without attributes forgets the uid with the run root.
            let _ = setxattr(directory, ATTRIBUTE, uid.to_string().as_bytes(), XattrFlags::empty());
        }
        Ok((with_user(spec, uid)?, Claimed { users: self.clone(), uid, locked }))
    }

    /// The spec with the uid that it would be given now, as far as nobody else takes it before.
    /// Touches nothing.
    pub(crate) fn preview(&self, spec: LaunchSpec) -> Result<LaunchSpec> {
        let holder = Holder { directories: writable_directories(&spec), ..Holder::default() };
        let uid = match self.known(&spec, &holder)? {
            Some(uid) => uid,
            None => self.free_from(self.next())?,
        };
        with_user(spec, uid)
    }

    /// What the record says of a uid of the range. One that was asked for by its number is held
    /// from here on.
    pub(crate) fn note(&self, spec: &LaunchSpec) -> Result<Option<String>> {
        let uid = spec.user.uid();
        if !self.range.contains(uid) {
            return Ok(None);
        }
        self.hold(spec, uid)?;
        let own = self.read(uid).is_some_and(|holder| holder.container == spec.id.as_str());
        Ok(own.then(|| format!("uid {uid} is the container's own, of {}", self.range)))
    }

    fn hold(&self, spec: &LaunchSpec, uid: u32) -> Result<()> {
        if self.file(uid).exists() {
            return Ok(());
        }
        create_private_directory(&self.directory()).at(Stage::Claim, self.object(), "mkdir")?;
        let _lock = self.lock()?;
        if self.file(uid).exists() {
            return Ok(());
        }
        let container = spec.id.as_str().to_owned();
        self.write(uid, &Holder { container, directories: writable_directories(spec), files: Vec::new() }).map(drop)
    }

    /// Forgets the uids that nobody has any more.
    pub(crate) fn sweep(&self) -> Result<()> {
        if !self.directory().exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.held().into_iter().try_for_each(|uid| self.forget_if_free(uid))
    }

    /// The uid by which a container's places are known.
    fn known(&self, spec: &LaunchSpec, holder: &Holder) -> Result<Option<u32>> {
        let of_directory = upper(spec).and_then(uid_of).filter(|uid| self.range.contains(*uid));
        if let Some(uid) = of_directory.filter(|uid| !self.is_used(*uid)) {
            return Ok(Some(uid));
        }
        if holder.directories.is_empty() {
            return Ok(None);
        }
        let same = |uid: &u32| {
            self.range.contains(*uid)
                && self.read(*uid).is_some_and(|other| other.directories == holder.directories)
                && !self.is_used(*uid)
        };
        Ok(self.held().into_iter().find(same))
    }

    fn search(&self) -> Result<u32> {
        let uid = self.free_from(self.next())?;
        let next = self.range.after(uid);
        if next.is_multiple_of(SWEEP_EVERY) {
            self.held().into_iter().try_for_each(|uid| self.forget_if_free(uid))?;
        }
        self.note_next(next).at(Stage::Claim, self.object(), "write(next)")?;
        Ok(uid)
    }

    /// In place, always as many digits: a file that is emptied first is taken for one that has to
    /// be on the disk soon by ext4, and a run root may lie there (3 and 11 ms seen in one launch on a busy disk).
    fn note_next(&self, next: u32) -> std::io::Result<()> {
        let options = || File::options().write(true).create(true).truncate(false).mode(0o600).to_owned();
        options().open(self.directory().join(NEXT))?.write_all(format!("{next:010}").as_bytes())
    }

    /// The first free one from `start` on, once around.
    fn free_from(&self, start: u32) -> Result<u32> {
        let mut uids = std::iter::successors(Some(start), |uid| Some(self.range.after(*uid)));
        let all = self.range.len() as usize;
        uids.by_ref().take(all).find(|uid| self.is_free(*uid)).ok_or_else(|| {
            let limit = format!("uids of {}", self.range);
            let cause = Cause::LimitReached { limit, value: self.range.len().into() };
            Error::new(ErrorKind::Exhausted, Stage::Claim, self.object(), "choose", cause)
        })
    }

    /// Where the search begins: anywhere the first time, so that run roots seldom meet.
    fn next(&self) -> u32 {
        let noted = fs::read_to_string(self.directory().join(NEXT)).ok().and_then(|text| text.parse().ok());
        noted.filter(|uid| self.range.contains(*uid)).unwrap_or_else(|| {
            let now = crate::host::monotonic_ns();
            self.range.nth((now % u64::from(self.range.len())) as u32)
        })
    }

    fn is_free(&self, uid: u32) -> bool {
        match self.read(uid) {
            None => !self.file(uid).exists(),
            Some(holder) => {
                let places = holder.directories.iter().chain(&holder.files);
                !self.is_used(uid) && !places.into_iter().any(|place| place.symlink_metadata().is_ok())
            }
        }
    }

    /// Whether a container has it, or a launch that is under way.
    fn is_used(&self, uid: u32) -> bool {
        let Ok(file) = File::open(self.file(uid)) else { return false };
        let launching = flock(&file, FlockOperation::NonBlockingLockExclusive).is_err();
        launching || self.read(uid).is_none_or(|holder| self.run_root.containers().join(holder.container).exists())
    }

    fn forget_if_free(&self, uid: u32) -> Result<()> {
        if !self.is_free(uid) {
            return Ok(());
        }
        match fs::remove_file(self.file(uid)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).at(Stage::Claim, self.object(), "unlink")
            }
            _ => Ok(()),
        }
    }

    fn held(&self) -> Vec<u32> {
        let entries = fs::read_dir(self.directory()).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    fn read(&self, uid: u32) -> Option<Holder> {
        let mut text = String::new();
        File::open(self.file(uid)).ok()?.read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Writes a uid's file; the answer holds its lock.
    fn write(&self, uid: u32, holder: &Holder) -> Result<File> {
        let text = serde_json::to_vec(holder).expect("a holder is plain data");
        let write = || -> std::io::Result<File> {
            let options = || File::options().write(true).create(true).truncate(false).mode(0o600).to_owned();
            let mut file = options().open(self.file(uid))?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            file.write_all(&text)?;
            // Behind it, because ext4 has an emptied file written to the disk.
            file.set_len(text.len() as u64)?;
            Ok(file)
        };
        write().at(Stage::Claim, self.object(), "write")
    }

    fn lock(&self) -> Result<File> {
        let directory = File::open(self.directory()).at(Stage::Claim, self.object(), "open")?;
        if lock_by(directory.as_fd(), Instant::now() + PATIENCE).at(Stage::Claim, self.object(), "flock")? {
            return Ok(directory);
        }
        Err(Error::timed_out(Stage::Claim, self.object(), "flock", PATIENCE, "somebody has held them all the time"))
    }

    fn directory(&self) -> PathBuf {
        self.run_root.users()
    }

    fn file(&self, uid: u32) -> PathBuf {
        self.directory().join(uid.to_string())
    }

    fn object(&self) -> String {
        format!("users of run root '{}'", self.run_root.path().display())
    }
}

fn with_user(spec: LaunchSpec, uid: u32) -> Result<LaunchSpec> {
    let mut fields = spec.into_fields();
    fields.user = Identity::new(uid, uid, [uid]).map_err(|bad| Error::invalid("own user", vec![bad.at("user")]))?;
    LaunchSpec::try_from(fields)
}

fn upper(spec: &LaunchSpec) -> Option<&Path> {
    match &spec.root {
        RootMode::Directory(directory) => Some(directory.path.as_path()),
        RootMode::ReadOnly | RootMode::Writable { .. } => None,
    }
}

fn uid_of(directory: &Path) -> Option<u32> {
    let mut value = [0; 16];
    let length = getxattr(directory, ATTRIBUTE, &mut value).ok()?;
    std::str::from_utf8(value.get(..length)?).ok()?.parse().ok()
}

/// The directories of the host that the container can write to.
fn writable_directories(spec: &LaunchSpec) -> Vec<PathBuf> {
    let volume = |mount: &Mount| match mount {
        Mount::Bind(bind) if bind.options.access == Access::ReadWrite => Some(PathBuf::from(bind.source.as_str())),
        Mount::Bind(_) | Mount::Tmpfs(_) => None,
    };
    let volumes = spec.mounts.iter().filter_map(volume);
    let mut all: Vec<PathBuf> = upper(spec).map(Path::to_owned).into_iter().chain(volumes).collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ground {
        top: tempfile::TempDir,
        users: Users,
    }

    impl Ground {
        fn new(range: &str) -> Ground {
            let top = tempfile::tempdir().unwrap();
            fs::set_permissions(top.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            let run_root = RunRoot::new(top.path().join("run")).unwrap();
            Ground { users: Users::new(&run_root, range.parse().unwrap()), top }
        }

        /// Claims for a container and gives it a directory, as a launch would.
        fn launch(&self, spec: LaunchSpec) -> u32 {
            let (spec, own) = self.users.claim(spec, &[]).unwrap();
            fs::create_dir(self.users.run_root.container(&spec.id)).unwrap();
            drop(own);
            spec.user.uid()
        }

        fn remove(&self, id: &str) {
            fs::remove_dir(self.users.run_root.containers().join(id)).unwrap();
        }

        fn directory(&self, name: &str) -> PathBuf {
            let path = self.top.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path
        }
    }

    fn builder(id: &str) -> crate::request::Builder {
        let nobody = Identity::new(1, 1, []).unwrap();
        LaunchSpec::builder(id).layers(["/a.sqsh"]).args(["a"]).user(nobody).cgroup("/squall/a")
    }

    fn plain(id: &str) -> LaunchSpec {
        builder(id).build().unwrap()
    }

    #[test]
    fn no_two_containers_have_one_uid_and_one_of_a_removed_container_comes_back_last() {
        let ground = Ground::new("7000-7003");
        let first: Vec<u32> = ["a", "b", "c"].map(|id| ground.launch(plain(id))).to_vec();
        ground.remove("c");
        let fourth = ground.launch(plain("d"));
        assert!(!first.contains(&fourth), "{first:?} {fourth}");
        assert_eq!(ground.launch(plain("e")), first[2], "the only free one");
        let error = ground.users.claim(plain("f"), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        assert!(error.to_string().contains("7000-7003"), "{error}");
    }

    #[test]
    fn a_uid_is_held_while_its_launch_is_under_way_and_given_back_when_that_fails() {
        let ground = Ground::new("7000-7000");
        let (_, own) = ground.users.claim(plain("a"), &[]).unwrap();
        assert_eq!(ground.users.claim(plain("b"), &[]).unwrap_err().kind(), ErrorKind::Exhausted);
        ground.users.sweep().unwrap();
        assert_eq!(ground.users.held(), [7000]);
        drop(own);
        assert_eq!(ground.users.held(), Vec::<u32>::new());
    }

    #[test]
    fn places_on_the_host_hold_a_uid_and_the_next_container_with_them_has_it() {
        let ground = Ground::new("7000-7099");
        let volume = ground.directory("volume");
        let with = |id: &str| builder(id).bind(volume.to_str().unwrap(), "/data", &["rw"]).build().unwrap();
        let uid = ground.launch(with("a"));
        assert_ne!(ground.launch(with("b")), uid, "the first has it");
        ground.remove("a");
        ground.users.sweep().unwrap();
        assert!(ground.users.held().contains(&uid));
        assert_ne!(ground.launch(plain("c")), uid);
        assert_eq!(ground.launch(with("d")), uid);
        ground.remove("d");
        fs::remove_dir(&volume).unwrap();
        ground.users.sweep().unwrap();
        assert!(!ground.users.held().contains(&uid));
    }

    #[test]
    fn a_file_of_the_host_holds_a_uid() {
        let ground = Ground::new("7000-7001");
        let file = ground.top.path().join("out");
        fs::write(&file, "").unwrap();
        let (spec, own) = ground.users.claim(plain("a"), std::slice::from_ref(&file)).unwrap();
        drop(own);
        let others = ["b", "c", "d"].map(|id| {
            let uid = ground.launch(plain(id));
            ground.remove(id);
            uid
        });
        assert!(!others.contains(&spec.user.uid()), "{others:?}");
        fs::remove_file(&file).unwrap();
        ground.users.sweep().unwrap();
        assert_eq!(ground.users.held(), Vec::<u32>::new());
    }

    #[test]
    fn a_uid_asked_for_by_its_number_is_known_and_one_outside_is_not() {
        let ground = Ground::new("7000-7001");
        ground.users.run_root.prepare().unwrap();
        let by_number = |id: &str, uid| builder(id).user(Identity::new(uid, uid, []).unwrap()).build().unwrap();
        fs::create_dir(ground.users.run_root.containers().join("a")).unwrap();
        ground.users.note(&by_number("a", 7000)).unwrap();
        ground.users.note(&by_number("b", 6999)).unwrap();
        assert_eq!(ground.users.held(), [7000]);
        assert_eq!(ground.launch(plain("c")), 7001);
    }

    #[test]
    fn what_is_foreseen_is_what_is_claimed_next_and_nothing_is_made() {
        let ground = Ground::new("7000-7099");
        ground.launch(plain("a"));
        let foreseen = ground.users.preview(plain("b")).unwrap().user.uid();
        assert_eq!(ground.users.held().len(), 1);
        assert_eq!(ground.launch(plain("b")), foreseen);
    }
}
