//! What containers use.

use serde::{Deserialize, Serialize};

use super::{Container, Running};
use crate::cgroup::{Layout, Usage};
use crate::error::Result;
use crate::host::{ClockId, nanoseconds, pid_namespace};
use crate::phase::Phase;

/// What a living container uses, and when that was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ContainerUsage {
    /// The container's id.
    pub id: String,
    /// Its phase: created, running or paused.
    pub phase: Phase,
    /// When its workload was started, in nanoseconds of CLOCK_BOOTTIME; `None` where it was only
    /// created.
    pub started_boot_ns: Option<u64>,
    /// When its figures were read, in nanoseconds of CLOCK_BOOTTIME.
    pub read_boot_ns: u64,
    /// The figures.
    #[serde(flatten)]
    pub usage: Usage,
}

impl ContainerUsage {
    /// The processors' share since its workload was started, in percent: 100 is one processor, all
    /// the time. `None` where it was not started, or the time is not known.
    #[must_use]
    pub fn cpu_percent(&self) -> Option<f64> {
        percent(self.usage.cpu_usage_us?, self.read_boot_ns.checked_sub(self.started_boot_ns?)?)
    }

    /// The processors' share since an earlier reading of the same container, in percent. `None`
    /// where the earlier one is of another container, or was no earlier one.
    #[must_use]
    pub fn cpu_percent_since(&self, earlier: &ContainerUsage) -> Option<f64> {
        let same = self.id == earlier.id
            && (earlier.started_boot_ns.is_none() || earlier.started_boot_ns == self.started_boot_ns);
        let used = self.usage.cpu_usage_us?.checked_sub(earlier.usage.cpu_usage_us?)?;
        percent(used, self.read_boot_ns.checked_sub(earlier.read_boot_ns)?).filter(|_| same)
    }
}

fn percent(used_us: u64, span_ns: u64) -> Option<f64> {
    (span_ns > 0).then(|| used_us as f64 * 1000.0 / span_ns as f64 * 100.0)
}

impl Container {
    /// What it uses now; `None` for one that does not live (any more). Each file is read once.
    /// Needs read access to its cgroup, no more.
    ///
    /// # Errors
    /// [`System`](crate::ErrorKind::System) where `/proc` cannot be read.
    pub fn usage(&self) -> Result<Option<ContainerUsage>> {
        self.usage_in(&Layout::detect()?)
    }

    /// As [`Container::usage`], one of several: the layout of the cgroups is read once for all.
    pub(crate) fn usage_in(&self, layout: &Layout) -> Result<Option<ContainerUsage>> {
        let Some(running) = self.living() else { return Ok(None) };
        let read_boot_ns = nanoseconds(ClockId::Boottime);
        let usage = running.own_usage(layout)?;
        Ok(usage.map(|usage| ContainerUsage {
            id: running.record.id.clone(),
            phase: self.phase(),
            started_boot_ns: Some(running.record.started_boot_ns).filter(|started| *started != 0),
            read_boot_ns,
            usage,
        }))
    }

    /// The handle of one that was not found to have ended.
    pub(super) fn living(&self) -> Option<&Running> {
        match self {
            Container::Created(created) => Some(&created.0),
            Container::Running(running) => Some(running),
            Container::Paused(paused) => Some(&paused.0),
            _ => None,
        }
    }
}

impl Running {
    /// What it uses now. All figures are absent once it has ended.
    ///
    /// # Errors
    /// [`System`](crate::ErrorKind::System) where `/proc` cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        Ok(Usage::read(&Layout::detect()?, &self.cgroup()?))
    }

    /// The figures of its own cgroup, whoever has that path; `None` when it has ended before all of
    /// them were read.
    fn own_usage(&self, layout: &Layout) -> Result<Option<Usage>> {
        let usage = match self.own_cgroup(layout)? {
            Some(cgroup) => cgroup.usage(),
            // Records of early versions do not tell the cgroup from another of its path.
            None if self.record.cgroup_inode.is_none() => Usage::read(layout, &self.cgroup()?),
            None => return Ok(None),
        };
        Ok(self.may_live()?.then_some(usage))
    }

    /// False when it has ended. Pids of another pid namespace tell nothing here.
    pub(super) fn may_live(&self) -> Result<bool> {
        Ok(self.is_alive() || pid_namespace()? != self.record.pid_namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(id: &str, started: Option<u64>, read: u64, used_us: Option<u64>) -> ContainerUsage {
        let usage = Usage { cpu_usage_us: used_us, ..Usage::default() };
        ContainerUsage { id: id.into(), phase: Phase::Running, started_boot_ns: started, read_boot_ns: read, usage }
    }

    #[test]
    fn the_processors_share_is_that_of_the_span() {
        const SECOND: u64 = 1_000_000_000;
        let first = reading("a", Some(SECOND), 3 * SECOND, Some(500_000));
        let second = reading("a", Some(SECOND), 4 * SECOND, Some(2_000_000));
        assert_eq!((first.cpu_percent(), second.cpu_percent_since(&first)), (Some(25.0), Some(150.0)));
        let created = reading("a", None, SECOND / 2, Some(1000));
        assert_eq!((created.cpu_percent(), first.cpu_percent_since(&created)), (None, Some(19.96)));
    }

    #[test]
    fn what_cannot_be_compared_has_no_share() {
        let first = reading("a", Some(1), 10, Some(5));
        for other in [
            reading("b", Some(1), 20, Some(6)),
            reading("a", Some(15), 20, Some(6)),
            reading("a", Some(1), 10, Some(6)),
            reading("a", Some(1), 9, Some(6)),
            reading("a", Some(1), 20, Some(4)),
            reading("a", Some(1), 20, None),
        ] {
            assert_eq!(other.cpu_percent_since(&first), None, "{other:?}");
        }
        assert_eq!(reading("a", Some(11), 10, Some(5)).cpu_percent(), None);
    }

    #[test]
    fn a_reading_is_one_flat_document() {
        let document = serde_json::to_value(reading("a", None, 7, Some(5))).unwrap();
        let expected = serde_json::json!({
            "id": "a", "phase": "running", "started_boot_ns": null, "read_boot_ns": 7, "cpu_usage_us": 5,
        });
        assert_eq!(document, expected);
    }
}
