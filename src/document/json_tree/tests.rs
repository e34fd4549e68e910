//! What is read, with its places, and what is refused. serde_json is the oracle.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Storm's.
const BOUNDS: Bounds = Bounds { bytes: 16 << 20, nesting: 1000 };

fn node(text: &str) -> Node<'_> {
    parse(text.as_bytes(), BOUNDS).unwrap().1
}

fn value(text: &str) -> Value {
    node(text).to_value().unwrap()
}

fn refused(text: impl AsRef<[u8]>) -> String {
    parse(text.as_ref(), BOUNDS).unwrap_err().to_string()
}

fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

#[test]
fn every_value_knows_its_place() {
    let tree = node(" {\n \"a\" : [1, \"b\\n\", {}],\"c\":null}\t");
    let Kind::Object(members) = tree.kind else { panic!() };
    let Kind::Array(nodes) = &members[0].node.kind else { panic!() };
    assert_eq!(nodes.iter().map(|node| node.offset).collect::<Vec<_>>(), [11, 14, 21]);
    assert_eq!((members[1].offset, members[1].node.offset), (25, 29));
}

#[test]
fn equal_keys_are_neighbours_and_the_first_counts() {
    let text = r#"{"a":1,"b":{"c":2,"c":3},"a":[4]}"#;
    assert_eq!(value(text), json!({"a": 1, "b": {"c": 2}}));
    let Kind::Object(members) = node(text).kind else { panic!() };
    assert_eq!(members.iter().map(|member| member.offset).collect::<Vec<_>>(), [1, 25, 7]);
}

#[test]
fn only_white_space_may_follow() {
    assert_eq!(value(" {} \r\n\t "), json!({}));
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
        ("{\"a\":\n1,}", "line 2 column 3"),
        ("// comment\n{}", "line 1 column 1"),
        ("{\"a\":\"\\ud800\"}", "line 1 column 6"),
        ("{\"a\":\"\t\"}", "control character"),
        ("{\"a\":1e400}", "out of range at line 1 column 6"),
    ];
    for (text, place) in table {
        let refused = refused(text);
        assert!(refused.starts_with("not JSON") && refused.contains(place), "{text:?}: {refused}");
    }
    assert_eq!(refused(b"[\"\xff\"]"), "not UTF-8 at line 1 column 3");
    assert_eq!(refused(b"\n\"\xff\""), "not UTF-8 at line 2 column 2");
}

#[test]
fn a_nul_is_refused_in_every_form_and_place() {
    assert_eq!(refused("{\n\"a\": \0}"), "a NUL byte at line 2 column 6");
    assert_eq!(refused("{}\0"), "a NUL byte at line 1 column 3");
    assert_eq!(refused(r#"{"x":{"a\u0000b":1}}"#), r"a NUL character (\u0000) at line 1 column 9");
    assert_eq!(value(r#"{"a":"\\u0000"}"#), json!({"a": "\\u0000"}));
    assert!(refused(r#"["\\\u0000"]"#).contains("column 5"));
    let deep = "[".repeat(DEPTH + 1) + r#""\u0000""# + &"]".repeat(DEPTH + 1);
    assert_eq!(refused(deep), r"a NUL character (\u0000) at line 1 column 67");
}

#[test]
fn nesting_is_bounded_and_what_lies_too_deep_is_skipped() {
    assert!(parse(nested(1000).as_bytes(), BOUNDS).is_ok());
    assert_eq!(refused(nested(1001)), "nested more than 1000 levels deep at line 1 column 1001");
    assert!(refused(nested(100_000)).contains("nested"));
    assert!(refused("{\"a\":".repeat(100_000) + "1" + &"}".repeat(100_000)).contains("nested"));
    // What does not end is no JSON, however deep it is.
    assert!(refused("[".repeat(100_000)).contains("not JSON"));
    assert!(refused("{\"a\":".repeat(100_000)).contains("not JSON"));
    // Brackets within a string are text.
    assert!(parse(format!("[\"{}\"]", "[".repeat(2000)).as_bytes(), BOUNDS).is_ok());
    assert_eq!(node(&nested(DEPTH + 1)).to_value(), None);
    assert!(node(&nested(DEPTH)).to_value().is_some());
    let beside = format!("[{}, {{\"a\": 1}}]", nested(500).replacen("[]", "[\"]\", {\"}\": [0]}]", 1));
    let Kind::Array(nodes) = node(&beside).kind else { panic!() };
    assert_eq!(nodes[1].to_value(), Some(json!({"a": 1})));
    let small = Bounds { bytes: 100, nesting: 32 };
    let refused = |text: &str| parse(text.as_bytes(), small).unwrap_err().to_string();
    assert_eq!(refused(&nested(33)), "nested more than 32 levels deep at line 1 column 33");
    assert_eq!(refused(&" ".repeat(101)), "is longer than 100 bytes");
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
        let _ = parse(text.as_bytes(), BOUNDS);
        assert!(started.elapsed() < Duration::from_secs(10), "{}", &text[..20]);
    }
    assert!(refused(format!("[{}1]", "1,".repeat(MAX_VALUES + 1))).contains("more than 1000000 values"));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, BOUNDS);
    }

    #[test]
    fn the_tree_is_what_serde_json_reads(text in r#"[\[\]{}",:\\u0-9a-e \n.-]{0,80}"#) {
        let ours = parse(text.as_bytes(), BOUNDS).map(|(_, top)| top);
        match serde_json::from_str::<Value>(&text) {
            // A NUL is for serde_json to take and for us to refuse.
            _ if text.contains("\\u0000") => {}
            Ok(value) => {
                let repeats = has_equal_keys(ours.as_ref().unwrap());
                prop_assert!(repeats || ours.unwrap().to_value() == Some(value.clone()));
                prop_assert_eq!(Node::from(&value).to_value(), Some(value));
            }
            Err(_) => prop_assert!(ours.is_err()),
        }
    }
}

/// Of equal keys serde_json takes the last.
fn has_equal_keys(node: &Node<'_>) -> bool {
    match &node.kind {
        Kind::Array(nodes) => nodes.iter().any(has_equal_keys),
        Kind::Object(members) => {
            members.windows(2).any(|pair| pair[0].key == pair[1].key)
                || members.iter().any(|member| has_equal_keys(&member.node))
        }
        _ => false,
    }
}
