//! Pressure stall information (PSI): how long processes waited for a resource.
//!
//! Owns the parsing of the `*.pressure` files of a cgroup. They are in the tree of cgroup v2 alone,
//! that of a hybrid machine included, on kernels with `CONFIG_PSI` (Linux 4.20).

use serde::{Deserialize, Serialize};

/// How long processes of a cgroup waited for one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Pressure {
    /// At least one of them waited.
    pub some: Stall,
    /// All that had something to do waited at the same time. `None` where the kernel does not say:
    /// for the CPU before Linux 5.13.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<Stall>,
}

/// How much of the time was lost by waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Stall {
    /// Share of the last 10 seconds, in percent (0 to 100).
    pub avg10_percent: f64,
    /// Share of the last 60 seconds, in percent.
    pub avg60_percent: f64,
    /// Share of the last 300 seconds, in percent.
    pub avg300_percent: f64,
    /// All of it since the cgroup was made, in microseconds.
    pub total_us: u64,
}

impl Pressure {
    /// Reads the text of a `*.pressure` file; `None` without a whole line `some`.
    pub(super) fn parse(text: &str) -> Option<Pressure> {
        Some(Pressure { some: stall(text, "some")?, full: stall(text, "full") })
    }
}

fn stall(text: &str, kind: &str) -> Option<Stall> {
    let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
    let value = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    Some(Stall {
        avg10_percent: value("avg10")?.parse().ok()?,
        avg60_percent: value("avg60")?.parse().ok()?,
        avg300_percent: value("avg300")?.parse().ok()?,
        total_us: value("total")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.18 shows `memory.pressure`.
    const MEMORY: &str = "some avg10=1.53 avg60=0.20 avg300=0.04 total=4412397\n\
                          full avg10=0.90 avg60=0.10 avg300=0.02 total=4104011\n";

    #[test]
    fn both_lines_are_read_with_averages_and_totals() {
        let pressure = Pressure::parse(MEMORY).unwrap();
        let full = Stall { avg10_percent: 0.9, avg60_percent: 0.1, avg300_percent: 0.02, total_us: 4_104_011 };
        assert_eq!((pressure.some.avg10_percent, pressure.some.total_us), (1.53, 4_412_397));
        assert_eq!(pressure.full, Some(full));
    }

    #[test]
    fn a_kernel_without_full_has_some_alone_and_no_text_is_no_pressure() {
        let some = MEMORY.lines().next().unwrap();
        assert_eq!(Pressure::parse(some).unwrap().full, None);
        for text in ["", "some\n", "some avg10=x avg60=0 avg300=0 total=1\n", "something avg10=0.00 total=1\n"] {
            assert_eq!(Pressure::parse(text), None, "{text}");
        }
    }
}
