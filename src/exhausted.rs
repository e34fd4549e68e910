//! Limits of the system, in the words by which whoever meets one can find it and raise it.
//!
//! One errno stands for many limits, so the words are given where the call is made: there it is
//! known which limit the errno means. Only EMFILE and ENFILE mean the same nearly everywhere;
//! [`Error::system`] knows them.

use crate::error::{Error, ErrorKind, Result};

/// A limit that a call can run into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Mounts of one mount namespace.
    Mounts,
    /// Mounts that are nowhere yet.
    DetachedMounts,
    /// Processes and threads.
    Processes,
    /// Namespaces of a user.
    Namespaces,
    /// Loop devices.
    LoopDevices,
    /// Nodes for loop devices.
    LoopNodes,
    /// Instances of inotify.
    InotifyInstances,
    /// Watches of inotify.
    InotifyWatches,
    /// Descriptors in instances of epoll.
    EpollWatches,
}

impl Limit {
    /// What is full, and what says how much it holds.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Limit::Mounts => "the mount namespace holds as many mounts as sysctl fs.mount-max allows",
            Limit::DetachedMounts => {
                "the mount namespace holds as many mounts as sysctl fs.mount-max allows, or, because every mount is a namespace of its own \
                 until it is put somewhere, there are as many namespaces as sysctl user.max_mnt_namespaces allows"
            }
            Limit::Processes => {
                "no further process may be made: the pids limit of the caller's cgroup or of one above it (pids.max), the user's \
                 RLIMIT_NPROC (ulimit -u), or sysctl kernel.threads-max or kernel.pid_max"
            }
            Limit::Namespaces => {
                "no further namespace may be made: sysctl user.max_pid_namespaces, user.max_mnt_namespaces, user.max_ipc_namespaces or \
                 user.max_net_namespaces, or pid namespaces nested 32 deep"
            }
            Limit::LoopDevices => "no further loop device can be made (module parameter max_loop, memory)",
            Limit::LoopNodes => {
                "the kernel has made the loop device, and /dev has no node for it: mount a devtmpfs there, run udev, or make more nodes \
                 (mknod /dev/loopN b 7 N)"
            }
            Limit::InotifyInstances => {
                "the user has as many inotify instances as sysctl fs.inotify.max_user_instances allows, or this process as many open \
                 files as RLIMIT_NOFILE (ulimit -n)"
            }
            Limit::InotifyWatches => {
                "the user has as many inotify watches as sysctl fs.inotify.max_user_watches allows"
            }
            Limit::EpollWatches => {
                "the user has as many descriptors in epoll instances as sysctl fs.epoll.max_user_watches allows"
            }
        }
    }
}

/// Says of an error that it is a limit, where its errno is the one by which the call says so.
pub(crate) trait AtLimit {
    fn at_limit(self, errno: i32, limit: Limit) -> Self;
}

impl AtLimit for Error {
    fn at_limit(self, errno: i32, limit: Limit) -> Error {
        if self.errno() == Some(errno) { self.with_kind(ErrorKind::Exhausted).explain(limit.words()) } else { self }
    }
}

impl<T> AtLimit for Result<T> {
    fn at_limit(self, errno: i32, limit: Limit) -> Result<T> {
        self.map_err(|error| error.at_limit(errno, limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errno;
    use crate::stage::Stage;

    fn error(errno: i32) -> Error {
        Error::system(Stage::Watch, "container 'a'", "call", Errno(errno))
    }

    #[test]
    fn every_limit_is_named_by_what_raises_it() {
        let table = [
            (Limit::Mounts, libc::ENOSPC, "fs.mount-max"),
            (Limit::DetachedMounts, libc::ENOSPC, "user.max_mnt_namespaces"),
            (Limit::Processes, libc::EAGAIN, "pids.max"),
            (Limit::Namespaces, libc::ENOSPC, "user.max_pid_namespaces"),
            (Limit::LoopDevices, libc::ENOSPC, "max_loop"),
            (Limit::LoopNodes, libc::ENOENT, "mknod /dev/loopN"),
            (Limit::InotifyInstances, libc::EMFILE, "fs.inotify.max_user_instances"),
            (Limit::InotifyWatches, libc::ENOSPC, "fs.inotify.max_user_watches"),
            (Limit::EpollWatches, libc::ENOSPC, "fs.epoll.max_user_watches"),
        ];
        for (limit, errno, named) in table {
            let told = error(errno).at_limit(errno, limit);
            assert_eq!(told.kind(), ErrorKind::Exhausted, "{told}");
            assert!(told.to_string().contains(named), "{told}");
        }
    }

    #[test]
    fn another_errno_of_the_same_call_is_left_alone() {
        assert_eq!(error(libc::EINVAL).at_limit(libc::ENOSPC, Limit::Mounts), error(libc::EINVAL));
    }
}
