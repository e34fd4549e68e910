//! Tests of profiles as a whole.

mod deciding;
mod doors;
mod random;

use serde_json::{Value, json};

use super::profile::Profile;

const NO_ARGS: [u64; 6] = [0; 6];

/// A profile from a document that is expected to be one.
fn profile(document: &Value) -> Profile {
    Profile::parse(document.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}\n{document}"))
}

/// A profile that denies by default, with these rules.
fn denying(rules: Value) -> Profile {
    profile(&json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules }))
}

fn number(name: &str) -> u32 {
    crate::seccomp::profile::call::number_of(name).unwrap()
}
