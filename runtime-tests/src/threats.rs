//! Holds the list of threats, `ATTACKS.md`, and the tests together.

use std::collections::BTreeSet;

use crate::Case;

const LIST: &str = include_str!("../ATTACKS.md");

/// The heading of what is tried on Storm's setuid program, whose tests are a program of their own.
const SETUID_PROGRAM: &str = "## The setuid program";

/// The part of the list before the setuid program's.
pub fn of_containers() -> &'static str {
    LIST.split(SETUID_PROGRAM).next().unwrap_or_default()
}

/// The setuid program's part of the list.
pub fn of_setuid_program() -> &'static str {
    LIST.split(SETUID_PROGRAM).nth(1).unwrap_or_default()
}

/// Every line of the part names a test that exists, and every attack is in it.
pub fn check(part: &str, every: &[Case], attacks: &[Case]) {
    let rows: Vec<&str> = part.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| threat")).collect();
    let last = rows.iter().filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    // The names in backquotes in the last column.
    let named: BTreeSet<&str> = last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let names = |cases: &[Case]| cases.iter().map(|case| case.name).collect::<BTreeSet<&str>>();
    let unknown: Vec<_> = named.difference(&names(every)).copied().collect();
    assert!(unknown.is_empty(), "ATTACKS.md names tests that do not exist: {unknown:?}");
    let missing: Vec<_> = names(attacks).difference(&named).copied().collect();
    assert!(missing.is_empty(), "ATTACKS.md lacks attacks that have tests: {missing:?}");
    let without: Vec<_> = rows.iter().filter(|row| !row.trim_end_matches(" |").ends_with('`')).collect();
    assert!(without.is_empty(), "lines of ATTACKS.md without a test: {without:?}");
    assert!(!rows.is_empty());
}
