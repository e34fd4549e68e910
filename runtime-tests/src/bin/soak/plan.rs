//! What is drawn for a cycle.

use std::time::Duration;

use runtime_tests::random::Random;
use squall::record::{EndReason, Exit};

use crate::images;

/// The way to launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `squall run`.
    Foreground,
    /// `squall run --rm`.
    Remove,
    /// `squall run --detach`, then `squall wait`.
    Detached,
    /// The library, with a forked spawner.
    Forked,
    /// The library, with a spawner program.
    Program,
}

/// How the worker is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Code(u8),
    /// By a signal of its own making.
    Crash,
    /// `squall stop`, which it heeds.
    Heeded,
    /// `squall stop`, which it ignores until the grace is over.
    Ignored,
    /// `squall kill`.
    Killed,
    /// More memory than its limit.
    OutOfMemory,
    /// Its own time limit.
    Timeout,
    /// Its writable root is full; it returns the error's number.
    Full,
    /// There is no such program: the launch has to fail.
    Missing,
}

/// Whom it hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// The program that launches.
    Caller,
    /// The launch process, before it becomes the monitor.
    Launch,
    Monitor,
    Spawner,
    /// What starts a forked spawner again.
    Keeper,
    Init,
}

/// When.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long after the caller has begun.
    Launching(Duration),
    /// So long after the worker's record was there.
    Running(Duration),
}

/// A process to be killed.
#[derive(Debug, Clone, Copy)]
pub struct Strike {
    pub victim: Victim,
    pub moment: Moment,
}

/// A cycle, before it begins.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub number: u64,
    pub door: Door,
    pub end: End,
    /// Which image.
    pub image: usize,
    /// Before it ends by itself, in milliseconds.
    pub linger_ms: u64,
    pub strike: Option<Strike>,
    /// A launch that died half way is left to whoever reaps next.
    pub left_to_reaper: bool,
    /// What is done with it while it runs, where it runs until it is ended.
    pub visits: [Option<Visit>; 2],
    /// Its output is copied into a log of its own.
    pub logs: bool,
}

/// Something that is done with a running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// A program is executed in it, which returns this.
    Exec(u8),
    /// One is, and left alone.
    Leave,
    /// It is paused and resumed.
    Pause,
    /// It gets another limit of processes.
    Update,
    /// Its log is read, where it has one.
    Read,
}

/// How a worker ended, without whether a core was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Code(u8),
    Signal(u8),
}

/// The exit code of a worker that found its disk full: ENOSPC.
const FULL: u8 = 28;

impl Fate {
    pub fn of(exit: &Exit) -> Fate {
        match exit {
            Exit::Code { code } => Fate::Code(*code),
            Exit::Signal { signal, .. } => Fate::Signal(*signal),
        }
    }

    /// As `squall run` tells it.
    pub fn as_code(self) -> i32 {
        match self {
            Fate::Code(code) => code.into(),
            Fate::Signal(signal) => 128 + i32::from(signal),
        }
    }
}

impl Plan {
    /// Cycle `number` of a run of this seed.
    pub fn draw(seed: u64, number: u64, victims: u8) -> Plan {
        let random = &mut Random::new(seed, number);
        let door = random.one_of(&[
            Door::Foreground,
            Door::Remove,
            Door::Detached,
            Door::Detached,
            Door::Forked,
            Door::Program,
        ]);
        let end = draw_end(random);
        let strike = random.percent(victims).then(|| draw_strike(random, door));
        // Without a victim it may end before anybody looks.
        let least = if strike.is_some() { 30 } else { 0 };
        Plan {
            number,
            door,
            end,
            image: random.below(images::COUNT as u64) as usize,
            linger_ms: random.one_of(&[0, least, 60, 120]),
            strike,
            left_to_reaper: random.percent(50),
            visits: [draw_visit(random), draw_visit(random)],
            logs: random.percent(20),
        }
    }

    /// Whether the caller is a program of its own, which can be killed, and its spawner with it.
    pub fn needs_embedder(&self) -> bool {
        let embedded = matches!(self.door, Door::Forked | Door::Program);
        embedded
            && self.strike.is_some_and(|strike| match strike.victim {
                Victim::Caller | Victim::Launch | Victim::Spawner | Victim::Keeper => true,
                Victim::Init => matches!(strike.moment, Moment::Launching(_)),
                Victim::Monitor => false,
            })
    }

    /// The program and its arguments.
    pub fn argv(&self) -> Vec<String> {
        const FOR_EVER: &str = "600000";
        let words: &[&str] = match self.end {
            End::Code(code) if self.linger_ms == 0 => &["/bin/probe", "exit", &code.to_string()],
            End::Code(code) => &["/bin/probe", "exit-after", &self.linger_ms.to_string(), &code.to_string()],
            End::Crash => &["/bin/probe", "crash"],
            End::Heeded | End::Timeout => &["/bin/probe", "exit-on-signal", FOR_EVER],
            End::Ignored => &["/bin/probe", "ignore-term", FOR_EVER],
            End::Killed => &["/bin/probe", "sleep", FOR_EVER],
            End::OutOfMemory => &["/bin/probe", "allocate", "268435456"],
            End::Full => &["/bin/probe", "fill-up", "/data/full"],
            End::Missing => &["/bin/missing"],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Whether it runs until somebody ends it.
    pub fn lasts(&self) -> bool {
        matches!(self.end, End::Heeded | End::Ignored | End::Killed)
    }

    /// The ends that are true, if nothing but the plan ends it.
    pub fn fates(&self) -> Vec<Fate> {
        match self.end {
            End::Code(code) => vec![Fate::Code(code)],
            End::Crash => vec![Fate::Signal(libc::SIGSEGV as u8)],
            End::Heeded => vec![Fate::Code(libc::SIGTERM as u8)],
            End::Ignored | End::Killed | End::OutOfMemory => vec![Fate::Signal(libc::SIGKILL as u8)],
            // On a busy machine it may not have come to handle signals yet.
            End::Timeout => vec![Fate::Code(libc::SIGTERM as u8), Fate::Signal(libc::SIGKILL as u8)],
            End::Full => vec![Fate::Code(FULL)],
            End::Missing => Vec::new(),
        }
    }

    /// Why it ends, if nothing but the plan ends it.
    pub fn reason(&self) -> EndReason {
        match self.end {
            End::Heeded => EndReason::Stopped,
            End::Ignored => EndReason::KilledAfterGrace,
            End::Timeout => EndReason::Timeout,
            _ => EndReason::Exited,
        }
    }
}

fn draw_end(random: &mut Random) -> End {
    let code = random.below(256) as u8;
    let others =
        [End::Crash, End::Heeded, End::Ignored, End::Killed, End::OutOfMemory, End::Timeout, End::Full, End::Missing];
    if random.percent(40) { End::Code(code) } else { random.one_of(&others) }
}

fn draw_visit(random: &mut Random) -> Option<Visit> {
    let code = random.below(124) as u8;
    random.one_of(&[
        None,
        Some(Visit::Exec(code)),
        Some(Visit::Leave),
        Some(Visit::Pause),
        Some(Visit::Update),
        Some(Visit::Read),
    ])
}

fn draw_strike(random: &mut Random, door: Door) -> Strike {
    let anywhere = [Victim::Caller, Victim::Launch, Victim::Monitor, Victim::Init];
    let with_spawner =
        [Victim::Spawner, Victim::Caller, Victim::Launch, Victim::Monitor, Victim::Init, Victim::Spawner];
    let with_keeper = [Victim::Spawner, Victim::Caller, Victim::Launch, Victim::Monitor, Victim::Init, Victim::Keeper];
    let victim = random.one_of(match door {
        Door::Forked => &with_keeper[..],
        Door::Program => &with_spawner,
        _ => &anywhere,
    });
    let span = Duration::from_micros(random.below(40_000));
    let while_running = match victim {
        Victim::Launch => false,
        Victim::Monitor => true,
        // `run --detach` has returned by then.
        Victim::Caller => door != Door::Detached && random.percent(50),
        _ => random.percent(50),
    };
    let moment = if while_running { Moment::Running(span) } else { Moment::Launching(span) };
    Strike { victim, moment }
}
