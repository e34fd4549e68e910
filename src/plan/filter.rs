//! The seccomp filter, to be read.

use serde_json::Value;

use crate::request::LaunchSpec;

/// What would be filtered, in readable form: as yet the profile as it came. This is the one place where the compiled profile's listing goes
/// in.
pub(super) fn listing(spec: &LaunchSpec) -> Option<Value> {
    spec.seccomp.clone()
}
