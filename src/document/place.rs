//! Typed access to the values of a document. What does not fit is noted with its path.

use std::fmt;

use serde_json::Number;

use super::findings::{Findings, Unknown};
use super::json_tree::{Kind, Member, Node};
use super::quoted;

/// The way from the document to a value, made into text only where something is found.
#[derive(Clone, Copy)]
enum Path<'p> {
    Top,
    Member(&'p Path<'p>, &'p str),
    Element(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    /// A key is shown in quotes unless it is a plain word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Top => Ok(()),
            Path::Element(parent, index) => write!(f, "{parent}[{index}]"),
            Path::Member(parent, key) => {
                let dot = if matches!(parent, Path::Top) { "" } else { "." };
                let plain = !key.is_empty() && key.len() <= 64 && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
                if plain { write!(f, "{parent}{dot}{key}") } else { write!(f, "{parent}{dot}{}", quoted(key)) }
            }
        }
    }
}

/// A value of the document.
pub(crate) struct Place<'p, 'd, W> {
    node: &'d Node<'d>,
    offset: usize,
    path: Path<'p>,
    findings: &'p Findings<'d, W>,
}

impl<'p, 'd, W> Place<'p, 'd, W> {
    /// The document itself.
    pub(crate) fn top(node: &'d Node<'d>, findings: &'p Findings<'d, W>) -> Place<'p, 'd, W> {
        Place { node, offset: node.offset, path: Path::Top, findings }
    }

    fn below<'s>(&'s self, node: &'d Node<'d>, offset: usize, path: Path<'s>) -> Place<'s, 'd, W> {
        Place { node, offset, path, findings: self.findings }
    }

    /// Where it is: `syscalls[3].args[0].op`.
    pub(crate) fn field(&self) -> String {
        match self.path {
            Path::Top => self.findings.top.to_owned(),
            path => path.to_string(),
        }
    }

    /// What was found so far in the whole document.
    pub(crate) fn findings(&self) -> &'p Findings<'d, W> {
        self.findings
    }

    /// The value itself.
    pub(crate) fn node(&self) -> &'d Node<'d> {
        self.node
    }

    /// Notes a problem with this value.
    pub(crate) fn problem(&self, reason: impl AsRef<str>) {
        self.findings.problem_at(self.offset, || self.field(), reason.as_ref());
    }

    /// Notes the warning that is made of this value's path.
    pub(crate) fn warn(&self, warning: impl FnOnce(String) -> W) {
        self.findings.warn(|| warning(self.field()));
    }

    /// Notes that this value has another type.
    pub(crate) fn unexpected<T>(&self, expected: &str) -> Option<T> {
        self.problem(format!("expected {expected}, found {}", self.node.kind.name()));
        None
    }

    /// Whether it is an object; notes it where not.
    pub(crate) fn is_object(&self) -> bool {
        matches!(self.node.kind, Kind::Object(_)) || self.unexpected("an object").unwrap_or(false)
    }

    /// Whether it is an array; does not note anything.
    pub(crate) fn is_array(&self) -> bool {
        matches!(self.node.kind, Kind::Array(_))
    }

    /// The members in the order of their keys, equal ones in the order of the text; none if it is
    /// no object.
    fn all_members(&self) -> &'d [Member<'d>] {
        match &self.node.kind {
            Kind::Object(members) => members,
            _ => &[],
        }
    }

    /// The members with their keys, the first of equal ones. Problems with them are at the key.
    pub(crate) fn members<'s>(&'s self) -> impl Iterator<Item = (&'d str, Place<'s, 'd, W>)> + use<'s, 'p, 'd, W> {
        let firsts = self.all_members().chunk_by(|one, next| one.key == next.key).filter_map(<[_]>::first);
        firsts.map(|first| {
            let place = self.below(&first.node, first.offset, Path::Member(&self.path, &first.key));
            (&*first.key, place)
        })
    }

    /// Looks for members that are none of these; the document's [`Unknown`] says what they are.
    pub(crate) fn only(&self, keys: &[&str]) {
        for (_, place) in self.members().filter(|(key, _)| !keys.contains(key)) {
            match self.findings.unknown {
                Unknown::Refused => place.problem(format!("is no field here: expected one of {}", keys.join(", "))),
                Unknown::Warned(warning) => place.warn(warning),
            }
        }
        if matches!(self.findings.unknown, Unknown::Warned(_)) {
            return;
        }
        for equal in self.all_members().chunk_by(|one, next| one.key == next.key) {
            for again in &equal[1..] {
                self.below(&again.node, again.offset, Path::Member(&self.path, &again.key)).problem("is given twice");
            }
        }
    }

    /// Whether the object has this member, even as null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.member(key).is_some()
    }

    /// A member that may be there.
    pub(crate) fn member<'s>(&'s self, key: &'s str) -> Option<Place<'s, 'd, W>> {
        let node = &self.all_members().iter().find(|member| member.key == key)?.node;
        Some(self.below(node, node.offset, Path::Member(&self.path, key)))
    }

    /// A member that may be there. Null is the same as nothing, as Go's JSON has it.
    pub(crate) fn given<'s>(&'s self, key: &'s str) -> Option<Place<'s, 'd, W>> {
        self.member(key).filter(|member| !matches!(member.node.kind, Kind::Null))
    }

    /// A member that must be there.
    pub(crate) fn needed<'s>(&'s self, key: &'s str) -> Option<Place<'s, 'd, W>> {
        let member = self.member(key);
        if member.is_none() && matches!(self.node.kind, Kind::Object(_)) {
            self.below(self.node, self.offset, Path::Member(&self.path, key)).problem("is missing");
        }
        member
    }

    /// The elements, if it is an array; notes it where not.
    pub(crate) fn elements<'s>(&'s self) -> impl ExactSizeIterator<Item = Place<'s, 'd, W>> + use<'s, 'p, 'd, W> {
        let nodes: &'d [Node<'d>] = match &self.node.kind {
            Kind::Array(nodes) => nodes,
            _ => self.unexpected("an array").unwrap_or_default(),
        };
        let element = |(index, node)| self.below(node, node.offset, Path::Element(&self.path, index));
        nodes.iter().enumerate().map(element)
    }

    /// The text, if it is a string; notes it where not.
    pub(crate) fn text(&self) -> Option<&'d str> {
        match &self.node.kind {
            Kind::Text(text) => Some(text),
            _ => self.unexpected("a string"),
        }
    }

    /// The texts, if it is an array of strings; notes what is not.
    pub(crate) fn texts(&self) -> Option<Vec<&'d str>> {
        let texts: Vec<_> = self.elements().map(|element| element.text()).collect();
        texts.into_iter().collect::<Option<_>>().filter(|_| self.is_array())
    }

    /// The number, if it is one; notes it where not.
    pub(crate) fn number(&self) -> Option<&'d Number> {
        match &self.node.kind {
            Kind::Number(number) => Some(number),
            _ => self.unexpected("a number"),
        }
    }

    /// The number, if it is a whole one from 0 to `max`; notes it where not.
    pub(crate) fn number_up_to(&self, max: u64) -> Option<u64> {
        let number = self.number()?;
        let fits = number.as_u64().filter(|number| *number <= max);
        if fits.is_none() {
            let number = quoted(&number.to_string());
            self.problem(format!("{number} does not fit: expected a whole number from 0 to {max}"));
        }
        fits
    }
}
