//! A change of limits that are in force: which get another value, and which are lifted.
//!
//! Owns the request and what it makes of the limits before. It writes nothing. Any process may use
//! it.

use serde::{Deserialize, Serialize};

use super::{Field, Limits, problem};
use crate::cgroup::limits::device_rules::DeviceRules;
use crate::error::Problem;

/// What is to be changed of a container's limits. What is neither set nor lifted stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitChanges {
    /// New values. Device rules cannot be changed: only [`DeviceRules::Inherit`] or the default may
    /// stand there, and neither does anything.
    pub set: Limits,
    /// Limits to be taken away: no limit of its own from then on. A weight
    /// ([`Field::CpuShares`], [`Field::BlkioWeight`]) becomes the usual one, a period the kernel's
    /// default, and a list of processors or memory nodes what the parent cgroup has.
    pub lift: Vec<Field>,
}

impl LimitChanges {
    /// What cannot be meant, whatever the limits before.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.fields().is_empty() {
            problems.push(Problem { field: "limits".into(), reason: "nothing to change is given".into() });
        }
        if self.lift.contains(&Field::Devices)
            || ![DeviceRules::Inherit, DeviceRules::default()].contains(&self.set.devices)
        {
            problems.push(problem(Field::Devices, "device rules cannot be changed"));
        }
        let set = set_fields(&self.set);
        let both = self.lift.iter().filter(|field| set.contains(field));
        problems.extend(both.map(|field| problem(*field, "it is set and lifted at once")));
        problems
    }

    /// The fields that are set or lifted.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        let mut fields = set_fields(&self.set);
        fields.extend(&self.lift);
        fields
    }

    /// What the limits are afterwards.
    #[must_use]
    pub fn applied_to(&self, before: &Limits) -> Limits {
        let set = &self.set;
        let lifted = |field| self.lift.contains(&field);
        // A value that is given, nothing where it is lifted, else the one before.
        fn merged<T: Clone>(given: &Option<T>, lifted: bool, before: &Option<T>) -> Option<T> {
            given.clone().or_else(|| before.clone().filter(|_| !lifted))
        }
        Limits {
            cpu_quota_us: merged(&set.cpu_quota_us, lifted(Field::CpuQuotaUs), &before.cpu_quota_us),
            cpu_period_us: merged(&set.cpu_period_us, lifted(Field::CpuPeriodUs), &before.cpu_period_us),
            cpu_shares: merged(&set.cpu_shares, lifted(Field::CpuShares), &before.cpu_shares),
            cpuset_cpus: merged(&set.cpuset_cpus, lifted(Field::CpusetCpus), &before.cpuset_cpus),
            cpuset_mems: merged(&set.cpuset_mems, lifted(Field::CpusetMems), &before.cpuset_mems),
            memory_bytes: merged(&set.memory_bytes, lifted(Field::MemoryBytes), &before.memory_bytes),
            memory_swap_bytes: merged(
                &set.memory_swap_bytes,
                lifted(Field::MemorySwapBytes),
                &before.memory_swap_bytes,
            ),
            memory_reservation_bytes: merged(
                &set.memory_reservation_bytes,
                lifted(Field::MemoryReservationBytes),
                &before.memory_reservation_bytes,
            ),
            memory_oom_group: set.memory_oom_group || (before.memory_oom_group && !lifted(Field::MemoryOomGroup)),
            pids: merged(&set.pids, lifted(Field::Pids), &before.pids),
            blkio_weight: merged(&set.blkio_weight, lifted(Field::BlkioWeight), &before.blkio_weight),
            devices: before.devices.clone(),
        }
    }
}

/// The fields that limits have, but for device rules.
fn set_fields(limits: &Limits) -> Vec<Field> {
    [
        (limits.cpu_quota_us.is_some(), Field::CpuQuotaUs),
        (limits.cpu_period_us.is_some(), Field::CpuPeriodUs),
        (limits.cpu_shares.is_some(), Field::CpuShares),
        (limits.cpuset_cpus.is_some(), Field::CpusetCpus),
        (limits.cpuset_mems.is_some(), Field::CpusetMems),
        (limits.memory_bytes.is_some(), Field::MemoryBytes),
        (limits.memory_swap_bytes.is_some(), Field::MemorySwapBytes),
        (limits.memory_reservation_bytes.is_some(), Field::MemoryReservationBytes),
        (limits.memory_oom_group, Field::MemoryOomGroup),
        (limits.pids.is_some(), Field::Pids),
        (limits.blkio_weight.is_some(), Field::BlkioWeight),
    ]
    .into_iter()
    .filter_map(|(is_set, field)| is_set.then_some(field))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::SwapLimit;

    fn before() -> Limits {
        Limits {
            memory_bytes: Some(4096),
            memory_swap_bytes: Some(SwapLimit::Total(8192)),
            pids: Some(10),
            ..Limits::default()
        }
    }

    #[test]
    fn what_is_not_named_stays_and_what_is_lifted_goes() {
        let set = Limits { memory_bytes: Some(8192), cpu_shares: Some(7), ..Limits::none() };
        let changes = LimitChanges { set, lift: vec![Field::Pids, Field::MemorySwapBytes] };
        let expected = Limits { memory_bytes: Some(8192), cpu_shares: Some(7), ..Limits::default() };
        assert_eq!((changes.problems(), changes.applied_to(&before())), (vec![], expected));
        assert_eq!(LimitChanges::default().applied_to(&before()), before());
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let both = LimitChanges { set: before(), lift: vec![Field::Pids] };
        let devices =
            Limits { devices: DeviceRules::Standard { allow: vec!["c 10:200 rwm".parse().unwrap()] }, ..before() };
        for (changes, field) in [
            (LimitChanges::default(), "limits"),
            (both, "pids"),
            (LimitChanges { set: devices, lift: vec![] }, "devices"),
            (LimitChanges { set: Limits::none(), lift: vec![Field::Devices] }, "devices"),
        ] {
            let problems = changes.problems();
            assert_eq!(problems.iter().map(|problem| problem.field.as_str()).collect::<Vec<_>>(), [field]);
        }
    }

    #[test]
    fn a_change_is_the_same_after_json() {
        let changes = LimitChanges { set: before(), lift: vec![Field::CpuQuotaUs] };
        let text = serde_json::to_string(&changes).unwrap();
        assert_eq!(serde_json::from_str::<LimitChanges>(&text).unwrap(), changes);
        let short: LimitChanges = serde_json::from_str(r#"{"lift":["pids"]}"#).unwrap();
        assert_eq!(short, LimitChanges { lift: vec![Field::Pids], ..LimitChanges::default() });
        assert!(serde_json::from_str::<LimitChanges>(r#"{"raise":[]}"#).is_err());
    }
}
