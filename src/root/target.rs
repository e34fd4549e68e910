//! Mount points inside the new root, which an image may have filled with anything.
//!
//! Every path is resolved by the kernel *inside* the root (`RESOLVE_IN_ROOT`): a symbolic link, absolute or with any number of `..`, ends
//! within it, and so does a race. What is missing is made, one component at a time, below the directory that was really reached.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;

use crate::error::{Context, Error, ErrorKind, Result};
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
    /// The image decides where the caller's mount ends up, as it does under every runtime: `/var/run` may be a link to `/run`.
    Follow,
    /// `/proc`, `/dev` and `/sys` have to be what they are called: a link there is an attack or a broken image.
    Refuse,
}

/// As many links as the kernel itself follows (MAXSYMLINKS).
const MAX_LINKS: usize = 40;

/// Opens the mount point, making what is missing of it.
pub(crate) fn open_target(root: BorrowedFd<'_>, path: &str, kind: TargetKind, links: Links) -> Result<OwnedFd> {
    let target = match resolve(root, path, links) {
        Ok(target) => target,
        Err(Errno::NOENT) => create(root, path, kind, links)?,
        Err(errno) => return Err(refused(path, errno)),
    };
    check_kind(target, path, kind)
}

fn resolve(root: BorrowedFd<'_>, path: &str, links: Links) -> rustix::io::Result<OwnedFd> {
    let follow = match links {
        Links::Follow => ResolveFlags::empty(),
        Links::Refuse => ResolveFlags::NO_SYMLINKS,
    };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | follow;
    openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Walks down from the root. Links that lead nowhere yet are replaced by their target, the way a shell user would make it.
fn create(root: BorrowedFd<'_>, path: &str, kind: TargetKind, links: Links) -> Result<OwnedFd> {
    let mut wanted: Vec<String> = components(path);
    let mut reached = 0;
    let mut links_followed = 0;
    while reached < wanted.len() {
        let prefix = wanted[..=reached].join("/");
        match resolve(root, &prefix, links) {
            Ok(_) => reached += 1,
            Err(Errno::NOENT) => {
                let parent = resolve(root, parent_of(&wanted[..reached]).as_str(), links)
                    .map_err(|errno| refused(path, errno))?;
                let name = wanted[reached].clone();
                if let Some(link) = read_link(parent.as_fd(), &name) {
                    links_followed += 1;
                    if links_followed > MAX_LINKS || links == Links::Refuse {
                        return Err(refused(path, Errno::LOOP));
                    }
                    wanted = substitute(&wanted, reached, &link);
                    reached = 0;
                    continue;
                }
                let last = reached + 1 == wanted.len();
                make(parent.as_fd(), &name, if last { kind } else { TargetKind::Directory })
                    .map_err(|errno| refused(path, errno))?;
                reached += 1;
            }
            Err(errno) => return Err(refused(path, errno)),
        }
    }
    resolve(root, &wanted.join("/"), links).map_err(|errno| refused(path, errno))
}

fn components(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
}

fn parent_of(components: &[String]) -> String {
    if components.is_empty() { "/".into() } else { components.join("/") }
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
    let made = match kind {
        TargetKind::Directory => mkdirat(directory, name, Mode::from_raw_mode(0o755)),
        TargetKind::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(directory, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

fn check_kind(target: OwnedFd, path: &str, kind: TargetKind) -> Result<OwnedFd> {
    let found = FileType::from_raw_mode(fstat(&target).at(Stage::Mounts, path, "fstat")?.st_mode);
    let right = match kind {
        TargetKind::Directory => found == FileType::Directory,
        TargetKind::File => found != FileType::Directory,
    };
    if right {
        return Ok(target);
    }
    let (is, must) = match kind {
        TargetKind::Directory => ("not a directory", "the source is one"),
        TargetKind::File => ("a directory", "the source is not"),
    };
    Err(Error::found(
        ErrorKind::System,
        Stage::Mounts,
        mount_point(path),
        "fstat",
        format!("the image has {is} there, and {must}"),
    ))
}

fn mount_point(path: impl fmt::Display) -> String {
    format!("mount point '{path}'")
}

fn refused(path: &str, errno: Errno) -> Error {
    let error = Error::system(Stage::Mounts, mount_point(path), "openat2(RESOLVE_IN_ROOT)", errno);
    match errno {
        Errno::LOOP => error.meaning("the image has a symbolic link there that may not be followed"),
        Errno::NOTDIR => error.meaning("the image has a file where a directory has to be"),
        Errno::ROFS => error.meaning("it does not exist, and the mount above it is read-only"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().unwrap();
        let fd = rustix::fs::open(directory.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (directory, fd)
    }

    #[test]
    fn missing_components_are_made_inside_the_root() {
        let (directory, root) = root();
        open_target(root.as_fd(), "/a/b/c", TargetKind::Directory, Links::Follow).unwrap();
        open_target(root.as_fd(), "/a/b/hosts", TargetKind::File, Links::Follow).unwrap();
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
            open_target(root.as_fd(), "/data/victim", TargetKind::Directory, Links::Follow).unwrap();
            assert!(!outside.path().join("victim").exists(), "{link}");
        }
    }

    #[test]
    fn a_dangling_link_is_made_real_inside_the_root() {
        let (directory, root) = root();
        std::fs::create_dir(directory.path().join("var")).unwrap();
        symlink("/run", directory.path().join("var/run")).unwrap();
        open_target(root.as_fd(), "/var/run/nscd", TargetKind::Directory, Links::Follow).unwrap();
        assert!(directory.path().join("run/nscd").is_dir());
    }

    #[test]
    fn links_that_run_in_circles_are_an_error() {
        let (directory, root) = root();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        let error = open_target(root.as_fd(), "/a/x", TargetKind::Directory, Links::Follow).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ELOOP));
    }

    #[test]
    fn a_link_in_place_of_a_system_directory_is_refused() {
        let (directory, root) = root();
        symlink("/elsewhere", directory.path().join("proc")).unwrap();
        let error = open_target(root.as_fd(), "/proc", TargetKind::Directory, Links::Refuse).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }

    #[test]
    fn a_file_does_not_serve_as_a_directory_nor_the_other_way() {
        let (directory, root) = root();
        std::fs::write(directory.path().join("file"), "").unwrap();
        std::fs::create_dir(directory.path().join("directory")).unwrap();
        assert!(open_target(root.as_fd(), "/file", TargetKind::Directory, Links::Follow).is_err());
        assert!(open_target(root.as_fd(), "/directory", TargetKind::File, Links::Follow).is_err());
    }
}
