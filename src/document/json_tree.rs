//! JSON made into a tree of bounded size and depth, in which each value knows its offset.
//!
//! serde_json judges the grammar in a first pass that keeps nothing and does not recurse, so the
//! reader here may rely on it. The tree is [`DEPTH`] levels deep at most; what lies deeper is
//! skipped without recursion. So neither stack nor memory depend on who wrote the document.

use std::borrow::Cow;
use std::fmt;

use serde::de::IgnoredAny;
use serde_json::{Map, Number, Value};

use super::BadValue;

/// Most values in a document: a tree of about 100 MB. A seccomp profile has some hundred.
const MAX_VALUES: usize = 1_000_000;

/// Deepest nesting of the tree: twice what a seccomp profile may have.
const DEPTH: usize = 64;

/// How much of a document is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Longest text.
    pub(crate) bytes: usize,
    /// Most arrays and objects inside each other.
    pub(crate) nesting: usize,
}

/// A value, and where it begins in the text; a tree that was made of values has no offsets but 0.
#[derive(Debug)]
pub(crate) struct Node<'d> {
    pub(super) offset: usize,
    pub(crate) kind: Kind<'d>,
}

#[derive(Debug)]
pub(crate) enum Kind<'d> {
    Null,
    Boolean(bool),
    Number(Number),
    Text(Cow<'d, str>),
    Array(Vec<Node<'d>>),
    Object(Vec<Member<'d>>),
    /// An array or an object more than [`DEPTH`] levels down.
    TooDeep,
}

/// A member of an object, and where its key begins. Keys may repeat.
#[derive(Debug)]
pub(crate) struct Member<'d> {
    pub(super) key: Cow<'d, str>,
    pub(super) offset: usize,
    pub(super) node: Node<'d>,
}

impl<'d> Kind<'d> {
    /// What it is, as errors say it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Boolean(_) => "a boolean",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "a string",
            Kind::Array(_) => "an array",
            Kind::Object(_) => "an object",
            Kind::TooDeep => "something nested too deeply",
        }
    }

    /// An object with its members in the order of their keys, so that equal ones are neighbours.
    fn object(mut members: Vec<Member<'d>>) -> Kind<'d> {
        members.sort_unstable_by(|one, other| (&one.key, one.offset).cmp(&(&other.key, other.offset)));
        Kind::Object(members)
    }
}

impl<'d> From<&'d Value> for Node<'d> {
    /// The tree of a value whose depth is bounded already.
    fn from(value: &'d Value) -> Node<'d> {
        let kind = match value {
            Value::Null => Kind::Null,
            Value::Bool(boolean) => Kind::Boolean(*boolean),
            Value::Number(number) => Kind::Number(number.clone()),
            Value::String(text) => Kind::Text(Cow::Borrowed(text)),
            Value::Array(values) => Kind::Array(values.iter().map(Node::from).collect()),
            Value::Object(values) => {
                let member =
                    |(key, value): (&'d String, _)| Member { key: key.into(), offset: 0, node: Node::from(value) };
                Kind::object(values.iter().map(member).collect())
            }
        };
        Node { offset: 0, kind }
    }
}

impl Node<'_> {
    /// A copy in serde_json's form, with the first of equal members; `None` if something in it lies
    /// too deep.
    pub(crate) fn to_value(&self) -> Option<Value> {
        Some(match &self.kind {
            Kind::Null => Value::Null,
            Kind::Boolean(boolean) => Value::Bool(*boolean),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(text) => Value::String(text.to_string()),
            Kind::Array(nodes) => Value::Array(nodes.iter().map(Node::to_value).collect::<Option<_>>()?),
            Kind::Object(members) => {
                // Backwards: the map keeps the last that it is given.
                let entry = |member: &Member<'_>| Some((member.key.to_string(), member.node.to_value()?));
                Value::Object(members.iter().rev().map(entry).collect::<Option<Map<_, _>>>()?)
            }
            Kind::TooDeep => return None,
        })
    }
}

/// Parses a whole document, or says what is wrong with the text and where. The text comes back as
/// what it was found to be.
pub(crate) fn parse(text: &[u8], bounds: Bounds) -> Result<(&str, Node<'_>), BadValue> {
    if text.len() > bounds.bytes {
        return Err(BadValue::new(format!("is longer than {} bytes", bounds.bytes)));
    }
    let text = std::str::from_utf8(text).map_err(|_| {
        let valid = text.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        bad(valid, valid.len(), "not UTF-8")
    })?;
    if let Some(offset) = text.find('\0') {
        return Err(bad(text, offset, "a NUL byte"));
    }
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| BadValue::new(format!("not JSON: {error}")))?;
    let top = Reader { text, at: 0, nesting: bounds.nesting, values: 0 }.node(0)?;
    Ok((text, top))
}

fn bad(text: &str, offset: usize, reason: &str) -> BadValue {
    BadValue::new(format!("{reason} {}", Position::of(text, offset)))
}

/// Line and column (in bytes, from 1), in the words that serde_json uses.
pub(super) struct Position {
    line: usize,
    column: usize,
}

impl Position {
    pub(super) fn of(text: &str, offset: usize) -> Position {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Position { line, column: before.len() - line_start + 1 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at line {} column {}", self.line, self.column)
    }
}

/// Walks text that is known to be JSON.
struct Reader<'d> {
    text: &'d str,
    at: usize,
    nesting: usize,
    values: usize,
}

impl<'d> Reader<'d> {
    /// A value inside this many arrays and objects.
    fn node(&mut self, level: usize) -> Result<Node<'d>, BadValue> {
        let first = self.peek();
        let offset = self.at;
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.bad(offset, &format!("more than {MAX_VALUES} values")));
        }
        let kind = match first {
            b'{' | b'[' if level >= DEPTH.min(self.nesting) => self.skip(level)?,
            b'{' => self.object(level)?,
            b'[' => self.array(level)?,
            b'"' => Kind::Text(self.string()?),
            b'n' | b't' | b'f' => match self.word() {
                "null" => Kind::Null,
                word => Kind::Boolean(word == "true"),
            },
            _ => self.number()?,
        };
        Ok(Node { offset, kind })
    }

    fn object(&mut self, level: usize) -> Result<Kind<'d>, BadValue> {
        let mut members = Vec::new();
        self.at += 1;
        while self.peek() != b'}' {
            self.skip_if(b',');
            let offset = self.at;
            let key = self.string()?;
            self.skip_if(b':');
            members.push(Member { key, offset, node: self.node(level + 1)? });
        }
        self.at += 1;
        Ok(Kind::object(members))
    }

    fn array(&mut self, level: usize) -> Result<Kind<'d>, BadValue> {
        let mut nodes = Vec::new();
        self.at += 1;
        while self.peek() != b']' {
            self.skip_if(b',');
            nodes.push(self.node(level + 1)?);
        }
        self.at += 1;
        Ok(Kind::Array(nodes))
    }

    /// Passes over an array or object without recursion.
    fn skip(&mut self, level: usize) -> Result<Kind<'d>, BadValue> {
        let mut inside = level;
        loop {
            match self.peek() {
                b'[' | b'{' if inside >= self.nesting => {
                    return Err(self.bad(self.at, &format!("nested more than {} levels deep", self.nesting)));
                }
                b'[' | b'{' => inside += 1,
                b']' | b'}' => inside -= 1,
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                _ => {}
            }
            self.at += 1;
            if inside == level {
                return Ok(Kind::TooDeep);
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'d, str>, BadValue> {
        let from = self.at;
        let has_escapes = self.skip_string()?;
        if !has_escapes {
            return Ok(Cow::Borrowed(&self.text[from + 1..self.at - 1]));
        }
        // The first pass does not decode, so half a surrogate pair is only seen here.
        let text = serde_json::from_str(&self.text[from..self.at]);
        text.map(Cow::Owned).map_err(|_| self.bad(from, "not JSON: a string with an escape that is no character"))
    }

    /// Passes over a string; the answer is whether it has escapes.
    fn skip_string(&mut self) -> Result<bool, BadValue> {
        let mut has_escapes = false;
        self.at += 1;
        while let Some(byte) = self.byte().filter(|byte| *byte != b'"') {
            if byte == b'\\' {
                if self.text.as_bytes()[self.at..].starts_with(br"\u0000") {
                    return Err(self.bad(self.at, r"a NUL character (\u0000)"));
                }
                has_escapes = true;
                self.at += 1;
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(has_escapes)
    }

    fn number(&mut self) -> Result<Kind<'d>, BadValue> {
        let from = self.at;
        let number = serde_json::from_str(self.word());
        number.map(Kind::Number).map_err(|_| self.bad(from, "not JSON: a number out of range"))
    }

    /// Letters and digits, and what else a number has.
    fn word(&mut self) -> &'d str {
        let rest = &self.text[self.at..];
        let part_of_it = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let length = rest.bytes().take_while(part_of_it).count();
        self.at += length;
        &rest[..length]
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Skips white space; the byte after it. The text has been checked, so there is one.
    fn peek(&mut self) -> u8 {
        while self.byte().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
        self.byte().unwrap_or_default()
    }

    /// Skips this byte and the white space around it.
    fn skip_if(&mut self, byte: u8) {
        if self.peek() == byte {
            self.at += 1;
            self.peek();
        }
    }

    fn bad(&self, offset: usize, reason: &str) -> BadValue {
        bad(self.text, offset, reason)
    }
}

#[cfg(test)]
mod tests;
