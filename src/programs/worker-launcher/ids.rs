//! The user's ids for the rest of the process: taken before a program of somebody else's runs.
//!
//! By the kernel's own calls, which change the calling thread: the program has no other. Those of
//! glibc would signal a thread that a file system keeps waiting.

use rustix::process::{Gid, Uid, geteuid, getuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_thread_groups as setgroups, set_thread_res_gid as setresgid,
    set_thread_res_uid as setresuid,
};
use squall::request::Identity;

use crate::exit::{Code, Failure, Result, WithCode};

/// Takes the user's ids and groups, real, effective and saved, gives up all capabilities, and makes
/// sure that there is no way back.
pub fn become_user(user: &Identity) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    take_groups(user)?;
    setresgid(gid, gid, gid).code(Code::Ids, format_args!("group {}: setresgid", user.gid()))?;
    setresuid(uid, uid, uid).code(Code::Ids, format_args!("user {}: setresuid", user.uid()))?;
    // The kernel has cleared them, unless a securebit of the caller's forbids that. The inheritable
    // ones it leaves.
    let none = CapabilitySet::empty();
    let nothing = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, nothing).code(Code::Ids, format_args!("user {}: capset", user.uid()))?;
    if setresuid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_ok() || (getuid(), geteuid()) != (uid, uid) {
        return Err(Failure::new(Code::Ids, format!("user {}: root's ids could be taken again", user.uid())));
    }
    Ok(())
}

/// Takes the ids that Storm gives docker: the user's in effect, with root's and the launcher's
/// group as the real ones, which wrappers of docker make use of. Whatever a process with these ids
/// executes can become root, so nothing of the user's may choose what that is.
pub fn become_docker_client(user: &Identity, launcher_group: u32) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    take_groups(user)?;
    let set = setresgid(Gid::from_raw(launcher_group), gid, gid);
    set.code(Code::Ids, format_args!("group {}: setresgid", user.gid()))?;
    setresuid(Uid::ROOT, uid, uid).code(Code::Ids, format_args!("user {}: setresuid", user.uid()))
}

fn take_groups(user: &Identity) -> Result<()> {
    let groups: Vec<Gid> = user.groups().iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).code(Code::Ids, format_args!("groups of user {}: setgroups", user.uid()))
}
