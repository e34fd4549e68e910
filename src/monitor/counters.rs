//! What the kernel counted for a container, and in which file of which cgroup hierarchy each count
//! is found.
//!
//! Pure: the table and the parsing. The counts die with the cgroup, so they are read before it is
//! removed.

use core::ffi::CStr;

use super::handover::CgroupKind;

/// A count of the exit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Processes killed for want of memory, whosever limit it was.
    OomKills,
    /// The most memory charged at any one time, bytes.
    MemoryPeak,
    /// How often an allocation met the limit (and mostly succeeded after reclaim).
    MemoryLimitHits,
    /// Nanoseconds on a CPU.
    CpuTime,
    /// Nanoseconds spent waiting for the next period of the quota.
    CpuThrottled,
    /// Periods in which that happened.
    CpuThrottledPeriods,
    /// Periods in which anything ran, where there is a quota.
    CpuPeriods,
    /// Forks that failed because of the limit.
    PidsLimitHits,
    /// The most tasks at any one time (Linux 6.1).
    PidsPeak,
    /// Nanoseconds in which at least one task waited for a CPU.
    CpuPressure,
    /// Nanoseconds in which at least one task waited for memory.
    MemoryPressure,
    /// Nanoseconds in which all of them did.
    MemoryPressureFull,
    /// Nanoseconds in which at least one task waited for a block device.
    IoPressure,
    /// Nanoseconds in which all of them did.
    IoPressureFull,
}

/// Where a counter is found.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// In which hierarchy.
    pub kind: CgroupKind,
    /// In which file of the cgroup's directory.
    pub file: &'static CStr,
    /// In the line of which word; empty where the file is one number.
    pub key: &'static str,
    /// What it counts.
    pub counter: Counter,
    /// The record's units per unit of the file.
    pub scale: u64,
}

/// Every source (Linux: Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst,
/// Documentation/accounting/psi.rst). Where two hierarchies have one counter the earlier wins: on a
/// hybrid host the v1 controllers are the ones in charge, and the unified tree's `cpu.stat` knows
/// the CPU time all the same.
pub const SOURCES: [Source; 23] = {
    use CgroupKind::{Cpu, Cpuacct, Memory, Pids, Unified};
    use Counter::*;
    [
        source(Memory, c"memory.oom_control", "oom_kill", OomKills, 1),
        source(Memory, c"memory.max_usage_in_bytes", "", MemoryPeak, 1),
        source(Memory, c"memory.failcnt", "", MemoryLimitHits, 1),
        source(Cpuacct, c"cpuacct.usage", "", CpuTime, 1),
        source(Cpu, c"cpu.stat", "throttled_time", CpuThrottled, 1),
        source(Cpu, c"cpu.stat", "nr_throttled", CpuThrottledPeriods, 1),
        source(Cpu, c"cpu.stat", "nr_periods", CpuPeriods, 1),
        source(Pids, c"pids.events", "max", PidsLimitHits, 1),
        source(Pids, c"pids.peak", "", PidsPeak, 1),
        source(Unified, c"memory.events", "oom_kill", OomKills, 1),
        source(Unified, c"memory.events", "max", MemoryLimitHits, 1),
        source(Unified, c"memory.peak", "", MemoryPeak, 1),
        source(Unified, c"cpu.stat", "usage_usec", CpuTime, 1000),
        source(Unified, c"cpu.stat", "throttled_usec", CpuThrottled, 1000),
        source(Unified, c"cpu.stat", "nr_throttled", CpuThrottledPeriods, 1),
        source(Unified, c"cpu.stat", "nr_periods", CpuPeriods, 1),
        source(Unified, c"pids.events", "max", PidsLimitHits, 1),
        source(Unified, c"pids.peak", "", PidsPeak, 1),
        source(Unified, c"cpu.pressure", "some", CpuPressure, 1000),
        source(Unified, c"memory.pressure", "some", MemoryPressure, 1000),
        source(Unified, c"memory.pressure", "full", MemoryPressureFull, 1000),
        source(Unified, c"io.pressure", "some", IoPressure, 1000),
        source(Unified, c"io.pressure", "full", IoPressureFull, 1000),
    ]
};

const fn source(kind: CgroupKind, file: &'static CStr, key: &'static str, counter: Counter, scale: u64) -> Source {
    Source { kind, file, key, counter, scale }
}

/// The counts found so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts([Option<u64>; 14]);

impl Counts {
    /// The count, if any source had it.
    pub fn get(&self, counter: Counter) -> Option<u64> {
        self.0.get(counter as usize).copied().flatten()
    }

    /// Takes what the text of the source's file says, unless an earlier source said it already.
    pub fn take(&mut self, source: &Source, text: &[u8]) {
        if let Some(place @ None) = self.0.get_mut(source.counter as usize) {
            *place = value(text, source.key).map(|value| value.saturating_mul(source.scale));
        }
    }
}

/// The number after `key` in a file of `key number` lines, or the last one of a line `key
/// name=number …`; the file's only number where the key is empty.
pub fn value(text: &[u8], key: &str) -> Option<u64> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let digits = if key.is_empty() { line } else { line.strip_prefix(key.as_bytes())?.strip_prefix(b" ")? };
        let digits = digits.rsplit(|byte| *byte == b'=').next()?;
        core::str::from_utf8(digits).ok()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_after_its_key_and_nowhere_else() {
        let text = b"low 0\noom 2\noom_kill 31\nmax 18446744073709551615\n";
        let table = [("oom", Some(2)), ("oom_kill", Some(31)), ("max", Some(u64::MAX)), ("kill", None), ("", None)];
        for (key, expected) in table {
            assert_eq!(value(text, key), expected, "{key}");
        }
        let pressure =
            b"some avg10=0.12 avg60=0.00 avg300=0.00 total=345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=67\n";
        assert_eq!((value(pressure, "some"), value(pressure, "full")), (Some(345), Some(67)));
        assert_eq!(value(b"4096\n", ""), Some(4096));
        assert_eq!(value(b"max\n", ""), None);
        assert_eq!(value(b"", "oom"), None);
        assert_eq!(value(b"oom 1", "oom"), Some(1), "a last line without its end");
    }

    #[test]
    fn the_earlier_source_wins_and_units_are_the_records() {
        let mut counts = Counts::default();
        for (file, text) in [(c"cpuacct.usage", "7\n"), (c"cpu.stat", "usage_usec 9\nthrottled_usec 3\n")] {
            for source in SOURCES.iter().filter(|source| source.file == file && source.kind != CgroupKind::Cpu) {
                counts.take(source, text.as_bytes());
            }
        }
        assert_eq!(counts.get(Counter::CpuTime), Some(7));
        assert_eq!(counts.get(Counter::CpuThrottled), Some(3000));
        assert_eq!(counts.get(Counter::PidsPeak), None);
    }
}
