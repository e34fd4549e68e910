//! Where a request comes from: the names that its caller knows the fields by.

use crate::error::Problem;

/// Where a request comes from, for its errors.
#[derive(Debug, Clone, Copy)]
pub struct Door<'a> {
    /// The object that errors name: `command line`, the path of a document.
    pub object: &'a str,
    /// The builder's name of a field, and the name that the user of this door knows:
    /// `("limits.memory_bytes", "--memory")`. It holds for everything below the field as well
    /// (`args[2]`); of several that fit, the first counts.
    pub names: &'a [(&'a str, &'a str)],
}

impl Door<'static> {
    /// A Rust program: the builder's own names.
    pub(super) const PROGRAM: Door<'static> = Door { object: "launch spec", names: &[] };
}

impl Door<'_> {
    /// A problem with the name that the user knows.
    #[must_use]
    pub fn rename(&self, problem: Problem) -> Problem {
        let below = |(ours, theirs): &(&str, &str)| {
            let rest = problem.field.strip_prefix(ours)?;
            (rest.is_empty() || rest.starts_with(['.', '['])).then(|| format!("{theirs}{rest}"))
        };
        match self.names.iter().find_map(below) {
            Some(field) => Problem { field, ..problem },
            None => problem,
        }
    }
}
