//! A bound on what a container may write into a directory of the host.
//!
//! Only the file system can keep such a bound: by a project quota, which counts what lies below a directory. Whether it keeps them is looked
//! at here. Setting one is not built yet, so a bound is refused in any case, each time with what is missing: a bound that is not kept would
//! be worse than none. Runs in the launch process, and in `plan`.

use std::os::fd::BorrowedFd;

use rustix::fs::fstatfs;
use rustix::io::Errno;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::stage::Stage;
use crate::sys;

/// File systems that can keep project quotas: magic number (<linux/magic.h>), name, and how quotas are switched on.
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
    /// The program.
    Ours,
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
            Lack::Ours => "its file system keeps project quotas, and this version does not set them yet".to_owned(),
        }
    }
}

/// Refuses to bound what is written into a directory; the error says what is missing for it.
///
/// Errors: `Unsupported`, always.
pub(crate) fn refuse_bound(directory: BorrowedFd<'_>, object: &str) -> Result<()> {
    let magic = fstatfs(directory).at(Stage::Root, object, "fstatfs")?.f_type as u64;
    let lack = lack_of(magic, || sys::project_quota_is_on(directory).map_err(errno_of));
    let text = format!("its size cannot be bounded: {}", lack.text());
    Err(Error::found(ErrorKind::Unsupported, Stage::Root, object, "quotactl_fd(Q_GETINFO)", text))
}

fn errno_of(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn lack_of(magic: u64, is_on: impl FnOnce() -> std::result::Result<(), Errno>) -> Lack {
    let Some((_, file_system, advice)) = ABLE.into_iter().find(|(able, ..)| *able == magic) else {
        return Lack::FileSystem(magic);
    };
    match is_on() {
        Ok(()) => Lack::Ours,
        // What the kernel says where quotas of this kind are off.
        Err(Errno::SRCH) => Lack::Off { file_system, advice },
        Err(_) => Lack::Kernel { file_system },
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
            (0x5846_5342, Ok(()), "does not set them yet"),
        ];
        for (magic, is_on, words) in table {
            let text = lack_of(magic, || is_on).text();
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_bound_is_refused_in_any_case() {
        let directory = std::fs::File::open("/proc").unwrap();
        let error = refuse_bound(directory.as_fd(), "writable directory '/proc'").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("cannot be bounded"), "{error}");
    }
}
