//! The measures, one after the other, in the measurer.

mod detached;
mod ending;
mod events;
mod exec;
mod idle;
mod layers;
mod library;
mod memory;
mod mounts;
mod scale;
mod throughput;
mod whole;
mod work;

use std::time::Duration;

use serde_json::json;

use crate::Outcome;
use crate::args::{Args, Name};
use crate::ground::Ground;
use crate::report::Section;
use crate::rounds::{Pace, Shuffle};
use crate::{chart, machine, peers, table};

/// What a measure is given.
pub struct Bench<'a> {
    pub args: &'a Args,
    pub ground: &'a Ground,
    pub shuffle: Shuffle,
}

type Measure = fn(&mut Bench<'_>) -> Outcome<Vec<Section>>;

/// Every measure. Those that make many mounts come last.
const MEASURES: [(Name, Measure); 12] = [
    (Name::Library, library::measure),
    (Name::Detached, detached::measure),
    (Name::Whole, whole::measure),
    (Name::Throughput, throughput::measure),
    (Name::Exec, exec::measure),
    (Name::Ending, ending::measure),
    (Name::Memory, memory::measure),
    (Name::Idle, idle::measure),
    (Name::Layers, layers::measure),
    (Name::Mounts, mounts::measure),
    (Name::Work, work::measure),
    (Name::Scale, scale::measure),
];

/// How a measure is paced, by the word that its title ends with.
const PACED: &str = "paced";
const BACK_TO_BACK: &str = "back to back";

impl Bench<'_> {
    /// With the pause before each run.
    fn paced(&self, rounds: usize) -> Pace {
        Pace { rounds: self.args.rounds(rounds), pause: self.args.pause() }
    }

    fn back_to_back(&self, rounds: usize) -> Pace {
        Pace { rounds: self.args.rounds(rounds), pause: Duration::ZERO }
    }

    /// Both ways, with so many rounds each: the word for the title, the one for the name.
    fn both_ways(&self, rounds: usize) -> [(&'static str, &'static str, Pace); 2] {
        [(PACED, "paced", self.paced(rounds)), (BACK_TO_BACK, "back-to-back", self.back_to_back(2 * rounds))]
    }
}

/// Makes the measures that are asked for, and says what came of them.
pub fn run(args: &Args, tag: &str) -> Outcome<()> {
    let ground = Ground::make(args, tag)?;
    peers::write_podman_configuration(&ground)?;
    let machine = machine::describe(&ground, args);
    println!("{}", machine::line(&machine));
    let mut bench = Bench { args, ground: &ground, shuffle: Shuffle::new(args.seed) };
    let mut sections = Vec::new();
    for (_, measure) in MEASURES.iter().filter(|(name, _)| args.asks_for(*name)) {
        let made = measure(&mut bench);
        peers::remove_podmans_cgroups(&ground);
        for section in made? {
            table::print(&section);
            sections.push(section);
        }
    }
    if let Some(path) = &args.json {
        let all: Vec<_> = sections.iter().map(Section::json).collect();
        std::fs::write(path, serde_json::to_vec_pretty(&json!({ "machine": machine, "sections": all }))?)?;
    }
    if let Some(path) = &args.svg {
        let line = machine::line(&machine);
        let chart = chart::draw(&sections, line.lines().next().unwrap_or_default());
        std::fs::write(path, chart.ok_or("nothing to draw: it takes library, detached or whole")?)?;
    }
    Ok(())
}
