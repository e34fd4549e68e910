//! Project quotas of file systems (<linux/quota.h>, <linux/fs.h>).

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Io, check};

/// `struct if_dqinfo` of <linux/quota.h>.
#[repr(C)]
#[derive(Default)]
struct QuotaInfo {
    block_grace: u64,
    inode_grace: u64,
    flags: u32,
    valid: u32,
}

/// `struct if_dqblk` of <linux/quota.h>.
#[repr(C)]
#[derive(Default)]
struct QuotaBlock {
    block_hard_limit: u64,
    block_soft_limit: u64,
    space: u64,
    inode_hard_limit: u64,
    inode_soft_limit: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// `struct fsxattr` of <linux/fs.h>.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct FileAttributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    reserved: [u8; 8],
}

/// `QCMD(Q_GETINFO, PRJQUOTA)` and `QCMD(Q_SETQUOTA, PRJQUOTA)`.
const GET_PROJECT_INFO: libc::c_uint = 0x80_0005 << 8 | 2;
const SET_PROJECT_QUOTA: libc::c_uint = 0x80_0008 << 8 | 2;

/// `_IOR('X', 31, struct fsxattr)` and `_IOW('X', 32, struct fsxattr)`.
const FS_IOC_FSGETXATTR: libc::Ioctl = 0x801c_581f;
const FS_IOC_FSSETXATTR: libc::Ioctl = 0x401c_5820;

/// What is made below a directory is of its project.
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

/// Only the limits of space are given.
const QIF_BLIMITS: u32 = 1;

/// Bytes in the unit of those limits.
pub(crate) const QUOTA_BLOCK_BYTES: u64 = 1024;

/// Whether the file system that holds the descriptor's file counts what projects use: ESRCH where
/// it does not, ENOSYS where it cannot. Kernel 5.14.
pub(crate) fn project_quota_is_on(file: BorrowedFd<'_>) -> Io<()> {
    let mut info = QuotaInfo::default();
    // SAFETY: the kernel fills the structure, which is plain integers, during the call only.
    let done = unsafe { libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), GET_PROJECT_INFO, 0, &raw mut info) };
    check(done).map(drop)
}

/// Limits the space of a project, in blocks of [`QUOTA_BLOCK_BYTES`]; 0 lifts the limit.
/// CAP_SYS_ADMIN.
pub(crate) fn set_project_quota(file: BorrowedFd<'_>, project: u32, blocks: u64) -> Io<()> {
    let mut block = QuotaBlock { block_hard_limit: blocks, valid: QIF_BLIMITS, ..QuotaBlock::default() };
    // SAFETY: the kernel reads the structure, which is plain integers, during the call only.
    let done =
        unsafe { libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), SET_PROJECT_QUOTA, project, &raw mut block) };
    check(done).map(drop)
}

/// The project of a file; 0 where it has none of its own.
pub(crate) fn project_of(file: BorrowedFd<'_>) -> Io<u32> {
    file_attributes(file).map(|attributes| attributes.project)
}

/// Gives a directory a project, which what is made below it will have as well.
pub(crate) fn set_project(directory: BorrowedFd<'_>, project: u32) -> Io<()> {
    let mut attributes = file_attributes(directory)?;
    attributes.project = project;
    attributes.flags |= FS_XFLAG_PROJINHERIT;
    // SAFETY: the kernel reads the structure, which is plain integers, during the call only.
    let done = unsafe { libc::ioctl(directory.as_raw_fd(), FS_IOC_FSSETXATTR, &raw const attributes) };
    check(done.into()).map(drop)
}

fn file_attributes(file: BorrowedFd<'_>) -> Io<FileAttributes> {
    let mut attributes = FileAttributes::default();
    // SAFETY: the kernel fills the structure, which is plain integers, during the call only.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut attributes) };
    check(done.into()).map(|_| attributes)
}
