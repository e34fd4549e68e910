//! What came of all workers.

use std::collections::BTreeMap;
use std::time::Duration;

use squall::Container;

use crate::journal::Journal;
use crate::plan::{Fate, Plan};
use crate::word::Deed;

/// Workers of one fate.
#[derive(Debug, Default)]
struct Row {
    workers: u64,
    true_ends: u64,
}

/// Of all workers.
#[derive(Debug, Default)]
pub struct Report {
    rows: BTreeMap<&'static str, Row>,
    execs: u64,
    /// Workers that a filter killed and whose record says for which call.
    calls_named: u64,
    mismatches: u64,
    problems: u64,
    pub leaks: u64,
}

impl Report {
    /// Adds a worker, and says at once what is wrong with it.
    pub fn add(&mut self, plan: &Plan, found: &squall::Result<Container>, problems: Vec<String>) {
        let row = self.rows.entry(plan.fate.name()).or_default();
        row.workers += 1;
        row.true_ends += u64::from(problems.is_empty());
        self.execs += plan.execs.len() as u64;
        self.mismatches += u64::from(!problems.is_empty());
        if let (Fate::Filtered, Ok(Container::Exited(exited))) = (plan.fate, found) {
            self.calls_named += u64::from(exited.exit().seccomp_kill.is_some());
        }
        if problems.is_empty() {
            return;
        }
        eprintln!("worker {}: {}\n    {plan:?}", plan.number, problems.join("\n    "));
        match found {
            Ok(Container::Exited(exited)) => eprintln!("    {:?}\n    {:?}", exited.exit(), exited.record()),
            Ok(other) => eprintln!("    {other:?}"),
            Err(error) => eprintln!("    {error}"),
        }
    }

    /// Adds what went wrong beside the ends.
    pub fn add_problems(&mut self, journal: &Journal, kills: u64, planned: u64) {
        let mut problems = journal.problems.clone();
        if kills < planned {
            problems.push(format!("{kills} kills, planned were {planned}: too few workers for so many"));
        }
        match journal.descriptors {
            Some((before, after)) if after > before => {
                problems.push(format!("the last embedder had {before} descriptors, and in the end {after}"));
            }
            Some(_) => {}
            None => problems.push("no embedder came to its end".to_owned()),
        }
        problems.iter().for_each(|problem| eprintln!("{problem}"));
        self.problems += problems.len() as u64;
    }

    /// Whether nothing went wrong.
    pub fn is_clean(&self) -> bool {
        self.mismatches + self.problems + self.leaks == 0
    }

    /// A table of the fates, and a line for all.
    pub fn print(&self, journal: &Journal, kills: u64, span: Duration) {
        println!("{:28}  {:>10}  {:>10}", "", "workers", "true ends");
        for (fate, row) in &self.rows {
            println!("{fate:28}  {:>10}  {:>10}", row.workers, row.true_ends);
        }
        if let Some((before, after)) = journal.descriptors {
            println!("descriptors of the last embedder: {before} before, {after} after");
        }
        println!("system calls of filters' kills that the kernel's log told: {}", self.calls_named);
        let launches = journal.repeated(|deed| deed == Deed::Launch);
        let execs = journal.repeated(|deed| matches!(deed, Deed::Exec(_)));
        let others = journal.repeated(|deed| !matches!(deed, Deed::Launch | Deed::Exec(_)));
        println!("meant again after a kill: launches {launches}, execs {execs}, other deeds {others}");
        let workers: u64 = self.rows.values().map(|row| row.workers).sum();
        let true_ends: u64 = self.rows.values().map(|row| row.true_ends).sum();
        println!(
            "{workers} workers, {} programs in them, {kills} kills of the embedder: true ends {true_ends}, mismatches {}, \
             other problems {}, leaks {}, in {:.0} s",
            self.execs,
            self.mismatches,
            self.problems,
            self.leaks,
            span.as_secs_f64(),
        );
    }
}
