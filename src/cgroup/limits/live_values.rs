//! Which values go into which files of one hierarchy when limits of a living cgroup change.
//!
//! A pure function, as its sibling for a new cgroup (`kernel_values`), whose scales and files it
//! uses. What differs: only what changes is written, a limit can be lifted, and a value may depend
//! on one that stays (v2 counts swap alone, and has quota and period in one file).

use super::cpu_list::CpuList;
use super::kernel_values::{
    Absent, Check, Setting, Step, list_setting, pair, plain, shares_setting, swap_setting, weight_setting,
};
use super::{Field, Limits, SwapLimit};
use crate::cgroup::machine::controller::Controller;
use crate::cgroup::machine::layout::Hierarchy;

/// The kernel's period where none is given (`default_cfs_period`), in microseconds.
const DEFAULT_PERIOD_US: u64 = 100_000;

/// The weights of a new cgroup: `cpu.shares` of v1, and `io.weight` and BFQ's in both scales.
const DEFAULT_SHARES: u64 = 1024;
const DEFAULT_BLKIO_WEIGHT: &str = "100";

/// What a cgroup has whose own lists are lifted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cgroup) struct Inherited {
    pub cpus: Option<CpuList>,
    pub mems: Option<CpuList>,
}

/// The steps for one hierarchy: `limits` are those afterwards, of which the fields `changed` are
/// written.
pub(in crate::cgroup) fn plan(
    limits: &Limits,
    changed: &[Field],
    inherited: &Inherited,
    hierarchy: &Hierarchy,
) -> Vec<Step> {
    let v2 = hierarchy.is_v2();
    let change = Change { limits, changed, v2 };
    let mut steps = Vec::new();
    if hierarchy.has(Controller::Cpu) {
        steps.extend(if v2 { change.cpu_v2() } else { change.cpu_v1() });
        let shares = || shares_setting(limits.cpu_shares.unwrap_or(DEFAULT_SHARES), v2);
        steps.extend(change.has(Field::CpuShares).then(|| Step::Set(shares())));
    }
    if hierarchy.has(Controller::Cpuset) {
        steps.extend(change.list(Field::CpusetCpus, limits.cpuset_cpus.as_ref(), inherited.cpus.as_ref()));
        steps.extend(change.list(Field::CpusetMems, limits.cpuset_mems.as_ref(), inherited.mems.as_ref()));
    }
    if hierarchy.has(Controller::Memory) {
        steps.extend(if v2 { change.memory_v2() } else { change.memory_v1() });
        steps.extend(change.reservation());
        let group = || plain(Field::MemoryOomGroup, "memory.oom.group", u8::from(limits.memory_oom_group));
        steps.extend((v2 && change.has(Field::MemoryOomGroup)).then(|| Step::Set(group())));
    }
    if hierarchy.has(Controller::Pids) && change.has(Field::Pids) {
        let number = limits.pids.map(|pids| plain(Field::Pids, "pids.max", pids));
        steps.push(Step::Set(number.unwrap_or_else(|| lifted(Field::Pids, "pids.max", "max"))));
    }
    if hierarchy.has(Controller::Io) && change.has(Field::BlkioWeight) {
        steps
            .push(Step::Set(limits.blkio_weight.map_or_else(|| usual_weight(v2), |weight| weight_setting(weight, v2))));
    }
    steps
}

struct Change<'a> {
    limits: &'a Limits,
    changed: &'a [Field],
    v2: bool,
}

impl Change<'_> {
    fn has(&self, field: Field) -> bool {
        self.changed.contains(&field)
    }

    fn cpu_v1(&self) -> Option<Step> {
        let period = self.limits.cpu_period_us.unwrap_or(DEFAULT_PERIOD_US);
        let period = self.has(Field::CpuPeriodUs).then(|| plain(Field::CpuPeriodUs, "cpu.cfs_period_us", period));
        let file = "cpu.cfs_quota_us";
        let quota = self.has(Field::CpuQuotaUs).then(|| match self.limits.cpu_quota_us {
            Some(quota) => plain(Field::CpuQuotaUs, file, quota),
            None => lifted(Field::CpuQuotaUs, file, "-1"),
        });
        pair(period, quota)
    }

    /// One file holds both; a value that is not said stays.
    fn cpu_v2(&self) -> Option<Step> {
        let field = [Field::CpuQuotaUs, Field::CpuPeriodUs].into_iter().find(|field| self.has(*field))?;
        let quota = self.limits.cpu_quota_us.map_or("max".to_owned(), |quota| quota.to_string());
        let lifted = || self.has(Field::CpuPeriodUs).then_some(DEFAULT_PERIOD_US);
        let value = match self.limits.cpu_period_us.or_else(lifted) {
            Some(period) => format!("{quota} {period}"),
            None => quota,
        };
        Some(Step::Set(plain(field, "cpu.max", value)))
    }

    /// An own list, or what there is without one. v2 has a way to say that, v1 has not.
    fn list(&self, field: Field, own: Option<&CpuList>, inherited: Option<&CpuList>) -> Option<Step> {
        if !self.has(field) {
            return None;
        }
        let mut setting = list_setting(field, own.or(inherited)?, self.v2);
        if own.is_none() && self.v2 {
            setting.choices[0].1 = "\n".to_owned();
        }
        Some(Step::Set(setting))
    }

    fn memory_v1(&self) -> Option<Step> {
        let memory = self.memory("memory.limit_in_bytes", "-1");
        let swap = self.has(Field::MemorySwapBytes).then(|| match self.limits.memory_swap_bytes {
            Some(SwapLimit::Total(total)) => total.to_string(),
            Some(SwapLimit::Unlimited) | None => "-1".to_owned(),
        });
        pair(memory, swap.map(|value| self.swap("memory.memsw.limit_in_bytes", value)))
    }

    /// The sum stays what it is when memory alone changes, so that what is left to swap changes.
    fn memory_v2(&self) -> Option<Step> {
        let memory = self.memory("memory.max", "max");
        let total = self.limits.memory_swap_bytes;
        let depends = memory.is_some() && matches!(total, Some(SwapLimit::Total(_)));
        let swap = (self.has(Field::MemorySwapBytes) || depends).then(|| match total {
            Some(SwapLimit::Total(total)) => total.saturating_sub(self.limits.memory_bytes.unwrap_or(0)).to_string(),
            Some(SwapLimit::Unlimited) | None => "max".to_owned(),
        });
        pair(memory, swap.map(|value| self.swap("memory.swap.max", value)))
    }

    fn memory(&self, file: &'static str, none: &str) -> Option<Setting> {
        let memory = || match self.limits.memory_bytes {
            Some(bytes) => plain(Field::MemoryBytes, file, bytes),
            None => lifted(Field::MemoryBytes, file, none),
        };
        self.has(Field::MemoryBytes).then(memory)
    }

    fn swap(&self, file: &'static str, value: String) -> Setting {
        swap_setting(self.limits.memory_swap_bytes.unwrap_or(SwapLimit::Unlimited), file, value)
    }

    fn reservation(&self) -> Option<Step> {
        let field = Field::MemoryReservationBytes;
        let setting = || match (self.limits.memory_reservation_bytes, self.v2) {
            (Some(bytes), true) => plain(field, "memory.low", bytes),
            (None, true) => plain(field, "memory.low", 0),
            (Some(bytes), false) => plain(field, "memory.soft_limit_in_bytes", bytes),
            (None, false) => lifted(field, "memory.soft_limit_in_bytes", "-1"),
        };
        self.has(field).then(|| Step::Set(setting()))
    }
}

/// No limit any more.
fn lifted(field: Field, file: &'static str, none: &str) -> Setting {
    Setting { field, choices: vec![(file, none.to_owned())], check: Check::NoLimit, absent: Absent::Reported }
}

fn usual_weight(v2: bool) -> Setting {
    let files = if v2 { ["io.bfq.weight", "io.weight"] } else { ["blkio.bfq.weight", "blkio.weight"] };
    let choices = files.into_iter().map(|file| (file, DEFAULT_BLKIO_WEIGHT.to_owned())).collect();
    Setting { field: Field::BlkioWeight, choices, check: Check::LastWord, absent: Absent::Reported }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Kind;

    const ALL: [&str; 6] = ["cpu", "cpuset", "memory", "pids", "blkio", "io"];

    fn writes(limits: &Limits, changed: &[Field], v2: bool) -> Vec<(String, String)> {
        let controllers = ALL.iter().map(|name| name.to_string()).collect();
        let kind = if v2 { Kind::V2 { controllers } } else { Kind::V1 { controllers, name: None } };
        let hierarchy = Hierarchy { mount_point: "/m".into(), root: "/".into(), kind };
        let inherited = Inherited { cpus: "0-3".parse().ok(), mems: "0".parse().ok() };
        let write = |setting: &Setting| (setting.choices[0].0.to_owned(), setting.choices[0].1.clone());
        let steps = plan(limits, changed, &inherited, &hierarchy);
        let of = |step: &Step| match step {
            Step::Set(setting) => vec![write(setting)],
            Step::Pair(first, second) => vec![write(first), write(second)],
            Step::Devices(_) => Vec::new(),
        };
        steps.iter().flat_map(of).collect()
    }

    #[test]
    fn only_what_changes_is_written_and_what_depends_on_it() {
        let limits = Limits {
            cpu_quota_us: Some(50_000),
            cpu_period_us: Some(20_000),
            memory_bytes: Some(8192),
            memory_swap_bytes: Some(SwapLimit::Total(12288)),
            pids: Some(7),
            ..Limits::default()
        };
        for (changed, v1, v2) in [
            (&[Field::CpuQuotaUs][..], &[("cpu.cfs_quota_us", "50000")][..], &[("cpu.max", "50000 20000")][..]),
            (&[Field::CpuPeriodUs], &[("cpu.cfs_period_us", "20000")], &[("cpu.max", "50000 20000")]),
            (
                &[Field::MemoryBytes],
                &[("memory.limit_in_bytes", "8192")],
                &[("memory.max", "8192"), ("memory.swap.max", "4096")],
            ),
            (&[Field::MemorySwapBytes], &[("memory.memsw.limit_in_bytes", "12288")], &[("memory.swap.max", "4096")]),
            (&[Field::Pids], &[("pids.max", "7")], &[("pids.max", "7")]),
        ] {
            for (v2, expected) in [(false, v1), (true, v2)] {
                let expected: Vec<_> =
                    expected.iter().map(|(file, value)| (file.to_string(), value.to_string())).collect();
                assert_eq!(writes(&limits, changed, v2), expected, "{changed:?}");
            }
        }
    }

    #[test]
    fn what_is_lifted_is_written_as_no_limit() {
        let all = [
            Field::CpuQuotaUs,
            Field::CpuPeriodUs,
            Field::CpuShares,
            Field::CpusetCpus,
            Field::CpusetMems,
            Field::MemoryBytes,
            Field::MemorySwapBytes,
            Field::MemoryReservationBytes,
            Field::MemoryOomGroup,
            Field::Pids,
            Field::BlkioWeight,
        ];
        let pairs = |list: &[(&str, &str)]| {
            list.iter().map(|(file, value)| (file.to_string(), value.to_string())).collect::<Vec<_>>()
        };
        let v1 = [
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "-1"),
            ("cpu.shares", "1024"),
            ("cpuset.cpus", "0-3"),
            ("cpuset.mems", "0"),
            ("memory.limit_in_bytes", "-1"),
            ("memory.memsw.limit_in_bytes", "-1"),
            ("memory.soft_limit_in_bytes", "-1"),
            ("pids.max", "max"),
            ("blkio.bfq.weight", "100"),
        ];
        assert_eq!(writes(&Limits::none(), &all, false), pairs(&v1));
        let v2 = [
            ("cpu.max", "max 100000"),
            ("cpu.weight", "100"),
            ("cpuset.cpus", "\n"),
            ("cpuset.mems", "\n"),
            ("memory.max", "max"),
            ("memory.swap.max", "max"),
            ("memory.low", "0"),
            ("memory.oom.group", "0"),
            ("pids.max", "max"),
            ("io.bfq.weight", "100"),
        ];
        assert_eq!(writes(&Limits::none(), &all, true), pairs(&v2));
    }
}
