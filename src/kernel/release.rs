//! The kernel's version, as far as features go by it.

use std::fmt;

/// Version and patch level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl Release {
    /// Of the running kernel; nothing where uname(2) says something unheard of.
    #[must_use]
    pub fn running() -> Option<Release> {
        Release::parse(&rustix::system::uname().release().to_string_lossy())
    }

    /// From a text such as `6.1.0-13-amd64`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Release> {
        let mut numbers = text.split(|character: char| !character.is_ascii_digit());
        let mut number = || numbers.next()?.parse().ok();
        Some(Release(number()?, number()?))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_two_numbers_count_and_nonsense_is_no_release() {
        for (text, expected) in [
            ("6.18.44-fc-v657", Some(Release(6, 18))),
            ("5.12", Some(Release(5, 12))),
            ("6.1-rc1", Some(Release(6, 1))),
            ("6", None),
            ("", None),
            ("linux 6.1", None),
            ("99999999999.1", None),
        ] {
            assert_eq!(Release::parse(text), expected, "{text}");
        }
        assert!(Release(6, 2) < Release(6, 15));
    }
}
