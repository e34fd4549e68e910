//! Cgroups: making one with its limits, entering it, reading it, ending it.
//!
//! Owns everything Squall does below `/sys/fs/cgroup`, on cgroup v1 (controllers alone or mounted together), hybrid
//! and v2 machines. It never talks to systemd (the crate does so for a [`Scope`], elsewhere), never moves a process other than the caller, and never changes a
//! cgroup that the caller did not name, except that parents of a new one are made, filled (v1 cpuset) and told to
//! hand controllers down (v2); they stay.
//!
//! The launch process calls [`Layout::detect`], [`Cgroup::create`], [`place`], [`join_monitors`] and [`OomEvents::watch`];
//! whoever reads, ends or clears a container calls [`Usage::read`], [`Cgroup::kill_all`] and [`remove()`]. The monitor is
//! a program of its own and reads and removes by itself.
//!
//! | file of the kernel | since | used for | without |
//! |---|---|---|---|
//! | `cgroup.kill` | 5.14 | ending all processes | freezer and signals ([`KillMeans::Signals`] forces it) |
//! | `memory.peak` | 5.19 | [`Usage::memory_peak_bytes`] on v2 | absent |
//! | `pids.peak` | 6.1 | [`Usage::pids_peak`] | absent |
//! | `memory.oom_control`: `oom_kill` | 4.13 | [`Usage::oom_kills`] on v1 | absent |
//! | device programs (`CONFIG_CGROUP_BPF`) | 4.15 | [`DeviceRules`] on v2 | reported: not in force |
//! | `memory.memsw.*`, `memory.swap.max` | | [`Limits::memory_swap_bytes`] | reported without swap, refused with swap |

mod adjustment;
mod apply;
mod control;
mod controller;
mod cpu_list;
mod cpuset;
mod delegated;
mod device_program;
mod device_rules;
mod directory;
mod end;
#[cfg(test)]
mod fake;
mod foresight;
mod freeze;
mod group;
mod join;
mod layout;
mod limits;
mod meaning;
mod membership;
mod mountinfo;
mod oom;
mod path;
mod plan;
mod scope;
#[cfg(feature = "cgroups-rs")]
mod second_opinion;
mod subtree;
mod usage;
mod vacancy;

pub use adjustment::{Adjustment, Got};
pub use controller::Controller;
pub use cpu_list::{CpuList, CpuListProblem, NUMBER_MAX};
pub use cpuset::findings as cpuset_findings;
pub(crate) use delegated::is_delegated;
pub use device_rules::{DeviceRule, DeviceRuleProblem, DeviceRules, STANDARD};
pub use end::{KillMeans, KilledBy, remove};
pub use foresight::{Act, Foresight};
pub(crate) use freeze::{frozen, frozen_above, words as frozen_words};
pub use group::Cgroup;
pub use join::{JoinFailure, Joining, join, join_monitors, place};
pub use layout::{Hierarchy, Kind, Layout};
pub use limits::{Field, Limits, SwapLimit, SwapProblem};
pub use membership::{Entry, Membership};
pub use mountinfo::hierarchies_in_mountinfo;
pub use oom::OomEvents;
pub use path::{CgroupPath, PathProblem};
pub use scope::{DEFAULT_SLICE, Manager, Scope, Slice, SliceProblem};
pub use usage::Usage;
pub use vacancy::{Vacancy, inode_of, remove_empty};
