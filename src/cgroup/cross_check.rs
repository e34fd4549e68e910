//! Cross-check of [`Usage`]: the same numbers as cgroups-rs reads them. For tests; nothing of Squall
//! relies on it.

use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::cpuacct::CpuAcctController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Cgroup, MaxValue, hierarchies};

use super::file::value_of;
use super::limits::kernel_values::limit_of;
use super::path::CgroupPath;
use super::usage::Usage;

impl Usage {
    /// Reads the numbers of the cgroup `path` through cgroups-rs. That crate does not know
    /// [`Usage::pids_peak`], and gives 0 for a file that it cannot read.
    pub fn by_cgroups_rs(path: &CgroupPath) -> Usage {
        let group = Cgroup::load(hierarchies::auto(), path.as_str().trim_start_matches('/'));
        let mut usage = Usage::default();
        if let Some(cpu) = group.controller_of::<CpuController>() {
            let stat = cpu.cpu().stat;
            let microseconds = || value_of(&stat, "throttled_time").map(|nanoseconds| nanoseconds / 1000);
            usage.cpu_usage_us = value_of(&stat, "usage_usec");
            usage.cpu_throttled_periods = value_of(&stat, "nr_throttled");
            usage.cpu_throttled_us = value_of(&stat, "throttled_usec").or_else(microseconds);
        }
        if let Some(accounting) = group.controller_of::<CpuAcctController>() {
            usage.cpu_usage_us = Some(accounting.cpuacct().usage / 1000);
        }
        if let Some(memory) = group.controller_of::<MemController>() {
            let memory = memory.memory_stat();
            usage.memory_current_bytes = Some(memory.usage_in_bytes);
            usage.memory_peak_bytes = Some(memory.max_usage_in_bytes);
            usage.memory_limit_bytes = limit_of(&memory.limit_in_bytes.to_string());
            usage.oom_kills = Some(memory.oom_control.oom_kill);
        }
        if let Some(pids) = group.controller_of::<PidController>() {
            usage.pids_current = pids.get_pid_current().ok();
            usage.pids_refused = pids.get_pid_events().ok();
            usage.pids_limit = match pids.get_pid_max() {
                Ok(MaxValue::Value(limit)) => u64::try_from(limit).ok(),
                _ => None,
            };
        }
        usage
    }
}
