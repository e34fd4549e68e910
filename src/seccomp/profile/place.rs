//! Typed access to the tree of a profile, noting what does not fit, and where.

use std::cell::RefCell;
use std::fmt;

use super::node::{Kind, Member, Node, Position};
use super::warning::Warning;
use crate::document::{Capped, quoted};
use crate::error::Problem;

/// Which way a profile came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::seccomp) enum Door {
    /// A file of its own: what it says beyond a profile is a mistake.
    File,
    /// A part of a document that others write and copy unchecked: what is unknown there is ignored,
    /// with a warning.
    Document,
}

/// What is noticed while a profile is read.
pub(in crate::seccomp) struct Findings<'d> {
    door: Door,
    text: &'d [u8],
    problems: RefCell<Capped<Problem>>,
    warnings: RefCell<Capped<Warning>>,
}

impl<'d> Findings<'d> {
    /// Nothing yet. The text is the file's, for lines and columns.
    pub(in crate::seccomp) fn new(door: Door, text: &'d [u8]) -> Findings<'d> {
        Findings { door, text, problems: RefCell::default(), warnings: RefCell::default() }
    }

    fn problem(&self, field: String, offset: Option<usize>, reason: &str) {
        let position = offset.map(|offset| format!(",{}", Position::of(self.text, offset))).unwrap_or_default();
        self.problems.borrow_mut().push(Problem { field, reason: format!("{reason}{position}") });
    }

    /// Notes a warning.
    pub(in crate::seccomp) fn warn(&self, warning: Warning) {
        self.warnings.borrow_mut().push(warning);
    }

    /// All problems, and all warnings; of too many, the last entry says how many more.
    pub(in crate::seccomp) fn into_parts(self) -> (Vec<Problem>, Vec<Warning>) {
        let more =
            |count| Problem { field: "profile".to_owned(), reason: format!("{count} more problems are not shown") };
        let warnings = self.warnings.into_inner().into_items(|count| Warning::More { count });
        (self.problems.into_inner().into_items(more), warnings)
    }
}

/// The way from the profile to a value, made into text only where something is found.
#[derive(Clone, Copy)]
enum Path<'p> {
    Top,
    Member(&'p Path<'p>, &'p str),
    Element(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
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

/// A value of the profile.
pub(in crate::seccomp) struct Place<'p, 'd> {
    node: &'d Node<'d>,
    path: Path<'p>,
    findings: &'p Findings<'d>,
}

impl<'p, 'd> Place<'p, 'd> {
    /// The profile itself.
    pub(in crate::seccomp) fn top(node: &'d Node<'d>, findings: &'p Findings<'d>) -> Place<'p, 'd> {
        Place { node, path: Path::Top, findings }
    }

    /// Where it is: `syscalls[3].args[0].op`.
    pub(in crate::seccomp) fn field(&self) -> String {
        match self.path {
            Path::Top => "profile".to_owned(),
            path => path.to_string(),
        }
    }

    pub(in crate::seccomp) fn findings(&self) -> &'p Findings<'d> {
        self.findings
    }

    /// Notes a problem with this value.
    pub(in crate::seccomp) fn problem(&self, reason: impl AsRef<str>) {
        self.findings.problem(self.field(), self.node.offset, reason.as_ref());
    }

    /// Whether it is an object; notes it where not.
    pub(in crate::seccomp) fn is_object(&self) -> bool {
        self.members().is_some()
    }

    /// Whether it is an array; does not note anything.
    pub(in crate::seccomp) fn is_array(&self) -> bool {
        matches!(self.node.kind, Kind::Array(_))
    }

    fn members(&self) -> Option<&'d [Member<'d>]> {
        match &self.node.kind {
            Kind::Object(members) => Some(members),
            other => self.unexpected("an object", other),
        }
    }

    /// Notes every member that is not one of these, and every one that is there twice.
    pub(in crate::seccomp) fn only(&self, keys: &[&str]) {
        let Kind::Object(members) = &self.node.kind else { return };
        let mut seen = vec![false; keys.len()];
        for member in members {
            let field = Path::Member(&self.path, &member.key);
            match keys.iter().position(|key| *key == member.key) {
                Some(index) if seen[index] => {
                    self.findings.problem(field.to_string(), member.offset, "is given twice");
                }
                Some(index) => seen[index] = true,
                None if self.findings.door == Door::Document => {
                    self.findings.warn(Warning::UnknownField { field: field.to_string() });
                }
                None => {
                    let reason = format!("is no field here: expected one of {}", keys.join(", "));
                    self.findings.problem(field.to_string(), member.offset, &reason);
                }
            }
        }
    }

    /// Whether the object has this member, even as null.
    pub(in crate::seccomp) fn has(&self, key: &str) -> bool {
        matches!(&self.node.kind, Kind::Object(members) if members.iter().any(|member| member.key == key))
    }

    /// A member that may be there. Null is the same as nothing, as Go's JSON has it.
    pub(in crate::seccomp) fn member<'s>(&'s self, key: &'s str) -> Option<Place<'s, 'd>> {
        let Kind::Object(members) = &self.node.kind else { return None };
        let member = members.iter().find(|member| member.key == key && !matches!(member.node.kind, Kind::Null))?;
        Some(Place { node: &member.node, path: Path::Member(&self.path, key), findings: self.findings })
    }

    /// A member that must be there.
    pub(in crate::seccomp) fn needed<'s>(&'s self, key: &'s str) -> Option<Place<'s, 'd>> {
        let member = self.member(key);
        if member.is_none() && matches!(self.node.kind, Kind::Object(_)) {
            self.findings.problem(Path::Member(&self.path, key).to_string(), self.node.offset, "is missing");
        }
        member
    }

    /// The elements, if it is an array; notes it where not.
    pub(in crate::seccomp) fn elements<'s>(&'s self) -> impl ExactSizeIterator<Item = Place<'s, 'd>> + use<'s, 'd, 'p> {
        let nodes: &'d [Node<'d>] = match &self.node.kind {
            Kind::Array(nodes) => nodes,
            other => self.unexpected("an array", other).unwrap_or(&[]),
        };
        let element = |(index, node)| Place { node, path: Path::Element(&self.path, index), findings: self.findings };
        nodes.iter().enumerate().map(element)
    }

    /// The text, if it is a string.
    pub(in crate::seccomp) fn text(&self) -> Option<&'d str> {
        match &self.node.kind {
            Kind::Text(text) => Some(text),
            other => self.unexpected("a string", other),
        }
    }

    /// The number, if it is a whole one from 0 to `max`.
    pub(in crate::seccomp) fn number(&self, max: u64) -> Option<u64> {
        let Kind::Number(number) = &self.node.kind else { return self.unexpected("a number", &self.node.kind) };
        let fits = number.as_u64().filter(|number| *number <= max);
        if fits.is_none() {
            self.problem(format!(
                "{} does not fit: expected a whole number from 0 to {max}",
                quoted(&number.to_string())
            ));
        }
        fits
    }

    fn unexpected<T>(&self, what: &str, found: &Kind<'_>) -> Option<T> {
        self.problem(format!("expected {what}, found {}", found.name()));
        None
    }
}
