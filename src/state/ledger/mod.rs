//! The node ledger: which container of a run root has which processors for itself, and what memory
//! is promised to it.
//!
//! There is no book that could be wrong. What a container has is noted in its claim, before it is
//! used, and counts as long as the container lives: while its launch process or its monitor holds
//! its directory, or its init is there. Whoever wants something locks the directory of all
//! containers, reads the notes of those that live, and notes its own. So what a dead container had
//! is free at once, whoever killed what, and no time has to pass.
//!
//! Other containers may name processors without having them for themselves. They get none that
//! somebody has for himself, and none that they name is given out as one container's own.

mod choice;
mod machine;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::claim::{self, Claim, Notes};
use super::record;
use super::run_root::RunRoot;
use crate::cgroup::{self, CgroupPath, CpuList, Layout};
use crate::error::{Cause, Context, Error, ErrorKind, Holder, Result};
use crate::host::boot_id;
use crate::request::{ExclusiveCpus, LaunchSpec, MemoryPromise, Placement};
use crate::stage::Stage;
use crate::wait::lock_by;
use choice::{choose, most};
use machine::Machine;

/// How long the lock is waited for while others claim. Each takes a millisecond, but much longer
/// where many launches share an emulated processor (more than 5 s seen with 6 of them). Less than a
/// launch may be silent.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a container has of its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Holding {
    /// Processors that it names, or has for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpus: Option<CpuList>,
    /// Whether it has them for itself.
    pub(crate) exclusive: bool,
    /// The memory nodes that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nodes: Option<CpuList>,
    /// Memory that is promised to it, in bytes.
    pub(crate) promised_bytes: u64,
    /// How much could be promised in all when it was claimed, where that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) capacity_bytes: Option<u64>,
}

impl Holding {
    fn of(spec: &LaunchSpec) -> Holding {
        let promised = spec.limits.memory_bytes.filter(|_| spec.memory_promise == MemoryPromise::Limit);
        Holding {
            cpus: spec.limits.cpuset_cpus.clone(),
            exclusive: spec.exclusive_cpus.is_some(),
            nodes: spec.limits.cpuset_mems.clone(),
            promised_bytes: promised.unwrap_or(0),
            capacity_bytes: None,
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.cpus.is_none() && !self.exclusive && self.promised_bytes == 0
    }

    /// Both at once, while one takes the place of the other.
    pub(crate) fn and(&self, other: &Holding) -> Holding {
        let both = |one: &Option<CpuList>, other: &Option<CpuList>| {
            CpuList::of([one, other].into_iter().flatten().flat_map(CpuList::numbers))
        };
        Holding {
            cpus: both(&self.cpus, &other.cpus),
            exclusive: self.exclusive || other.exclusive,
            nodes: both(&self.nodes, &other.nodes),
            promised_bytes: self.promised_bytes.max(other.promised_bytes),
            capacity_bytes: other.capacity_bytes,
        }
    }
}

/// What a container has of its host: a line of [`Resources`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Held {
    /// The container's id. One that is being launched is among them.
    pub id: String,
    /// The processors that it names, or has for itself.
    pub cpus: Option<CpuList>,
    /// Whether it has them for itself.
    pub exclusive: bool,
    /// The memory nodes that it is bound to.
    pub nodes: Option<CpuList>,
    /// Memory that is promised to it, in bytes; 0 for none.
    pub promised_bytes: u64,
}

/// A memory node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NodeResources {
    /// Its number.
    pub node: u16,
    /// Its processors.
    pub cpus: Option<CpuList>,
    /// Those of them that no container of the run root names.
    pub free_cpus: Option<CpuList>,
}

/// Who has what of the host, and what is free: what [`Squall::resources`](crate::Squall::resources)
/// gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Resources {
    /// Containers that name processors or were promised memory, by their ids.
    pub containers: Vec<Held>,
    /// The memory nodes that have processors, with those that containers can have at all.
    pub nodes: Vec<NodeResources>,
    /// The processors that no container of the run root names.
    pub free_cpus: Option<CpuList>,
    /// How much memory can be promised, in bytes.
    pub memory_capacity_bytes: u64,
    /// How much of it is not.
    pub free_memory_bytes: u64,
}

/// What is known of the containers of one run root.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    run_root: RunRoot,
    capacity_bytes: Option<u64>,
    machine: Machine,
}

impl Ledger {
    /// The ledger of a run root. As much memory can be promised as is said, or as the machine has.
    pub(crate) fn new(run_root: &RunRoot, capacity_bytes: Option<u64>) -> Ledger {
        Ledger { run_root: run_root.clone(), capacity_bytes, machine: Machine::this() }
    }

    /// The ledger of the run root in which this container directory is.
    pub(crate) fn of_container(directory: &Path, holding: &Holding) -> Result<Ledger> {
        let run_root = RunRoot::new(directory.ancestors().nth(2).unwrap_or(Path::new("/")))?;
        Ok(Ledger::new(&run_root, holding.capacity_bytes))
    }

    /// The spec with the processors that its container has from here on, in the claim noted; `None`
    /// where it stays as it is.
    ///
    /// # Errors
    /// `Exhausted`, with who has what is asked for.
    pub(crate) fn claim(&self, spec: &LaunchSpec, claim: &Claim, layout: &Layout) -> Result<Option<LaunchSpec>> {
        if Holding::of(spec).is_nothing() {
            return Ok(None);
        }
        let _lock = self.lock()?;
        let given = self.given(spec, layout)?;
        let holding = Holding::of(given.as_ref().unwrap_or(spec));
        claim.note_holding(&Holding { capacity_bytes: self.capacity_bytes, ..holding })?;
        Ok(given)
    }

    /// The spec with the processors that it would be given now, as far as nobody else takes them
    /// before. Touches nothing.
    ///
    /// # Errors
    /// Those of [`Ledger::claim`].
    pub(crate) fn preview(&self, spec: &LaunchSpec, layout: &Layout) -> Result<Option<LaunchSpec>> {
        if Holding::of(spec).is_nothing() { Ok(None) } else { self.given(spec, layout) }
    }

    fn given(&self, spec: &LaunchSpec, layout: &Layout) -> Result<Option<LaunchSpec>> {
        let (id, asked) = (spec.id.as_str(), Holding::of(spec));
        let others = self.holders(Some(id))?;
        self.check_memory(id, asked.promised_bytes, &others)?;
        match (spec.exclusive_cpus, &asked.cpus) {
            (Some(exclusive), None) => self.choose(spec, exclusive, &others, layout).map(Some),
            (exclusive, Some(cpus)) => check_cpus(id, cpus, exclusive.is_some(), &others).map(|()| None),
            (None, None) => Ok(None),
        }
    }

    fn choose(&self, spec: &LaunchSpec, asked: ExclusiveCpus, others: &[Held], layout: &Layout) -> Result<LaunchSpec> {
        let ExclusiveCpus { count, placement } = asked;
        let all = self.usable(&spec.cgroup, layout);
        let (free, nodes) = (without(&all, others), self.machine.nodes());
        let Some(chosen) = choose(&free, &nodes, count, placement) else {
            let what = match placement {
                Placement::OneNode => "processors of one memory node",
                Placement::Anywhere => "processors",
            };
            let holders = others.iter().filter_map(|held| Some(Holder::new(&held.id, processors(held.cpus.as_ref()?))));
            let free = most(&free, &nodes, placement) as u64;
            return Err(taken(spec.id.as_str(), what.to_owned(), count.into(), free, holders.collect()));
        };
        let mut fields = spec.clone().into_fields();
        fields.limits.cpuset_cpus = Some(chosen.cpus);
        if let (Some(node), None) = (chosen.node, &fields.limits.cpuset_mems) {
            fields.limits.cpuset_mems = CpuList::of([node]);
        }
        LaunchSpec::try_from(fields)
    }

    /// What a container at this path can run on.
    fn usable(&self, path: &CgroupPath, layout: &Layout) -> BTreeSet<u16> {
        let online = self.machine.online();
        match cgroup::available_cpus(layout, path) {
            Some(available) => available.numbers().filter(|cpu| online.contains(cpu)).collect(),
            None => online,
        }
    }

    fn check_memory(&self, id: &str, asked: u64, others: &[Held]) -> Result<()> {
        let promised = others.iter().map(|held| held.promised_bytes).fold(0_u64, u64::saturating_add);
        let free = self.capacity().saturating_sub(promised);
        if asked <= free {
            return Ok(());
        }
        let holders = others.iter().filter(|held| held.promised_bytes > 0);
        let holders = holders.map(|held| Holder::new(&held.id, format!("{} bytes", held.promised_bytes)));
        Err(taken(id, "bytes of memory".to_owned(), asked, free, holders.collect()))
    }

    fn capacity(&self) -> u64 {
        self.capacity_bytes.or_else(|| self.machine.memory_bytes()).unwrap_or(0)
    }

    /// Notes that a container that is there has, from here on, what it has now and what it is to
    /// have. Which of the two it is notes the caller when that is settled
    /// ([`claim::note_holding`]).
    ///
    /// # Errors
    /// `Exhausted`, with who has what is asked for.
    pub(crate) fn extend(&self, id: &str, directory: &Path, now: &Holding, wanted: &Holding) -> Result<()> {
        let _lock = self.lock()?;
        let others = self.holders(Some(id))?;
        if wanted.promised_bytes > now.promised_bytes {
            self.check_memory(id, wanted.promised_bytes, &others)?;
        }
        if let Some(cpus) = wanted.cpus.as_ref().filter(|_| wanted.cpus != now.cpus) {
            check_cpus(id, cpus, wanted.exclusive, &others)?;
        }
        claim::note_holding(directory, &now.and(wanted))
    }

    /// Who has what, and what is free.
    ///
    /// # Errors
    /// Where the run root cannot be read.
    pub(crate) fn resources(&self, layout: &Layout) -> Result<Resources> {
        let containers = self.holders(None)?;
        // Whatever cgroup a container is in, it has what the machine's top cgroup has, at most.
        let top = CgroupPath::new("/squall").expect("a plain name");
        let usable = self.usable(&top, layout);
        let free = without(&usable, &containers);
        let node = |node: choice::Node| NodeResources {
            node: node.number,
            free_cpus: CpuList::of(node.cpus.intersection(&free).copied()),
            cpus: CpuList::of(node.cpus.intersection(&usable).copied()),
        };
        let capacity = self.capacity();
        let promised = containers.iter().map(|held| held.promised_bytes).fold(0_u64, u64::saturating_add);
        Ok(Resources {
            nodes: self.machine.nodes().into_iter().map(node).collect(),
            free_cpus: CpuList::of(free),
            memory_capacity_bytes: capacity,
            free_memory_bytes: capacity.saturating_sub(promised),
            containers,
        })
    }

    /// Every living container that has something, but for one.
    fn holders(&self, except: Option<&str>) -> Result<Vec<Held>> {
        let directory = self.run_root.containers();
        let entries = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.at(Stage::Claim, directory.display(), "opendir")?,
        };
        let mut holders = Vec::new();
        for entry in entries {
            let entry = entry.at(Stage::Claim, directory.display(), "readdir")?;
            let id = entry.file_name().to_string_lossy().into_owned();
            if claim::is_unnamed(&id) || except == Some(id.as_str()) {
                continue;
            }
            if let Some(holding) = holding_of(&entry.path())?.filter(|holding| !holding.is_nothing())
                && is_living(&entry.path())?
            {
                let Holding { cpus, exclusive, nodes, promised_bytes, .. } = holding;
                holders.push(Held { id, cpus, exclusive, nodes, promised_bytes });
            }
        }
        holders.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(holders)
    }

    fn lock(&self) -> Result<File> {
        let object = format!("ledger of run root '{}'", self.run_root.path().display());
        let file = File::open(self.run_root.containers()).at(Stage::Claim, &object, "open")?;
        if lock_by(file.as_fd(), Instant::now() + PATIENCE).at(Stage::Claim, &object, "flock")? {
            return Ok(file);
        }
        Err(Error::timed_out(Stage::Claim, object, "flock", PATIENCE, "somebody has held it all the time"))
    }
}

/// What the container with this directory has of its host, living or not; `None` where it has
/// nothing that is noted.
pub(crate) fn holding_of(directory: &Path) -> Result<Option<Holding>> {
    Ok(Notes::read(directory)?.holding())
}

/// Whether a container's processes, or its launch, live. One whose end is on record does not,
/// though its monitor may still be clearing away.
fn is_living(directory: &Path) -> Result<bool> {
    if directory.join("exit.json").exists() {
        return Ok(false);
    }
    // What cannot be read is as good as not there: the lock tells.
    let record = record::read_launch(directory).ok().flatten();
    let here = boot_id()?;
    if record.is_some_and(|record| record.boot_id == here && record.init.is_alive()) {
        return Ok(true);
    }
    claim::is_held(directory)
}

/// Of these processors those that nobody names.
fn without(all: &BTreeSet<u16>, others: &[Held]) -> BTreeSet<u16> {
    let named: BTreeSet<u16> = others.iter().filter_map(|held| held.cpus.as_ref()).flat_map(CpuList::numbers).collect();
    all.difference(&named).copied().collect()
}

/// Processors that are named: nobody may have one of them for himself and, where they are to be one
/// container's own, nobody may name one.
fn check_cpus(id: &str, cpus: &CpuList, exclusive: bool, others: &[Held]) -> Result<()> {
    let overlap = |held: &&Held| {
        let counts = exclusive || held.exclusive;
        held.cpus.as_ref().filter(|_| counts).is_some_and(|theirs| theirs.numbers().any(|cpu| has(cpus, cpu)))
    };
    let against: Vec<&Held> = others.iter().filter(overlap).collect();
    if against.is_empty() {
        return Ok(());
    }
    let theirs: BTreeSet<u16> =
        against.iter().filter_map(|held| held.cpus.as_ref()).flat_map(CpuList::numbers).collect();
    let free = cpus.numbers().filter(|cpu| !theirs.contains(cpu)).count() as u64;
    let holders = against.iter().filter_map(|held| Some(Holder::new(&held.id, processors(held.cpus.as_ref()?))));
    Err(taken(id, format!("processors ({cpus})"), cpus.count() as u64, free, holders.collect()))
}

fn has(list: &CpuList, cpu: u16) -> bool {
    list.numbers().any(|number| number == cpu)
}

fn processors(list: &CpuList) -> String {
    format!("{} {list}", if list.count() == 1 { "processor" } else { "processors" })
}

fn taken(id: &str, what: String, asked: u64, free: u64, holders: Vec<Holder>) -> Error {
    let cause = Cause::Taken { what, asked, free, holders };
    Error::new(ErrorKind::Exhausted, Stage::Claim, format!("container '{id}'"), "claim", cause)
}

#[cfg(test)]
mod tests;
