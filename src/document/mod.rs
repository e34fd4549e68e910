//! Documents from outside: read whole within bounds, with every problem at its place.

mod bad_value;
mod capped;
mod checked_text;
mod findings;
mod json_tree;
mod place;
pub(crate) mod text_file;

pub use bad_value::BadValue;
pub(crate) use bad_value::quoted;
pub(crate) use capped::Capped;
pub(crate) use checked_text::checked_text;
pub(crate) use findings::{Findings, Unknown};
pub(crate) use json_tree::{Bounds, Kind, Node, parse};
pub(crate) use place::Place;
