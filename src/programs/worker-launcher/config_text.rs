//! The text of the configuration file, as far as it is read without looking at anything else.
//!
//! One `key = value` a line. More is borne than Storm's own parser bears, which drops the whole
//! file for one bad line: blanks around key and value, carriage returns, `=` in values, comments
//! after blanks. A line that is neither is an error with its number: a rule that is silently left
//! out would let somebody in. Unknown keys are left alone, and a value that begins with `#` is none,
//! both as there.

/// The entries, in the file's order.
pub fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line}: it is no UTF-8")
    })?;
    let mut entries = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        // As Storm's own: what stands before the key does not belong to it.
        let line = line.trim().trim_start_matches('=').trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |problem| format!("line {}: {problem}: '{line}'", index + 1);
        let (key, value) = line.split_once('=').ok_or_else(|| wrong("there is no '='"))?;
        let (key, value) = (key.trim(), value.trim());
        // A byte order mark, where editors put files together, is part of no key either.
        let is_strange =
            |character: char| character.is_whitespace() || character.is_control() || character == '\u{feff}';
        if key.is_empty() || key.contains(is_strange) || value.contains('\0') {
            return Err(wrong("this is no key"));
        }
        if !value.starts_with('#') {
            entries.push((key.to_owned(), value.to_owned()));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn what_administrators_write_is_borne() {
        let text = "\u{feff}# a comment\r\n\r\n  group = storm \r\n\t# another\n=path=/a=b\n= # a third = one\nempty=\nnone=#x\n";
        assert_eq!(
            parse(text.as_bytes()).unwrap(),
            [entry("group", "storm"), entry("path", "/a=b"), entry("empty", "")]
        );
    }

    #[test]
    fn a_line_that_says_nothing_is_named() {
        for (text, expected) in [
            ("a=b\nbanned.users\n", "line 2: there is no '=': 'banned.users'"),
            ("a b=c", "line 1: this is no key: 'a b=c'"),
            (" =\n =b", "line 2: there is no '=': 'b'"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), expected, "{text:?}");
        }
        assert_eq!(parse(b"a=b\n\xff").unwrap_err(), "line 2: it is no UTF-8");
    }
}
