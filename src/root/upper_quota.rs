//! A bound on what a container may write into a directory of the host.
//!
//! Only the file system can keep such a bound: by a project quota, which counts what lies below a
//! directory. Where it keeps none the bound is refused with what is missing, because a bound that
//! is not kept would be worse than none. Runs in the launch process; `plan` only looks.

use std::os::fd::BorrowedFd;

use rustix::fs::{Dir, fstat, fstatfs};
use rustix::io::Errno;

use crate::error::{Context, Error, ErrorKind, FileAspect, Result};
use crate::stage::Stage;
use crate::sys;

/// File systems that can keep project quotas: magic number (<linux/magic.h>), name, and how quotas
/// are switched on.
const ABLE: [(u64, &str, &str); 3] = [
    (0xEF53, "ext4", "tune2fs -O project,quota on the unmounted device, then mount with -o prjquota"),
    (0x5846_5342, "xfs", "mount with -o prjquota"),
    (0xF2F5_2010, "f2fs", "mkfs.f2fs -O extra_attr,project_quota,quota, then mount with -o prjquota"),
];

/// What is missing for a project quota on a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// Its file system knows none; this is its magic number.
    FileSystem(u64),
    /// The kernel has no `quotactl_fd` (5.14), or no quotas for this file system.
    Kernel { file_system: &'static str },
    /// They are not switched on.
    Off { file_system: &'static str, advice: &'static str },
}

impl Lack {
    fn text(self) -> String {
        match self {
            Lack::FileSystem(magic) => {
                format!("its file system (magic number {magic:#x}) has no project quotas; ext4, xfs and f2fs have")
            }
            Lack::Kernel { file_system } => format!(
                "this kernel has no quotas for {file_system} by quotactl_fd (5.14, CONFIG_QUOTACTL with CONFIG_QFMT_V2 or CONFIG_XFS_QUOTA)"
            ),
            Lack::Off { file_system, advice } => {
                format!("project quotas of its {file_system} are not switched on: {advice}")
            }
        }
    }
}

/// Project ids of ours have this bit, and the rest is the directory's inode number: no two
/// directories of a file system share one, and those that administrators hand out by themselves are
/// small.
const OURS: u64 = 0x8000_0000;

/// Whether a bound could be kept in a directory.
///
/// Errors: `Unsupported` says what is missing for it.
pub(crate) fn check(directory: BorrowedFd<'_>, object: &str) -> Result<()> {
    let magic = fstatfs(directory).at(Stage::Root, object, "fstatfs")?.f_type as u64;
    let Some(lack) = lack_of(magic, || sys::project_quota_is_on(directory).map_err(errno_of)) else { return Ok(()) };
    let text = format!("its size cannot be bounded: {}", lack.text());
    Err(Error::lacking(Stage::Root, object, "quotactl_fd(Q_GETINFO)", "project quota", text))
}

/// Bounds what is written into a directory from now on, together with what is in it since an
/// earlier launch with a bound. It stays of its project, also when the launch fails.
///
/// Errors: those of [`check`]; `Exists` for a directory with content that no bound has counted.
pub(crate) fn bound(directory: BorrowedFd<'_>, size_bytes: u64, object: &str) -> Result<()> {
    check(directory, object)?;
    let ours = project_for(directory, object)?;
    if sys::project_of(directory).at(Stage::Root, object, "ioctl(FS_IOC_FSGETXATTR)")? != ours {
        if !is_empty(directory).at(Stage::Root, object, "getdents64")? {
            let (found, expected) = ("a directory with content that no bound has counted", "an empty one");
            let error = Error::wrong_file(Stage::Root, object, "getdents64", FileAspect::Content, found, expected);
            return Err(error.with_kind(ErrorKind::Exists));
        }
        sys::set_project(directory, ours).at(Stage::Root, object, "ioctl(FS_IOC_FSSETXATTR)")?;
    }
    let blocks = size_bytes.div_ceil(sys::QUOTA_BLOCK_BYTES);
    sys::set_project_quota(directory, ours, blocks).at(Stage::Root, object, "quotactl_fd(Q_SETQUOTA)")
}

/// Lifts the bound of an earlier launch, if there is one.
pub(crate) fn lift(directory: BorrowedFd<'_>, object: &str) -> Result<()> {
    // Most file systems know no projects.
    let Ok(project) = sys::project_of(directory) else { return Ok(()) };
    if project == 0 || project != project_for(directory, object)? {
        return Ok(());
    }
    sys::set_project_quota(directory, project, 0).at(Stage::Root, object, "quotactl_fd(Q_SETQUOTA)")
}

fn project_for(directory: BorrowedFd<'_>, object: &str) -> Result<u32> {
    let inode = fstat(directory).at(Stage::Root, object, "fstat")?.st_ino;
    Ok(((inode % OURS) | OURS) as u32)
}

/// Whether nothing is in it but what a new file system has.
fn is_empty(directory: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_owned();
        if !matches!(name.as_slice(), b"." | b".." | b"lost+found") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn errno_of(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn lack_of(magic: u64, is_on: impl FnOnce() -> std::result::Result<(), Errno>) -> Option<Lack> {
    let Some((_, file_system, advice)) = ABLE.into_iter().find(|(able, ..)| *able == magic) else {
        return Some(Lack::FileSystem(magic));
    };
    match is_on() {
        Ok(()) => None,
        // What the kernel says where quotas of this kind are off.
        Err(Errno::SRCH) => Some(Lack::Off { file_system, advice }),
        Err(_) => Some(Lack::Kernel { file_system }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_is_missing_is_told_apart() {
        let table = [
            (0x0102_1994, Ok(()), "has no project quotas"),
            (0xEF53, Err(Errno::SRCH), "tune2fs"),
            (0x5846_5342, Err(Errno::SRCH), "mount with -o prjquota"),
            (0xEF53, Err(Errno::NOSYS), "this kernel has no quotas for ext4"),
        ];
        for (magic, is_on, words) in table {
            let text = lack_of(magic, || is_on).map(Lack::text).unwrap();
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_bound_is_refused_where_nothing_keeps_it_and_none_is_lifted_there() {
        assert_eq!(lack_of(0xEF53, || Ok(())), None);
        let directory = std::fs::File::open("/proc").unwrap();
        let error = bound(directory.as_fd(), 1 << 20, "writable directory '/proc'").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("cannot be bounded"), "{error}");
        lift(directory.as_fd(), "writable directory '/proc'").unwrap();
    }
}
