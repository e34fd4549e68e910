//! The text of `exit.json`, written piece by piece. What each field means is documented at its
//! reader's side, [`ExitRecord`](super::exit::ExitRecord).

use core::fmt::{Result, Write};

use super::counters::{Counter, Counts};
use super::decimal::Decimal;
use super::handover::Handover;
use super::kernel_log::Killed;
use super::list::List;
use super::oom_cause::own_events;
use super::step::Reason;

/// How init ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It returned this code.
    Code(u8),
    /// This signal ended it.
    Signal {
        /// The signal.
        signal: u8,
        /// Whether the kernel wrote a core.
        core_dumped: bool,
    },
}

/// What init and the children that it waited for used, from `waitid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// CPU time in user mode, nanoseconds.
    pub user_ns: u64,
    /// CPU time in the kernel, nanoseconds.
    pub system_ns: u64,
    /// The largest resident set of any one of them, bytes.
    pub max_rss_bytes: u64,
}

/// How full the upper was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upper {
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes there are.
    pub size_bytes: u64,
    /// Inodes in use.
    pub used_inodes: u64,
    /// Inodes there are.
    pub inodes: u64,
}

/// Who began to stop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopper {
    /// Its deadline.
    Deadline,
    /// A client of the monitor's.
    Request {
        /// Its pid.
        pid: u32,
    },
    /// Whoever sent the monitor SIGTERM.
    Signal {
        /// The pid of the sender; 0 where it is the kernel, or in another pid namespace.
        pid: u32,
        /// Its user.
        uid: u32,
    },
}

/// Everything that goes into the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Who it was.
    pub handover: &'a Handover<'a>,
    /// How it ended.
    pub ending: Ending,
    /// Why.
    pub reason: Reason,
    /// Who began to stop it.
    pub stopper: Option<Stopper>,
    /// For which system call its filter killed it.
    pub seccomp: Option<Killed>,
    /// When it was started, in Unix and in boot time; `None`: it never became the workload.
    pub started_ns: Option<(u64, u64)>,
    /// What init said from its gate on; nothing where it had none.
    pub start_report: &'a [u8],
    /// When it ended, in Unix and in boot time.
    pub ended_ns: (u64, u64),
    /// What init used.
    pub usage: Usage,
    /// What the kernel counted.
    pub counts: Counts,
    /// What each of the handover's watches counted.
    pub oom_seen: List<u64, { super::handover::MAX_WATCHES }>,
    /// How full the upper was.
    pub upper: Option<Upper>,
    /// How often the monitor woke up.
    pub wakeups: u64,
}

/// How much of it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Everything.
    Whole,
    /// How and when it ended: what nobody else can know, and what fits in the space reserved at the
    /// start.
    Essential,
}

impl Facts<'_> {
    /// Writes the record.
    pub fn write(&self, extent: Extent, out: &mut impl Write) -> Result {
        let mut json = Object::open(out)?;
        json.number("schema", 1)?;
        json.text("id", self.handover.id)?;
        json.text("boot_id", self.handover.boot_id)?;
        let mut exit = json.object("exit")?;
        match self.ending {
            Ending::Code(code) => exit.number("code", code.into())?,
            Ending::Signal { signal, core_dumped } => {
                exit.number("signal", signal.into())?;
                exit.raw("core_dumped", if core_dumped { "true" } else { "false" })?;
            }
        }
        exit.close()?;
        json.text("reason", self.reason.name())?;
        json.number("created_unix_ns", self.handover.created_unix_ns)?;
        json.optional("started_unix_ns", self.started_ns.map(|(unix, _)| unix))?;
        json.number("ended_unix_ns", self.ended_ns.0)?;
        json.number("ended_boot_ns", self.ended_ns.1)?;
        json.optional("wall_ns", self.started_ns.map(|(_, boot)| self.ended_ns.1.saturating_sub(boot)))?;
        if extent == Extent::Whole {
            if self.reason == Reason::NeverStarted {
                json.hex("start_report", self.start_report)?;
            }
            self.write_measures(&mut json)?;
        }
        json.close()?;
        out.write_str("\n")
    }

    fn write_measures<W: Write>(&self, json: &mut Object<'_, W>) -> Result {
        self.write_stopper(json)?;
        if let Some(killed) = self.seccomp {
            let mut object = json.object("seccomp_kill")?;
            object.number("syscall", killed.syscall)?;
            object.number("arch", killed.arch)?;
            object.close()?;
        }
        self.write_oom(json)?;
        let counts = [
            ("memory_peak_bytes", Counter::MemoryPeak),
            ("memory_limit_hits", Counter::MemoryLimitHits),
            ("cpu_time_ns", Counter::CpuTime),
            ("cpu_throttled_ns", Counter::CpuThrottled),
            ("cpu_throttled_periods", Counter::CpuThrottledPeriods),
            ("cpu_periods", Counter::CpuPeriods),
            ("pids_limit_hits", Counter::PidsLimitHits),
            ("pids_peak", Counter::PidsPeak),
            ("cpu_pressure_ns", Counter::CpuPressure),
            ("memory_pressure_ns", Counter::MemoryPressure),
            ("memory_pressure_full_ns", Counter::MemoryPressureFull),
            ("io_pressure_ns", Counter::IoPressure),
            ("io_pressure_full_ns", Counter::IoPressureFull),
        ];
        for (key, counter) in counts {
            json.optional(key, self.counts.get(counter))?;
        }
        json.number("user_ns", self.usage.user_ns)?;
        json.number("system_ns", self.usage.system_ns)?;
        json.number("max_rss_bytes", self.usage.max_rss_bytes)?;
        match self.upper {
            None => json.raw("upper", "null")?,
            Some(upper) => {
                let mut object = json.object("upper")?;
                object.number("used_bytes", upper.used_bytes)?;
                object.number("size_bytes", upper.size_bytes)?;
                object.number("used_inodes", upper.used_inodes)?;
                object.number("inodes", upper.inodes)?;
                object.close()?;
            }
        }
        let mut monitor = json.object("monitor")?;
        monitor.number("wakeups", self.wakeups)?;
        monitor.close()
    }

    fn write_stopper<W: Write>(&self, json: &mut Object<'_, W>) -> Result {
        let Some(stopper) = self.stopper else { return Ok(()) };
        let mut object = json.object("stopped_by")?;
        match stopper {
            Stopper::Deadline => object.raw("kind", "\"deadline\"")?,
            Stopper::Request { pid } => {
                object.raw("kind", "\"request\"")?;
                object.number("pid", pid.into())?;
            }
            Stopper::Signal { pid, uid } => {
                object.raw("kind", "\"signal\"")?;
                object.number("pid", pid.into())?;
                object.number("uid", uid.into())?;
            }
        }
        object.close()
    }

    fn write_oom<W: Write>(&self, json: &mut Object<'_, W>) -> Result {
        let events = own_events(&self.handover.watches, &self.oom_seen);
        let watches = || self.handover.watches.iter().zip(events.iter());
        let mut oom = json.object("oom")?;
        oom.optional("kills", self.counts.get(Counter::OomKills))?;
        oom.optional("own", watches().find(|(watch, _)| watch.ancestor.is_none()).map(|(_, events)| *events))?;
        oom.raw("ancestors", "[")?;
        let ancestors = watches().filter_map(|(watch, events)| Some((watch.ancestor?, *events)));
        for (index, (cgroup, events)) in ancestors.enumerate() {
            if index > 0 {
                oom.out.write_str(",")?;
            }
            let mut ancestor = Object::open(oom.out)?;
            ancestor.text("cgroup", cgroup)?;
            ancestor.number("events", events)?;
            ancestor.close()?;
        }
        oom.out.write_str("]")?;
        oom.close()
    }
}

impl Reason {
    /// The word in the record.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Exited => "exited",
            Reason::Stopped => "stopped",
            Reason::KilledAfterGrace => "killed-after-grace",
            Reason::Timeout => "timeout",
            Reason::NeverStarted => "never-started",
        }
    }
}

const HEX_DIGITS: &str = "0123456789abcdef";

/// What JSON wants escaped in a string; all of it may be written by its number.
fn is_special(character: char) -> bool {
    matches!(character, '"' | '\\' | '\0'..='\x1f')
}

/// A JSON object being written.
struct Object<'o, W> {
    out: &'o mut W,
    separator: &'static str,
}

impl<'o, W: Write> Object<'o, W> {
    fn open(out: &'o mut W) -> core::result::Result<Object<'o, W>, core::fmt::Error> {
        out.write_str("{")?;
        Ok(Object { out, separator: "" })
    }

    fn close(self) -> Result {
        self.out.write_str("}")
    }

    /// Keys are ours: nothing in them needs escaping.
    fn raw(&mut self, key: &str, value: &str) -> Result {
        self.out.write_str(self.separator)?;
        self.separator = ",";
        self.out.write_str("\"")?;
        self.out.write_str(key)?;
        self.out.write_str("\":")?;
        self.out.write_str(value)
    }

    fn object(&mut self, key: &str) -> core::result::Result<Object<'_, W>, core::fmt::Error> {
        self.raw(key, "")?;
        Object::open(self.out)
    }

    fn number(&mut self, key: &str, number: u64) -> Result {
        self.raw(key, Decimal::new(number).as_str())
    }

    fn optional(&mut self, key: &str, number: Option<u64>) -> Result {
        match number {
            Some(number) => self.number(key, number),
            None => self.raw(key, "null"),
        }
    }

    /// Bytes as two digits each.
    fn hex(&mut self, key: &str, bytes: &[u8]) -> Result {
        self.raw(key, "\"")?;
        bytes.iter().try_for_each(|byte| self.digits(*byte))?;
        self.out.write_str("\"")
    }

    fn digits(&mut self, byte: u8) -> Result {
        for digit in [byte >> 4, byte & 15] {
            let digit = HEX_DIGITS.get(usize::from(digit)..=usize::from(digit)).unwrap_or("0");
            self.out.write_str(digit)?;
        }
        Ok(())
    }

    fn text(&mut self, key: &str, text: &str) -> Result {
        self.raw(key, "\"")?;
        for piece in text.split_inclusive(is_special) {
            // Only its last character can be one to escape, and those are one byte long.
            let (plain, last) = piece.split_at_checked(piece.len().saturating_sub(1)).unwrap_or((piece, ""));
            match last.as_bytes() {
                [byte] if is_special(char::from(*byte)) => {
                    self.out.write_str(plain)?;
                    self.out.write_str("\\u00")?;
                    self.digits(*byte)?;
                }
                _ => self.out.write_str(piece)?,
            }
        }
        self.out.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::super::counters::SOURCES;
    use super::super::exit::{EndReason, Exit, ExitRecord, StoppedBy, UpperUse};
    use super::super::handover::tests::example;
    use super::*;
    use proptest::prelude::*;

    fn facts<'h>(handover: &'h Handover<'h>, number: u64) -> Facts<'h> {
        let mut counts = Counts::default();
        for source in SOURCES {
            counts.take(&source, format!("{} {number}", source.key).trim_start().as_bytes());
        }
        Facts {
            handover,
            ending: Ending::Code(7),
            reason: Reason::Stopped,
            stopper: None,
            seccomp: None,
            started_ns: Some((5, 6)),
            start_report: &[],
            ended_ns: (100, number.max(6)),
            usage: Usage { user_ns: number, system_ns: number, max_rss_bytes: number },
            counts,
            oom_seen: List::of(&[4, number]),
            upper: Some(Upper { used_bytes: 1, size_bytes: 2, used_inodes: 3, inodes: number }),
            wakeups: number,
        }
    }

    fn read(facts: &Facts<'_>, extent: Extent) -> ExitRecord {
        let mut text = String::new();
        facts.write(extent, &mut text).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(id in any::<String>(), cgroup in any::<String>(), number: u64) {
            let mut handover = Handover { id: &id, ..example() };
            handover.watches = List::of(&handover.watches.iter().map(|watch| {
                super::super::handover::OomWatch { ancestor: watch.ancestor.map(|_| cgroup.as_str()), ..*watch }
            }).collect::<Vec<_>>());
            let record = read(&facts(&handover, number), Extent::Whole);
            prop_assert_eq!((record.schema, &record.id, &*record.boot_id), (1, &id, "6f1c"));
            prop_assert_eq!((record.exit, record.reason), (Exit::Code { code: 7 }, EndReason::Stopped));
            prop_assert_eq!((record.started_unix_ns, record.ended_unix_ns, record.wall_ns), (Some(5), 100, Some(number.max(6) - 6)));
            let oom = record.oom.unwrap();
            prop_assert_eq!((oom.kills, oom.own, oom.ancestors.len()), (Some(number), Some(4), 1));
            prop_assert_eq!((&oom.ancestors[0].cgroup, oom.ancestors[0].events), (&cgroup, number));
            let counts = [record.memory_peak_bytes, record.memory_limit_hits, record.cpu_time_ns, record.cpu_throttled_ns,
                record.cpu_throttled_periods, record.cpu_periods, record.pids_limit_hits, record.pids_peak,
                record.user_ns, record.system_ns, record.max_rss_bytes, record.monitor.map(|monitor| monitor.wakeups)];
            prop_assert_eq!(counts, [Some(number); 12]);
            prop_assert_eq!(record.upper, Some(UpperUse { used_bytes: 1, size_bytes: 2, used_inodes: 3, inodes: number }));
        }
    }

    #[test]
    fn what_is_not_known_is_null_and_not_0() {
        let handover = Handover { watches: List::new(), ..example() };
        let nothing = Facts { counts: Counts::default(), upper: None, started_ns: None, ..facts(&handover, 1) };
        let record = read(&nothing, Extent::Whole);
        assert_eq!((record.wall_ns, record.started_unix_ns, record.upper), (None, None, None));
        assert_eq!((record.memory_peak_bytes, record.pids_peak), (None, None));
        let oom = record.oom.unwrap();
        assert_eq!((oom.kills, oom.own, oom.ancestors), (None, None, vec![]));
    }

    #[test]
    fn every_reason_and_every_ending_has_its_word() {
        let handover = example();
        let table = [
            (Reason::Exited, EndReason::Exited),
            (Reason::Stopped, EndReason::Stopped),
            (Reason::KilledAfterGrace, EndReason::KilledAfterGrace),
            (Reason::Timeout, EndReason::Timeout),
            (Reason::NeverStarted, EndReason::NeverStarted),
        ];
        for (reason, expected) in table {
            let ending = Ending::Signal { signal: 11, core_dumped: true };
            let record = read(&Facts { reason, ending, ..facts(&handover, 1) }, Extent::Whole);
            assert_eq!((record.reason, record.exit), (expected, Exit::Signal { signal: 11, core_dumped: true }));
        }
    }

    #[test]
    fn who_began_a_stop_and_what_a_filter_killed_for_are_told_where_they_are_known() {
        let handover = example();
        let table = [
            (None, None),
            (Some(Stopper::Deadline), Some(StoppedBy::Deadline)),
            (Some(Stopper::Request { pid: 7 }), Some(StoppedBy::Request { pid: 7 })),
            (Some(Stopper::Signal { pid: 1, uid: 0 }), Some(StoppedBy::Signal { pid: 1, uid: 0 })),
        ];
        for (stopper, expected) in table {
            let record = read(&Facts { stopper, ..facts(&handover, 1) }, Extent::Whole);
            assert_eq!((record.stopped_by, record.seccomp_kill), (expected, None));
        }
        let seccomp = Some(Killed { syscall: 272, arch: 0xc000_003e });
        let kill = read(&Facts { seccomp, ..facts(&handover, 1) }, Extent::Whole).seccomp_kill.unwrap();
        assert_eq!((kill.syscall, kill.arch), (272, 0xc000_003e));
        #[cfg(target_arch = "x86_64")]
        assert_eq!(kill.name(), Some("unshare"));
    }

    #[test]
    fn what_init_said_of_a_start_that_failed_is_kept() {
        let handover = example();
        let facts = Facts { start_report: &[0xfe, 8, 0], started_ns: None, ..facts(&handover, 1) };
        let never = Facts { reason: Reason::NeverStarted, ..facts };
        assert_eq!(read(&never, Extent::Whole).start_report.as_deref(), Some("fe0800"));
        assert_eq!(read(&never, Extent::Whole).created_unix_ns, Some(10));
        assert_eq!(read(&facts, Extent::Whole).start_report, None);
    }

    #[test]
    fn the_essential_record_says_how_and_when_and_leaves_out_the_rest() {
        let handover = example();
        let record = read(&facts(&handover, 9), Extent::Essential);
        assert_eq!((record.exit, record.reason, record.wall_ns), (Exit::Code { code: 7 }, EndReason::Stopped, Some(3)));
        assert_eq!((record.oom, record.user_ns, record.monitor), (None, None, None));
    }
}
