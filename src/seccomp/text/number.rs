//! A 64-bit number as people write it on a command line.

/// A number in decimal or, after `0x`, in hexadecimal.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // The standard library takes a sign as well.
    let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    u64::from_str_radix(digits, radix).ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_hexadecimal_are_read_and_nothing_else() {
        assert_eq!((parse("10"), parse("0x10"), parse("18446744073709551615")), (Some(10), Some(16), Some(u64::MAX)));
        for text in ["", "0x", "-1", "+1", "0x+1", "1e3", "18446744073709551616", " 1"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
