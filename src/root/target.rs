//! Mount points inside the new root, which an image may have filled with anything.
//!
//! Every path is resolved by the kernel *inside* the root (`RESOLVE_IN_ROOT`): a symbolic link,
//! absolute or with any number of `..`, ends within it, and so does a race. What is missing is
//! made, one component at a time, below the directory that was really reached.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;

use crate::error::{Context, Error, FileAspect, Result};
use crate::host::kind_of_file;
use crate::stage::Stage;

/// What the mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetKind {
    Directory,
    File,
}

/// Whether symbolic links on the way are followed, inside the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// The image decides where the caller's mount ends up, as it does under every runtime:
    /// `/var/run` may be a link to `/run`.
    Follow,
    /// `/proc`, `/dev` and `/sys` have to be what they are called: a link there is an attack or a
    /// broken image.
    Refuse,
}

/// As many links as the kernel itself follows (MAXSYMLINKS).
const MAX_LINKS: usize = 40;

/// Where a mount point is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The directory that the path begins at and never leaves.
    pub(crate) top: BorrowedFd<'a>,
    pub(crate) path: &'a str,
    /// What errors call it: the whole path inside the container.
    pub(crate) name: &'a str,
    /// The devices of the file systems in which a missing mount point may be made: the container's
    /// own.
    pub(crate) own: &'a [u64],
}

/// A mount point, open.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) fd: OwnedFd,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// Opens the mount point, making what is missing of it.
pub(crate) fn open_target(place: Place<'_>, kind: TargetKind, links: Links) -> Result<Target> {
    let target = match resolve(place.top, place.path, links) {
        Ok(target) => target,
        Err(Errno::NOENT) => create(place, kind, links)?,
        Err(errno) => return Err(refused(place.name, errno)),
    };
    check_kind(target, place.name, kind)
}

fn resolve(top: BorrowedFd<'_>, path: &str, links: Links) -> rustix::io::Result<OwnedFd> {
    let follow = match links {
        Links::Follow => ResolveFlags::empty(),
        Links::Refuse => ResolveFlags::NO_SYMLINKS,
    };
    let resolve = ResolveFlags::NO_MAGICLINKS | follow;
    open_in_root(top, path, OFlags::PATH | OFlags::CLOEXEC, resolve)
}

/// How often the kernel may say that it cannot be sure. Each time somebody else has mounted or
/// renamed something in between.
const ATTEMPTS: u32 = 1000;

/// `openat2` with `RESOLVE_IN_ROOT`, by which `..` never leads out of the root. The kernel makes
/// sure of that after the fact: if anything on the machine was mounted or renamed while it went
/// through a `..`, it gives up with EAGAIN, and the caller may try again.
pub(crate) fn open_in_root(
    root: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    again(|| openat2(root, path, flags, Mode::empty(), resolve | ResolveFlags::IN_ROOT))
}

fn again<T>(mut attempt: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(Errno::AGAIN) => std::thread::yield_now(),
            other => return other,
        }
    }
    attempt()
}

/// Walks down from the top. Links that lead nowhere yet are replaced by their target, the way a
/// shell user would make it.
fn create(place: Place<'_>, kind: TargetKind, links: Links) -> Result<OwnedFd> {
    let refused = |errno| refused(place.name, errno);
    let mut wanted: Vec<String> = components(place.path);
    let mut links_followed = 0;
    let mut reached = 0;
    let mut parent = resolve(place.top, "/", links).map_err(refused)?;
    while reached < wanted.len() {
        let prefix = wanted[..=reached].join("/");
        match resolve(place.top, &prefix, links) {
            Ok(found) => {
                parent = found;
                reached += 1;
                continue;
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(refused(errno)),
        }
        if !place.own.contains(&fstat(&parent).map_err(refused)?.st_dev) {
            return Err(not_ours(place.name));
        }
        let name = &wanted[reached];
        let kind = if reached + 1 == wanted.len() { kind } else { TargetKind::Directory };
        match make(parent.as_fd(), name, kind) {
            Ok(()) => {}
            // A link that leads nowhere, or somebody made it meanwhile; the next turn sees which.
            Err(Errno::EXIST) => {
                links_followed += 1;
                match read_link(parent.as_fd(), name) {
                    _ if links_followed > MAX_LINKS => return Err(refused(Errno::LOOP)),
                    Some(_) if links == Links::Refuse => return Err(refused(Errno::LOOP)),
                    Some(link) => {
                        wanted = substitute(&wanted, reached, &link);
                        parent = resolve(place.top, "/", links).map_err(refused)?;
                        reached = 0;
                    }
                    None => {}
                }
            }
            Err(errno) => return Err(refused(errno)),
        }
    }
    Ok(parent)
}

fn components(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
}

fn read_link(directory: BorrowedFd<'_>, name: &str) -> Option<String> {
    readlinkat(directory, name, Vec::new()).ok().and_then(|link| link.into_string().ok())
}

/// The path with the component at `index`, a link, replaced by what the link says.
fn substitute(path: &[String], index: usize, link: &str) -> Vec<String> {
    let mut replaced = if link.starts_with('/') { Vec::new() } else { path[..index].to_vec() };
    replaced.extend(components(link));
    replaced.extend_from_slice(&path[index + 1..]);
    replaced
}

fn make(directory: BorrowedFd<'_>, name: &str, kind: TargetKind) -> rustix::io::Result<()> {
    match kind {
        TargetKind::Directory => mkdirat(directory, name, Mode::from_raw_mode(0o755)),
        TargetKind::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(directory, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    }
}

fn check_kind(fd: OwnedFd, path: &str, kind: TargetKind) -> Result<Target> {
    let stat = fstat(&fd).at(Stage::Mounts, path, "fstat")?;
    let found = FileType::from_raw_mode(stat.st_mode);
    let right = match kind {
        TargetKind::Directory => found == FileType::Directory,
        TargetKind::File => found != FileType::Directory,
    };
    if right {
        return Ok(Target { fd, device: stat.st_dev, inode: stat.st_ino });
    }
    let expected = match kind {
        TargetKind::Directory => "a directory, as the source is one",
        TargetKind::File => "a file, as the source is no directory",
    };
    let found = format!("{} in the image", kind_of_file(found));
    Err(Error::wrong_file(Stage::Mounts, mount_point(path), "fstat", FileAspect::Type, found, expected))
}

fn mount_point(path: impl fmt::Display) -> String {
    format!("mount point '{path}'")
}

/// Nothing is made, as root, in what the caller has of the host: another worker may have put links
/// there, and it would stay.
fn not_ours(path: &str) -> Error {
    let found = "missing in the caller's bind above it, where nothing is made";
    let expected = "one of the caller's own: make it there first";
    Error::wrong_file(Stage::Mounts, mount_point(path), "mkdirat", FileAspect::Presence, found, expected)
}

fn refused(path: &str, errno: Errno) -> Error {
    let error = Error::system(Stage::Mounts, mount_point(path), "openat2(RESOLVE_IN_ROOT)", errno);
    match errno {
        Errno::LOOP => error.explain("the image has a symbolic link there that may not be followed"),
        Errno::NOTDIR => error.explain("the image has a file where a directory has to be"),
        Errno::ROFS => error.explain("it does not exist, and the mount above it is read-only"),
        _ => crate::layer::explain_unread(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_the_kernel_is_not_sure_of_is_tried_again_and_not_for_ever() {
        let mut left = 5;
        let mut unsure = || {
            left -= 1;
            if left > 0 { Err(Errno::AGAIN) } else { Ok(left) }
        };
        assert_eq!(again(&mut unsure), Ok(0));
        assert_eq!(again(|| Err::<(), _>(Errno::AGAIN)), Err(Errno::AGAIN));
        assert_eq!(again(|| Err::<(), _>(Errno::NOENT)), Err(Errno::NOENT));
    }

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().unwrap();
        let fd = rustix::fs::open(directory.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (directory, fd)
    }

    fn at<'a>(root: &'a OwnedFd, path: &'a str) -> Place<'a> {
        at_among(root, path, Box::leak(Box::new([fstat(root).unwrap().st_dev])))
    }

    fn at_among<'a>(root: &'a OwnedFd, path: &'a str, own: &'a [u64]) -> Place<'a> {
        Place { top: root.as_fd(), path, name: path, own }
    }

    #[test]
    fn nothing_is_made_in_a_file_system_that_is_not_the_containers() {
        let (directory, root) = root();
        for kind in [TargetKind::Directory, TargetKind::File] {
            let error = open_target(at_among(&root, "/missing", &[]), kind, Links::Follow).unwrap_err();
            assert!(error.to_string().contains("make it there first"), "{error}");
        }
        assert!(!directory.path().join("missing").exists());
        std::fs::create_dir(directory.path().join("there")).unwrap();
        open_target(at_among(&root, "/there", &[]), TargetKind::Directory, Links::Follow).unwrap();
    }

    #[test]
    fn missing_components_are_made_inside_the_root() {
        let (directory, root) = root();
        open_target(at(&root, "/a/b/c"), TargetKind::Directory, Links::Follow).unwrap();
        open_target(at(&root, "/a/b/hosts"), TargetKind::File, Links::Follow).unwrap();
        assert!(directory.path().join("a/b/c").is_dir());
        assert!(directory.path().join("a/b/hosts").is_file());
    }

    #[test]
    fn links_of_the_image_never_lead_out_of_the_root() {
        let outside = tempfile::tempdir().unwrap();
        let out = outside.path().to_str().unwrap();
        for link in [out.to_owned(), format!("../../../../../../../..{out}"), "/".to_owned()] {
            let (directory, root) = root();
            symlink(&link, directory.path().join("data")).unwrap();
            open_target(at(&root, "/data/victim"), TargetKind::Directory, Links::Follow).unwrap();
            assert!(!outside.path().join("victim").exists(), "{link}");
        }
    }

    #[test]
    fn a_dangling_link_is_made_real_inside_the_root() {
        let (directory, root) = root();
        std::fs::create_dir(directory.path().join("var")).unwrap();
        symlink("/run", directory.path().join("var/run")).unwrap();
        open_target(at(&root, "/var/run/nscd"), TargetKind::Directory, Links::Follow).unwrap();
        assert!(directory.path().join("run/nscd").is_dir());
    }

    #[test]
    fn links_that_run_in_circles_are_an_error() {
        let (directory, root) = root();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        let error = open_target(at(&root, "/a/x"), TargetKind::Directory, Links::Follow).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ELOOP));
    }

    #[test]
    fn a_link_in_place_of_a_system_directory_is_refused() {
        let (directory, root) = root();
        symlink("/elsewhere", directory.path().join("proc")).unwrap();
        let error = open_target(at(&root, "/proc"), TargetKind::Directory, Links::Refuse).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }

    #[test]
    fn a_file_does_not_serve_as_a_directory_nor_the_other_way() {
        let (directory, root) = root();
        std::fs::write(directory.path().join("file"), "").unwrap();
        std::fs::create_dir(directory.path().join("directory")).unwrap();
        assert!(open_target(at(&root, "/file"), TargetKind::Directory, Links::Follow).is_err());
        assert!(open_target(at(&root, "/directory"), TargetKind::File, Links::Follow).is_err());
    }
}
