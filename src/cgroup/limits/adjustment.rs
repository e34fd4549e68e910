//! Where what the kernel applied differs from what was asked.
//!
//! Owns the report that goes into the record, so that nobody is told of more isolation than there
//! is. Any process may use it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Field;

/// A limit that was not applied as asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Adjustment {
    /// Which limit.
    pub field: Field,
    /// What was asked for, as it was written to the kernel.
    pub asked: String,
    /// What there is instead.
    pub got: Got,
}

/// What there is instead of what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Got {
    /// The kernel took another value: rounded to pages, forced into its range.
    Value(String),
    /// This kernel has no file for it, and nothing is lost by that or it is no limit (a weight).
    NotAvailable(String),
    /// The limit is not in force.
    NotEnforced(String),
}

impl fmt::Display for Adjustment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: asked {}, ", self.field, self.asked)?;
        match &self.got {
            Got::Value(value) => write!(f, "got {value}"),
            Got::NotAvailable(why) => write!(f, "not available: {why}"),
            Got::NotEnforced(why) => write!(f, "not enforced: {why}"),
        }
    }
}
