//! What a cgroup used and how often it hit its limits.
//!
//! Owns which file says what in which version. Every file may be absent (a controller that is not
//! there, an older kernel, the cgroup is gone): then the number is absent and nothing fails. The
//! monitor reads it before the cgroup is removed; anybody may read it at any time.

use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::device_io::{self, DeviceIo};
use super::file;
use super::file::value_of;
use super::group::Cgroup;
use super::limits::kernel_values::limit_of;
use super::machine::controller::Controller;
use super::machine::layout::{Hierarchy, Layout};
use super::path::CgroupPath;
use super::pressure::Pressure;

/// Numbers of one cgroup and everything below it. Absent: not known here; for a limit also: none.
///
/// On v1 a figure of memory is the sum over the cgroup and those below it (`total_…`), as it is on
/// v2.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Usage {
    /// Processor time used, in microseconds (v1 `cpuacct.usage`, v2 `cpu.stat`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_usage_us: Option<u64>,
    /// Of that in programs, in microseconds (v1 `cpuacct.stat`, in steps of a clock tick, mostly
    /// 10 ms).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_user_us: Option<u64>,
    /// Of that in the kernel, in microseconds (v1 `cpuacct.stat`, in steps of a clock tick).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_system_us: Option<u64>,
    /// Periods in which a quota was in force and something ran (v2 with the controller `cpu`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_periods: Option<u64>,
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
    /// Anonymous memory, in bytes: heaps, stacks, private mappings that were written (v1
    /// `total_rss`, v2 `anon` of `memory.stat`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_anon_bytes: Option<u64>,
    /// Page cache of files, in bytes, tmpfs and shared memory included (v1 `total_cache`, v2 `file`
    /// of `memory.stat`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_file_bytes: Option<u64>,
    /// Memory of the kernel for it, in bytes: page tables, kernel stacks, inodes (v1
    /// `memory.kmem.usage_in_bytes`, v2 `kernel` of `memory.stat`, since Linux 5.18).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_kernel_bytes: Option<u64>,
    /// Memory that is swapped out, in bytes (v1 `total_swap` of `memory.stat`, v2
    /// `memory.swap.current`); absent where the kernel does not count swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap_bytes: Option<u64>,
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
    /// Bytes read from block devices, the sum of [`Usage::io_devices`]. What is read through a loop
    /// device counts for that and, where it is not in memory, for the device below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_read_bytes: Option<u64>,
    /// Bytes written to block devices, the sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_written_bytes: Option<u64>,
    /// Read operations, the sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_reads: Option<u64>,
    /// Write operations, the sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_writes: Option<u64>,
    /// Each block device that was used (v2 with the controller `io`: `io.stat`; v1:
    /// `blkio.throttle.io_service_bytes` and `io_serviced`). Absent on v1 where the kernel lists no
    /// device: since Linux 6.10 it counts there only for devices with a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_devices: Option<Vec<DeviceIo>>,
    /// How long processes waited for a CPU (kernels with PSI, in the tree of v2 alone).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_pressure: Option<Pressure>,
    /// How long they waited for memory: for reclaim, for swap, for pages that were evicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_pressure: Option<Pressure>,
    /// How long they waited for block devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_pressure: Option<Pressure>,
}

impl Usage {
    /// Reads the numbers of the cgroup `path`; all absent where there is no such cgroup. About
    /// three system calls for each file, some twenty files.
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
            let [user, system] = group.keyed("cpuacct.stat", ["user", "system"]);
            self.cpu_user_us = user.map(microseconds_of_ticks).or(self.cpu_user_us);
            self.cpu_system_us = system.map(microseconds_of_ticks).or(self.cpu_system_us);
        }
        if hierarchy.has(Controller::Cpu) {
            let [periods, throttled, ns] = group.keyed("cpu.stat", ["nr_periods", "nr_throttled", "throttled_time"]);
            self.cpu_periods = periods.or(self.cpu_periods);
            self.cpu_throttled_periods = throttled.or(self.cpu_throttled_periods);
            self.cpu_throttled_us = ns.map(|ns| ns / 1000).or(self.cpu_throttled_us);
        }
        if hierarchy.has(Controller::Memory) {
            self.memory_current_bytes = group.number("memory.usage_in_bytes");
            self.memory_peak_bytes = group.number("memory.max_usage_in_bytes");
            self.memory_limit_bytes = group.number("memory.limit_in_bytes");
            self.oom_kills = group.keyed("memory.oom_control", ["oom_kill"])[0];
            [self.memory_anon_bytes, self.memory_file_bytes, self.memory_swap_bytes] =
                group.keyed("memory.stat", ["total_rss", "total_cache", "total_swap"]);
            self.memory_kernel_bytes = group.number("memory.kmem.usage_in_bytes");
        }
        if hierarchy.has(Controller::Io) {
            self.add_io(group.blkio());
        }
    }

    /// `cpu.stat` is in every v2 cgroup, without a controller too. What v1 counts on a hybrid
    /// machine is more exact there (the v2 tree may lack processes), so it is kept.
    fn add_v2(&mut self, hierarchy: &Hierarchy, group: &Group<'_>) {
        let keys = ["usage_usec", "user_usec", "system_usec", "nr_periods", "nr_throttled", "throttled_usec"];
        let [usage, user, system, periods, throttled, throttled_us] = group.keyed("cpu.stat", keys);
        self.cpu_usage_us = self.cpu_usage_us.or(usage);
        self.cpu_user_us = self.cpu_user_us.or(user);
        self.cpu_system_us = self.cpu_system_us.or(system);
        self.cpu_periods = self.cpu_periods.or(periods);
        self.cpu_throttled_periods = self.cpu_throttled_periods.or(throttled);
        self.cpu_throttled_us = self.cpu_throttled_us.or(throttled_us);
        if hierarchy.has(Controller::Memory) {
            self.memory_current_bytes = group.number("memory.current");
            self.memory_peak_bytes = group.number("memory.peak");
            self.memory_limit_bytes = group.number("memory.max");
            self.oom_kills = group.keyed("memory.events", ["oom_kill"])[0];
            [self.memory_anon_bytes, self.memory_file_bytes, self.memory_kernel_bytes] =
                group.keyed("memory.stat", ["anon", "file", "kernel"]);
            self.memory_swap_bytes = group.number("memory.swap.current");
        }
        if hierarchy.has(Controller::Io) {
            self.add_io(group.whole("io.stat").map(|text| device_io::parse_v2(&text)));
        }
        // In every v2 cgroup, without a controller too.
        self.cpu_pressure = group.pressure("cpu.pressure");
        self.memory_pressure = group.pressure("memory.pressure");
        self.io_pressure = group.pressure("io.pressure");
    }

    fn add_io(&mut self, devices: Option<Vec<DeviceIo>>) {
        let sum = |of: fn(&DeviceIo) -> u64| devices.as_ref().map(|devices| devices.iter().map(of).sum());
        self.io_read_bytes = sum(|device| device.read_bytes);
        self.io_written_bytes = sum(|device| device.written_bytes);
        self.io_reads = sum(|device| device.reads);
        self.io_writes = sum(|device| device.writes);
        self.io_devices = devices;
    }
}

/// The kernel's unit of `cpuacct.stat` is USER_HZ.
fn microseconds_of_ticks(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000) / rustix::param::clock_ticks_per_second().max(1)
}

impl Cgroup {
    /// The numbers of this very cgroup, also where another one has its path by now; all absent once
    /// it is removed. See [`Usage`].
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
    let counting = [Controller::Cpu, Controller::Cpuacct, Controller::Memory, Controller::Pids, Controller::Io];
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

    fn pressure(&self, file: &str) -> Option<Pressure> {
        Pressure::parse(file::read_short(self.directory, file).ok()?.as_str())
    }

    /// For files with a line or more for each block device.
    fn whole(&self, file: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&file::read_whole(self.directory, file).ok()?).into_owned())
    }

    /// The files of v1 that count what is below as well are there since Linux 4.20.
    fn blkio(&self) -> Option<Vec<DeviceIo>> {
        let read = |file: &str| self.whole(&format!("{file}_recursive")).or_else(|| self.whole(file));
        let bytes = read("blkio.throttle.io_service_bytes")?;
        device_io::parse_v1(&bytes, &read("blkio.throttle.io_serviced")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::FakeTree;

    const PRESSURE: &str = "some avg10=0.25 avg60=0.00 avg300=0.00 total=5\n\
                            full avg10=0.00 avg60=0.00 avg300=0.00 total=4\n";

    /// Lines of `memory.stat` as Linux 6.18 shows them, v1.
    const STAT_V1: &str = "cache 14553088\nrss 10428416\nrss_huge 0\nshmem 9068544\nswap 0\nswapcached 0\n\
                           hierarchical_memory_limit 9223372036854771712\ntotal_cache 17866846208\n\
                           total_rss 19279872\ntotal_rss_huge 0\ntotal_shmem 11726848\ntotal_swap 7\n\
                           total_swapcached 0\ntotal_inactive_anon 9465856\n";

    /// The same of v2.
    const STAT_V2: &str = "anon 1765376\nfile 143360\nkernel 421888\nkernel_stack 65536\npagetables 118784\n\
                           sec_pagetables 0\npercpu 1920\nsock 0\nvmalloc 0\nshmem 0\nfile_mapped 102400\n\
                           anon_thp 0\nfile_thp 0\ninactive_anon 1757184\n";

    fn path() -> CgroupPath {
        CgroupPath::new("/a").unwrap()
    }

    fn device(major: u32, minor: u32, read_bytes: u64, [reads, writes]: [u64; 2]) -> DeviceIo {
        DeviceIo { major, minor, read_bytes, reads, writes, ..DeviceIo::default() }
    }

    #[test]
    fn the_numbers_of_v1_come_from_their_hierarchies() {
        let tree = FakeTree::v1();
        for mount in ["cpu", "cpuacct", "memory", "blkio", "pids", "unified"] {
            tree.add(&format!("{mount}/a"));
        }
        for (group, file, text) in [
            ("cpuacct/a", "cpuacct.usage", "1234567\n"),
            ("cpuacct/a", "cpuacct.stat", "user 3\nsystem 2\n"),
            ("cpu/a", "cpu.stat", "nr_periods 9\nnr_throttled 3\nthrottled_time 5000\n"),
            ("unified/a", "cpu.stat", "usage_usec 99\nnr_throttled 99\n"),
            ("memory/a", "memory.usage_in_bytes", "4096\n"),
            ("memory/a", "memory.max_usage_in_bytes", "8192\n"),
            ("memory/a", "memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/a", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("memory/a", "memory.kmem.usage_in_bytes", "512\n"),
            ("memory/a", "memory.stat", STAT_V1),
            ("blkio/a", "blkio.throttle.io_service_bytes_recursive", "7:1 Read 4096\n7:1 Write 0\n254:0 Read 8192\n"),
            ("blkio/a", "blkio.throttle.io_service_bytes", "7:1 Read 1\n"),
            ("blkio/a", "blkio.throttle.io_serviced", "7:1 Read 3\n254:0 Write 2\nTotal 5\n"),
            ("pids/a", "pids.max", "max\n"),
            ("pids/a", "pids.events", "max 7\n"),
            ("unified/a", "cpu.pressure", PRESSURE),
        ] {
            tree.put(group, file, text);
        }
        let expected = Usage {
            cpu_usage_us: Some(1234),
            cpu_user_us: Some(30_000),
            cpu_system_us: Some(20_000),
            cpu_periods: Some(9),
            cpu_throttled_periods: Some(3),
            cpu_throttled_us: Some(5),
            memory_current_bytes: Some(4096),
            memory_peak_bytes: Some(8192),
            memory_anon_bytes: Some(19_279_872),
            memory_file_bytes: Some(17_866_846_208),
            memory_kernel_bytes: Some(512),
            memory_swap_bytes: Some(7),
            oom_kills: Some(2),
            pids_current: Some(0),
            pids_refused: Some(7),
            io_read_bytes: Some(12_288),
            io_written_bytes: Some(0),
            io_reads: Some(3),
            io_writes: Some(2),
            io_devices: Some(vec![device(7, 1, 4096, [3, 0]), device(254, 0, 8192, [0, 2])]),
            cpu_pressure: Pressure::parse(PRESSURE),
            ..Usage::default()
        };
        assert_eq!(Usage::read(tree.layout(), &path()), expected);
        assert_eq!(Cgroup::open(tree.layout(), &path()).unwrap().usage(), expected);
    }

    #[test]
    fn the_numbers_of_v2_come_from_one_directory() {
        let tree = FakeTree::v2("cpu io memory pids");
        tree.add("/a");
        for (file, text) in [
            (
                "cpu.stat",
                "usage_usec 70\nuser_usec 60\nsystem_usec 10\nnr_periods 4\nnr_throttled 2\nthrottled_usec 11\n",
            ),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.events", "oom 1\noom_kill 1\noom_group_kill 0\n"),
            ("memory.stat", STAT_V2),
            ("memory.swap.current", "0\n"),
            ("io.stat", "7:1 rbytes=4096 wbytes=0 rios=3 wios=0 dbytes=0 dios=0\n"),
            ("pids.max", "12\n"),
            ("memory.pressure", PRESSURE),
        ] {
            tree.put("/a", file, text);
        }
        tree.remove_file("/a", "memory.peak");
        let usage = Usage::read(tree.layout(), &path());
        let expected = Usage {
            cpu_usage_us: Some(70),
            cpu_user_us: Some(60),
            cpu_system_us: Some(10),
            cpu_periods: Some(4),
            cpu_throttled_periods: Some(2),
            cpu_throttled_us: Some(11),
            memory_current_bytes: Some(4096),
            memory_anon_bytes: Some(1_765_376),
            memory_file_bytes: Some(143_360),
            memory_kernel_bytes: Some(421_888),
            memory_swap_bytes: Some(0),
            oom_kills: Some(1),
            pids_current: Some(0),
            pids_limit: Some(12),
            pids_refused: Some(0),
            io_read_bytes: Some(4096),
            io_written_bytes: Some(0),
            io_reads: Some(3),
            io_writes: Some(0),
            io_devices: Some(vec![device(7, 1, 4096, [3, 0])]),
            memory_pressure: Pressure::parse(PRESSURE),
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
