//! `exit.json` as its readers see it. Only the monitor writes it, whole and by rename, so a reader
//! finds none or all of it.

use serde::{Deserialize, Serialize};

use crate::seccomp::AUDIT_ARCH;

/// How one container ended. Counters that the host does not have are `None`, never 0.
///
/// When the run root's file system was full, the record ends after `wall_ns`: everything that
/// follows is then `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExitRecord {
    /// The version of the file, as [`SCHEMA`](crate::record::SCHEMA) is this version's.
    pub schema: u32,
    /// The container.
    pub id: String,
    /// The boot that `ended_boot_ns` belongs to.
    pub boot_id: String,
    /// How init ended.
    pub exit: Exit,
    /// Why it ended.
    pub reason: EndReason,
    /// Who began to stop it; `None` where nobody did, and in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_by: Option<StoppedBy>,
    /// For which system call its seccomp filter killed it, where it was killed by that and the
    /// kernel's log says so: that takes `CONFIG_AUDIT`, no audit daemon that takes the lines, and a
    /// monitor in the first PID namespace, whose pids the log has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_kill: Option<SeccompKill>,
    /// When its launch began, nanoseconds since 1970: the launch record's number. `None` in records
    /// of earlier versions.
    #[serde(default)]
    pub created_unix_ns: Option<u64>,
    /// What init reported after its start, as hexadecimal digits, where it never became the
    /// workload: [`Exited::start_error`](crate::Exited::start_error) reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_report: Option<String>,
    /// When it was started, nanoseconds since 1970; `None`: it never became the workload.
    pub started_unix_ns: Option<u64>,
    /// When init was reaped, nanoseconds since 1970.
    pub ended_unix_ns: u64,
    /// The same by CLOCK_BOOTTIME.
    pub ended_boot_ns: u64,
    /// From start to end, nanoseconds; `None`: it never became the workload.
    pub wall_ns: Option<u64>,
    /// What ran out of memory.
    pub oom: Option<Oom>,
    /// v1 `memory.max_usage_in_bytes`, v2 `memory.peak` (Linux 5.19).
    pub memory_peak_bytes: Option<u64>,
    /// v1 `memory.failcnt`, v2 `max` of `memory.events`: how often the limit was met. Most of these
    /// end in reclaim, not in a kill.
    pub memory_limit_hits: Option<u64>,
    /// v1 `cpuacct.usage`, v2 `usage_usec` of `cpu.stat`: of everything that ever ran in the
    /// cgroup.
    pub cpu_time_ns: Option<u64>,
    /// v1 `throttled_time`, v2 `throttled_usec` of `cpu.stat`.
    pub cpu_throttled_ns: Option<u64>,
    /// `nr_throttled` of `cpu.stat`.
    pub cpu_throttled_periods: Option<u64>,
    /// `nr_periods` of `cpu.stat`.
    pub cpu_periods: Option<u64>,
    /// `max` of `pids.events`: forks that the limit refused.
    pub pids_limit_hits: Option<u64>,
    /// `pids.peak` (Linux 6.1).
    pub pids_peak: Option<u64>,
    /// How long at least one of its tasks waited for a CPU: `some` of `cpu.pressure` (cgroup v2,
    /// also the tree of a hybrid host; a kernel with PSI). Absent in records of earlier versions,
    /// as the ones below.
    #[serde(default)]
    pub cpu_pressure_ns: Option<u64>,
    /// How long at least one waited for memory: `some` of `memory.pressure`.
    #[serde(default)]
    pub memory_pressure_ns: Option<u64>,
    /// How long all of them did: `full`.
    #[serde(default)]
    pub memory_pressure_full_ns: Option<u64>,
    /// How long at least one waited for a block device: `some` of `io.pressure`.
    #[serde(default)]
    pub io_pressure_ns: Option<u64>,
    /// How long all of them did: `full`.
    #[serde(default)]
    pub io_pressure_full_ns: Option<u64>,
    /// CPU time in user mode of init and of the children that it waited for, from `waitid`.
    pub user_ns: Option<u64>,
    /// The same in the kernel.
    pub system_ns: Option<u64>,
    /// The largest resident set of any one of these processes.
    pub max_rss_bytes: Option<u64>,
    /// How full what takes the writes was: the tmpfs, the project quota, or, of a directory without
    /// a bound, the file system that it lies in, whoever else fills that. `None` for a read-only
    /// root.
    pub upper: Option<UpperUse>,
    /// The monitor about itself.
    pub monitor: Option<MonitorUse>,
}

/// How init ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Exit {
    /// It returned a code.
    Code {
        /// The code.
        code: u8,
    },
    /// A signal ended it.
    Signal {
        /// The signal.
        signal: u8,
        /// Whether the kernel wrote a core.
        core_dumped: bool,
    },
}

/// Why a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EndReason {
    /// By itself, or by a signal that was no stop.
    Exited,
    /// By a stop, within its grace (or before it was started).
    Stopped,
    /// By a stop whose grace had passed.
    KilledAfterGrace,
    /// By its deadline, whether gently or not.
    Timeout,
    /// Before it became the workload: it could not, or init was killed.
    NeverStarted,
    /// A later version wrote it, and knows.
    #[serde(other)]
    Unknown,
}

/// Who began to stop a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum StoppedBy {
    /// Its own time limit.
    Deadline,
    /// A program that asked its monitor for it, as [`Running::stop`](crate::Running::stop) does.
    Request {
        /// The program, as the monitor's pid namespace numbers it; 0 from another one.
        pid: u32,
    },
    /// SIGTERM to its monitor. A service manager sends it to each process of a unit that it stops:
    /// pid 1 is systemd.
    Signal {
        /// The sender; 0 from another pid namespace.
        pid: u32,
        /// Its user.
        uid: u32,
    },
    /// A later version wrote it, and knows.
    #[serde(other)]
    Unknown,
}

/// A system call for which a filter killed the one who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SeccompKill {
    /// Its number, in the call table of `arch`.
    pub syscall: u32,
    /// The table: `AUDIT_ARCH_…` of <linux/audit.h>.
    pub arch: u32,
}

impl SeccompKill {
    /// The call's name; `None` for a call table that this library is not built for, and for a call
    /// that it does not know.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        let number = (self.arch == AUDIT_ARCH).then_some(self.syscall)?;
        syscalls::Sysno::new(number as usize).map(|call| call.name())
    }
}

/// What ran out of memory, and at whose limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Oom {
    /// Processes of the container that the kernel killed; the one killed is often not init.
    pub kills: Option<u64>,
    /// How often the container's own limit was the one that was hit; `None` where that was not
    /// watched.
    pub own: Option<u64>,
    /// The same for each watched ancestor, going up. What made it full may have been outside this
    /// container.
    pub ancestors: Vec<AncestorOom>,
}

/// Out-of-memory events at one ancestor's limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AncestorOom {
    /// The ancestor, as the handover named it.
    pub cgroup: String,
    /// How often.
    pub events: u64,
}

/// How full the upper was at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UpperUse {
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes there are.
    pub size_bytes: u64,
    /// Inodes in use.
    pub used_inodes: u64,
    /// Inodes there are.
    pub inodes: u64,
}

/// The monitor about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MonitorUse {
    /// How often it woke up: once for the exit, else only for requests, their connections,
    /// deadlines and orphans.
    pub wakeups: u64,
}
