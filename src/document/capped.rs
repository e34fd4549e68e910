//! A list that a hostile request cannot make long.

use crate::error::Problem;

/// Most problems, and most warnings, that are kept: more than a person reads. The rest is counted.
const CAP: usize = 100;

/// The first hundred of many, and how many more there were.
#[derive(Debug, Clone)]
pub(crate) struct Capped<T> {
    items: Vec<T>,
    omitted: usize,
}

impl<T> Default for Capped<T> {
    fn default() -> Capped<T> {
        Capped { items: Vec::new(), omitted: 0 }
    }
}

impl<T> Capped<T> {
    pub(crate) fn push(&mut self, item: T) {
        self.push_with(|| item);
    }

    /// Adds what this makes, which is not called for what is only counted.
    pub(crate) fn push_with(&mut self, item: impl FnOnce() -> T) {
        if self.items.len() < CAP { self.items.push(item()) } else { self.omitted += 1 }
    }

    /// The items; where there were too many, the last one says how many more.
    pub(crate) fn into_items(self, more: impl FnOnce(usize) -> T) -> Vec<T> {
        let mut items = self.items;
        if self.omitted > 0 {
            items.push(more(self.omitted));
        }
        items
    }
}

impl<T> Extend<T> for Capped<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        items.into_iter().for_each(|item| self.push(item));
    }
}

impl Capped<Problem> {
    /// The problems; `whole` is what the one that counts the rest has as its field.
    pub(crate) fn into_problems(self, whole: &str) -> Vec<Problem> {
        let reason = |omitted| format!("{omitted} more problems are not shown");
        self.into_items(|omitted| Problem { field: whole.into(), reason: reason(omitted) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_the_first_are_kept_and_the_rest_counted() {
        let mut capped = Capped::default();
        capped.extend(0..CAP);
        assert_eq!(capped.clone().into_items(|_| 0).len(), CAP);
        capped.extend(0..1_000_000);
        assert_eq!(capped.into_items(|omitted| omitted).last(), Some(&1_000_000));
    }
}
