//! Which values go into which files of one hierarchy, in which order.
//!
//! A pure function of the limits and the kind of hierarchy: it owns every file name and unit
//! conversion of limits, and touches nothing. The launch process carries the plan out (`apply`).

use super::cpu_list::CpuList;
use super::{Field, Limits, SwapLimit};
use crate::cgroup::machine::controller::Controller;
use crate::cgroup::machine::layout::Hierarchy;

/// v1 shows "no limit" as the highest page counter times the page size: 9223372036854771712 with
/// pages of 4 KiB, and this with 64 KiB.
const V1_UNLIMITED_FROM: u64 = 9_223_372_036_854_710_272;

/// One step of applying limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cgroup) enum Step {
    /// One value.
    Set(Setting),
    /// Two values that bound each other: in this order in a new cgroup, in the other where the
    /// kernel refuses the first of a living one.
    Pair(Setting, Setting),
    /// Deny every device, then allow these.
    Devices(Vec<String>),
}

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cgroup) struct Setting {
    pub field: Field,
    /// Files that can take the value, each in its own scale; the first that exists is used.
    pub choices: Vec<(&'static str, String)>,
    pub check: Check,
    pub absent: Absent,
}

/// How the value is compared with what the kernel shows afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cgroup) enum Check {
    /// Each written word is shown again at its place.
    Words,
    /// The last word is the value (`default 100`).
    LastWord,
    /// The kernel shows no limit.
    NoLimit,
    /// The same set, in this file (v2 shows there what its parents leave of it).
    Cpus(CpuList, &'static str),
}

/// What it means that no file of a setting exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cgroup) enum Absent {
    /// The limit cannot be kept: an error.
    Refused,
    /// It is a weight, not a limit: reported.
    Reported,
    /// Swap accounting is off: reported where there is no swap, an error where there is.
    NeedsNoSwap,
}

/// Every controller that `limits` needs, each with a field that needs it. Devices are not among
/// them: without their controller they are reported as not enforced.
pub(in crate::cgroup) fn needed(limits: &Limits) -> impl Iterator<Item = (Controller, Field)> {
    let cpu = [
        (limits.cpu_quota_us.is_some(), Field::CpuQuotaUs),
        (limits.cpu_period_us.is_some(), Field::CpuPeriodUs),
        (limits.cpu_shares.is_some(), Field::CpuShares),
    ];
    let cpuset = [(limits.cpuset_cpus.is_some(), Field::CpusetCpus), (limits.cpuset_mems.is_some(), Field::CpusetMems)];
    let memory = [
        (limits.memory_bytes.is_some(), Field::MemoryBytes),
        (limits.memory_swap_bytes.is_some(), Field::MemorySwapBytes),
        (limits.memory_reservation_bytes.is_some(), Field::MemoryReservationBytes),
        (limits.memory_oom_group, Field::MemoryOomGroup),
    ];
    [
        (Controller::Cpu, first(&cpu)),
        (Controller::Cpuset, first(&cpuset)),
        (Controller::Memory, first(&memory)),
        (Controller::Pids, first(&[(limits.pids.is_some(), Field::Pids)])),
        (Controller::Io, first(&[(limits.blkio_weight.is_some(), Field::BlkioWeight)])),
    ]
    .into_iter()
    .filter_map(|(controller, field)| Some((controller, field?)))
}

fn first(fields: &[(bool, Field)]) -> Option<Field> {
    fields.iter().find(|(asked, _)| *asked).map(|(_, field)| *field)
}

/// The steps for one hierarchy. Over all hierarchies of a machine each limit appears once, as each
/// controller is in one of them.
pub(in crate::cgroup) fn plan(limits: &Limits, hierarchy: &Hierarchy) -> Vec<Step> {
    let v2 = hierarchy.is_v2();
    let mut steps = Vec::new();
    if hierarchy.has(Controller::Cpu) {
        steps.extend(if v2 { cpu_v2(limits) } else { cpu_v1(limits) });
        steps.extend(limits.cpu_shares.map(|shares| Step::Set(shares_setting(shares, v2))));
    }
    if hierarchy.has(Controller::Cpuset) {
        steps.extend(cpuset(limits, v2));
    }
    if hierarchy.has(Controller::Memory) {
        steps.extend(if v2 { memory_v2(limits) } else { memory_v1(limits) });
        let file = if v2 { "memory.low" } else { "memory.soft_limit_in_bytes" };
        steps.extend(
            limits.memory_reservation_bytes.map(|bytes| Step::Set(plain(Field::MemoryReservationBytes, file, bytes))),
        );
    }
    if hierarchy.has(Controller::Memory) && v2 && limits.memory_oom_group {
        steps.push(Step::Set(plain(Field::MemoryOomGroup, "memory.oom.group", 1)));
    }
    if hierarchy.has(Controller::Pids) {
        steps.extend(limits.pids.map(|pids| Step::Set(plain(Field::Pids, "pids.max", pids))));
    }
    if hierarchy.has(Controller::Io) {
        steps.extend(limits.blkio_weight.map(|weight| Step::Set(weight_setting(weight, v2))));
    }
    if hierarchy.has(Controller::Devices) {
        steps.extend(limits.devices.allowed().map(Step::Devices));
    }
    steps
}

pub(super) fn plain(field: Field, file: &'static str, value: impl ToString) -> Setting {
    Setting { field, choices: vec![(file, value.to_string())], check: Check::Words, absent: Absent::Refused }
}

/// The period goes first: a quota is checked against the period that is there.
fn cpu_v1(limits: &Limits) -> Option<Step> {
    let period = limits.cpu_period_us.map(|period| plain(Field::CpuPeriodUs, "cpu.cfs_period_us", period));
    let quota = limits.cpu_quota_us.map(|quota| plain(Field::CpuQuotaUs, "cpu.cfs_quota_us", quota));
    pair(period, quota)
}

/// One file holds both; a quota alone keeps the period.
fn cpu_v2(limits: &Limits) -> Option<Step> {
    let (field, value) = match (limits.cpu_quota_us, limits.cpu_period_us) {
        (None, None) => return None,
        (Some(quota), None) => (Field::CpuQuotaUs, quota.to_string()),
        (Some(quota), Some(period)) => (Field::CpuQuotaUs, format!("{quota} {period}")),
        (None, Some(period)) => (Field::CpuPeriodUs, format!("max {period}")),
    };
    Some(Step::Set(plain(field, "cpu.max", value)))
}

pub(super) fn shares_setting(shares: u64, v2: bool) -> Setting {
    if v2 {
        plain(Field::CpuShares, "cpu.weight", weight_of_shares(shares))
    } else {
        plain(Field::CpuShares, "cpu.shares", shares)
    }
}

/// The scale of v1 (2 to 262 144, usual 1024) as one of v2 (1 to 10 000, usual 100): the curve
/// through these three points that the OCI runtimes agreed on in 2025 (opencontainers/cgroups, pull
/// request 20), so that 1024 stays the usual weight.
fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            #[allow(clippy::cast_precision_loss)] // below 2^18
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // Between 1 and 10 000 for these shares; the hair below is for 1024, which rounding
            // errors must not make 101.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let weight = (10f64.powf(exponent) - 1e-9).ceil() as u64;
            weight.clamp(1, 10_000)
        }
    }
}

fn cpuset(limits: &Limits, v2: bool) -> impl Iterator<Item = Step> {
    let fields = [(Field::CpusetCpus, &limits.cpuset_cpus), (Field::CpusetMems, &limits.cpuset_mems)];
    fields.into_iter().filter_map(move |(field, list)| Some(Step::Set(list_setting(field, list.as_ref()?, v2))))
}

/// The processors, or the memory nodes.
pub(super) fn list_setting(field: Field, list: &CpuList, v2: bool) -> Setting {
    let (file, effective) = match field {
        Field::CpusetMems => ("cpuset.mems", "cpuset.mems.effective"),
        _ => ("cpuset.cpus", "cpuset.cpus.effective"),
    };
    let check = Check::Cpus(list.clone(), if v2 { effective } else { file });
    Setting { field, choices: vec![(file, list.to_string())], check, absent: Absent::Refused }
}

/// Memory goes first: the sum of memory and swap must never be below it, and a new cgroup has no
/// sum yet.
fn memory_v1(limits: &Limits) -> Option<Step> {
    let memory = limits.memory_bytes.map(|bytes| plain(Field::MemoryBytes, "memory.limit_in_bytes", bytes));
    let swap = limits.memory_swap_bytes.map(|swap| {
        let value = match swap {
            SwapLimit::Total(total) => total.to_string(),
            SwapLimit::Unlimited => "-1".to_owned(),
        };
        swap_setting(swap, "memory.memsw.limit_in_bytes", value)
    });
    pair(memory, swap)
}

/// v2 counts swap alone.
fn memory_v2(limits: &Limits) -> Option<Step> {
    let memory = limits.memory_bytes.map(|bytes| plain(Field::MemoryBytes, "memory.max", bytes));
    let swap = limits.memory_swap_bytes.map(|swap| {
        let value = match swap {
            SwapLimit::Total(total) => total.saturating_sub(limits.memory_bytes.unwrap_or(0)).to_string(),
            SwapLimit::Unlimited => "max".to_owned(),
        };
        swap_setting(swap, "memory.swap.max", value)
    });
    pair(memory, swap)
}

pub(super) fn swap_setting(swap: SwapLimit, file: &'static str, value: String) -> Setting {
    let (check, absent) = match swap {
        SwapLimit::Total(_) => (Check::Words, Absent::NeedsNoSwap),
        SwapLimit::Unlimited => (Check::NoLimit, Absent::Reported),
    };
    Setting { field: Field::MemorySwapBytes, choices: vec![(file, value)], check, absent }
}

pub(super) fn weight_setting(weight: u16, v2: bool) -> Setting {
    let plain = weight.to_string();
    let choices = if v2 {
        // `io.weight` has the scale 1 to 10 000, that of BFQ is the one of v1.
        let scaled = 1 + (u32::from(weight.max(10)) - 10) * 9999 / 990;
        vec![("io.bfq.weight", plain), ("io.weight", scaled.to_string())]
    } else {
        vec![("blkio.bfq.weight", plain.clone()), ("blkio.weight", plain)]
    };
    Setting { field: Field::BlkioWeight, choices, check: Check::LastWord, absent: Absent::Reported }
}

pub(super) fn pair(first: Option<Setting>, second: Option<Setting>) -> Option<Step> {
    match (first, second) {
        (Some(first), Some(second)) => Some(Step::Pair(first, second)),
        (one, other) => one.or(other).map(Step::Set),
    }
}

/// What the kernel shows, where it is not what was written.
pub(in crate::cgroup) fn difference(check: &Check, written: &str, shown: &str) -> Option<String> {
    let shown = shown.trim_end();
    let same = match check {
        Check::Words => {
            let mut words = shown.split(' ');
            written.split(' ').all(|word| words.next() == Some(word))
        }
        Check::LastWord => shown.rsplit(' ').next() == Some(written),
        Check::NoLimit => limit_of(shown).is_none(),
        Check::Cpus(list, _) => shown.parse::<CpuList>().is_ok_and(|shown| shown == *list),
    };
    (!same).then(|| shown.to_owned())
}

/// A limit as both versions show it; `None` for no limit and for what is no number.
pub(in crate::cgroup) fn limit_of(shown: &str) -> Option<u64> {
    shown.trim_end().parse().ok().filter(|bytes| *bytes < V1_UNLIMITED_FROM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Kind;
    use crate::cgroup::{DeviceRules, STANDARD};
    use proptest::prelude::*;

    const ALL: [&str; 8] = ["cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "blkio", "io"];

    fn hierarchy(v2: bool, names: &[&str]) -> Hierarchy {
        let controllers = names.iter().map(|name| name.to_string()).collect();
        let kind = if v2 { Kind::V2 { controllers } } else { Kind::V1 { controllers, name: None } };
        Hierarchy { mount_point: "/m".into(), root: "/".into(), kind }
    }

    fn everything() -> Limits {
        Limits {
            cpu_quota_us: Some(150_000),
            cpu_period_us: Some(50_000),
            cpu_shares: Some(1024),
            cpuset_cpus: Some("0-1".parse().unwrap()),
            cpuset_mems: Some("0".parse().unwrap()),
            memory_bytes: Some(64 << 20),
            memory_swap_bytes: Some(SwapLimit::Total(96 << 20)),
            memory_reservation_bytes: Some(32 << 20),
            memory_oom_group: true,
            pids: Some(100),
            blkio_weight: Some(1000),
            devices: DeviceRules::Standard { allow: vec!["c 10:200 rwm".parse().unwrap()] },
        }
    }

    fn writes(steps: &[Step]) -> Vec<(String, String)> {
        let write = |setting: &Setting| (setting.choices[0].0.to_owned(), setting.choices[0].1.clone());
        let mut all = Vec::new();
        for step in steps {
            match step {
                Step::Set(setting) => all.push(write(setting)),
                Step::Pair(first, second) => all.extend([write(first), write(second)]),
                Step::Devices(rules) => all.extend(rules.iter().map(|rule| ("devices.allow".to_owned(), rule.clone()))),
            }
        }
        all
    }

    #[test]
    fn every_limit_becomes_one_write_in_each_version_and_in_the_right_order() {
        let v1 = writes(&plan(&everything(), &hierarchy(false, &ALL)));
        let expected_v1 = [
            ("cpu.cfs_period_us", "50000"),
            ("cpu.cfs_quota_us", "150000"),
            ("cpu.shares", "1024"),
            ("cpuset.cpus", "0-1"),
            ("cpuset.mems", "0"),
            ("memory.limit_in_bytes", "67108864"),
            ("memory.memsw.limit_in_bytes", "100663296"),
            ("memory.soft_limit_in_bytes", "33554432"),
            ("pids.max", "100"),
            ("blkio.bfq.weight", "1000"),
            ("devices.allow", "c *:* m"),
        ];
        let pairs = |list: &[(&str, &str)]| {
            list.iter().map(|(file, value)| (file.to_string(), value.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(v1[..11], pairs(&expected_v1));
        assert_eq!(v1.last().unwrap().1, "c 10:200 rwm");
        assert_eq!(v1.len(), 10 + STANDARD.len() + 1);

        let v2 = writes(&plan(&everything(), &hierarchy(true, &ALL)));
        let expected_v2 = [
            ("cpu.max", "150000 50000"),
            ("cpu.weight", "100"),
            ("cpuset.cpus", "0-1"),
            ("cpuset.mems", "0"),
            ("memory.max", "67108864"),
            ("memory.swap.max", "33554432"),
            ("memory.low", "33554432"),
            ("memory.oom.group", "1"),
            ("pids.max", "100"),
            ("io.bfq.weight", "1000"),
        ];
        assert_eq!(v2, pairs(&expected_v2));
    }

    #[test]
    fn a_hierarchy_gets_only_the_values_of_its_controllers() {
        assert_eq!(writes(&plan(&everything(), &hierarchy(false, &["pids"]))).len(), 1);
        assert_eq!(plan(&everything(), &hierarchy(true, &["hugetlb"])), []);
        assert_eq!(plan(&Limits::none(), &hierarchy(false, &ALL)), []);
        assert_eq!(plan(&Limits::none(), &hierarchy(true, &ALL)), []);
    }

    #[test]
    fn quota_and_period_share_a_file_on_v2() {
        for (quota, period, value) in
            [(Some(5000), None, "5000"), (None, Some(7000), "max 7000"), (Some(5000), Some(7000), "5000 7000")]
        {
            let limits = Limits { cpu_quota_us: quota, cpu_period_us: period, ..Limits::none() };
            assert_eq!(writes(&plan(&limits, &hierarchy(true, &["cpu"]))), [("cpu.max".to_owned(), value.to_owned())]);
        }
    }

    #[test]
    fn the_scales_of_v1_meet_those_of_v2_at_their_ends_and_at_the_usual_weight() {
        for (shares, weight) in [(1, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        for (weight, scaled) in [(10, "1"), (1000, "10000"), (500, "4950")] {
            assert_eq!(weight_setting(weight, true).choices[1].1, scaled);
        }
    }

    #[test]
    fn only_a_real_difference_is_reported() {
        let cpus = |list: &str| Check::Cpus(list.parse().unwrap(), "cpuset.cpus");
        for (check, written, shown, expected) in [
            (Check::Words, "4096", "4096\n", None),
            (Check::Words, "5000", "4096\n", Some("4096")),
            (Check::Words, "5000", "5000 100000\n", None),
            (Check::Words, "5000 7000", "5000 100000\n", Some("5000 100000")),
            (Check::Words, "5000", "", Some("")),
            (Check::LastWord, "100", "default 100\n", None),
            (Check::LastWord, "100", "default 50\n", Some("default 50")),
            (Check::NoLimit, "-1", "9223372036854771712\n", None),
            (Check::NoLimit, "max", "max\n", None),
            (Check::NoLimit, "-1", "4096\n", Some("4096")),
            (cpus("0-1"), "0-1", "0,1\n", None),
            (cpus("0-1"), "0-1", "0\n", Some("0")),
            (cpus("0-1"), "0-1", "\n", Some("")),
        ] {
            assert_eq!(difference(&check, written, shown).as_deref(), expected, "{check:?} {shown:?}");
        }
    }

    proptest! {
        #[test]
        fn more_shares_never_weigh_less(shares in 0u64..300_000) {
            prop_assert!(weight_of_shares(shares) <= weight_of_shares(shares + 1));
            prop_assert!((1..=10_000).contains(&weight_of_shares(shares)));
        }
    }
}
