//! The text: OpenMetrics 1.0 (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
//!
//! A family is left out where no container has its figure. Times are in seconds, sizes in bytes.

use std::fmt::Write;

use squall::cgroup::{DeviceIo, Pressure, Stall, Usage};
use squall::{ContainerUsage, Phase, Result, Squall};

/// What the text is, for a client.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text of a run root as it is now.
pub fn of(squall: &Squall) -> Result<String> {
    let listing = squall.containers()?;
    let readings = listing.usages()?;
    let phases: Vec<Phase> = listing.containers.iter().map(squall::Container::phase).collect();
    Ok(text(&phases, listing.unreadable.len(), &readings))
}

fn text(phases: &[Phase], unreadable: usize, readings: &[ContainerUsage]) -> String {
    let mut text = Text::default();
    text.containers(phases, unreadable);
    for family in FAMILIES {
        let samples = readings.iter().flat_map(|reading| {
            let samples = (family.figures)(&reading.usage).into_iter();
            samples.map(|(label, number)| (labels(&reading.id, &label), number))
        });
        text.family(family, samples);
    }
    text.0 + "# EOF\n"
}

/// A number as it is written.
#[derive(Debug, Clone, Copy)]
enum Number {
    Whole(u64),
    /// Microseconds, written as seconds.
    Microseconds(u64),
}

/// A number with the device that it is of, if it is of one.
type Figure = (Option<(u32, u32)>, Number);

/// One family of samples. A counter's samples have `_total` behind its name.
struct Family {
    name: &'static str,
    kind: &'static str,
    unit: &'static str,
    help: &'static str,
    figures: fn(&Usage) -> Vec<Figure>,
}

fn one(number: Option<u64>) -> Vec<Figure> {
    number.map(|number| (None, Number::Whole(number))).into_iter().collect()
}

fn time(us: Option<u64>) -> Vec<Figure> {
    us.map(|us| (None, Number::Microseconds(us))).into_iter().collect()
}

fn some(pressure: Option<Pressure>) -> Vec<Figure> {
    time(pressure.map(|pressure| pressure.some.total_us))
}

fn full(pressure: Option<Pressure>) -> Vec<Figure> {
    time(pressure.and_then(|pressure| pressure.full).map(|full: Stall| full.total_us))
}

fn devices(usage: &Usage, number: fn(&DeviceIo) -> u64) -> Vec<Figure> {
    let devices = usage.io_devices.iter().flatten();
    devices.map(|device| (Some((device.major, device.minor)), Number::Whole(number(device)))).collect()
}

const fn counter(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    figures: fn(&Usage) -> Vec<Figure>,
) -> Family {
    Family { name, kind: "counter", unit, help, figures }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    figures: fn(&Usage) -> Vec<Figure>,
) -> Family {
    Family { name, kind: "gauge", unit, help, figures }
}

/// A unit is the last part of a family's name, as the format demands.
const FAMILIES: &[Family] = &[
    counter("squall_container_cpu_usage_seconds", "seconds", "Processor time used.", |usage| time(usage.cpu_usage_us)),
    counter("squall_container_cpu_user_seconds", "seconds", "Processor time used in programs.", |usage| {
        time(usage.cpu_user_us)
    }),
    counter("squall_container_cpu_system_seconds", "seconds", "Processor time used in the kernel.", |usage| {
        time(usage.cpu_system_us)
    }),
    counter("squall_container_cpu_periods", "", "Periods in which a CPU quota was in force.", |usage| {
        one(usage.cpu_periods)
    }),
    counter("squall_container_cpu_throttled_periods", "", "Periods in which the CPU quota was used up.", |usage| {
        one(usage.cpu_throttled_periods)
    }),
    counter("squall_container_cpu_throttled_seconds", "seconds", "Time throttled by the CPU quota.", |usage| {
        time(usage.cpu_throttled_us)
    }),
    gauge("squall_container_memory_usage_bytes", "bytes", "Memory in use, page cache included.", |usage| {
        one(usage.memory_current_bytes)
    }),
    gauge("squall_container_memory_peak_bytes", "bytes", "The most memory ever in use.", |usage| {
        one(usage.memory_peak_bytes)
    }),
    gauge("squall_container_memory_limit_bytes", "bytes", "Memory limit in force; absent without one.", |usage| {
        one(usage.memory_limit_bytes)
    }),
    gauge("squall_container_memory_anon_bytes", "bytes", "Anonymous memory.", |usage| one(usage.memory_anon_bytes)),
    gauge("squall_container_memory_file_bytes", "bytes", "Page cache, tmpfs and shared memory included.", |usage| {
        one(usage.memory_file_bytes)
    }),
    gauge("squall_container_memory_kernel_bytes", "bytes", "Memory of the kernel for the container.", |usage| {
        one(usage.memory_kernel_bytes)
    }),
    gauge("squall_container_memory_swap_bytes", "bytes", "Memory that is swapped out.", |usage| {
        one(usage.memory_swap_bytes)
    }),
    counter("squall_container_oom_kills", "", "Processes killed for want of memory.", |usage| one(usage.oom_kills)),
    gauge("squall_container_pids", "", "Processes and threads.", |usage| one(usage.pids_current)),
    gauge("squall_container_pids_peak", "", "The most processes and threads ever.", |usage| one(usage.pids_peak)),
    gauge("squall_container_pids_limit", "", "Limit of processes and threads; absent without one.", |usage| {
        one(usage.pids_limit)
    }),
    counter("squall_container_forks_refused", "", "Forks refused by the limit of processes.", |usage| {
        one(usage.pids_refused)
    }),
    counter("squall_container_io_read_bytes", "bytes", "Bytes read from a block device.", |usage| {
        devices(usage, |device| device.read_bytes)
    }),
    counter("squall_container_io_written_bytes", "bytes", "Bytes written to a block device.", |usage| {
        devices(usage, |device| device.written_bytes)
    }),
    counter("squall_container_io_reads", "", "Read operations on a block device.", |usage| {
        devices(usage, |device| device.reads)
    }),
    counter("squall_container_io_writes", "", "Write operations on a block device.", |usage| {
        devices(usage, |device| device.writes)
    }),
    counter(
        "squall_container_pressure_cpu_waiting_seconds",
        "seconds",
        "Time in which a process waited for a CPU.",
        |usage| some(usage.cpu_pressure),
    ),
    counter(
        "squall_container_pressure_cpu_stalled_seconds",
        "seconds",
        "Time in which all processes waited for a CPU.",
        |usage| full(usage.cpu_pressure),
    ),
    counter(
        "squall_container_pressure_memory_waiting_seconds",
        "seconds",
        "Time in which a process waited for memory.",
        |usage| some(usage.memory_pressure),
    ),
    counter(
        "squall_container_pressure_memory_stalled_seconds",
        "seconds",
        "Time in which all processes waited for memory.",
        |usage| full(usage.memory_pressure),
    ),
    counter(
        "squall_container_pressure_io_waiting_seconds",
        "seconds",
        "Time in which a process waited for a block device.",
        |usage| some(usage.io_pressure),
    ),
    counter(
        "squall_container_pressure_io_stalled_seconds",
        "seconds",
        "Time in which all processes waited for block devices.",
        |usage| full(usage.io_pressure),
    ),
];

fn labels(id: &str, device: &Option<(u32, u32)>) -> String {
    let device = device.map_or(String::new(), |(major, minor)| format!(",device=\"{major}:{minor}\""));
    format!("{{id=\"{}\"{device}}}", escaped(id))
}

/// As a label's value has to be.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn containers(&mut self, phases: &[Phase], unreadable: usize) {
        const PHASES: [Phase; 6] =
            [Phase::Launching, Phase::Created, Phase::Running, Phase::Paused, Phase::Exited, Phase::Lost];
        self.head("squall_containers", "gauge", "", "Containers of the run root.");
        for phase in PHASES {
            let count = phases.iter().filter(|other| **other == phase).count();
            let labels = format!("{{phase=\"{}\"}}", phase.name());
            self.sample("squall_containers", &labels, Number::Whole(count as u64));
        }
        self.head("squall_unreadable_records", "gauge", "", "Containers whose record cannot be read.");
        self.sample("squall_unreadable_records", "", Number::Whole(unreadable as u64));
    }

    fn family(&mut self, family: &Family, samples: impl Iterator<Item = (String, Number)>) {
        let total = if family.kind == "counter" { "_total" } else { "" };
        let mut samples = samples.peekable();
        if samples.peek().is_some() {
            self.head(family.name, family.kind, family.unit, family.help);
        }
        for (labels, number) in samples {
            self.sample(&[family.name, total].concat(), &labels, number);
        }
    }

    fn head(&mut self, name: &str, kind: &str, unit: &str, help: &str) {
        self.line(format_args!("# TYPE {name} {kind}"));
        if !unit.is_empty() {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        self.line(format_args!("# HELP {name} {help}"));
    }

    fn sample(&mut self, name: &str, labels: &str, number: Number) {
        match number {
            Number::Whole(number) => self.line(format_args!("{name}{labels} {number}")),
            Number::Microseconds(us) => {
                self.line(format_args!("{name}{labels} {}.{:06}", us / 1_000_000, us % 1_000_000));
            }
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a string takes everything");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(document: serde_json::Value) -> ContainerUsage {
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn each_family_has_its_head_once_and_all_its_samples_below_it() {
        let first = reading(serde_json::json!({
            "id": "a", "phase": "running", "started_boot_ns": 1, "read_boot_ns": 2,
            "cpu_usage_us": 1_500_000, "memory_current_bytes": 4096,
            "io_devices": [{ "major": 7, "minor": 1, "read_bytes": 5 }, { "major": 8, "minor": 0, "read_bytes": 6 }],
        }));
        let second = reading(serde_json::json!({
            "id": "b\"\\\n", "phase": "paused", "started_boot_ns": null, "read_boot_ns": 2, "cpu_usage_us": 7,
        }));
        let text = text(&[Phase::Running, Phase::Paused, Phase::Running], 1, &[first, second]);
        for part in [
            "squall_containers{phase=\"running\"} 2\n",
            "squall_containers{phase=\"lost\"} 0\n",
            "squall_unreadable_records 1\n",
            "# TYPE squall_container_cpu_usage_seconds counter\n# UNIT squall_container_cpu_usage_seconds seconds\n\
             # HELP squall_container_cpu_usage_seconds Processor time used.\n\
             squall_container_cpu_usage_seconds_total{id=\"a\"} 1.500000\n\
             squall_container_cpu_usage_seconds_total{id=\"b\\\"\\\\\\n\"} 0.000007\n#",
            "squall_container_memory_usage_bytes{id=\"a\"} 4096\n#",
            "squall_container_io_read_bytes_total{id=\"a\",device=\"7:1\"} 5\n\
             squall_container_io_read_bytes_total{id=\"a\",device=\"8:0\"} 6\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
        assert!(!text.contains("memory_limit"), "nobody has one");
    }

    #[test]
    fn names_and_units_are_as_the_format_demands() {
        for family in FAMILIES {
            assert!(family.unit.is_empty() || family.name.ends_with(&format!("_{}", family.unit)), "{}", family.name);
            for reserved in ["_total", "_created", "_count", "_sum", "_bucket", "_info"] {
                assert!(!family.name.ends_with(reserved), "{}", family.name);
            }
            assert!(!family.help.contains(['\\', '\n', '"']), "{}", family.help);
            assert_eq!(FAMILIES.iter().filter(|other| other.name == family.name).count(), 1, "{}", family.name);
        }
    }

    #[test]
    fn a_run_root_without_containers_is_a_whole_document() {
        let text = text(&[], 0, &[]);
        assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE")).count(), 2, "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
