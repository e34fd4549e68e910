//! The text of `exit.json`, written piece by piece. What each field means is documented at its reader's side, [`ExitRecord`](super::exit::ExitRecord).

use core::fmt::{Result, Write};

use super::counters::{Counter, Counts};
use super::decimal::Decimal;
use super::handover::Handover;
use super::list::List;
use super::oom::own_events;
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

/// Everything that goes into the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Who it was.
    pub handover: &'a Handover<'a>,
    /// How it ended.
    pub ending: Ending,
    /// Why.
    pub reason: Reason,
    /// When it was started, in Unix and in boot time; `None`: it never left its gate.
    pub started_ns: Option<(u64, u64)>,
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
    /// How and when it ended: what nobody else can know, and what fits in the space reserved at the start.
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
        json.optional("started_unix_ns", self.started_ns.map(|(unix, _)| unix))?;
        json.number("ended_unix_ns", self.ended_ns.0)?;
        json.number("ended_boot_ns", self.ended_ns.1)?;
        json.optional("wall_ns", self.started_ns.map(|(_, boot)| self.ended_ns.1.saturating_sub(boot)))?;
        if extent == Extent::Whole {
            self.write_measures(&mut json)?;
        }
        json.close()?;
        out.write_str("\n")
    }

    fn write_measures<W: Write>(&self, json: &mut Object<'_, W>) -> Result {
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
        }
    }
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

    fn text(&mut self, key: &str, text: &str) -> Result {
        self.raw(key, "\"")?;
        let mut utf8 = [0; 4];
        for character in text.chars() {
            match character {
                '"' => self.out.write_str("\\\"")?,
                '\\' => self.out.write_str("\\\\")?,
                '\0'..='\x1f' => {
                    self.out.write_str(if character < '\x10' { "\\u000" } else { "\\u001" })?;
                    let digit = char::from_digit(character as u32 % 16, 16).unwrap_or('0');
                    self.out.write_str(digit.encode_utf8(&mut utf8))?;
                }
                _ => self.out.write_str(character.encode_utf8(&mut utf8))?,
            }
        }
        self.out.write_str("\"")
    }
}
