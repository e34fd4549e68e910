//! Candidates in turn.

use std::time::Duration;

use crate::Outcome;
use crate::report::Series;

/// One value of a run: what it is of, and microseconds, or whatever the measure counts.
pub struct Value {
    pub of: String,
    pub amount: f64,
}

/// A run gives one or several values.
pub type Run<'a> = Box<dyn FnMut() -> Outcome<Vec<Value>> + Send + 'a>;

/// What is run.
pub struct Candidate<'a> {
    pub name: String,
    pub run: Run<'a>,
}

impl<'a> Candidate<'a> {
    /// One whose runs give one value each, under its name.
    pub fn new(name: impl Into<String>, mut run: impl FnMut() -> Outcome<f64> + Send + 'a) -> Candidate<'a> {
        let name = name.into();
        let of = name.clone();
        let run = move || Ok(vec![Value { of: of.clone(), amount: run()? }]);
        Candidate { name, run: Box::new(run) }
    }
}

/// How often, and with what between.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub rounds: usize,
    /// Before each run.
    pub pause: Duration,
}

/// Runs each candidate once without counting, then all of them in each round, in an order of the
/// round's own: nobody always comes after the same one. A candidate that fails is out, and said to
/// be.
pub fn interleave(mut candidates: Vec<Candidate<'_>>, pace: Pace, shuffle: &mut Shuffle) -> Series {
    let mut series = Series::default();
    candidates.retain_mut(|candidate| keep(candidate, pace, &mut Series::default(), &mut series.failures));
    for _ in 0..pace.rounds {
        shuffle.order(&mut candidates);
        let mut failures = Vec::new();
        candidates.retain_mut(|candidate| keep(candidate, pace, &mut series, &mut failures));
        series.failures.extend(failures);
    }
    series
}

fn keep(candidate: &mut Candidate<'_>, pace: Pace, series: &mut Series, failures: &mut Vec<String>) -> bool {
    std::thread::sleep(pace.pause);
    match (candidate.run)() {
        Ok(values) => {
            values.into_iter().for_each(|value| series.add(value.of, value.amount));
            true
        }
        Err(error) => {
            failures.push(format!("{}: {error}", candidate.name));
            false
        }
    }
}

/// A reproducible order.
pub struct Shuffle(u64);

impl Shuffle {
    pub fn new(seed: u64) -> Shuffle {
        Shuffle(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Fisher and Yates.
    fn order<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }

    /// Marsaglia's xorshift.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
