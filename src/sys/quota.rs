//! Quotas of file systems (<linux/quota.h>).

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

/// `QCMD(Q_GETINFO, PRJQUOTA)`.
const GET_PROJECT_INFO: libc::c_uint = 0x80_0005 << 8 | 2;

/// Whether the file system that holds the descriptor's file counts what projects use: ESRCH where it does not, ENOSYS where it cannot. Kernel
/// 5.14.
pub(crate) fn project_quota_is_on(file: BorrowedFd<'_>) -> Io<()> {
    let mut info = QuotaInfo::default();
    // SAFETY: the kernel fills the structure, which is plain integers, during the call only.
    let done = unsafe { libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), GET_PROJECT_INFO, 0, &raw mut info) };
    check(done).map(drop)
}
