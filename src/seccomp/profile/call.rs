//! System calls by name and number, on the architecture that this library was compiled for.

use std::str::FromStr;

use syscalls::Sysno;

/// The call whose flags lie in memory, where a filter cannot see them.
pub(in crate::seccomp) const CLONE3: u32 = Sysno::clone3 as u32;

/// The number of a call; `None` for a name that this architecture, or the table that Squall was
/// built with, does not have.
pub(in crate::seccomp) fn number_of(name: &str) -> Option<u32> {
    Sysno::from_str(name).ok().map(|call| call.id() as u32)
}

/// The name of a call.
pub fn name_of(number: u32) -> Option<&'static str> {
    Sysno::new(number as usize).map(|call| call.name())
}

/// A call as people write it: its name, or its number in decimal or with `0x`.
pub(in crate::seccomp) fn parse(text: &str) -> Option<u32> {
    number_of(text).or_else(|| crate::seccomp::text::number::parse(text).and_then(|number| u32::try_from(number).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_to_each_other() {
        for name in ["read", "clone3", "close_range", "file_setattr"] {
            assert_eq!(number_of(name).and_then(name_of), Some(name));
        }
        assert_eq!((number_of("chown32"), number_of(""), name_of(100_000)), (None, None, None));
        assert_eq!(
            (parse("0x10000"), parse("7"), parse("-1"), parse("0x1ffffffff")),
            (Some(65536), Some(7), None, None)
        );
    }
}
