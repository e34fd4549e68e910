//! What a worker of uid 0 is denied beyond any other, although it has no capability.
//!
//! Files of the host belong to it, so two ways out are closed that file permissions close for
//! everybody else: user namespaces, in which it would have capabilities again and could mount the
//! host's cgroups to take off its limits, and setuid programs, which it would leave in directories
//! of the host for other users to become root by.
//!
//! What the kernel counts for uid 0 it shares with the host's services. Of inotify instances there
//! are 128 by default (`fs.inotify.max_user_instances`), whoever holds them, so under the default
//! profile it gets none.

use serde_json::{Value, json};

use crate::error::Result;
use crate::request::{LaunchSpec, Seccomp, SetuidBits};
use crate::seccomp::{Filter, Profile};

/// The filter that a worker of uid 0 gets beside its own, whatever that says. Made by the launch
/// process.
pub(super) fn filter_for(spec: &LaunchSpec) -> Result<Option<Filter>> {
    if spec.user.uid() != 0 {
        return Ok(None);
    }
    let mut rules = no_user_namespaces();
    if spec.setuid_bits == SetuidBits::Denied {
        rules.extend(no_setuid_bits());
    }
    if matches!(spec.seccomp, Seccomp::Default) {
        rules.push(exhausted(&["inotify_init", "inotify_init1"]));
    }
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules });
    Profile::parse(profile.to_string().as_bytes())?.compile().map(Some)
}

/// EPERM for a call with these bits set, each group in its argument.
fn denied(names: &[&str], bits: &[(u32, u32)]) -> Value {
    let set = |(index, bits): &(u32, u32)| json!({ "index": index, "value": bits, "valueTwo": bits, "op": "SCMP_CMP_MASKED_EQ" });
    let args: Vec<Value> = bits.iter().map(set).collect();
    json!({ "names": names, "action": "SCMP_ACT_ERRNO", "args": args })
}

/// What passes its arguments in memory, where no filter looks, is answered as by a kernel that does
/// not have the call: the C library falls back to the older one.
fn unknown(names: &[&str]) -> Value {
    json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS })
}

/// Answered as by inotify when its user has all instances: programs fall back to looking for
/// themselves.
fn exhausted(names: &[&str]) -> Value {
    json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EMFILE })
}

fn no_user_namespaces() -> Vec<Value> {
    vec![denied(&["clone", "unshare"], &[(0, libc::CLONE_NEWUSER as u32)]), unknown(&["clone3"])]
}

/// Every call that gives a file a mode. Of the calls that may make a file the mode counts only
/// where they do: otherwise the register may hold anything. Directories keep the setgid bit that
/// they inherit.
fn no_setuid_bits() -> Vec<Value> {
    let mut rules = vec![unknown(&["openat2", "io_uring_setup"])];
    for bit in [libc::S_ISUID, libc::S_ISGID] {
        rules.push(denied(&["chmod", "fchmod", "creat", "mknod"], &[(1, bit)]));
        rules.push(denied(&["fchmodat", "fchmodat2", "mknodat"], &[(2, bit)]));
        for makes in [libc::O_CREAT as u32, O_TMPFILE_ALONE] {
            rules.push(denied(&["open"], &[(1, makes), (2, bit)]));
            rules.push(denied(&["openat"], &[(2, makes), (3, bit)]));
        }
    }
    rules
}

/// `__O_TMPFILE` of <asm-generic/fcntl.h>: O_TMPFILE without O_DIRECTORY.
const O_TMPFILE_ALONE: u32 = 0o20_000_000;
