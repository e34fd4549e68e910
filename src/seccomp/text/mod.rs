//! What is said about profiles, and read from a command line.

pub(super) mod explanation;
pub(super) mod listing;
pub(super) mod number;
