//! The problems and warnings of one document, collected while it is walked.

use std::cell::RefCell;

use super::Capped;
use super::json_tree::Position;
use crate::error::Problem;

/// How [`Place::only`](super::Place::only) takes a member that it was not told of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unknown<W> {
    /// As a problem, and so is a member that is given twice.
    Refused,
    /// As the warning that this makes of its path. Of equal members the first counts.
    Warned(fn(String) -> W),
}

/// What is noticed while a document is walked. `W` is the reader's type of warning.
pub(crate) struct Findings<'d, W> {
    pub(super) top: &'static str,
    pub(super) unknown: Unknown<W>,
    text: Option<&'d str>,
    problems: RefCell<Capped<Problem>>,
    warnings: RefCell<Capped<W>>,
}

impl<'d, W> Findings<'d, W> {
    /// Nothing yet. `top` is what problems call the document itself; with its text they say line
    /// and column.
    pub(crate) fn new(top: &'static str, text: Option<&'d str>, unknown: Unknown<W>) -> Findings<'d, W> {
        Findings { top, unknown, text, problems: RefCell::default(), warnings: RefCell::default() }
    }

    /// Notes a problem that knows its field: the document is refused.
    pub(crate) fn problem(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Notes a problem with what is at this offset.
    pub(super) fn problem_at(&self, offset: usize, field: impl FnOnce() -> String, reason: &str) {
        // Looking for the line takes time, so only for what is shown in the end.
        self.problems.borrow_mut().push_with(|| {
            let position = self.text.map(|text| format!(", {}", Position::of(text, offset))).unwrap_or_default();
            Problem { field: field(), reason: format!("{reason}{position}") }
        });
    }

    /// Notes a warning.
    pub(crate) fn warn(&self, warning: impl FnOnce() -> W) {
        self.warnings.borrow_mut().push_with(warning);
    }

    /// All problems and all warnings; of too many, the last entry says how many more.
    pub(crate) fn into_parts(self, more: impl FnOnce(usize) -> W) -> (Vec<Problem>, Vec<W>) {
        (self.problems.into_inner().into_problems(self.top), self.warnings.into_inner().into_items(more))
    }
}
