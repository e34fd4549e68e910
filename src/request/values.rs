//! Values as people type them on a command line: sizes, CPUs, seconds, mounts, variables, paths of
//! the host.
//!
//! Each function says of a bad value what was given and what would be right. Numbers are exact:
//! nothing goes through floating point.

use std::time::Duration;

use super::environment::Variable;
pub use super::host_path::host_path;
pub use super::mount_text::{TypedMount, mount, tmpfs, volume};
use crate::document::{BadValue, quoted};

/// The period of a quota that is given as a number of CPUs: the kernel's own default, 100 ms.
const CPU_PERIOD_US: u64 = 100_000;

/// Digits that are read before and after the point; more than that is no number that anyone means,
/// and 19 + 19 fit 128 bits.
const MAX_DIGITS: usize = 19;

/// A share of CPU time as the kernel takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuTime {
    /// Microseconds of CPU time in each period.
    pub quota_us: i64,
    /// The period in microseconds.
    pub period_us: u64,
}

/// A number of bytes: `1024`, `64m`, `1.5G`, `2tb`. The units b, k, m, g and t are powers of 1024;
/// a `b` may follow one. A fraction of a byte that a unit leaves is dropped. At most 2^63 - 1.
pub fn size(text: &str) -> Result<u64, BadValue> {
    let wrong = || bad(text, "a size", "digits and a unit (b, k, m, g or t, times 1024), such as 1024, 64m or 1.5g");
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        "t" | "tb" => 40,
        _ => return Err(wrong()),
    };
    let number = Decimal::parse(digits).ok_or_else(wrong)?;
    if shift == 0 && number.has_point {
        return Err(bad(text, "a size", "whole bytes, or a unit after the fraction, such as 1.5g"));
    }
    number
        .times(1 << shift)
        .filter(|bytes| *bytes <= i64::MAX as u64)
        .ok_or_else(|| bad(text, "a size", "less than 8388608t"))
}

/// A number of CPUs: `2`, `0.5`, `.5`. At least 0.01, of which the kernel makes its least quota of
/// 1 ms.
pub fn cpus(text: &str) -> Result<CpuTime, BadValue> {
    let wrong = || bad(text, "a number of CPUs", "0.01 to 1000000, such as 2 or 0.5");
    let quota = Decimal::parse(text).and_then(|number| number.times(CPU_PERIOD_US)).ok_or_else(wrong)?;
    match i64::try_from(quota) {
        Ok(quota_us @ 1_000..=100_000_000_000) => Ok(CpuTime { quota_us, period_us: CPU_PERIOD_US }),
        _ => Err(wrong()),
    }
}

/// A number of seconds: `10`, `1.5`, `0`. Capped to the nanosecond, at most 10 digits before the
/// point.
pub fn seconds(text: &str) -> Result<Duration, BadValue> {
    let number = Decimal::parse(text).filter(|number| number.whole < 10_000_000_000);
    let nanos = number.and_then(|number| number.times(1_000_000_000)).map(Duration::from_nanos);
    nanos.ok_or_else(|| bad(text, "a number of seconds", "0 or more, such as 10 or 1.5"))
}

/// A variable: `NAME=VALUE`.
pub fn variable(text: &str) -> Result<Variable, BadValue> {
    Variable::new(text)
}

pub(super) fn bad(text: &str, what: &str, expected: &str) -> BadValue {
    BadValue::new(format!("{} is not {what}: expected {expected}", quoted(text)))
}

/// A number with an optional point, taken exactly: `whole + fraction / scale`.
struct Decimal {
    whole: u64,
    fraction: u64,
    scale: u64,
    has_point: bool,
}

impl Decimal {
    /// Digits with at most one point among them, before which there may be none: no sign, no
    /// exponent, no blanks.
    fn parse(text: &str) -> Option<Decimal> {
        let (whole, fraction) = match text.split_once('.') {
            Some(("", fraction)) => ("0", fraction),
            Some(parts) => parts,
            None => (text, "0"),
        };
        let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let has_point = text.contains('.');
        Some(Decimal { whole: digits(whole)?, fraction: digits(fraction)?, scale, has_point })
    }

    /// The product, what is less than 1 of it dropped; `None` when it does not fit.
    fn times(&self, factor: u64) -> Option<u64> {
        let fraction = u128::from(self.fraction) * u128::from(factor) / u128::from(self.scale);
        let product = u128::from(self.whole) * u128::from(factor) + fraction;
        u64::try_from(product).ok()
    }
}

fn digits(text: &str) -> Option<u64> {
    let plain = (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_have_binary_units_in_any_case() {
        let table = [
            ("0", 0),
            ("1024", 1024),
            ("7b", 7),
            ("7B", 7),
            ("64m", 64 << 20),
            ("64MB", 64 << 20),
            ("64Mb", 64 << 20),
            ("1k", 1024),
            ("1.5g", 3 << 29),
            ("0.5K", 512),
            (".5k", 512),
            ("2T", 2 << 40),
            ("1.0000000001k", 1024),
            ("8388607.999999t", 9_223_372_036_853_676_296),
            ("9223372036854775807", i64::MAX as u64),
        ];
        for (text, bytes) in table {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        let table = [
            "",
            "m",
            "b",
            "-1",
            "+1",
            " 1",
            "1 m",
            "1.5",
            "1.5b",
            "1..5k",
            ".",
            ".k",
            "5.k",
            "1e3",
            "0x10",
            "64q",
            "64mm",
            "64bb",
            "64mib",
            "1,5g",
            "١",
            "9223372036854775808",
            "8388608t",
            "99999999999999999999",
            "99999999999999999999t",
            "1\0",
            "nan",
            "inf",
        ];
        for text in table {
            let error = size(text).unwrap_err().to_string();
            assert!(error.contains("is not a size: expected"), "{text}: {error}");
        }
    }

    #[test]
    fn cpus_become_a_quota_of_a_tenth_of_a_second() {
        let table = [
            ("1", 100_000),
            ("0.5", 50_000),
            (".5", 50_000),
            ("2.25", 225_000),
            ("0.01", 1000),
            ("1000000", 100_000_000_000),
        ];
        for (text, quota_us) in table {
            assert_eq!(cpus(text).unwrap(), CpuTime { quota_us, period_us: 100_000 }, "{text}");
        }
        for text in ["", "0", ".", "0.009", "-1", "1.", "x", "1000001", "1e3", "99999999999999999999"] {
            assert!(cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_are_kept_to_the_nanosecond() {
        let table = [("10", Duration::from_secs(10)), ("1.5", Duration::from_millis(1500)), ("0", Duration::ZERO)];
        for (text, duration) in table {
            assert_eq!(seconds(text).unwrap(), duration, "{text}");
        }
        assert_eq!(seconds("0.000000001").unwrap(), Duration::from_nanos(1));
        assert_eq!(seconds("9999999999").unwrap(), Duration::from_secs(9_999_999_999));
        for text in ["", "-1", "10s", "1.5.0", "10000000000", "x"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_value_panic(text in ".{0,40}", digits in "[0-9.]{0,45}[a-zA-Z]{0,3}") {
            for text in [&text, &digits] {
                let _ = (size(text), cpus(text), seconds(text), volume(text), tmpfs(text), mount(text), variable(text));
            }
        }

        #[test]
        fn a_size_in_whole_units_is_exact(count in 0_u64..8_000_000, unit in 0_usize..5) {
            let text = format!("{count}{}", ["", "k", "m", "g", "t"][unit]);
            prop_assert_eq!(size(&text).unwrap(), count << (10 * unit));
        }

        #[test]
        fn seconds_in_decimal_are_exact(secs in 0_u64..10_000_000_000, nanos in 0_u32..1_000_000_000) {
            prop_assert_eq!(seconds(&format!("{secs}.{nanos:09}")).unwrap(), Duration::new(secs, nanos));
        }
    }
}
