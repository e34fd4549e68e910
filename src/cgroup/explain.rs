//! What an errno of the cgroup file systems means to a person.
//!
//! Owns sentences only; the errors themselves are made where the calls are. Sources: the handlers
//! of each file in the kernel (`kernel/sched/core.c`, `kernel/cgroup/`, `mm/memcontrol*.c`), and
//! kernel 6.18 asked.

use crate::error::Error;

/// Adds what the errno of any call on a cgroup tree means, where that is more than its own text.
pub(super) fn explained(error: Error) -> Error {
    let text = match error.errno() {
        Some(libc::EROFS) => "cgroups are mounted read-only here, as inside most containers",
        Some(libc::EACCES | libc::EPERM) => "making cgroups takes root, or a cgroup that was delegated to this user",
        Some(libc::EBUSY) => {
            "it holds processes itself, and cgroup v2 hands controllers only to children of a cgroup without processes"
        }
        Some(libc::EAGAIN) => {
            "the limit of cgroups (cgroup.max.descendants or cgroup.max.depth) of a parent is reached"
        }
        Some(libc::ENOSPC) => "the machine has no room for another cgroup",
        Some(libc::EOPNOTSUPP) => "it is a threaded cgroup",
        _ => return error,
    };
    error.explain(text)
}

/// What it means that the kernel refuses `value` for `file`.
pub(super) fn of_value(file: &str, value: &str, errno: i32) -> Option<&'static str> {
    let text = match (file, errno) {
        (_, libc::EROFS) => "cgroups are mounted read-only here, as inside most containers",
        ("cpu.cfs_quota_us" | "cpu.max", libc::EINVAL) => return Some(quota(value)),
        ("cpu.cfs_period_us", libc::EINVAL) => {
            "the kernel takes periods from 1000 to 1000000 us, and quotas that the parent's share covers"
        }
        ("cpu.shares" | "cpu.weight", libc::EINVAL | libc::ERANGE) => "out of the kernel's range for weights",
        ("cpuset.cpus", libc::EINVAL) => {
            "not all of these processors are online, or another cgroup has one of them for itself"
        }
        ("cpuset.cpus", libc::ERANGE) => "this machine has no processor of so high a number",
        ("cpuset.cpus", libc::EACCES) => "the parent cgroup does not have all of these processors, or none of its own",
        ("cpuset.mems", libc::EINVAL) => {
            "not all of these memory nodes are there, or another cgroup has one of them for itself"
        }
        ("cpuset.mems", libc::ERANGE) => "this machine has no memory node of so high a number",
        ("cpuset.mems", libc::EACCES) => {
            "the parent cgroup does not have all of these memory nodes, or none of its own"
        }
        ("cpuset.cpus" | "cpuset.mems", libc::ENOSPC) => "it holds processes and may not become empty",
        ("memory.limit_in_bytes", libc::EINVAL) => "it is above the limit of memory and swap together",
        ("memory.limit_in_bytes" | "memory.memsw.limit_in_bytes", libc::EBUSY) => {
            "the cgroup uses more than that, and the kernel could not reclaim enough"
        }
        ("memory.memsw.limit_in_bytes", libc::EINVAL) => "it is below the limit of memory alone",
        ("pids.max", libc::EINVAL) => "the kernel takes at most 4194304 processes",
        ("devices.allow", libc::EPERM) => "the parent cgroup does not allow this device, or CAP_SYS_ADMIN is missing",
        ("devices.deny", libc::EINVAL) => "it has child cgroups",
        ("devices.deny", libc::EPERM) => "CAP_SYS_ADMIN is missing",
        ("blkio.bfq.weight" | "blkio.weight" | "io.bfq.weight" | "io.weight", libc::ERANGE | libc::EINVAL) => {
            "out of the kernel's range for weights"
        }
        (_, libc::EACCES | libc::EPERM) => "writing limits takes root, or a cgroup that was delegated to this user",
        (_, libc::ENODEV) => "the cgroup was removed meanwhile",
        _ => return None,
    };
    Some(text)
}

/// Of a quota of v1 or `quota period` of v2.
fn quota(value: &str) -> &'static str {
    let mut words = value.split(' ');
    let (quota, period) = (words.next().unwrap_or_default(), words.next());
    if quota.parse::<u64>().is_ok_and(|quota| quota < 1000) {
        return "the kernel takes no quota below 1000 us";
    }
    if period.and_then(|period| period.parse::<u64>().ok()).is_some_and(|period| !(1000..=1_000_000).contains(&period))
    {
        return "the kernel takes periods from 1000 to 1000000 us";
    }
    "the quota of a parent cgroup gives less than this share, one below it more, or it is too high for the kernel"
}

/// What it means that a process cannot enter a cgroup.
pub(super) fn of_join(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::ENOSPC => "its cpuset has no processors or memory nodes",
        libc::EBUSY => "it hands controllers to its children, so cgroup v2 lets no process in",
        libc::EACCES | libc::EPERM => {
            "moving processes takes root, or a common parent cgroup that was delegated to this user"
        }
        libc::EOPNOTSUPP => "it is a threaded or an invalid cgroup",
        libc::ENODEV | libc::ENOENT => "the cgroup was removed meanwhile",
        libc::EROFS => "cgroups are mounted read-only here, as inside most containers",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_quota_says_which_bound_it_broke() {
        for (file, value, word) in [
            ("cpu.cfs_quota_us", "100", "below 1000"),
            ("cpu.cfs_quota_us", "60000", "parent"),
            ("cpu.max", "500 100000", "below 1000"),
            ("cpu.max", "max 100", "periods from"),
            ("cpu.max", "5000 2000000", "periods from"),
        ] {
            assert!(of_value(file, value, libc::EINVAL).unwrap().contains(word), "{file} {value}");
        }
    }
}
