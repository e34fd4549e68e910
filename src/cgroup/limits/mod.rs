//! What a container may use at most.
//!
//! Owns the request: values with units, checked for what no kernel could ever take. It never writes
//! anything and knows no file names; those are in `plan`. Any process may use it.

pub(super) mod adjustment;
pub(super) mod changes;
pub(super) mod cpu_list;
pub(super) mod device_rules;
pub(super) mod kernel_values;
pub(super) mod live_values;
mod oci_changes;

use serde::{Deserialize, Serialize};

use crate::error::Problem;
use cpu_list::CpuList;
use device_rules::DeviceRules;

/// Limits of one cgroup. An absent one leaves what the kernel gives a new cgroup: no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Processor time in microseconds per period; more than one period's worth is more than one
    /// processor. The kernel takes 1000 or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota_us: Option<i64>,
    /// The period in microseconds; the kernel takes 1000 to 1 000 000 and uses 100 000 where none
    /// is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_period_us: Option<u64>,
    /// Weight against sibling cgroups in the scale of v1, where 1024 is the usual one. The kernel
    /// forces it into 2 to 262 144.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// The processors to run on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<CpuList>,
    /// The memory nodes to allocate from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<CpuList>,
    /// Memory in bytes; the kernel rounds down to whole pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Memory and swap together. Without it a container with a memory limit may still swap without
    /// bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap_bytes: Option<SwapLimit>,
    /// Memory in bytes that is reclaimed last: the soft limit of v1, `memory.low` of v2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation_bytes: Option<u64>,
    /// Whether the kernel, where it ends one process at the memory limit, ends all of them
    /// (`memory.oom.group`, v2, since Linux 4.19).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub memory_oom_group: bool,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Weight of block device access against sibling cgroups, 10 to 1000 (the scale of v1). Works
    /// with the BFQ scheduler only (io.cost too on v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkio_weight: Option<u16>,
    /// Device nodes that may be used.
    pub devices: DeviceRules,
}

/// Memory and swap together, in the meaning of OCI and docker: the sum, not the swap alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
#[non_exhaustive]
pub enum SwapLimit {
    /// At most this many bytes of memory and swap; equal to the memory limit means no swap at all.
    Total(u64),
    /// As much swap as the machine has; `-1` in documents.
    Unlimited,
}

/// A number that is neither a total nor `-1`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is neither a number of bytes above 0 nor -1 for no limit")]
pub struct SwapProblem(i64);

impl TryFrom<i64> for SwapLimit {
    type Error = SwapProblem;

    fn try_from(number: i64) -> Result<SwapLimit, SwapProblem> {
        match number {
            -1 => Ok(SwapLimit::Unlimited),
            1.. => Ok(SwapLimit::Total(number.unsigned_abs())),
            _ => Err(SwapProblem(number)),
        }
    }
}

impl From<SwapLimit> for i64 {
    fn from(limit: SwapLimit) -> i64 {
        match limit {
            SwapLimit::Total(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
            SwapLimit::Unlimited => -1,
        }
    }
}

/// A field of [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Field {
    /// [`Limits::cpu_quota_us`]
    CpuQuotaUs,
    /// [`Limits::cpu_period_us`]
    CpuPeriodUs,
    /// [`Limits::cpu_shares`]
    CpuShares,
    /// [`Limits::cpuset_cpus`]
    CpusetCpus,
    /// [`Limits::cpuset_mems`]
    CpusetMems,
    /// [`Limits::memory_bytes`]
    MemoryBytes,
    /// [`Limits::memory_swap_bytes`]
    MemorySwapBytes,
    /// [`Limits::memory_reservation_bytes`]
    MemoryReservationBytes,
    /// [`Limits::memory_oom_group`]
    MemoryOomGroup,
    /// [`Limits::pids`]
    Pids,
    /// [`Limits::blkio_weight`]
    BlkioWeight,
    /// [`Limits::devices`]
    Devices,
}

impl Field {
    /// The field's name in [`Limits`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Field::CpuQuotaUs => "cpu_quota_us",
            Field::CpuPeriodUs => "cpu_period_us",
            Field::CpuShares => "cpu_shares",
            Field::CpusetCpus => "cpuset_cpus",
            Field::CpusetMems => "cpuset_mems",
            Field::MemoryBytes => "memory_bytes",
            Field::MemorySwapBytes => "memory_swap_bytes",
            Field::MemoryReservationBytes => "memory_reservation_bytes",
            Field::MemoryOomGroup => "memory_oom_group",
            Field::Pids => "pids",
            Field::BlkioWeight => "blkio_weight",
            Field::Devices => "devices",
        }
    }
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Limits {
    /// No limit at all, device rules included.
    #[must_use]
    pub fn none() -> Limits {
        Limits { devices: DeviceRules::Inherit, ..Limits::default() }
    }

    /// Every value that no kernel could take, for the door that the request came through. What
    /// depends on the kernel or on the parent cgroup (a quota under 1000 us, a processor that is
    /// not there) shows when it is written.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let zero = |field: Field, value: Option<u64>| {
            (value == Some(0)).then(|| problem(field, "0 is no limit; leave it out for none"))
        };
        let quota = self
            .cpu_quota_us
            .filter(|quota| *quota <= 0)
            .map(|quota| problem(Field::CpuQuotaUs, &format!("{quota} is not above 0; leave it out for no limit")));
        let weight = self
            .blkio_weight
            .filter(|weight| !(10..=1000).contains(weight))
            .map(|weight| problem(Field::BlkioWeight, &format!("{weight} is not between 10 and 1000")));
        [
            quota,
            zero(Field::CpuPeriodUs, self.cpu_period_us),
            zero(Field::CpuShares, self.cpu_shares),
            zero(Field::MemoryBytes, self.memory_bytes),
            self.swap_problem(),
            zero(Field::Pids, self.pids),
            weight,
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn swap_problem(&self) -> Option<Problem> {
        let SwapLimit::Total(total) = self.memory_swap_bytes? else { return None };
        let text = match self.memory_bytes {
            None => "a limit of memory and swap together needs memory_bytes too".to_owned(),
            Some(memory) if total < memory => {
                format!("{total} for memory and swap together is less than memory_bytes, {memory}")
            }
            Some(_) => return None,
        };
        Some(problem(Field::MemorySwapBytes, &text))
    }
}

pub(super) fn problem(field: Field, reason: &str) -> Problem {
    Problem { field: field.name().into(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_gives_back_the_same_limits() {
        let text = r#"{"cpu_quota_us":50000,"cpuset_cpus":"0,1","memory_bytes":1048576,"memory_swap_bytes":-1,"pids":10,
                      "devices":{"standard":{"allow":["c 10:200 rwm"]}}}"#;
        let limits: Limits = serde_json::from_str(text).unwrap();
        assert_eq!(limits.memory_swap_bytes, Some(SwapLimit::Unlimited));
        assert_eq!(limits.cpuset_cpus.as_ref().unwrap().to_string(), "0-1");
        assert_eq!(serde_json::from_value::<Limits>(serde_json::to_value(&limits).unwrap()).unwrap(), limits);
        assert_eq!(serde_json::from_str::<Limits>("{}").unwrap(), Limits::default());
    }

    #[test]
    fn a_document_with_a_wrong_value_is_refused() {
        for text in [
            r#"{"cpu_qouta_us":1}"#,
            r#"{"cpuset_cpus":"3-1"}"#,
            r#"{"memory_bytes":-1}"#,
            r#"{"memory_swap_bytes":0}"#,
            r#"{"memory_swap_bytes":-2}"#,
            r#"{"devices":{"standard":{"allow":["a"]}}}"#,
        ] {
            assert!(serde_json::from_str::<Limits>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_that_no_kernel_takes_are_named_all_at_once() {
        let base = Limits { memory_bytes: Some(4096), ..Limits::none() };
        let table: [(Limits, &[&str]); 6] = [
            (Limits::default(), &[]),
            (Limits { cpu_quota_us: Some(-1), pids: Some(0), ..Limits::none() }, &["cpu_quota_us", "pids"]),
            (Limits { blkio_weight: Some(9), cpu_shares: Some(0), ..Limits::none() }, &["cpu_shares", "blkio_weight"]),
            (Limits { memory_swap_bytes: Some(SwapLimit::Total(1)), ..Limits::none() }, &["memory_swap_bytes"]),
            (Limits { memory_swap_bytes: Some(SwapLimit::Total(4095)), ..base.clone() }, &["memory_swap_bytes"]),
            (Limits { memory_swap_bytes: Some(SwapLimit::Total(4096)), ..base }, &[]),
        ];
        for (limits, fields) in table {
            let problems = limits.problems();
            assert_eq!(problems.iter().map(|problem| problem.field.as_str()).collect::<Vec<_>>(), fields, "{limits:?}");
        }
    }

    #[test]
    fn field_names_are_those_of_the_document() {
        for field in [Field::CpuQuotaUs, Field::MemoryReservationBytes, Field::Pids, Field::BlkioWeight, Field::Devices]
        {
            assert_eq!(serde_json::to_value(field).unwrap(), field.name());
        }
    }
}
