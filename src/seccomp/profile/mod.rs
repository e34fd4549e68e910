//! A seccomp profile, checked.

pub(super) mod action;
pub(super) mod architecture;
pub(super) mod call;
pub(super) mod condition;
pub(super) mod docker;
pub(super) mod errno_name;
pub(super) mod flags;
pub(super) mod oci;
pub(super) mod rule;
pub(super) mod schema;
pub(super) mod treatment;
pub(super) mod warning;

use std::path::Path;

use serde_json::Value;

use super::filter::{Filter, program};
use crate::document::text_file::{self, FinalLink};
use crate::document::{self, Bounds, Node, Unknown};
use crate::error::{Error, Problem, Result};
use action::Action;
use docker::Surroundings;
use flags::Flags;
use rule::Rule;
use treatment::Treatments;
use warning::Warning;

/// What errors call a profile whose file they do not know.
const OBJECT: &str = "seccomp profile";

/// What problems call the profile itself.
const TOP: &str = "profile";

/// The largest known profile (docker's) has 20 KiB, and 6 levels are what a profile can have.
const BOUNDS: Bounds = Bounds { bytes: 1 << 20, nesting: 32 };

type Findings<'d> = document::Findings<'d, Warning>;
type Place<'p, 'd> = document::Place<'p, 'd, Warning>;

/// An OCI `linux.seccomp` object that was checked, or a docker or podman profile resolved into one.
#[derive(Debug, Clone)]
pub struct Profile {
    pub(super) default: Action,
    pub(super) rules: Vec<Rule>,
    pub(super) flags: Flags,
    warnings: Vec<Warning>,
}

impl Profile {
    /// Reads a profile file: strict, with line and column of everything that is wrong. Time and
    /// memory are bounded.
    ///
    /// A file in docker's or podman's format is resolved for a process without capabilities on this
    /// machine, and a warning says so.
    ///
    /// Errors: `Invalid`, with every problem and its place (the first 100).
    pub fn parse(text: &[u8]) -> Result<Profile> {
        Profile::parse_as(OBJECT, text)
    }

    /// Reads a profile file by its path: a regular file, opened without ever waiting.
    ///
    /// Errors: those of [`Profile::parse`] with the path as object, `Invalid` for what is no
    /// regular file or too long, and what open(2) and read(2) answer.
    pub fn read(path: &Path) -> Result<Profile> {
        let object = format!("seccomp profile '{}'", path.display());
        let file = text_file::open(path, &object, FinalLink::Follow)?;
        Profile::parse_as(&object, &text_file::read(&file, &object, BOUNDS.bytes as u64)?)
    }

    /// The same, with what errors are to call the file.
    pub fn parse_as(object: &str, text: &[u8]) -> Result<Profile> {
        Profile::parse_in(object, text, Surroundings::here())
    }

    pub(super) fn parse_in(object: &str, text: &[u8], here: Surroundings) -> Result<Profile> {
        let parsed = document::parse(text, BOUNDS);
        let (text, top) = parsed.map_err(|bad| Error::invalid(object, vec![bad.at(TOP)]))?;
        Profile::check(object, &top, Findings::new(TOP, Some(text), Unknown::Refused), here)
    }

    /// Reads a profile that is part of a document: the same checks, but unknown fields only make
    /// warnings, as others write the document and copy the profile unchecked. Fields in problems
    /// and warnings count from the profile: `syscalls[3].action`.
    ///
    /// Errors: `Invalid`, with every problem (the first 100).
    pub fn from_value(profile: &Value) -> Result<Profile> {
        let unknown = Unknown::Warned(|field| Warning::UnknownField { field });
        Profile::check(OBJECT, &Node::from(profile), Findings::new(TOP, None, unknown), Surroundings::here())
    }

    fn check<'d>(object: &str, top: &'d Node<'d>, findings: Findings<'d>, here: Surroundings) -> Result<Profile> {
        let contents = schema::contents(&Place::top(top, &findings), here);
        let (problems, warnings) = findings.into_parts(|count| Warning::More { count });
        let Some(schema::Contents { default, rules, flags }) = contents.filter(|_| problems.is_empty()) else {
            return Err(Error::invalid(object, problems));
        };
        let mut profile = Profile { default, rules, flags, warnings };
        profile.warnings.extend(treatment::warnings(&profile));
        Ok(profile)
    }

    /// What is not done as it is written, or does not mean what it seems to.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What is done with calls that no rule decides.
    pub fn default_action(&self) -> Action {
        self.default
    }

    /// Makes the filter: one program for all rules.
    ///
    /// Errors: `Invalid` when the program would be longer than the kernel takes.
    pub fn compile(&self) -> Result<Filter> {
        let program = program::compile(self).map_err(|problem| Error::invalid(OBJECT, vec![problem]))?;
        Ok(Filter::new(program, self.flags))
    }

    /// Whether a program can be executed under the profile at all. The filter is in force before
    /// the workload's `execve`, so a profile that always kills or denies it could never start one;
    /// the problem says which rule does.
    pub fn lets_execute(&self) -> std::result::Result<(), Problem> {
        let number = call::number_of("execve").unwrap_or_default();
        let treatments = Treatments::of(self);
        let treatment = treatments.get(number);
        let unconditional = treatment.clauses.first().filter(|clause| clause.conditions.is_empty());
        let otherwise = treatments.action(treatment.otherwise);
        let (field, action) = match unconditional {
            Some(clause) => (clause.rule.field(), clause.rule.action),
            None => ("defaultAction".to_owned(), otherwise),
        };
        let conditionally = treatment.clauses.iter().any(|clause| clause.rule.action.lets_through());
        if conditionally || action.lets_through() {
            return Ok(());
        }
        Err(Problem { field, reason: format!("the workload could never start: for execve it says {action}") })
    }
}
