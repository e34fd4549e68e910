//! The tree of a profile, with the place of each value in its file.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::{Number, Value};

use crate::document::BadValue;

/// Longest profile file: the largest known (docker's) has 20 KiB.
pub(in crate::seccomp) const MAX_BYTES: usize = 1 << 20;

/// Deepest nesting: a profile has 6 levels.
const MAX_DEPTH: usize = 32;

/// A value, and where it begins in the text; a tree that was made from a document has no places.
#[derive(Debug)]
pub(in crate::seccomp) struct Node<'d> {
    pub(in crate::seccomp) offset: Option<usize>,
    pub(in crate::seccomp) kind: Kind<'d>,
}

#[derive(Debug)]
pub(in crate::seccomp) enum Kind<'d> {
    Null,
    Boolean,
    Number(Number),
    Text(Cow<'d, str>),
    Array(Vec<Node<'d>>),
    Object(Vec<Member<'d>>),
}

/// A member of an object. Keys may repeat: whoever reads the object notices.
#[derive(Debug)]
pub(in crate::seccomp) struct Member<'d> {
    pub(in crate::seccomp) key: Cow<'d, str>,
    pub(in crate::seccomp) offset: Option<usize>,
    pub(in crate::seccomp) node: Node<'d>,
}

impl Kind<'_> {
    /// What it is, as errors say it.
    pub(in crate::seccomp) fn name(&self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Boolean => "a boolean",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "a string",
            Kind::Array(_) => "an array",
            Kind::Object(_) => "an object",
        }
    }
}

/// The tree of a profile inside a document, whose own depth is bounded already.
pub(in crate::seccomp) fn of_value(value: &Value) -> Node<'_> {
    let kind = match value {
        Value::Null => Kind::Null,
        Value::Bool(_) => Kind::Boolean,
        Value::Number(number) => Kind::Number(number.clone()),
        Value::String(text) => Kind::Text(Cow::Borrowed(text)),
        Value::Array(values) => Kind::Array(values.iter().map(of_value).collect()),
        Value::Object(members) => {
            let member = |(key, value)| Member { key: Cow::Borrowed(key), offset: None, node: of_value(value) };
            Kind::Object(members.iter().map(|(key, value): (&String, _)| member((key.as_str(), value))).collect())
        }
    };
    Node { offset: None, kind }
}

/// The tree of a profile file, or what is wrong with the text and where.
///
/// serde_json judges the grammar, in a first pass that keeps nothing and does not recurse; so what
/// walks the text here may rely on it.
pub(in crate::seccomp) fn parse(text: &[u8]) -> Result<Node<'_>, BadValue> {
    if text.len() > MAX_BYTES {
        return Err(BadValue::new(format!("the file is longer than {MAX_BYTES} bytes")));
    }
    let text = std::str::from_utf8(text)
        .map_err(|error| BadValue::new(format!("not UTF-8{}", Position::of(text, error.valid_up_to()))))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| BadValue::new(format!("not JSON: {error}")))?;
    Reader { text, at: 0 }.node(0)
}

/// Walks text that is known to be JSON.
struct Reader<'d> {
    text: &'d str,
    at: usize,
}

impl<'d> Reader<'d> {
    fn node(&mut self, depth: usize) -> Result<Node<'d>, BadValue> {
        let first = self.peek();
        let offset = self.at;
        if depth > MAX_DEPTH {
            return Err(self.bad(offset, &format!("nested more than {MAX_DEPTH} levels deep: no profile is")));
        }
        let kind = match first {
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            b'"' => Kind::Text(self.string()?),
            b'n' => self.word(Kind::Null),
            b't' | b'f' => self.word(Kind::Boolean),
            _ => self.number()?,
        };
        Ok(Node { offset: Some(offset), kind })
    }

    fn object(&mut self, depth: usize) -> Result<Kind<'d>, BadValue> {
        let mut members = Vec::new();
        self.at += 1;
        while self.peek() != b'}' {
            self.skip_if(b',');
            self.peek();
            let offset = Some(self.at);
            let key = self.string()?;
            self.peek();
            self.skip_if(b':');
            members.push(Member { key, offset, node: self.node(depth + 1)? });
        }
        self.at += 1;
        Ok(Kind::Object(members))
    }

    fn array(&mut self, depth: usize) -> Result<Kind<'d>, BadValue> {
        let mut nodes = Vec::new();
        self.at += 1;
        while self.peek() != b']' {
            self.skip_if(b',');
            nodes.push(self.node(depth + 1)?);
        }
        self.at += 1;
        Ok(Kind::Array(nodes))
    }

    fn string(&mut self) -> Result<Cow<'d, str>, BadValue> {
        let (from, bytes) = (self.at, self.text.as_bytes());
        let mut escapes = false;
        self.at += 1;
        while bytes[self.at] != b'"' {
            let escape = bytes[self.at] == b'\\';
            escapes |= escape;
            self.at += 1 + usize::from(escape);
        }
        self.at += 1;
        if !escapes {
            return Ok(Cow::Borrowed(&self.text[from + 1..self.at - 1]));
        }
        // The first pass does not decode, so half a surrogate pair is only seen here.
        let text = serde_json::from_str(&self.text[from..self.at]);
        text.map(Cow::Owned).map_err(|_| self.bad(from, "not JSON: a string with an escape that is no character"))
    }

    fn number(&mut self) -> Result<Kind<'d>, BadValue> {
        let from = self.at;
        self.word(Kind::Null);
        let number = serde_json::from_str(&self.text[from..self.at]);
        number.map(Kind::Number).map_err(|_| self.bad(from, "not JSON: a number out of range"))
    }

    /// Skips letters and digits, and what else a number has.
    fn word(&mut self, kind: Kind<'d>) -> Kind<'d> {
        let part_of_it = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        self.at += self.text.as_bytes()[self.at..].iter().take_while(|byte| part_of_it(byte)).count();
        kind
    }

    /// Skips white space; the byte after it. The text has been checked, so there is one.
    fn peek(&mut self) -> u8 {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.text.as_bytes().get(self.at).copied().unwrap_or_default()
    }

    fn skip_if(&mut self, byte: u8) {
        if self.text.as_bytes()[self.at] == byte {
            self.at += 1;
        }
    }

    fn bad(&self, offset: usize, reason: &str) -> BadValue {
        BadValue::new(format!("{reason}{}", Position::of(self.text.as_bytes(), offset)))
    }
}

/// Line and column (in bytes, from 1), in the words that serde_json uses.
pub(in crate::seccomp) struct Position {
    line: usize,
    column: usize,
}

impl Position {
    pub(in crate::seccomp) fn of(text: &[u8], offset: usize) -> Position {
        let before = &text[..offset];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        Position { line, column }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, " at line {} column {}", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tree as serde_json has it, the last of equal keys counting there.
    fn to_value(node: &Node<'_>, original: &Value) -> Value {
        match (&node.kind, original) {
            (Kind::Null, _) => Value::Null,
            (Kind::Boolean, original) => Value::Bool(original == &Value::Bool(true)),
            (Kind::Number(number), _) => Value::Number(number.clone()),
            (Kind::Text(text), _) => Value::String(text.to_string()),
            (Kind::Array(nodes), Value::Array(values)) => {
                Value::Array(nodes.iter().zip(values).map(|(node, value)| to_value(node, value)).collect())
            }
            (Kind::Object(members), Value::Object(values)) => Value::Object(
                members
                    .iter()
                    .map(|member| (member.key.to_string(), to_value(&member.node, &values[&*member.key])))
                    .collect(),
            ),
            _ => Value::Null,
        }
    }

    #[test]
    fn every_value_knows_its_place() {
        let tree = parse(b" {\n \"a\" : [1, \"b\\n\", {}],\"c\":null}\t").unwrap();
        let Kind::Object(members) = tree.kind else { panic!() };
        let Kind::Array(nodes) = &members[0].node.kind else { panic!() };
        assert_eq!(nodes.iter().map(|node| node.offset.unwrap()).collect::<Vec<_>>(), [11, 14, 21]);
        assert_eq!((members[1].offset, members[1].node.offset), (Some(25), Some(29)));
    }

    #[test]
    fn what_is_too_long_too_deep_or_no_text_is_refused_with_its_place() {
        let refused = |text: &[u8]| parse(text).unwrap_err().to_string();
        assert!(refused(&vec![b' '; MAX_BYTES + 1]).contains("longer than"));
        assert!(refused("[".repeat(100_000).as_bytes()).contains("not JSON"));
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(refused(deep.as_bytes()).contains("32 levels deep: no profile is at line 1 column 34"));
        assert_eq!(refused(b"\n\"\xff\""), "not UTF-8 at line 2 column 2");
        assert!(refused(b"{\"a\":\n1,}").contains("line 2 column 3"));
        assert!(refused(b"[\"\\ud800\"]").contains("line 1 column 2"));
        assert!(refused(b"[1e999]").contains("line 1 column 2"));
        assert!(refused(b"").contains("not JSON"));
    }

    proptest! {
        #[test]
        fn the_tree_is_what_serde_json_reads(text in r#"[\[\]{}",:\\u0-9a-e \n.-]{0,60}"#) {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                prop_assert_eq!(to_value(&parse(text.as_bytes()).unwrap(), &value), value);
            } else {
                prop_assert!(parse(text.as_bytes()).is_err());
            }
        }
    }
}
