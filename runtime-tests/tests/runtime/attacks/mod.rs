//! Everybody who might mean harm, each with a module of tests: the image, the worker, the caller.
//!
//! `ATTACKS.md` of this package is the list of threats; it and the tests are held together by the
//! test here.

use runtime_tests::{Bed, Case, cases, threats};

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

fn every_line_of_the_list_of_attacks_names_a_test_and_every_attack_is_in_it(_: &Bed) {
    threats::check(threats::of_containers(), &crate::every_case(), &all());
}
