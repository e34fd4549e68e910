//! What is noticed while a document is walked, and the walk itself: typed access to a tree that
//! notes what does not fit.

use std::cell::RefCell;

use super::document::Node;
use crate::document::{Capped, quoted};
use crate::error::Problem;

/// Problems and warnings of a document so far. Shared by all places of one walk.
#[derive(Debug, Default)]
pub(super) struct Findings {
    problems: RefCell<Capped<Problem>>,
    warnings: RefCell<Capped<String>>,
}

impl Findings {
    /// Notes a problem: the document is refused.
    pub(super) fn problem(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Notes something that was asked for and will not be done.
    pub(super) fn warning(&self, field: &str, text: &str) {
        self.warnings.borrow_mut().push(format!("{field}: {text}"));
    }

    /// Whether there is a problem already.
    pub(super) fn any_problem(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// All problems and all warnings; where there were too many, the last says how many more.
    pub(super) fn into_parts(self) -> (Vec<Problem>, Vec<String>) {
        let warnings = self.warnings.into_inner();
        let warnings = warnings.into_items(|omitted| format!("{omitted} more warnings are not shown"));
        (self.problems.into_inner().into_problems(), warnings)
    }
}

/// A value in the document, with its path for errors.
pub(super) struct Place<'a> {
    node: &'a Node,
    path: String,
    findings: &'a Findings,
}

impl<'a> Place<'a> {
    /// The document itself.
    pub(super) fn top(node: &'a Node, findings: &'a Findings) -> Place<'a> {
        Place { node, path: String::new(), findings }
    }

    /// Where it is: `ociRuntimeConfig.mounts[3].options`.
    pub(super) fn path(&self) -> &str {
        if self.path.is_empty() { "document" } else { &self.path }
    }

    /// The value itself.
    pub(super) fn node(&self) -> &'a Node {
        self.node
    }

    pub(super) fn findings(&self) -> &'a Findings {
        self.findings
    }

    /// Notes a problem with this value.
    pub(super) fn problem(&self, reason: impl Into<String>) {
        self.findings.problem(Problem { field: self.path().to_owned(), reason: reason.into() });
    }

    /// Notes that this value will not be done.
    pub(super) fn warning(&self, text: &str) {
        self.findings.warning(self.path(), text);
    }

    /// A member that must be there.
    pub(super) fn needed(&self, key: &str) -> Option<Place<'a>> {
        let member = self.member(key);
        if member.is_none() && matches!(self.node, Node::Object(_)) {
            self.findings.problem(Problem { field: self.path_of(key), reason: "is missing".into() });
        }
        member
    }

    /// A member that may be there.
    pub(super) fn member(&self, key: &str) -> Option<Place<'a>> {
        match self.node {
            Node::Object(members) => members.get(key).map(|node| self.below(node, self.path_of(key))),
            _ => None,
        }
    }

    /// All members with their keys.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'a str, Place<'a>)> {
        let members = match self.node {
            Node::Object(members) => Some(members),
            _ => None,
        };
        members.into_iter().flatten().map(|(key, node)| (key.as_str(), self.below(node, self.path_of(key))))
    }

    /// This value, if it is an object.
    pub(super) fn object(self) -> Option<Place<'a>> {
        let fits = matches!(self.node, Node::Object(_));
        self.expect("an object", fits.then_some(())).map(|()| self)
    }

    /// The elements, if it is an array.
    pub(super) fn array(&self) -> Option<Vec<Place<'a>>> {
        let nodes = match self.node {
            Node::Array(nodes) => Some(nodes),
            _ => None,
        };
        let nodes = self.expect("an array", nodes)?.iter().enumerate();
        Some(nodes.map(|(index, node)| self.below(node, format!("{}[{index}]", self.path))).collect())
    }

    /// The text, if it is a string.
    pub(super) fn text(&self) -> Option<&'a str> {
        let text = match self.node {
            Node::Text(text) => Some(text.as_str()),
            _ => None,
        };
        self.expect("a string", text)
    }

    /// The texts, if it is an array of strings.
    pub(super) fn texts(&self) -> Option<Vec<&'a str>> {
        let texts: Vec<_> = self.array()?.iter().map(Place::text).collect();
        texts.into_iter().collect()
    }

    /// The number, if it is one, without its fraction. What does not fit is the nearest that does.
    pub(super) fn truncated(&self) -> Option<i64> {
        let number = match self.node {
            Node::Number(number) => Some(number),
            _ => None,
        };
        let number = self.expect("a number", number)?;
        // A cast from floating point truncates and saturates.
        let small = number.as_i64().or_else(|| number.as_u64().map(|_| i64::MAX));
        small.or_else(|| number.as_f64().map(|float| float as i64))
    }

    /// The number, if it is a whole one within 64 bits, signed or not.
    pub(super) fn integer(&self) -> Option<i128> {
        // 2^63: below that every whole number that a double holds can be cast.
        let whole = |float: &f64| float.fract() == 0.0 && float.abs() < 9_223_372_036_854_775_808.0;
        let integer = match self.node {
            Node::Number(number) => number
                .as_i64()
                .map(i128::from)
                .or_else(|| number.as_u64().map(i128::from))
                .or_else(|| number.as_f64().filter(whole).map(|float| float as i128)),
            _ => None,
        };
        match self.node {
            Node::Number(number) if integer.is_none() => {
                self.problem(format!("expected a whole number of 64 bits, found {}", quoted(&number.to_string())));
                None
            }
            _ => self.expect("a number", integer),
        }
    }

    /// Notes what was found where the type is another.
    pub(super) fn expect<T>(&self, what: &str, found: Option<T>) -> Option<T> {
        if found.is_none() {
            self.problem(format!("expected {what}, found {}", self.node.kind()));
        }
        found
    }

    fn below(&self, node: &'a Node, path: String) -> Place<'a> {
        Place { node, path, findings: self.findings }
    }

    /// A member's path. A key from the document is only ever shown in quotes unless it is a plain
    /// word.
    fn path_of(&self, key: &str) -> String {
        let plain = !key.is_empty() && key.len() <= 64 && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match (self.path.is_empty(), plain) {
            (true, true) => key.to_owned(),
            (true, false) => quoted(key),
            (false, true) => format!("{}.{key}", self.path),
            (false, false) => format!("{}.{}", self.path, quoted(key)),
        }
    }
}
