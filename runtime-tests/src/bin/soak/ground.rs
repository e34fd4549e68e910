//! What all cycles share.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use runtime_tests::{Bed, Call};
use squall::cgroup::Limits;
use squall::record::{LaunchRecord, ProcessId};
use squall::request::{Builder, Identity, LaunchSpec, Log, RootMode, values};
use squall::{Spawner, Squall, Stdio};

use crate::args::Args;
use crate::plan::{Door, End, Plan};
use crate::processes::{Known, MARK, look};
use crate::{Outcome, images};

/// The limits that end something.
const MEMORY: &str = "32m";
const TIME: &str = "0.3";
const UPPER: &str = "1m";

/// A log that is copied, of two files in the run root.
const LOG: [&str; 6] = ["--log-opt", "max-size=128k", "--log-opt", "max-file=2", "--log-opt", "timestamps"];
const LOG_BYTES: u64 = 128 << 10;

/// The user, and its group.
const USER: u32 = 65534;

/// What all cycles share.
pub struct Ground {
    pub bed: Bed,
    /// A program with a forked spawner, which is this one and is never a victim.
    pub forked: Squall,
    /// The same with a spawner program.
    pub program: Squall,
    /// The spawners of both, for what they hold at the end.
    pub spawners: Vec<Known>,
    pub images: Vec<Vec<String>>,
    /// Every init and monitor that was on record.
    pub seen: Mutex<Vec<ProcessId>>,
}

/// The program `squall`.
fn program(args: &Args) -> Outcome<PathBuf> {
    let beside = || Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name("squall"));
    let path = args.squall.clone().map_or_else(beside, Ok)?;
    let found = path.canonicalize();
    found.map_err(|error| format!("{}: {error}: run runtime-tests/soak, which builds it", path.display()).into())
}

impl Ground {
    /// Makes everything. To be called while this process has one thread.
    pub fn make(args: &Args) -> Outcome<Ground> {
        let bed = Bed::new(&format!("soak-{:07}", std::process::id()), &program(args)?);
        let me = std::process::id();
        let patience = Duration::from_secs(10);
        let forked = bed.library().spawner(Spawner::fork()?).build()?;
        let keeper = look(patience, || Known::child_of(me)).ok_or("there is no keeper")?;
        let of_keeper = look(patience, || Known::child_of(keeper.pid)).ok_or("there is no spawner")?;
        let started = Spawner::program(bed.program())?;
        let is_other = |known: &Known| known.pid != keeper.pid;
        let of_program = look(patience, || youngest_child(me).filter(is_other)).ok_or("there is no spawner program")?;
        let program = bed.library().spawner(started).build()?;
        bed.make().map_err(|error| format!("cannot make {}: {error}", bed.directory().display()))?;
        let images = images::write(&bed);
        let spawners = vec![keeper, of_keeper, of_program];
        Ok(Ground { bed, forked, program, spawners, images, seen: Mutex::default() })
    }

    /// What tells the programs of a cycle from others.
    pub fn mark(&self, id: &str) -> String {
        format!("{}/{id}.", self.bed.tag())
    }

    /// What a cycle's spawner program is started by: its path carries the mark.
    pub fn spawner_name(&self, id: &str) -> PathBuf {
        self.bed.directory().join(format!("{id}.squall"))
    }

    /// A command that has nothing to do with launching.
    pub fn squall(&self, args: &[&str]) -> Call {
        self.bed.squall(args)
    }

    /// The library as this program embeds it.
    pub fn library(&self, door: Door) -> &Squall {
        if door == Door::Forked { &self.forked } else { &self.program }
    }

    /// `squall run` of a plan.
    pub fn run(&self, plan: &Plan, id: &str) -> Call {
        let mut flags = vec!["--name", id];
        match plan.door {
            Door::Detached => flags.push("--detach"),
            Door::Remove => flags.push("--rm"),
            _ => {}
        }
        let upper = format!("--writable={UPPER}");
        match plan.end {
            End::OutOfMemory => flags.extend(["--memory", MEMORY, "--memory-swap", MEMORY]),
            End::Timeout => flags.extend(["--timeout", TIME]),
            End::Full => flags.push(&upper),
            _ => {}
        }
        if plan.logs {
            flags.extend(LOG);
        }
        let argv = plan.argv();
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        self.bed.run_layers(&self.images[plan.image], &flags, &argv).env(MARK, &self.mark(id))
    }

    /// The same as a request to the library.
    pub fn spec(&self, plan: &Plan, id: &str) -> Outcome<LaunchSpec> {
        let user = Identity::new(USER, USER, [USER])?;
        let builder = LaunchSpec::builder(id).layers(&self.images[plan.image]).args(plan.argv()).user(user);
        let builder = builder.cgroup(format!("{}/{id}", self.bed.cgroup()));
        let bytes = |text: &str| values::size(text);
        let builder = match plan.end {
            End::OutOfMemory => builder.limits(memory(bytes(MEMORY)?)),
            End::Timeout => builder.timeout(values::seconds(TIME)?),
            End::Full => builder.root(RootMode::Writable { size_bytes: Some(bytes(UPPER)?) }),
            _ => builder,
        };
        let log = plan.logs.then(|| Log::in_run_root(LOG_BYTES, 2).with_timestamps());
        Ok(log.into_iter().fold(builder, Builder::log).build()?)
    }

    /// Launches and ends one container by each of this program's spawners, so that what they and
    /// the kernel make once is made.
    pub fn warm_up(&self) -> Outcome<()> {
        let plan = Plan { end: End::Code(0), image: images::COUNT - 1, strike: None, ..Plan::draw(0, 0, 0) };
        for (door, id) in [(Door::Forked, "warm-up-forked"), (Door::Program, "warm-up-program")] {
            let running = self.library(door).launch(&self.spec(&plan, id)?, Stdio::null()?)?;
            running.wait()?.remove()?;
        }
        Ok(())
    }

    /// Remembers the processes of a container.
    pub fn remember(&self, record: &LaunchRecord) {
        let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        seen.extend([record.init, record.monitor]);
    }
}

fn memory(bytes: u64) -> Limits {
    let swap = Some(squall::cgroup::SwapLimit::Total(bytes));
    Limits { memory_bytes: Some(bytes), memory_swap_bytes: swap, ..Limits::default() }
}

/// Our child that was made last.
fn youngest_child(parent: u32) -> Option<Known> {
    Known::children_of(parent).pop()
}
