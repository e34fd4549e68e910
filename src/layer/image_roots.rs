//! Where layers may lie, and who may have written them.
//!
//! The kernel reads a layer's file in ring 0 for as long as it is mounted, so whoever can write the
//! file, or put another one in its place, has the kernel for a reader of what they write. A program
//! that launches for others keeps its images below directories of its own, and names these: a layer
//! that lies elsewhere is refused, and so is one that anybody could change but root and the images'
//! owners, or that somebody has open for writing.
//!
//! What is looked at is the opened file, by its descriptor, and the directories that lead to it
//! now: what is checked is what is mounted.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::file::OpenLayer;
use crate::document::BadValue;
use crate::error::{Error, Problem, Result};
use crate::host_files::facts::{Facts, Way};
use crate::host_files::trace::{Astray, path_of, resolve, shown, walk};
use crate::request::{AbsolutePath, Identity, LaunchSpec};
use crate::sys;

/// Directories below which layers have to lie, at least one, and whom they may belong to besides
/// root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text")]
pub struct ImageRoots {
    directories: Vec<AbsolutePath>,
    owners: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    directories: Vec<AbsolutePath>,
    #[serde(default)]
    owners: Vec<u32>,
}

impl TryFrom<Text> for ImageRoots {
    type Error = BadValue;

    fn try_from(text: Text) -> std::result::Result<ImageRoots, BadValue> {
        Ok(ImageRoots::try_from(text.directories)?.owned_by(text.owners))
    }
}

impl TryFrom<Vec<AbsolutePath>> for ImageRoots {
    type Error = BadValue;

    fn try_from(roots: Vec<AbsolutePath>) -> std::result::Result<ImageRoots, BadValue> {
        if roots.is_empty() {
            return Err(BadValue::new(
                "no image root is given: expected at least one, as no layer could lie below none",
            ));
        }
        Ok(ImageRoots { directories: roots, owners: Vec::new() })
    }
}

impl ImageRoots {
    /// These directories, by absolute paths without `..`. Nothing is looked at yet: they are
    /// resolved anew for each launch.
    pub fn new<P: AsRef<Path>>(roots: impl IntoIterator<Item = P>) -> std::result::Result<ImageRoots, BadValue> {
        roots.into_iter().map(AbsolutePath::new).collect::<std::result::Result<Vec<_>, _>>()?.try_into()
    }

    /// Layers and the directories above them may belong to these users as well as to root: whoever
    /// builds the images.
    pub fn owned_by(mut self, owners: impl IntoIterator<Item = u32>) -> ImageRoots {
        self.owners = owners.into_iter().collect();
        self
    }

    /// Whether each of the layers may be mounted for the spec's user; what could not be found out
    /// is in the notes. The layers are in the spec's order, none left out.
    ///
    /// A layer is refused that does not lie below an image root once all links are resolved, that
    /// has no name any more, or of which the file or any directory above it, up to `/`, belongs to
    /// somebody who is neither root nor one of the owners, belongs to the worker's user (one that
    /// is root is not refused what is root's), or can be written by anybody else: by a group, by
    /// everybody, or by a POSIX access control list. A sticky directory that others may write to is
    /// no harm, as long as what it holds is root's or an owner's. Access control lists of other
    /// kinds (NFSv4) are not seen, beyond what the mode tells of them.
    ///
    /// Last, a layer is refused that some process has open for writing, from the time when it still
    /// could. The kernel is asked by a read lease, which takes CAP_LEASE or the file's owner, and a
    /// file system that has leases: local ones have; where there are none (network file systems,
    /// FUSE) the layer is accepted by what owner and mode say, and a note says so. A writer on
    /// another machine, or below an overlay in which the layer lies, is not seen.
    ///
    /// # Errors
    /// `Invalid` with a problem for each layer that is refused, its field `layers[N]`. `System`
    /// where an image root cannot be resolved.
    pub fn check(&self, spec: &LaunchSpec, layers: &[OpenLayer]) -> Result<Vec<String>> {
        let roots =
            self.directories.iter().map(|root| resolve(root, "image root")).collect::<Result<Vec<PathBuf>>>()?;
        let refused = |(index, layer): (usize, &OpenLayer)| {
            let reason = self.refusal(&roots, layer.file.as_fd(), &spec.user)?;
            Some(Problem {
                field: format!("layers[{index}]"),
                reason: format!("{} {reason}", shown(layer.path.as_path())),
            })
        };
        let problems: Vec<Problem> = layers.iter().enumerate().filter_map(refused).collect();
        if !problems.is_empty() {
            return Err(Error::invalid(format!("container '{}'", spec.id), problems));
        }
        no_writers(spec, layers)
    }

    /// Why the file is not to be mounted for this worker, if that is so.
    fn refusal(&self, roots: &[PathBuf], file: BorrowedFd<'_>, worker: &Identity) -> Option<String> {
        let path = match path_of(file) {
            Ok(path) => path,
            Err(errno) => return Some(format!("cannot be resolved: {errno}")),
        };
        if !roots.iter().any(|root| path.starts_with(root) && path != *root) {
            let roots: Vec<String> = roots.iter().map(|root| shown(root)).collect();
            return Some(format!("is {}, which lies outside the image roots {}", shown(&path), roots.join(", ")));
        }
        let trust = Trust { worker, owners: &self.owners };
        match walk(&path, file, |fd, stat| trust.why_not(&Facts::of(fd, stat))) {
            Ok(None) => None,
            Ok(Some((path, why))) => Some(format!("is not to be trusted: {} {why}", shown(&path))),
            Err(errno) => Some(format!("cannot be traced to {}: {errno}", shown(&path))),
        }
    }
}

/// Refuses layers that somebody has open for writing. It comes after owners and modes: from then on
/// nobody else can open them. Gives notes of those that the kernel does not say it of.
fn no_writers(spec: &LaunchSpec, layers: &[OpenLayer]) -> Result<Vec<String>> {
    let (mut problems, mut notes) = (Vec::new(), Vec::new());
    for (index, layer) in layers.iter().enumerate() {
        let layer_path = shown(layer.path.as_path());
        match sys::is_open_for_writing(layer.file.as_fd()) {
            Ok(false) => {}
            Ok(true) => problems.push(Problem {
                field: format!("layers[{index}]"),
                reason: format!("{layer_path} is open for writing: some process could change it while it is mounted"),
            }),
            Err(error) => notes.push(format!(
                "nobody can say whether layer {layer_path} is open for writing: fcntl(F_SETLEASE): {error}"
            )),
        }
    }
    if problems.is_empty() { Ok(notes) } else { Err(Error::invalid(format!("container '{}'", spec.id), problems)) }
}

/// Why something on the way to a layer is not to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Link,
    Astray(Astray),
    Owner(u32),
    Stranger(u32),
    Written(Way),
}

impl From<Astray> for Why {
    fn from(astray: Astray) -> Why {
        Why::Astray(astray)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Link => f.write_str("has become a symbolic link"),
            Why::Astray(astray) => astray.fmt(f),
            Why::Owner(uid) => write!(f, "belongs to the worker's user {uid}"),
            Why::Stranger(uid) => write!(f, "belongs to user {uid}, who is neither root nor an owner of images"),
            Why::Written(way) => way.fmt(f),
        }
    }
}

/// Who is trusted, and who is not in any case.
struct Trust<'a> {
    worker: &'a Identity,
    owners: &'a [u32],
}

impl Trust<'_> {
    /// The rule. What concerns the worker comes first, because it is the better answer.
    fn why_not(&self, facts: &Facts) -> Option<Why> {
        if facts.kind == FileType::Symlink {
            return Some(Why::Link);
        }
        // An owner can always change the mode.
        if facts.uid != 0 && facts.uid == self.worker.uid() {
            return Some(Why::Owner(facts.uid));
        }
        let sticky_directory = facts.kind == FileType::Directory && facts.mode & 0o1000 != 0;
        // What a sticky directory holds only its owner can move away, and that is looked at next.
        let written = if sticky_directory {
            None
        } else {
            facts.way_to_write(self.worker).or(facts.way_of_strangers(self.owners))
        };
        let stranger = facts.uid != 0 && !self.owners.contains(&facts.uid);
        written.map(Why::Written).or(stranger.then_some(Why::Stranger(facts.uid)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::host_files::acl::Acl;
    use crate::layer::check_layers;

    fn worker() -> Identity {
        Identity::new(1000, 100, [200]).unwrap()
    }

    /// Of images that user 1002 builds.
    fn why_untrusted(facts: &Facts, worker: &Identity) -> Option<Why> {
        Trust { worker, owners: &[1002] }.why_not(facts)
    }

    fn facts(kind: FileType, uid: u32, gid: u32, mode: u32) -> Facts {
        Facts { kind, uid, gid, mode, acl: None }
    }

    #[test]
    fn the_rule_of_owner_group_everybody_and_the_sticky_bit() {
        let (file, directory) = (FileType::RegularFile, FileType::Directory);
        let table = [
            (facts(file, 0, 0, 0o644), None),
            (facts(directory, 0, 0, 0o755), None),
            (facts(file, 1000, 0, 0o444), Some(Why::Owner(1000))),
            (facts(directory, 1000, 0, 0o555), Some(Why::Owner(1000))),
            (facts(directory, 1000, 0, 0o1777), Some(Why::Owner(1000))),
            (facts(file, 1001, 1001, 0o644), Some(Why::Stranger(1001))),
            (facts(directory, 1001, 1001, 0o1755), Some(Why::Stranger(1001))),
            (facts(file, 1002, 1002, 0o644), None),
            (facts(directory, 1002, 1002, 0o755), None),
            (facts(file, 1002, 1002, 0o664), Some(Why::Written(Way::StrangersGroup(1002)))),
            (facts(file, 0, 100, 0o664), Some(Why::Written(Way::Group(100)))),
            (facts(file, 0, 200, 0o660), Some(Why::Written(Way::Group(200)))),
            (facts(file, 0, 200, 0o644), None),
            (facts(directory, 0, 300, 0o775), Some(Why::Written(Way::StrangersGroup(300)))),
            (facts(directory, 0, 0, 0o777), Some(Why::Written(Way::Everybody))),
            (facts(directory, 0, 0, 0o1777), None),
            (facts(directory, 0, 100, 0o1775), None),
            (facts(file, 0, 0, 0o1666), Some(Why::Written(Way::Everybody))),
            (facts(file, 0, 0, 0o602), Some(Why::Written(Way::Everybody))),
            (facts(FileType::Symlink, 0, 0, 0o777), Some(Why::Link)),
        ];
        for (facts, expected) in table {
            assert_eq!(why_untrusted(&facts, &worker()), expected, "{facts:?}");
        }
    }

    #[test]
    fn a_worker_that_is_root_is_refused_what_is_open_to_all_and_not_what_is_roots() {
        let root = Identity::new(0, 0, []).unwrap();
        assert_eq!(why_untrusted(&facts(FileType::RegularFile, 0, 0, 0o644), &root), None);
        assert_eq!(why_untrusted(&facts(FileType::Directory, 0, 5, 0o777), &root), Some(Why::Written(Way::Everybody)));
    }

    #[test]
    fn an_access_control_list_counts_and_its_mask_is_not_the_group() {
        let with = |entries: &[(u16, u16, u32)]| {
            let acl = Some(Acl::parse(&crate::host_files::acl::tests::bytes(entries)).ok_or(()));
            Facts { acl, ..facts(FileType::RegularFile, 0, 100, 0o664) }
        };
        let named = |id, perm, mask| {
            [(1, 6, u32::MAX), (2, perm, id), (4, 4, u32::MAX), (16, mask, u32::MAX), (32, 4, u32::MAX)]
        };
        assert_eq!(why_untrusted(&with(&named(1000, 6, 6)), &worker()), Some(Why::Written(Way::UserEntry(1000))));
        assert_eq!(why_untrusted(&with(&named(1000, 6, 4)), &worker()), None, "the mask takes it away");
        assert_eq!(why_untrusted(&with(&named(1001, 6, 6)), &worker()), Some(Why::Written(Way::Stranger(1001))));
        assert_eq!(why_untrusted(&with(&named(1002, 6, 6)), &worker()), None, "the mode's group bits are the mask's");
        let unreadable = Facts { acl: Some(Err(())), ..facts(FileType::RegularFile, 0, 0, 0o644) };
        assert_eq!(why_untrusted(&unreadable, &worker()), Some(Why::Written(Way::UnreadableList)));
    }

    #[test]
    fn no_roots_relative_roots_and_roots_with_dots_are_refused() {
        assert!(ImageRoots::new(Vec::<&str>::new()).is_err());
        assert!(ImageRoots::new(["images"]).is_err());
        assert!(ImageRoots::new(["/srv/../images"]).is_err());
        assert!(serde_json::from_str::<ImageRoots>(r#"{"directories": []}"#).is_err());
        assert!(ImageRoots::new(["/srv/images", "/opt/images"]).is_ok());
    }

    /// As whoever runs the tests: what lies in a directory of theirs is not to be trusted for a
    /// worker of the same user, and lies below `/tmp` or the like, which is sticky.
    #[test]
    fn what_is_checked_is_the_open_file() {
        let directory = tempfile::tempdir().unwrap();
        let (inside, beside) = (directory.path().join("img"), directory.path().join("img2"));
        let mut image = vec![0; 4096];
        image[..4].copy_from_slice(b"hsqs");
        image[28] = 4;
        image[40..48].copy_from_slice(&4096_u64.to_le_bytes());
        let layer = |parent: &Path| {
            std::fs::create_dir(parent).unwrap();
            std::fs::write(parent.join("layer"), &image).unwrap();
            parent.join("layer")
        };
        let (good, outside) = (layer(&inside), layer(&beside));
        let own = rustix::process::geteuid().as_raw();
        let other = Identity::new(own + 1, 4711, []).unwrap();
        let same = Identity::new(own.max(1), 4711, []).unwrap();
        let spec = |user: &Identity| {
            let builder = LaunchSpec::builder("x").layers([&good, &outside]).args(["a"]).user(user.clone());
            builder.cgroup("/x").build().unwrap()
        };
        let roots = ImageRoots::new([&inside]).unwrap().owned_by([own]);
        let error = roots.check(&spec(&other), &check_layers(&spec(&other)).unwrap()).unwrap_err();
        assert_eq!((error.kind(), error.problems().len()), (ErrorKind::Invalid, 1), "{error}");
        assert_eq!(error.problems()[0].field, "layers[1]");
        assert!(error.problems()[0].reason.contains("outside the image roots"), "{error}");
        if own != 0 {
            let error = roots.check(&spec(&same), &check_layers(&spec(&same)).unwrap()).unwrap_err();
            assert!(error.problems()[0].reason.contains("belongs to the worker's user"), "{error}");
        }
        let opened = check_layers(&spec(&other)).unwrap();
        std::fs::remove_file(&good).unwrap();
        let error = roots.check(&spec(&other), &opened).unwrap_err();
        assert!(error.problems()[0].reason.contains("deleted"), "{error}");
    }
}
