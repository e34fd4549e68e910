//! What is said about the entries of a tree.
//!
//! Names, depth and number of the entries are the user's choice, and Storm logs every line: both
//! are bounded.

/// Most lines for each of the two streams.
const MOST_LINES: u64 = 1000;

#[derive(Debug, Default)]
pub struct Report {
    links: u64,
    left: u64,
    failed: u64,
}

impl Report {
    /// A symbolic link, untouched. Storm's own program has this line, and one for each directory
    /// that it leaves, which says nothing and is not here.
    pub fn link(&mut self, path: &str) {
        self.links += 1;
        if self.links <= MOST_LINES {
            say!("NOOP: {path}");
        }
    }

    /// An entry that stays as it is on purpose.
    pub fn left(&mut self, path: &str, reason: impl std::fmt::Display) {
        self.left += 1;
        self.tell(format_args!("left as it is: {path}: {reason}"));
    }

    /// An entry that should have been treated and was not: the command fails in the end.
    pub fn failed(&mut self, path: &str, reason: impl std::fmt::Display) {
        self.failed += 1;
        self.tell(format_args!("{path}: {reason}"));
    }

    fn tell(&self, text: std::fmt::Arguments<'_>) {
        if self.left + self.failed <= MOST_LINES {
            tell!("{text}");
        }
    }

    /// How many entries were left on purpose.
    #[cfg(test)]
    pub fn number_left(&self) -> u64 {
        self.left
    }

    /// Says how many lines are missing; how many entries failed.
    pub fn end(self) -> u64 {
        if let Some(more @ 1..) = self.links.checked_sub(MOST_LINES) {
            say!("NOOP: {more} more symbolic links");
        }
        if let Some(more @ 1..) = (self.left + self.failed).checked_sub(MOST_LINES) {
            tell!("{more} more entries were left as they are, {} failed in all", self.failed);
        }
        self.failed
    }
}
