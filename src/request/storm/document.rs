//! The text of a command file, made into a tree of bounded size and depth.
//!
//! The text is read as Storm's launcher reads it: the first of several equal keys counts, nothing
//! but white space follows the document, 1000 levels of nesting are the end. A first pass over the
//! bytes refuses what would be costly (depth, number of values) before anything is built, and the
//! tree itself is [`DEPTH`] levels deep at most; what lies deeper is skipped without recursion. So
//! neither stack nor memory depend on who wrote the file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::request::BadValue;

/// Longest document. Java's are a few KiB; a seccomp profile adds 20.
pub(super) const MAX_BYTES: u64 = 16 << 20;

/// Deepest nesting of the text: that of Storm's parser (`CJSON_NESTING_LIMIT`).
const MAX_NESTING: usize = 1000;

/// Most values in a document: a tree of about 100 MB. Java's have a few hundred.
const MAX_VALUES: usize = 1_000_000;

/// Deepest nesting of the tree: twice what a seccomp profile may have, half of what serde_json
/// reads.
const DEPTH: usize = 64;

/// A value of the document.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Boolean(bool),
    Number(Number),
    Text(String),
    Array(Vec<Node>),
    Object(BTreeMap<String, Node>),
    /// More than [`DEPTH`] levels down.
    TooDeep,
}

impl Node {
    /// What it is, as errors say it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Node::Null => "null",
            Node::Boolean(_) => "a boolean",
            Node::Number(_) => "a number",
            Node::Text(_) => "a string",
            Node::Array(_) => "an array",
            Node::Object(_) => "an object",
            Node::TooDeep => "something nested too deeply",
        }
    }

    /// A copy in serde_json's form; `None` if something in it lies too deep.
    pub(super) fn to_value(&self) -> Option<Value> {
        Some(match self {
            Node::Null => Value::Null,
            Node::Boolean(boolean) => Value::Bool(*boolean),
            Node::Number(number) => Value::Number(number.clone()),
            Node::Text(text) => Value::String(text.clone()),
            Node::Array(nodes) => Value::Array(nodes.iter().map(Node::to_value).collect::<Option<_>>()?),
            Node::Object(nodes) => {
                let entry = |(key, node): (&String, &Node)| Some((key.clone(), node.to_value()?));
                Value::Object(nodes.iter().map(entry).collect::<Option<Map<_, _>>>()?)
            }
            Node::TooDeep => return None,
        })
    }
}

/// Parses a whole document, or says what is wrong with the text and where.
pub(super) fn parse(text: &[u8]) -> Result<Node, BadValue> {
    if text.len() as u64 > MAX_BYTES {
        return Err(too_long());
    }
    if let Err(error) = std::str::from_utf8(text) {
        return Err(at(text, error.valid_up_to(), "not UTF-8"));
    }
    // As Storm's parser does. The columns of its first line then count from behind the mark.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    survey(text)?;
    let mut json = serde_json::Deserializer::from_slice(text);
    let tree = Level(0).deserialize(&mut json);
    let tree = tree.and_then(|tree| json.end().map(|()| tree));
    tree.map_err(|error| BadValue::new(format!("not JSON: {error}")))
}

/// The answer to a document that is longer than it may be.
pub(super) fn too_long() -> BadValue {
    BadValue::new(format!("the document is longer than {MAX_BYTES} bytes"))
}

/// Looks over the text once for what must not reach the parser. Strings are recognised, the rest of
/// the grammar is not its business.
fn survey(text: &[u8]) -> Result<(), BadValue> {
    let (mut depth, mut values, mut in_string, mut escaped) = (0_usize, 0_usize, false, false);
    for (offset, byte) in text.iter().enumerate() {
        if *byte == 0 {
            return Err(at(text, offset, "a NUL byte"));
        }
        if in_string {
            if escaped && *byte == b'u' && text.get(offset + 1..offset + 5) == Some(b"0000") {
                return Err(at(text, offset - 1, "a NUL character (\\u0000)"));
            }
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => (depth, values) = (depth + 1, values + 1),
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err(at(text, offset, &format!("nested more than {MAX_NESTING} levels deep")));
        }
        if values > MAX_VALUES {
            return Err(at(text, offset, &format!("more than {MAX_VALUES} values")));
        }
    }
    Ok(())
}

/// A reason with the line and column (in bytes, from 1) of an offset, in the words that serde_json
/// uses.
fn at(text: &[u8], offset: usize, reason: &str) -> BadValue {
    let before = &text[..offset];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    BadValue::new(format!("{reason} at line {line} column {column}"))
}

/// Builds the node at this depth.
#[derive(Clone, Copy)]
struct Level(usize);

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Node, D::Error> {
        if self.0 >= DEPTH {
            // serde_json skips without recursion.
            return json.deserialize_ignored_any(IgnoredAny).map(|_| Node::TooDeep);
        }
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, boolean: bool) -> Result<Node, E> {
        Ok(Node::Boolean(boolean))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        // JSON has no infinities, so there is always a number.
        Ok(Number::from_f64(number).map_or(Node::Null, Node::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Node, E> {
        Ok(Node::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut json: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = json.next_element_seed(Level(self.0 + 1))? {
            nodes.push(node);
        }
        Ok(Node::Array(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut json: A) -> Result<Node, A::Error> {
        let mut nodes = BTreeMap::new();
        while let Some(key) = json.next_key::<String>()? {
            let node = json.next_value_seed(Level(self.0 + 1))?;
            if let Entry::Vacant(place) = nodes.entry(key) {
                place.insert(node);
            }
        }
        Ok(Node::Object(nodes))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> Value {
        parse(text.as_bytes()).unwrap().to_value().unwrap()
    }

    fn refused(text: impl AsRef<[u8]>) -> String {
        parse(text.as_ref()).unwrap_err().to_string()
    }

    #[test]
    fn the_first_of_equal_keys_counts() {
        assert_eq!(value(r#"{"a":1,"b":{"c":2,"c":3},"a":[4]}"#), serde_json::json!({"a": 1, "b": {"c": 2}}));
    }

    #[test]
    fn only_white_space_may_follow() {
        assert_eq!(value(" {} \r\n\t "), serde_json::json!({}));
        assert_eq!(value("\u{feff}{}"), serde_json::json!({}));
        for text in ["{}x", "{}{}", "{},", "{}//", "{} \u{a0}"] {
            assert!(refused(text).contains("line 1 column"), "{text}");
        }
    }

    #[test]
    fn a_syntax_error_has_a_line_and_a_column() {
        let table = [
            ("{\n \"a\": tru\n}", "line 3 column 0"),
            ("", "line 1 column 0"),
            ("{\"a\":1,}", "line 1 column 8"),
            ("// comment\n{}", "line 1 column 1"),
            ("{\"a\":\"\\ud800\"}", "line 1"),
            ("{\"a\":\"\t\"}", "control character"),
            ("{\"a\":1e400}", "out of range"),
        ];
        for (text, place) in table {
            assert!(refused(text).contains(place), "{text:?}: {}", refused(text));
        }
    }

    #[test]
    fn a_nul_is_refused_in_every_form_and_place() {
        assert_eq!(refused("{\n\"a\": \0}"), "a NUL byte at line 2 column 6");
        assert_eq!(refused("{}\0"), "a NUL byte at line 1 column 3");
        assert_eq!(refused(r#"{"x":{"a\u0000b":1}}"#), r"a NUL character (\u0000) at line 1 column 9");
        assert_eq!(value(r#"{"a":"\\u0000"}"#), serde_json::json!({"a": "\\u0000"}));
        assert!(refused(r#"["\\\u0000"]"#).contains("column 5"));
        assert_eq!(refused(b"[\"\xff\"]"), "not UTF-8 at line 1 column 3");
    }

    fn nested(levels: usize) -> String {
        "[".repeat(levels) + &"]".repeat(levels)
    }

    #[test]
    fn a_thousand_levels_are_read_and_one_more_is_not() {
        assert!(parse(nested(1000).as_bytes()).is_ok());
        assert!(refused(nested(1001)).contains("nested more than 1000 levels deep at line 1 column 1001"));
        assert!(refused("[".repeat(100_000)).contains("nested"));
        assert!(refused("{\"a\":".repeat(100_000)).contains("nested"));
        // Brackets within a string are text.
        assert!(parse(format!("[\"{}\"]", "[".repeat(2000)).as_bytes()).is_ok());
        assert_eq!(parse(nested(DEPTH + 1).as_bytes()).unwrap().to_value(), None);
        assert!(parse(nested(DEPTH).as_bytes()).unwrap().to_value().is_some());
    }

    #[test]
    fn hostile_documents_are_answered_within_seconds() {
        let mib = 1 << 20;
        let documents = [
            "[".repeat(16 * mib),
            format!("[{}1]", "1,".repeat(8 * mib - 8)),
            format!("[\"{}\"]", "\\n".repeat(8 * mib - 8)),
            format!("{{{}\"a\":1}}", "\"a\":1,".repeat(900_000)),
            format!("[{}]", vec![nested(999); 500].join(",")),
            "\"".repeat(16 * mib),
            " ".repeat(16 * mib),
            "\n".repeat(16 * mib) + "x",
            "9".repeat(16 * mib),
        ];
        for text in documents {
            let started = Instant::now();
            let _ = parse(text.as_bytes());
            assert!(started.elapsed() < Duration::from_secs(10), "{}", &text[..20]);
        }
        assert!(refused(format!("[{}1]", "1,".repeat(MAX_VALUES + 1))).contains("more than 1000000 values"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_text_of_json_marks_makes_it_panic(text in r#"[\[\]{}",:\\u0-9a-e \n.-]{0,80}"#) {
            let ours = parse(text.as_bytes());
            // Without NUL, serde_json's own reading of such short texts is the oracle for what is
            // JSON at all.
            if !text.contains("\\u0000") {
                prop_assert_eq!(ours.is_ok(), serde_json::from_str::<Value>(&text).is_ok());
            }
        }
    }
}
