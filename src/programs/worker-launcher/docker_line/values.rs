//! What values the options may have.

use squall::request::{AbsolutePath, Identity};

use super::{Kind, KnownOption, is_worker_id};

/// What precedes the path of a seccomp profile.
pub(super) const SECCOMP: &str = "seccomp=";

type Checked = Result<(), String>;

/// Checks the value of an option, except what it leads to on the host.
pub(super) fn check(option: &KnownOption, value: &str, user: &Identity) -> Checked {
    match option.kind {
        Kind::Text => Ok(()),
        Kind::Truth => expect(matches!(value, "" | "true" | "false"), "expected true or false"),
        Kind::Name => expect(is_worker_id(value), "expected a worker id"),
        Kind::User => {
            let own = format!("{}:{}", user.uid(), user.gid());
            expect(value == own, &format!("expected {own}, the user's own ids"))
        }
        Kind::Group => {
            let is_own = number(value).is_some_and(|gid| user.groups().contains(&gid));
            expect(is_own, "expected the number of one of the user's groups")
        }
        Kind::Path => absolute(value),
        Kind::Network => {
            let characters = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
            expect(characters && !value.is_empty(), "expected a network, and not that of another container")
        }
        // A relative one is a slice of systemd's.
        Kind::CgroupParent if value.starts_with('/') => absolute(value),
        Kind::CgroupParent => expect(value.ends_with(".slice") && !value.contains('/'), "expected a path or a slice"),
        Kind::CapDrop => {
            let characters = value.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
            expect(characters && !value.is_empty(), "expected a capability or ALL")
        }
        Kind::SecurityOpt => {
            let profile = value.strip_prefix(SECCOMP);
            let is_known = is_no_new_privileges(value) || profile.is_some_and(|path| absolute(path).is_ok());
            expect(is_known, "expected no-new-privileges or the path of a seccomp profile")
        }
        Kind::Number => expect(number(value).is_some(), "expected a whole number"),
        Kind::Cpus => {
            let (whole, part) = value.split_once('.').unwrap_or((value, "0"));
            expect(number(whole).is_some() && number(part).is_some(), "expected a decimal number")
        }
        Kind::CpuSet => {
            let characters = value.bytes().all(|byte| byte.is_ascii_digit() || b",-".contains(&byte));
            expect(characters && !value.is_empty(), "expected a list of numbers")
        }
        Kind::Memory => {
            let digits = value.strip_suffix(|unit: char| "bkmgBKMG".contains(unit)).unwrap_or(value);
            let is_size = (1..=20).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            expect(is_size, "expected a size")
        }
        // Its parts are checked by `MountSource`.
        Kind::Volume => Ok(()),
        Kind::Forbidden => Err(format!("{} is not allowed", option.name)),
    }
}

/// Whether a `--security-opt` keeps setuid programs from working.
pub(super) fn is_no_new_privileges(value: &str) -> bool {
    matches!(value, "no-new-privileges" | "no-new-privileges=true" | "no-new-privileges:true")
}

fn expect(holds: bool, otherwise: &str) -> Checked {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn absolute(path: &str) -> Checked {
    AbsolutePath::new(path).map(drop).map_err(|bad| bad.to_string())
}

/// Digits alone: no sign.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}
