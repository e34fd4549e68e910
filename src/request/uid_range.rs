//! The range of uids of which containers get their own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::identity::NO_ID;
use crate::document::{BadValue, quoted};

/// Uids from which each container that names no user gets one of its own.
///
/// The default, 2100000000 to 2100065535, lies where nobody else gives out uids: not those of the
/// system and of people (0 to 60000), of systemd (`DynamicUser=` 61184 to 65519, containers of its
/// own 524288 to 1879048191, images 2147352576 to 2147418111), nobody (65534), what `/etc/subuid`
/// is given by useradd (100000 to 600100000), what SSSD makes of a directory's users (200000 to
/// 2000200000). It is below 2^31, where programs that take a uid for a signed number go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UidRange {
    first: u32,
    last: u32,
}

impl UidRange {
    /// From the first to the last, both included. Root is in no range, nor is the number that means
    /// no id.
    ///
    /// # Errors
    /// Why it is none.
    pub fn new(first: u32, last: u32) -> Result<UidRange, BadValue> {
        if first == 0 || last == NO_ID || first > last {
            return Err(BadValue::new(format!("{first}-{last} is no range of uids: expected FIRST-LAST, from 1 on")));
        }
        Ok(UidRange { first, last })
    }

    /// Whether a uid is one of them.
    #[must_use]
    pub fn contains(self, uid: u32) -> bool {
        (self.first..=self.last).contains(&uid)
    }

    /// How many there are.
    pub(crate) fn len(self) -> u32 {
        self.last - self.first + 1
    }

    /// The one of this number, from 0 on.
    pub(crate) fn nth(self, index: u32) -> u32 {
        self.first + index
    }

    /// The one behind it; behind the last comes the first.
    pub(crate) fn after(self, uid: u32) -> u32 {
        if uid == self.last { self.first } else { uid + 1 }
    }
}

impl Default for UidRange {
    fn default() -> UidRange {
        UidRange { first: 2_100_000_000, last: 2_100_065_535 }
    }
}

impl fmt::Display for UidRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for UidRange {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<UidRange, BadValue> {
        let numbers = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        let wrong = || BadValue::new(format!("{} is no range of uids: expected FIRST-LAST", quoted(text)));
        numbers.ok_or_else(wrong).and_then(|(first, last)| UidRange::new(first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_it_is_written_and_goes_around() {
        let range: UidRange = "7-9".parse().unwrap();
        assert_eq!((range.to_string().as_str(), range.len(), range.nth(2)), ("7-9", 3, 9));
        assert_eq!([7, 8, 9].map(|uid| range.after(uid)), [8, 9, 7]);
        assert_eq!([6, 7, 9, 10].map(|uid| range.contains(uid)), [false, true, true, false]);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "7", "-", "9-7", "0-5", "1-4294967295", "a-b", "7-9-11", " 7-9"] {
            assert!(text.parse::<UidRange>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_default_meets_nobody_elses_range() {
        let range = UidRange::default();
        for other in
            [0, 60_000, 61_184, 65_519, 65_534, 524_288, 600_100_000, 1_879_048_191, 2_000_200_000, 2_147_352_576]
        {
            assert!(!range.contains(other), "{other}");
        }
        assert!(range.last < 1 << 31);
    }
}
