//! What a process has from its caller besides signals and descriptors: scheduling, rules for
//! capabilities, keyrings, limits.

use std::io;
use std::ptr;

use super::{Io, check};

/// The timer slack of a process that nobody has given another, 50 µs (prctl(2)). Asking for 0 would
/// only bring back the caller's own.
const TIMER_SLACK_NS: libc::c_ulong = 50_000;

/// What a process inherits from its caller besides signals and descriptors, put back to the
/// kernel's defaults: scheduling policy, I/O priority, execution domain, NUMA policy. What the
/// kernel refuses is named in the answer.
pub(crate) fn reset_scheduling() -> Vec<&'static str> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    let mut refused = Vec::new();
    let mut note = |name, value: libc::c_long| {
        // ENOSYS: this kernel has no such thing, so nothing was inherited either.
        if value == -1 && io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS) {
            refused.push(name);
        }
    };
    // SAFETY: each call takes plain numbers, or a zeroed structure of the right type that lives
    // across it; all of them act on this process.
    unsafe {
        let param: libc::sched_param = std::mem::zeroed();
        note("scheduling policy", libc::sched_setscheduler(0, libc::SCHED_OTHER, &param) as libc::c_long);
        note("nice value", libc::setpriority(libc::PRIO_PROCESS, 0, 0) as libc::c_long);
        note("I/O priority", libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0));
        note("execution domain", libc::personality(0) as libc::c_long);
        note("NUMA policy", libc::syscall(libc::SYS_set_mempolicy, 0, ptr::null::<u8>(), 0));
        note("timer slack", libc::prctl(libc::PR_SET_TIMERSLACK, TIMER_SLACK_NS) as libc::c_long);
        // All CPUs: the kernel keeps those that the cpuset allows.
        let mut all: libc::cpu_set_t = std::mem::zeroed();
        for cpu in 0..libc::CPU_SETSIZE as usize {
            libc::CPU_SET(cpu, &mut all);
        }
        note("CPU affinity", libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &all) as libc::c_long);
    }
    refused
}

/// Puts the rules for capabilities of this process back to the kernel's own. Needs CAP_SETPCAP.
pub(crate) fn reset_securebits() -> Io<()> {
    // SAFETY: plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, 0) } as libc::c_long).map(drop)
}

/// Gives this process a session keyring of its own, so that it holds none of its caller's keys.
pub(crate) fn join_new_session_keyring() -> Io<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let joined = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<u8>()) };
    match check(joined) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.map(drop),
    }
}

/// The resource limits, in the order of their numbers.
pub(crate) const RLIMITS: [(libc::__rlimit_resource_t, &str); 16] = [
    (libc::RLIMIT_CPU, "RLIMIT_CPU"),
    (libc::RLIMIT_FSIZE, "RLIMIT_FSIZE"),
    (libc::RLIMIT_DATA, "RLIMIT_DATA"),
    (libc::RLIMIT_STACK, "RLIMIT_STACK"),
    (libc::RLIMIT_CORE, "RLIMIT_CORE"),
    (libc::RLIMIT_RSS, "RLIMIT_RSS"),
    (libc::RLIMIT_NPROC, "RLIMIT_NPROC"),
    (libc::RLIMIT_NOFILE, "RLIMIT_NOFILE"),
    (libc::RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK"),
    (libc::RLIMIT_AS, "RLIMIT_AS"),
    (libc::RLIMIT_LOCKS, "RLIMIT_LOCKS"),
    (libc::RLIMIT_SIGPENDING, "RLIMIT_SIGPENDING"),
    (libc::RLIMIT_MSGQUEUE, "RLIMIT_MSGQUEUE"),
    (libc::RLIMIT_NICE, "RLIMIT_NICE"),
    (libc::RLIMIT_RTPRIO, "RLIMIT_RTPRIO"),
    (libc::RLIMIT_RTTIME, "RLIMIT_RTTIME"),
];

/// A soft and a hard limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rlimit {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// A limit of another process (0: this one).
pub(crate) fn rlimit_of(pid: i32, resource: libc::__rlimit_resource_t) -> Io<Rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `struct rlimit` to `limit`; a null new limit changes nothing.
    check(unsafe { libc::prlimit(pid, resource, ptr::null(), &mut limit) } as libc::c_long)?;
    Ok(Rlimit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

/// Sets a limit of this process.
pub(crate) fn set_rlimit(resource: libc::__rlimit_resource_t, limit: Rlimit) -> Io<()> {
    let limit = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: `limit` is valid for the call; the null pointer asks for no old value.
    check(unsafe { libc::prlimit(0, resource, &limit, ptr::null_mut()) } as libc::c_long).map(drop)
}
