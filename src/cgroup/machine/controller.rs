//! The controllers that Squall uses, under the names that v1 and v2 give them.
//!
//! Owns names only. Any process may use it.

use std::fmt;

/// A controller of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Controller {
    /// Processor time and weight.
    Cpu,
    /// Counting of processor time; v2 counts in every cgroup.
    Cpuacct,
    /// Which processors and memory nodes.
    Cpuset,
    /// Memory and swap.
    Memory,
    /// Number of processes and threads.
    Pids,
    /// Device nodes; v2 has no files for it, only BPF programs.
    Devices,
    /// Stopping all processes; v2 has `cgroup.freeze` in every cgroup.
    Freezer,
    /// Block devices.
    Io,
}

impl Controller {
    /// The name in cgroup v1.
    #[must_use]
    pub fn v1_name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Cpuset => "cpuset",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Devices => "devices",
            Controller::Freezer => "freezer",
            Controller::Io => "blkio",
        }
    }

    /// The name in cgroup v2, where it is a controller there.
    #[must_use]
    pub fn v2_name(self) -> Option<&'static str> {
        match self {
            Controller::Cpu => Some("cpu"),
            Controller::Cpuset => Some("cpuset"),
            Controller::Memory => Some("memory"),
            Controller::Pids => Some("pids"),
            Controller::Io => Some("io"),
            Controller::Cpuacct | Controller::Devices | Controller::Freezer => None,
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.v2_name().unwrap_or(self.v1_name()))
    }
}
