//! What a worker of uid 0 is denied beyond any other, although it has no capability.
//!
//! Files of the host belong to it, so a way out is closed that file permissions close for everybody else: user namespaces, in which it would
//! have capabilities again and could mount the host's cgroups to take off its limits.

use crate::error::Result;
use crate::request::LaunchSpec;
use crate::seccomp::{Filter, Profile};

/// What root is denied whatever its own profile says: a user namespace. clone3, whose flags lie in memory, is answered as by a kernel that has
/// none, so that the C library falls back to clone.
const NO_USER_NAMESPACES: &str = r#"{
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        { "names": ["clone", "unshare"], "action": "SCMP_ACT_ERRNO",
          "args": [{ "index": 0, "value": 268435456, "valueTwo": 268435456, "op": "SCMP_CMP_MASKED_EQ" }] },
        { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }
    ]
}"#;

/// The filter that a worker of uid 0 gets beside its own. Made by the launch process.
pub(super) fn filter_for(spec: &LaunchSpec) -> Result<Option<Filter>> {
    if spec.user.uid() != 0 {
        return Ok(None);
    }
    Profile::parse(NO_USER_NAMESPACES.as_bytes())?.compile().map(Some)
}
