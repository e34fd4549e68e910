//! What is wrong with one value, before anyone knows which field it belongs to.

use crate::error::Problem;

/// The longest part of a caller's text that an error repeats, in characters: one line of a
/// terminal.
const QUOTED_CHARS: usize = 64;

/// A value that cannot be used: what was given, and what would be right. [`BadValue::at`] adds the
/// field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(String);

impl BadValue {
    /// A bad value with this reason.
    pub fn new(reason: impl Into<String>) -> BadValue {
        BadValue(reason.into())
    }

    /// The same as a problem of a field.
    pub fn at(self, field: impl Into<String>) -> Problem {
        Problem { field: field.into(), reason: self.0 }
    }
}

/// A caller's text as errors show it: quoted, without control characters, and cut where it is long.
pub(crate) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(QUOTED_CHARS).flat_map(char::escape_debug).collect();
    let more = if text.chars().nth(QUOTED_CHARS).is_some() { "…" } else { "" };
    format!("'{shown}{more}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_short_and_cannot_reach_the_terminal() {
        assert_eq!(quoted("a\x1b[31m\n"), "'a\\u{1b}[31m\\n'");
        assert_eq!(quoted(&"x".repeat(1_000_000)).chars().count(), QUOTED_CHARS + 3);
    }
}
