//! What the program `squall` does beside calling the library: its demonstration and its examination
//! of a machine.
//!
//! The tests use both, and the probe that the demonstration's image holds.

pub mod demo;
pub mod doctor;
