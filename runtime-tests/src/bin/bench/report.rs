//! What was measured.

use serde_json::{Value, json};

use crate::statistics::Summary;

/// The values of a measure by row, in the order in which the rows came up.
#[derive(Debug, Default)]
pub struct Series {
    rows: Vec<(String, Vec<f64>)>,
    pub failures: Vec<String>,
}

impl Series {
    pub fn add(&mut self, of: String, amount: f64) {
        match self.rows.iter_mut().find(|(name, _)| *name == of) {
            Some((_, values)) => values.push(amount),
            None => self.rows.push((of, vec![amount])),
        }
    }

    /// Takes out the rows whose name begins so, without that beginning.
    pub fn split_off(&mut self, beginning: &str) -> Series {
        let (taken, left) =
            std::mem::take(&mut self.rows).into_iter().partition(|(name, _)| name.starts_with(beginning));
        self.rows = left;
        let taken: Vec<(String, Vec<f64>)> = taken;
        let rows = taken.into_iter().map(|(name, values)| (name[beginning.len()..].to_owned(), values)).collect();
        Series { rows, failures: Vec::new() }
    }
}

/// What a section counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Shown as milliseconds.
    Microseconds,
    PerSecond,
    KiB,
    Calls,
    Mounts,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::Microseconds => "ms",
            Unit::PerSecond => "1/s",
            Unit::KiB => "KiB",
            Unit::Calls => "calls",
            Unit::Mounts => "mounts",
        }
    }

    /// As it is shown.
    pub fn show(self, amount: f64) -> String {
        match self {
            Unit::Microseconds => format!("{:.2}", amount / 1000.0),
            Unit::PerSecond => format!("{amount:.1}"),
            Unit::KiB | Unit::Calls | Unit::Mounts => format!("{amount:.0}"),
        }
    }
}

/// A table.
#[derive(Debug)]
pub struct Section {
    pub name: String,
    pub title: String,
    pub unit: Unit,
    pub rows: Vec<Row>,
    pub notes: Vec<String>,
}

/// A line of it.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub summary: Summary,
    /// Of the medians, to that of the row's floor.
    pub ratio: Option<f64>,
    values: Vec<f64>,
}

impl Section {
    /// Rows in the order of `order` as far as they are named there, each compared with the row that
    /// `floor` names for it.
    pub fn new(
        name: impl Into<String>,
        title: impl Into<String>,
        unit: Unit,
        series: Series,
        floor: impl Fn(&str) -> Option<String>,
    ) -> Section {
        let median = |wanted: &str| {
            let (_, values) = series.rows.iter().find(|(name, _)| name == wanted)?;
            Summary::of(values).map(|summary| summary.median)
        };
        let row = |(name, values): &(String, Vec<f64>)| {
            let summary = Summary::of(values)?;
            let ratio = floor(name).and_then(|floor| median(&floor)).map(|floor| summary.median / floor);
            Some(Row { name: name.clone(), summary, ratio, values: values.clone() })
        };
        let rows = series.rows.iter().filter_map(row).collect();
        let notes =
            series.failures.iter().map(|failure| format!("FAILED, and left out from then on: {failure}")).collect();
        Section { name: name.into(), title: title.into(), unit, rows, notes }
    }

    /// The quickest first.
    pub fn sorted(mut self) -> Section {
        self.rows.sort_by(|one, other| one.summary.median.total_cmp(&other.summary.median));
        self
    }

    /// By name.
    pub fn in_order_of(mut self, order: &[String]) -> Section {
        let place = |row: &Row| order.iter().position(|name| *name == row.name).unwrap_or(usize::MAX);
        self.rows.sort_by_key(place);
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Section {
        self.notes.push(note.into());
        self
    }

    /// For a machine, every value included.
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            let Summary { count, least, median, p95 } = row.summary;
            json!({
                "name": row.name, "count": count, "least": least, "median": median, "p95": p95, "ratio_to_floor": row.ratio,
                "values": row.values,
            })
        };
        let unit = if self.unit == Unit::Microseconds { "us" } else { self.unit.name() };
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        json!({ "name": self.name, "title": self.title, "unit": unit, "rows": rows, "notes": self.notes })
    }
}
