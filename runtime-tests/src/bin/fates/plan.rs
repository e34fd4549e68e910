//! What is drawn for a worker, and what is true of its end by that.
//!
//! Every worker ends by its fate alone: by itself, or by what is done to it on purpose. So the truth
//! does not depend on how often the program that does it was killed.

use runtime_tests::random::Random;
use squall::record::EndReason;

/// How a worker is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// By itself, with this code, after some milliseconds.
    Returns { code: u8, after_ms: u64 },
    /// By a fault of its own.
    Crashes,
    /// By SIGKILL.
    Killed,
    /// By this signal, which it handles: the number is its code.
    Handles { signal: u8 },
    /// By a stop that it heeds.
    Heeds,
    /// By a stop that it ignores until the grace is over.
    Ignores,
    /// By its own memory limit.
    OutOfMemory,
    /// By its seccomp filter.
    Filtered,
    /// By its time limit.
    Deadline { after_ms: u64 },
    /// By a stop while it is paused.
    StoppedPaused,
    /// By SIGKILL while it is paused.
    KilledPaused,
    /// It never begins, because there is no such program: the launch is refused.
    Missing,
    /// It never begins, because the kernel refuses the program when it is started.
    Foreign,
}

/// A further program in a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exec {
    /// It returns this code.
    Returns { code: u8 },
    /// This signal ends it.
    Killed { signal: u8 },
    /// It ends with its container.
    Left,
}

/// A worker, before it is launched.
#[derive(Debug, Clone)]
pub struct Plan {
    pub number: u64,
    pub fate: Fate,
    /// Whether it is created first, and then started.
    pub created: bool,
    pub execs: Vec<Exec>,
}

/// How a process ended, without whether a core was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Code(u8),
    Signal(u8),
}

/// Who began to stop a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopper {
    Nobody,
    Deadline,
    /// A program that wrote down that it was going to.
    Program,
}

/// What the record of a worker has to say.
#[derive(Debug, Clone, Copy)]
pub struct Truth {
    pub end: End,
    pub reason: EndReason,
    pub stopper: Stopper,
}

/// The system call that [`Fate::Filtered`] makes and may not.
pub const FORBIDDEN: &str = "unshare";

/// Programs of the image.
pub const PROBE: &str = "/bin/probe";
pub const FOREIGN: &str = "/bin/foreign";
pub const MISSING: &str = "/bin/missing";

/// More than any run takes.
const FOR_EVER: &str = "600000";

const KILL: u8 = libc::SIGKILL as u8;
const TERM: u8 = libc::SIGTERM as u8;

impl Plan {
    /// Worker `number` of a run of this seed.
    pub fn draw(seed: u64, number: u64) -> Plan {
        let random = &mut Random::new(seed, number);
        let fate = draw_fate(random);
        let created = fate == Fate::Foreign || random.percent(25);
        let most = if fate.lasts() { 4 } else { 1 };
        let execs = (0..random.below(most)).map(|_| draw_exec(random)).collect();
        Plan { number, fate, created, execs }
    }

    /// Its container's id.
    pub fn id(&self) -> String {
        format!("w{}", self.number)
    }

    /// Whether nothing is kept of it: its launch is refused.
    pub fn leaves_no_record(&self) -> bool {
        self.fate == Fate::Missing
    }

    /// The program and its arguments.
    pub fn argv(&self) -> Vec<String> {
        let words: &[&str] = match self.fate {
            Fate::Returns { code, after_ms: 0 } => &[PROBE, "exit", &code.to_string()],
            Fate::Returns { code, after_ms } => &[PROBE, "exit-after", &after_ms.to_string(), &code.to_string()],
            Fate::Crashes => &[PROBE, "crash"],
            Fate::Killed | Fate::KilledPaused => &[PROBE, "sleep", FOR_EVER],
            Fate::Handles { .. } | Fate::Heeds | Fate::Deadline { .. } | Fate::StoppedPaused => {
                &[PROBE, "exit-on-signal", FOR_EVER]
            }
            Fate::Ignores => &[PROBE, "ignore-term", FOR_EVER],
            Fate::OutOfMemory => &[PROBE, "allocate", "268435456"],
            Fate::Filtered => &[PROBE, "try", FORBIDDEN, "", "131072"],
            Fate::Missing => &[MISSING],
            Fate::Foreign => &[FOREIGN],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}

impl Fate {
    /// Whether it runs until something is done to it.
    pub fn lasts(self) -> bool {
        matches!(
            self,
            Fate::Killed
                | Fate::Handles { .. }
                | Fate::Heeds
                | Fate::Ignores
                | Fate::StoppedPaused
                | Fate::KilledPaused
        )
    }

    /// For the table of all.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Returns { .. } => "returns",
            Fate::Crashes => "crashes",
            Fate::Killed => "killed",
            Fate::Handles { .. } => "handles a signal",
            Fate::Heeds => "heeds a stop",
            Fate::Ignores => "ignores a stop",
            Fate::OutOfMemory => "out of memory",
            Fate::Filtered => "killed by its filter",
            Fate::Deadline { .. } => "deadline",
            Fate::StoppedPaused => "paused, then stopped",
            Fate::KilledPaused => "paused, then killed",
            Fate::Missing => "program missing",
            Fate::Foreign => "program refused",
        }
    }

    /// What its record has to say; `None` where it never begins.
    pub fn truth(self) -> Option<Truth> {
        use EndReason::{Exited, KilledAfterGrace, Stopped, Timeout};
        let (end, reason, stopper) = match self {
            Fate::Returns { code, .. } => (End::Code(code), Exited, Stopper::Nobody),
            Fate::Crashes => (End::Signal(libc::SIGSEGV as u8), Exited, Stopper::Nobody),
            Fate::Killed | Fate::KilledPaused | Fate::OutOfMemory => (End::Signal(KILL), Exited, Stopper::Nobody),
            Fate::Handles { signal } => (End::Code(signal), Exited, Stopper::Nobody),
            Fate::Filtered => (End::Signal(libc::SIGSYS as u8), Exited, Stopper::Nobody),
            Fate::Heeds | Fate::StoppedPaused => (End::Code(TERM), Stopped, Stopper::Program),
            Fate::Ignores => (End::Signal(KILL), KilledAfterGrace, Stopper::Program),
            Fate::Deadline { .. } => (End::Code(TERM), Timeout, Stopper::Deadline),
            Fate::Missing | Fate::Foreign => return None,
        };
        Some(Truth { end, reason, stopper })
    }
}

impl Exec {
    /// The program and its arguments; the last one tells it from the worker's other programs.
    pub fn argv(self, place: usize) -> Vec<String> {
        let mark = Exec::mark(place);
        let words: &[&str] = match self {
            Exec::Returns { code } => &[PROBE, "exit-after", "1", &code.to_string(), &mark],
            Exec::Killed { .. } | Exec::Left => &[PROBE, "sleep", FOR_EVER, &mark],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// What tells the worker's programs apart.
    pub fn mark(place: usize) -> String {
        format!("exec-{place}")
    }

    /// What its record has to say.
    pub fn end(self) -> End {
        match self {
            Exec::Returns { code } => End::Code(code),
            Exec::Killed { signal } => End::Signal(signal),
            Exec::Left => End::Signal(KILL),
        }
    }
}

fn draw_fate(random: &mut Random) -> Fate {
    /// What the probe handles, of each kind some.
    const HANDLED: [i32; 8] =
        [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGALRM, libc::SIGPWR, 34, 64];
    let returns = Fate::Returns { code: random.below(256) as u8, after_ms: random.one_of(&[0, 0, 20, 100, 400]) };
    let others = [
        Fate::Crashes,
        Fate::Killed,
        Fate::Handles { signal: random.one_of(&HANDLED) as u8 },
        Fate::Heeds,
        Fate::Ignores,
        Fate::OutOfMemory,
        Fate::Filtered,
        Fate::Deadline { after_ms: 200 + random.below(600) },
        Fate::StoppedPaused,
        Fate::KilledPaused,
        Fate::Missing,
        Fate::Foreign,
    ];
    if random.percent(20) { returns } else { random.one_of(&others) }
}

fn draw_exec(random: &mut Random) -> Exec {
    /// What ends a process that does not handle it, of each kind some. (Rust programs handle SEGV.)
    const DEADLY: [i32; 8] = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGABRT,
        libc::SIGKILL,
        libc::SIGUSR1,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGSYS,
    ];
    let code = random.below(256) as u8;
    let signal = random.one_of(&DEADLY) as u8;
    random.one_of(&[Exec::Returns { code }, Exec::Killed { signal }, Exec::Left])
}
