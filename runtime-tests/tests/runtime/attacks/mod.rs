//! Everybody who might mean harm, each with a module of tests: the image, the worker, the caller.
//!
//! `ATTACKS.md` of this package is the list of threats; it and the tests are held together by the
//! test here.

use std::collections::BTreeSet;

use runtime_tests::{Bed, Case, cases};

pub mod caller;
pub mod image;
pub mod image_roots;
pub mod opened;
pub mod worker;

cases![every_line_of_the_list_of_attacks_names_a_test_and_every_attack_is_in_it];

/// All tests of all attackers.
pub fn all() -> Vec<Case> {
    [image::CASES, image_roots::CASES, worker::CASES, caller::CASES, opened::CASES].concat()
}

const LIST: &str = include_str!("../../../ATTACKS.md");

/// The names in backquotes in the last column.
fn named() -> BTreeSet<&'static str> {
    let rows = LIST.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| threat"));
    let last = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

fn every_line_of_the_list_of_attacks_names_a_test_and_every_attack_is_in_it(_: &Bed) {
    let every: BTreeSet<&str> = crate::every_case().iter().map(|case| case.name).collect();
    let unknown: Vec<_> = named().difference(&every).copied().collect();
    assert!(unknown.is_empty(), "ATTACKS.md names tests that do not exist: {unknown:?}");
    let attacks: BTreeSet<&str> = all().iter().map(|case| case.name).collect();
    let missing: Vec<_> = attacks.difference(&named()).copied().collect();
    assert!(missing.is_empty(), "ATTACKS.md lacks attacks that have tests: {missing:?}");
    let rows = LIST.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| threat"));
    let without: Vec<_> = rows.filter(|row| !row.trim_end_matches(" |").ends_with('`')).collect();
    assert!(without.is_empty(), "lines of ATTACKS.md without a test: {without:?}");
}
