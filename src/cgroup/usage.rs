//! What a cgroup used and how often it hit its limits.
//!
//! Owns which file says what in which version. Every file may be absent (a controller that is not
//! there, an older kernel, the cgroup is gone): then the number is absent and nothing fails. The
//! monitor reads it before the cgroup is removed; anybody may read it at any time.

use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::file;
use super::file::value_of;
#[cfg(any(test, feature = "testing"))]
use super::group::Cgroup;
use super::limits::kernel_values::limit_of;
use super::machine::controller::Controller;
use super::machine::layout::{Hierarchy, Layout};
use super::path::CgroupPath;

/// Numbers of one cgroup and everything below it. Absent: not known here; for a limit also: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Usage {
    /// Processor time used, in microseconds (v1 `cpuacct.usage`, v2 `cpu.stat`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_usage_us: Option<u64>,
    /// Periods in which the quota was used up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_throttled_periods: Option<u64>,
    /// Time that processors stood still for it, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_throttled_us: Option<u64>,
    /// Memory now, in bytes, page cache included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_current_bytes: Option<u64>,
    /// The most memory ever, in bytes (v2: since Linux 5.19).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// The limit in force, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Processes that the kernel killed for want of memory (v1: since Linux 4.13).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    /// Processes and threads now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_current: Option<u64>,
    /// The most processes and threads ever (since Linux 6.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_peak: Option<u64>,
    /// The limit of processes and threads in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u64>,
    /// How often a fork was refused by the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_refused: Option<u64>,
    /// How long at least one process waited for a CPU, in microseconds (v2, kernels with PSI).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_pressure_us: Option<u64>,
    /// How long at least one waited for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_pressure_us: Option<u64>,
    /// How long all of them waited for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_pressure_full_us: Option<u64>,
    /// How long at least one waited for a block device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_pressure_us: Option<u64>,
    /// How long all of them waited for a block device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_pressure_full_us: Option<u64>,
}

impl Usage {
    /// Reads the numbers of the cgroup `path`; all absent where there is no such cgroup. About
    /// three system calls for each file, a dozen files.
    #[must_use]
    pub fn read(layout: &Layout, path: &CgroupPath) -> Usage {
        let mut usage = Usage::default();
        for hierarchy in layout.hierarchies().iter().filter(|hierarchy| counts(hierarchy)) {
            if let Ok(directory) = file::open_directory(&hierarchy.directory(path)) {
                usage.add(hierarchy, std::os::fd::AsFd::as_fd(&directory));
            }
        }
        usage
    }

    fn add(&mut self, hierarchy: &Hierarchy, directory: BorrowedFd<'_>) {
        let group = Group { directory };
        if hierarchy.is_v2() {
            self.add_v2(hierarchy, &group)
        } else {
            self.add_v1(hierarchy, &group)
        }
        if hierarchy.has(Controller::Pids) {
            self.pids_current = group.number("pids.current");
            self.pids_peak = group.number("pids.peak");
            self.pids_limit = group.number("pids.max");
            self.pids_refused = group.keyed("pids.events", ["max"])[0];
        }
    }

    fn add_v1(&mut self, hierarchy: &Hierarchy, group: &Group<'_>) {
        if hierarchy.has(Controller::Cpuacct) {
            self.cpu_usage_us = group.number("cpuacct.usage").map(|ns| ns / 1000).or(self.cpu_usage_us);
        }
        if hierarchy.has(Controller::Cpu) {
            let [periods, ns] = group.keyed("cpu.stat", ["nr_throttled", "throttled_time"]);
            self.cpu_throttled_periods = periods.or(self.cpu_throttled_periods);
            self.cpu_throttled_us = ns.map(|ns| ns / 1000).or(self.cpu_throttled_us);
        }
        if hierarchy.has(Controller::Memory) {
            self.memory_current_bytes = group.number("memory.usage_in_bytes");
            self.memory_peak_bytes = group.number("memory.max_usage_in_bytes");
            self.memory_limit_bytes = group.number("memory.limit_in_bytes");
            self.oom_kills = group.keyed("memory.oom_control", ["oom_kill"])[0];
        }
    }

    /// `cpu.stat` is in every v2 cgroup, without a controller too. What v1 counts on a hybrid
    /// machine is more exact there (the v2 tree may lack processes), so it is kept.
    fn add_v2(&mut self, hierarchy: &Hierarchy, group: &Group<'_>) {
        let [usage, periods, throttled] = group.keyed("cpu.stat", ["usage_usec", "nr_throttled", "throttled_usec"]);
        self.cpu_usage_us = self.cpu_usage_us.or(usage);
        self.cpu_throttled_periods = self.cpu_throttled_periods.or(periods);
        self.cpu_throttled_us = self.cpu_throttled_us.or(throttled);
        if hierarchy.has(Controller::Memory) {
            self.memory_current_bytes = group.number("memory.current");
            self.memory_peak_bytes = group.number("memory.peak");
            self.memory_limit_bytes = group.number("memory.max");
            self.oom_kills = group.keyed("memory.events", ["oom_kill"])[0];
        }
        // In every v2 cgroup, without a controller too.
        self.cpu_pressure_us = group.keyed("cpu.pressure", ["some"])[0];
        [self.memory_pressure_us, self.memory_pressure_full_us] = group.keyed("memory.pressure", ["some", "full"]);
        [self.io_pressure_us, self.io_pressure_full_us] = group.keyed("io.pressure", ["some", "full"]);
    }
}

#[cfg(any(test, feature = "testing"))]
impl Cgroup {
    /// The numbers of this cgroup; see [`Usage`].
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for (hierarchy, directory) in self.directories().filter(|(hierarchy, _)| counts(hierarchy)) {
            usage.add(hierarchy, directory);
        }
        usage
    }
}

/// Whether a hierarchy has any number; the others are not even opened.
fn counts(hierarchy: &Hierarchy) -> bool {
    let counting = [Controller::Cpu, Controller::Cpuacct, Controller::Memory, Controller::Pids];
    hierarchy.is_v2() || counting.into_iter().any(|controller| hierarchy.has(controller))
}

/// One directory to read from.
struct Group<'a> {
    directory: BorrowedFd<'a>,
}

impl Group<'_> {
    /// A number, or `None` for `max` and for what v1 shows for no limit.
    fn number(&self, file: &str) -> Option<u64> {
        limit_of(file::read_short(self.directory, file).ok()?.as_str())
    }

    fn keyed<const N: usize>(&self, file: &str, keys: [&str; N]) -> [Option<u64>; N] {
        let text = file::read_short(self.directory, file).ok();
        keys.map(|key| value_of(text.as_ref()?.as_str(), key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::FakeTree;

    fn path() -> CgroupPath {
        CgroupPath::new("/a").unwrap()
    }

    #[test]
    fn the_numbers_of_v1_come_from_their_hierarchies() {
        let tree = FakeTree::v1();
        for mount in ["cpu", "cpuacct", "memory", "pids", "unified"] {
            tree.add(&format!("{mount}/a"));
        }
        for (group, file, text) in [
            ("cpuacct/a", "cpuacct.usage", "1234567\n"),
            ("cpu/a", "cpu.stat", "nr_periods 9\nnr_throttled 3\nthrottled_time 5000\n"),
            ("unified/a", "cpu.stat", "usage_usec 99\nnr_throttled 99\n"),
            ("memory/a", "memory.usage_in_bytes", "4096\n"),
            ("memory/a", "memory.max_usage_in_bytes", "8192\n"),
            ("memory/a", "memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/a", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("pids/a", "pids.max", "max\n"),
            ("pids/a", "pids.events", "max 7\n"),
        ] {
            tree.put(group, file, text);
        }
        let expected = Usage {
            cpu_usage_us: Some(1234),
            cpu_throttled_periods: Some(3),
            cpu_throttled_us: Some(5),
            memory_current_bytes: Some(4096),
            memory_peak_bytes: Some(8192),
            oom_kills: Some(2),
            pids_current: Some(0),
            pids_refused: Some(7),
            ..Usage::default()
        };
        assert_eq!(Usage::read(tree.layout(), &path()), expected);
        assert_eq!(Cgroup::open(tree.layout(), &path()).unwrap().usage(), expected);
    }

    #[test]
    fn the_numbers_of_v2_come_from_one_directory() {
        let tree = FakeTree::v2("cpu memory pids");
        tree.add("/a");
        for (file, text) in [
            ("cpu.stat", "usage_usec 70\nuser_usec 60\nnr_throttled 2\nthrottled_usec 11\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.events", "oom 1\noom_kill 1\noom_group_kill 0\n"),
            ("pids.max", "12\n"),
            (
                "memory.pressure",
                "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=4\n",
            ),
        ] {
            tree.put("/a", file, text);
        }
        tree.remove_file("/a", "memory.peak");
        let usage = Usage::read(tree.layout(), &path());
        let expected = Usage {
            cpu_usage_us: Some(70),
            cpu_throttled_periods: Some(2),
            cpu_throttled_us: Some(11),
            memory_current_bytes: Some(4096),
            oom_kills: Some(1),
            pids_current: Some(0),
            pids_limit: Some(12),
            pids_refused: Some(0),
            memory_pressure_us: Some(5),
            memory_pressure_full_us: Some(4),
            ..Usage::default()
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn a_cgroup_that_is_gone_has_no_numbers_and_no_error() {
        for tree in [FakeTree::v1(), FakeTree::v1_together(), FakeTree::v2("memory")] {
            assert_eq!(Usage::read(tree.layout(), &path()), Usage::default());
        }
        assert_eq!(serde_json::to_string(&Usage::default()).unwrap(), "{}");
    }
}
