//! What the embedders have said, as the keeper has it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::word::{self, Deed};

/// An embedder's word about the end of a worker.
#[derive(Debug)]
pub struct Told {
    pub by: String,
    pub exit: Value,
}

/// All that was said.
#[derive(Debug, Default)]
pub struct Journal {
    /// The pids of all embedders.
    pub embedders: Vec<u32>,
    /// The pids of those who were about to do something to a worker.
    intents: BTreeMap<(u64, Deed), Vec<u32>>,
    /// Workers that were about to be launched.
    launched: BTreeSet<u64>,
    /// Errors of launches and starts that were refused.
    refused: BTreeMap<u64, Vec<Value>>,
    refused_launches: BTreeSet<u64>,
    told: BTreeMap<u64, Vec<Told>>,
    pub problems: Vec<String>,
    /// Of the last embedder: before and after.
    pub descriptors: Option<(u64, u64)>,
    verbose: bool,
}

impl Journal {
    /// An empty one, which shows each word as it comes if asked to.
    pub fn new(verbose: bool) -> Journal {
        Journal { verbose, ..Journal::default() }
    }

    /// Adds a word of the embedder with this pid.
    pub fn add(&mut self, pid: u32, mut word: Value) {
        if self.verbose {
            eprintln!("{pid}: {word}");
        }
        let worker = word["worker"].as_u64();
        if let Some(problem) = word["problem"].as_str() {
            self.problem(worker, problem);
        }
        if let [Some(before), Some(after)] = [0, 1].map(|place| word["descriptors"][place].as_u64()) {
            self.descriptors = Some((before, after));
        }
        let Some(worker) = worker else { return };
        if let Some(deed) = word::deed(&word) {
            self.intents.entry((worker, deed)).or_default().push(pid);
            if deed == Deed::Launch {
                self.launched.insert(worker);
            }
        }
        if word["refused"].is_object() {
            if self.intents(worker, Deed::Start).is_empty() {
                self.refused_launches.insert(worker);
            }
            self.refused.entry(worker).or_default().push(word["refused"].take());
        }
        if let Some(by) = word["by"].as_str().map(str::to_owned) {
            self.told.entry(worker).or_default().push(Told { by, exit: word["told"].take() });
        }
    }

    /// Adds something that must not be.
    pub fn problem(&mut self, worker: Option<u64>, text: &str) {
        let place = worker.map(|worker| format!("worker {worker}: ")).unwrap_or_default();
        self.problems.push(format!("{place}{text}"));
    }

    /// The pids of those who were about to do this to a worker.
    pub fn intents(&self, worker: u64, deed: Deed) -> &[u32] {
        self.intents.get(&(worker, deed)).map_or(&[], Vec::as_slice)
    }

    /// So many intents of this kind there were, beyond the first one for each worker.
    pub fn repeated(&self, of: impl Fn(Deed) -> bool) -> usize {
        self.intents.iter().filter(|((_, deed), _)| of(*deed)).map(|(_, pids)| pids.len() - 1).sum()
    }

    /// So many workers were about to be launched.
    pub fn launched(&self) -> u64 {
        self.launched.len() as u64
    }

    /// The workers whose launch was refused.
    pub fn refused_launches(&self) -> Vec<u64> {
        self.refused_launches.iter().copied().collect()
    }

    /// How the launch or the start of a worker was refused.
    pub fn refused(&self, worker: u64) -> &[Value] {
        self.refused.get(&worker).map_or(&[], Vec::as_slice)
    }

    /// What was told of a worker's end.
    pub fn told(&self, worker: u64) -> &[Told] {
        self.told.get(&worker).map_or(&[], Vec::as_slice)
    }
}
