//! Signals, as they are typed and as images name them.

use squall::request::BadValue;

/// In the kernel's order, from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
/// The first real-time signal that programs can use: glibc and musl keep those below.
const RTMIN: i32 = 34;
/// The last one (`_NSIG`).
const RTMAX: i32 = 64;

/// The number of a signal: `TERM`, `SIGTERM`, `RTMIN+3`, `15`.
pub fn number(text: &str) -> Result<i32, BadValue> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = NAMES.iter().position(|known| *known == name).map(|index| index as i32 + 1);
    known
        .or_else(|| real_time(name))
        .or_else(|| text.parse().ok())
        .filter(|number| (1..=RTMAX).contains(number))
        .ok_or_else(|| {
            BadValue::new(format!("'{text}' is not a signal: expected a name such as TERM or RTMIN+3, or 1 to 64"))
        })
}

/// `RTMIN`, `RTMIN+n`, `RTMAX`, `RTMAX-n`.
fn real_time(name: &str) -> Option<i32> {
    let distance = |rest: &str, sign: char| match rest {
        "" => Some(0),
        rest => rest.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from),
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => RTMIN + distance(rest, '+')?,
        (_, Some(rest)) => RTMAX - distance(rest, '-')?,
        _ => return None,
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, expected) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("15", 15),
            ("64", 64),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("SYS", 31),
        ] {
            assert_eq!(number(text).unwrap(), expected, "{text}");
        }
        for text in ["", "0", "65", "-1", "SIG", "NONE", "RTMIN+31", "RTMIN-1", "RTMAX+1", "SIG15"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
