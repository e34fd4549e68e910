//! Instants of UTC as text: RFC 3339 with nanoseconds.

use crate::document::{BadValue, quoted};
use crate::request::values;

const NANOS: u64 = 1_000_000_000;
const DAY: u64 = 24 * 3600;

/// Nanoseconds since 1970, as `2026-01-31T12:00:00.000000000Z`: always 30 bytes long until the year
/// 9999.
#[must_use]
pub fn rfc3339(unix_ns: u64) -> String {
    let (seconds, nanos) = (unix_ns / NANOS, unix_ns % NANOS);
    let (year, month, day) = date_of(seconds / DAY);
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Days in the months before this one, of a year that begins in March: leap days come last then.
const BEFORE_MONTH: [u64; 12] = [0, 31, 61, 92, 122, 153, 184, 214, 245, 275, 306, 337];

/// Days of 400, 100, 4 years and one year of the Gregorian calendar.
const CYCLE: u64 = 146_097;
const CENTURY: u64 = 36_524;
const FOUR_YEARS: u64 = 1461;
const YEAR: u64 = 365;

/// From 1 March of the year 0 to 1 January 1970.
const DAYS_BEFORE_1970: u64 = 719_468;

/// Year, month and day of a day since 1970.
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_BEFORE_1970;
    let (cycles, rest) = (days / CYCLE, days % CYCLE);
    // The last day of a cycle, and of four years, is a leap day, and belongs to what it ends.
    let (centuries, rest) = ((rest / CENTURY).min(3), rest - (rest / CENTURY).min(3) * CENTURY);
    let (fours, rest) = (rest / FOUR_YEARS, rest % FOUR_YEARS);
    let (years, rest) = ((rest / YEAR).min(3), rest - (rest / YEAR).min(3) * YEAR);
    let index = BEFORE_MONTH.iter().rposition(|before| *before <= rest).unwrap_or(0);
    let month = (index as u64 + 2) % 12 + 1;
    let year = cycles * 400 + centuries * 100 + fours * 4 + years + u64::from(month < 3);
    (year, month, rest - BEFORE_MONTH[index] + 1)
}

/// The day since 1970; `None` before, and for what is no date.
fn day_of(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let index = (month as usize + 9) % 12;
    let year_of_march = year - u64::from(month < 3);
    let (cycles, rest) = (year_of_march / 400, year_of_march % 400);
    let years = rest * YEAR + rest / 4 - rest / 100;
    let days = (cycles * CYCLE + years + BEFORE_MONTH[index] + day - 1).checked_sub(DAYS_BEFORE_1970)?;
    // The 31st of a month that has 30 days is the first of the next one: no date.
    (date_of(days) == (year, month, day)).then_some(days)
}

/// Reads RFC 3339: a date, `T`, a time with an optional fraction, and `Z` or an offset. Nanoseconds
/// since 1970.
pub(super) fn parse_rfc3339(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone);
    let local = day(date)?.checked_mul(DAY)?.checked_add(seconds_of_day(clock.split('.').next()?)?)?;
    let nanos = clock.split_once('.').map_or(Some(0), |(_, fraction)| fraction_ns(fraction))?;
    let seconds = match zone {
        "Z" | "z" => local,
        _ => {
            let offset = minutes(zone.get(1..)?)? * 60;
            if zone.starts_with('+') { local.checked_sub(offset)? } else { local.checked_add(offset)? }
        }
    };
    // From the year 2554 on it is the last instant that there is.
    Some(seconds.saturating_mul(NANOS).saturating_add(nanos))
}

fn day(date: &str) -> Option<u64> {
    let mut parts = date.split('-');
    let (year, month, day) = (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    parts.next().is_none().then(|| day_of(year, month, day))?
}

fn seconds_of_day(clock: &str) -> Option<u64> {
    let (minutes_part, seconds) = clock.rsplit_once(':')?;
    Some(minutes(minutes_part)? * 60 + number(seconds, 2).filter(|seconds| *seconds < 60)?)
}

/// `HH:MM`.
fn minutes(clock: &str) -> Option<u64> {
    let (hours, minutes) = clock.split_once(':')?;
    let hours = number(hours, 2).filter(|hours| *hours < 24)?;
    Some(hours * 60 + number(minutes, 2).filter(|minutes| *minutes < 60)?)
}

fn fraction_ns(digits: &str) -> Option<u64> {
    let padded: String = digits.chars().chain("000000000".chars()).take(9).collect();
    if digits.is_empty() { None } else { number(&padded, 9) }
}

/// A number of exactly so many digits.
fn number(digits: &str, count: usize) -> Option<u64> {
    let plain = digits.len() == count && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

/// An instant that somebody typed, as podman and docker take it: RFC 3339 (`2026-01-31T12:00:00Z`),
/// a date of UTC (`2026-01-31`), seconds since 1970 (`1769860800.5`), or how long ago (`90s`,
/// `10m`, `1h30m`). `now_unix_ns` and the answer are nanoseconds since 1970.
///
/// # Errors
/// What else it may be.
pub fn parse_time(text: &str, now_unix_ns: u64) -> Result<u64, BadValue> {
    let seconds = || values::seconds(text).ok().and_then(|span| u64::try_from(span.as_nanos()).ok());
    let date = || day(text).map(|day| day.saturating_mul(DAY * NANOS));
    let ago = || span_ns(text).map(|span| now_unix_ns.saturating_sub(span));
    parse_rfc3339(text).or_else(date).or_else(seconds).or_else(ago).ok_or_else(|| {
        let expected = "2026-01-31T12:00:00Z, 2026-01-31, seconds since 1970, or how long ago, such as 10m";
        BadValue::new(format!("{} is not a time: expected {expected}", quoted(text)))
    })
}

/// `1h30m`, `90s`, `1.5h`: numbers with units.
fn span_ns(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let end = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (digits, after) = rest.split_at(end);
        let (unit, length) = match after {
            _ if after.starts_with("ms") => (1_000_000, 2),
            _ if after.starts_with('s') => (NANOS, 1),
            _ if after.starts_with('m') => (60 * NANOS, 1),
            _ if after.starts_with('h') => (3600 * NANOS, 1),
            _ if after.starts_with('d') => (DAY * NANOS, 1),
            _ => return None,
        };
        let nanos = values::seconds(digits).ok()?.as_nanos().checked_mul(u128::from(unit))? / u128::from(NANOS);
        total = total.checked_add(u64::try_from(nanos).ok()?)?;
        rest = &after[length..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_instants_are_written_as_date_says() {
        // `date -u -d @N +%FT%TZ`
        let table = [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_164_800, "2024-02-29T00:00:00"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (1_795_975_200, "2026-11-29T18:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ];
        for (seconds, text) in table {
            assert_eq!(rfc3339(seconds * NANOS + 7), format!("{text}.000000007Z"));
            assert_eq!(parse_rfc3339(&format!("{text}Z")), Some(seconds * NANOS));
        }
    }

    #[test]
    fn an_instant_may_be_typed_in_four_ways() {
        let now = 2_000_000_000 * NANOS;
        let table = [
            ("2026-11-29T18:00:00.5Z", 1_795_975_200 * NANOS + NANOS / 2),
            ("2026-11-29T19:00:00+01:00", 1_795_975_200 * NANOS),
            ("2026-11-29T12:30:00-05:30", 1_795_975_200 * NANOS),
            ("2026-11-29", 1_795_910_400 * NANOS),
            ("1795975200.25", 1_795_975_200 * NANOS + NANOS / 4),
            ("9999-12-31", u64::MAX),
            ("90s", now - 90 * NANOS),
            ("1h30m", now - 5400 * NANOS),
            ("1.5h", now - 5400 * NANOS),
            ("250ms", now - NANOS / 4),
        ];
        for (text, expected) in table {
            assert_eq!(parse_time(text, now), Ok(expected), "{text}");
        }
        for text in ["", "tomorrow", "2026-13-01", "2026-02-29", "2026-11-31", "2026-11-29T24:00:00Z", "5x", "-5m", "m"]
        {
            assert!(parse_time(text, now).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(unix_ns: u64) {
            let text = rfc3339(unix_ns);
            prop_assert_eq!((text.len(), parse_rfc3339(&text)), (30, Some(unix_ns)));
        }

        #[test]
        fn no_text_makes_reading_it_panic(text in ".{0,40}") {
            let _ = (parse_rfc3339(&text), parse_time(&text, 0));
        }
    }
}
