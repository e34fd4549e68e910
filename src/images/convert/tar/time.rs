//! Times as a tar has them: any second, and fractions.

/// When an entry was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::convert) struct Time {
    /// Since 1970, rounded down.
    pub(in crate::convert) seconds: i64,
    /// Whether rounding changed it.
    pub(in crate::convert) rounded: bool,
}

impl Time {
    pub(super) fn whole(seconds: i64) -> Time {
        Time { seconds, rounded: false }
    }

    /// A decimal number with or without sign and fraction.
    pub(super) fn parse(text: &[u8]) -> Result<Time, String> {
        let wrong = || format!("{:?} is no time", String::from_utf8_lossy(text));
        let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
            Some(point) => (&text[..point], &text[point + 1..]),
            None => (text, &b""[..]),
        };
        let seconds: i64 = std::str::from_utf8(whole).ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
        if !fraction.iter().all(u8::is_ascii_digit) {
            return Err(wrong());
        }
        let rounded = fraction.iter().any(|digit| *digit != b'0');
        let down = rounded && text.starts_with(b"-");
        Ok(Time { seconds: seconds.saturating_sub(i64::from(down)), rounded })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_rounded_down() {
        for (text, seconds, rounded) in [
            ("5", 5, false),
            ("5.000", 5, false),
            ("5.9", 5, true),
            ("-5.1", -6, true),
            ("-0.5", -1, true),
            ("5.", 5, false),
        ] {
            assert_eq!(Time::parse(text.as_bytes()), Ok(Time { seconds, rounded }), "{text}");
        }
        for text in ["", ".", ".5", "x", "5.x", "5.-1", "99999999999999999999"] {
            assert!(Time::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
