//! Cgroups: the limits of a container, where its cgroup lies, and what it has used.
//!
//! For a launch: [`Limits`] with [`CpuList`], [`SwapLimit`] and [`DeviceRules`], the [`CgroupPath`]
//! or, with systemd, the [`Slice`]. For what came of it: [`Adjustment`], [`Usage`] with
//! [`DeviceIo`] and [`Pressure`]. For the machine: its [`Layout`], and who should make cgroups
//! there ([`Manager`]). Making a cgroup, entering it, killing what is in it and removing it is the
//! library's own business.
//!
//! Owns everything Squall does below `/sys/fs/cgroup`, on cgroup v1 (controllers alone or mounted
//! together), hybrid and v2 machines. It never talks to systemd (the crate does so for a [`Scope`],
//! elsewhere), never moves a process other than the caller, and never changes a cgroup that the
//! caller did not name, except that parents of a new one are made, filled (v1 cpuset) and told to
//! hand controllers down (v2); they stay.
//!
//! The launch process calls [`Layout::detect`], `Cgroup::create`, `place`, `join_monitors` and
//! `oom_eventfd`; whoever reads, ends or clears a container calls [`Usage::read`],
//! `Cgroup::kill_all` and `end`. The monitor is a program of its own and reads and removes by
//! itself.
//!
//! Which files of the kernel are used, since when, and what happens without them is in
//! [`kernel::FEATURES`](crate::kernel::FEATURES). Device rules on v2 take `CONFIG_CGROUP_BPF`, and
//! swap limits a kernel that counts swap: what cannot be in force is an [`Adjustment`], or refused
//! where that would give more than was asked for.

#[cfg(feature = "cgroups-rs")]
mod cross_check;
mod end;
mod explain;
#[cfg(test)]
mod fake;
mod file;
mod freeze;
mod group;
mod join;
mod limits;
mod machine;
mod notices;
mod occupancy;
mod oom_eventfd;
mod path;
mod preview;
mod scope;
mod usage;

mod device_io;
mod members;
mod pressure;

pub use device_io::DeviceIo;
pub(crate) use end::end;
pub(crate) use freeze::{frozen, frozen_above, is_frozen, words as frozen_words};
pub(crate) use group::cpuset::available_cpus;
pub use group::cpuset::findings as cpuset_findings;
pub use limits::adjustment::{Adjustment, Got};
pub use limits::changes::LimitChanges;
pub use limits::cpu_list::{CpuList, CpuListProblem};
pub use limits::device_rules::{DeviceRule, DeviceRuleProblem, DeviceRules, STANDARD};
pub use limits::{Field, Limits, SwapLimit, SwapProblem};
pub use machine::controller::Controller;
pub(crate) use machine::delegated::is_delegated;
pub use machine::layout::{Hierarchy, Kind, Layout};
pub(crate) use machinery::*;
pub(crate) use notices::{notifying_files, oom_kills};
pub use path::{CgroupPath, PathProblem};
pub use pressure::{Pressure, Stall};
pub use preview::{Act, Preview};
pub use scope::{DEFAULT_SLICE, Manager, Scope, Slice, SliceProblem};
pub use usage::Usage;

/// What the library does with cgroups, and nobody else; tests have it by the feature `testing`.
pub(crate) mod machinery {
    #[cfg(feature = "testing")]
    pub use super::end::{KilledBy, remove};
    pub use super::group::Cgroup;
    pub use super::join::{Joining, join_monitors, place};
    pub use super::machine::membership::Membership;
    pub use super::occupancy::{Occupancy, inode_of, remove_empty};
    pub use super::oom_eventfd::oom_eventfd;
}
