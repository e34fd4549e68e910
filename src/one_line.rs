//! Text that may hold anything, as one line that does nothing to a terminal.
//!
//! Names of files and what a worker says get into errors, lists and notes. Control characters in
//! them would move the cursor, change the window's title or forge lines. They are escaped here and
//! nowhere else: on the way out, where nothing can be forgotten.

use std::fmt::{self, Write};

/// Shows a value as one line: each control character, and each that turns the direction of writing,
/// becomes an escape that is one of JSON's as well (`\n`, `\u001b`). Everything else stays as it
/// is.
#[derive(Debug, Clone, Copy)]
pub struct OneLine<T>(pub T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// Passes text on, escaped.
struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, character) in text.char_indices().filter(|(_, character)| is_escaped(*character)) {
            self.0.write_str(&text[plain..at])?;
            plain = at + character.len_utf8();
            match character {
                '\n' => self.0.write_str("\\n"),
                '\r' => self.0.write_str("\\r"),
                '\t' => self.0.write_str("\\t"),
                other => write!(self.0, "\\u{:04x}", u32::from(other)),
            }?;
        }
        self.0.write_str(&text[plain..])
    }
}

/// C0, DEL and C1; separators of lines and paragraphs; marks, embeddings, overrides and isolates of
/// direction (Unicode Standard Annex 9).
fn is_escaped(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_terminal_would_act_on_is_escaped() {
        let table = [
            ("plain ä 'x' \\n", "plain ä 'x' \\n"),
            ("\x1b[2J\x07", "\\u001b[2J\\u0007"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{7f}\u{9b}31m", "\\u007f\\u009b31m"),
            ("gnp.\u{202e}exe\u{2069}", "gnp.\\u202eexe\\u2069"),
            ("", ""),
        ];
        for (text, shown) in table {
            assert_eq!(OneLine(text).to_string(), shown);
        }
    }

    #[test]
    fn json_stays_the_same_document() {
        let document = serde_json::json!({ "name\u{9b}": ["a\x1b\n", "\u{202e}", 1] });
        let shown = OneLine(&document).to_string();
        assert!(shown.is_ascii(), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), document);
    }
}
