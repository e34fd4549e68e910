//! A section as text.

use crate::report::{Row, Section};

/// Prints it.
pub fn print(section: &Section) {
    let unit = section.unit;
    println!("\n{} ({})", section.title, unit.name());
    let width = section.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(8);
    println!("  {:width$}  {:>9}  {:>9}  {:>9}  {:>8}  {:>4}", "", "median", "p95", "least", "to floor", "n");
    for Row { name, summary, ratio, .. } in &section.rows {
        let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        let [median, p95, least] = [summary.median, summary.p95, summary.least].map(|amount| unit.show(amount));
        println!("  {name:width$}  {median:>9}  {p95:>9}  {least:>9}  {ratio:>8}  {:>4}", summary.count);
    }
    section.notes.iter().for_each(|note| println!("  {note}"));
}
