//! What came of all cycles.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::plan::{Plan, Victim};

/// Something that must not be.
#[derive(Debug, Clone)]
pub enum Problem {
    /// A launch that failed without a reason.
    Launch(String),
    /// An end that is not true.
    False(String),
    /// A command that failed without a reason.
    Command(String),
    /// The soak itself could not go on with this cycle.
    Broken(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, text) = match self {
            Problem::Launch(text) => ("failed launch", text),
            Problem::False(text) => ("false exit", text),
            Problem::Command(text) => ("failed command", text),
            Problem::Broken(text) => ("broken cycle", text),
        };
        write!(f, "{kind}: {text}")
    }
}

/// Of one cycle.
#[derive(Debug)]
pub struct Report {
    pub plan: Plan,
    pub struck: Option<Victim>,
    pub lost: bool,
    pub problems: Vec<Problem>,
}

/// Of all cycles.
#[derive(Debug, Default)]
pub struct Tally {
    cycles: u64,
    victims: BTreeMap<Victim, u64>,
    lost: u64,
    launches: u64,
    ends: u64,
    commands: u64,
    broken: u64,
    pub disturbances: u64,
}

impl Tally {
    /// Adds a cycle, and says at once what is wrong with it.
    pub fn add(&mut self, report: &Report) {
        self.cycles += 1;
        self.lost += u64::from(report.lost);
        if let Some(victim) = report.struck {
            *self.victims.entry(victim).or_default() += 1;
        }
        for problem in &report.problems {
            eprintln!("cycle {}: {problem}\n    {:?}, struck: {:?}", report.plan.number, report.plan, report.struck);
            self.count(problem);
        }
    }

    /// Adds what went wrong beside the cycles.
    pub fn add_problem(&mut self, problem: &Problem) {
        eprintln!("{problem}");
        self.count(problem);
    }

    fn count(&mut self, problem: &Problem) {
        *match problem {
            Problem::Launch(_) => &mut self.launches,
            Problem::False(_) => &mut self.ends,
            Problem::Command(_) => &mut self.commands,
            Problem::Broken(_) => &mut self.broken,
        } += 1;
    }

    /// Whether nothing went wrong.
    pub fn is_clean(&self) -> bool {
        self.launches + self.ends + self.commands + self.broken == 0
    }

    /// One line for all.
    pub fn line(&self, leaks: u64, span: Duration) -> String {
        let victims: Vec<String> = self
            .victims
            .iter()
            .map(|(victim, count)| format!("{} {count}", format!("{victim:?}").to_lowercase()))
            .collect();
        let all: u64 = self.victims.values().sum();
        format!(
            "{} cycles, {all} victims ({}), {} disturbances: leaks {leaks}, false exits {}, failed launches {}, failed commands {}, \
             broken cycles {}, lost {}, in {:.0} s",
            self.cycles,
            victims.join(", "),
            self.disturbances,
            self.ends,
            self.launches,
            self.commands,
            self.broken,
            self.lost,
            span.as_secs_f64(),
        )
    }
}
