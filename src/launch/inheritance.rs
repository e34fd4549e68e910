//! What a process inherits from its caller, put back to what a service of the host would start
//! with.
//!
//! The launch process does this for itself first, because a caller's limits (no bytes may be
//! written, three descriptors) would strike it too; init and monitor inherit the clean state.
//! Signals, descriptors and environment are cleared at exec, by those who exec.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Gid, Uid, chdir, set_dumpable_behavior, setsid, umask};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::rlimits;
use crate::error::{Context, Result};
use crate::stage::Stage;
use crate::sys::{self, RLIMITS, Rlimit};

/// Cleans this process. The answer names what the kernel refused to change, for the record.
pub(crate) fn clean() -> Result<Vec<String>> {
    take_roots_ids()?;
    // A caller that ignores SIGCHLD would have the kernel reap init, and nobody could ever know how
    // it ended.
    sys::block_signals();
    sys::reset_dispositions();
    sys::clear_environment();
    // Out of the caller's terminal: its Ctrl-C is for the caller, who forwards what it wants to.
    let _ = setsid();
    umask(Mode::from_raw_mode(0o077));
    chdir("/").at(Stage::Claim, "/", "chdir")?;
    let mut refused = reset_limits();
    // The caller may be protected from the OOM killer, or marked for it; neither is its worker.
    // Lowering needs CAP_SYS_RESOURCE.
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "0") {
        refused.push(format!("oom_score_adj stays as it was: {error}"));
    }
    Ok(refused)
}

/// Scheduling, resource limits and securebits as a service of the host has them. The answer names
/// what the kernel refused to change.
pub(crate) fn reset_limits() -> Vec<String> {
    let mut refused: Vec<String> = sys::reset_scheduling().into_iter().map(str::to_owned).collect();
    refused.extend(reset_rlimits());
    if let Err(error) = sys::reset_securebits() {
        refused.push(format!("securebits stay as they were: {error}"));
    }
    refused
}

/// Root's ids and no groups, real ones too, and no core or tracing: a process that a setuid program
/// forked could be stopped or killed by its caller otherwise, while it holds a lock or is all that
/// watches a worker. So this comes before anything is made or locked.
///
/// # Errors
/// [`ErrorKind::Privilege`](crate::error::ErrorKind::Privilege) without CAP_SETUID and CAP_SETGID.
pub(crate) fn take_roots_ids() -> Result<()> {
    const OBJECT: &str = "launch process";
    set_thread_groups(&[]).at(Stage::Claim, OBJECT, "setgroups")?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).at(Stage::Claim, OBJECT, "setresgid")?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).at(Stage::Claim, OBJECT, "setresuid")?;
    let no_dump = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    no_dump.at(Stage::Claim, OBJECT, "prctl(PR_SET_DUMPABLE)")
}

/// Every limit becomes what a worker starts with, whatever the caller's or the host's first
/// process's is. Raising a hard limit takes CAP_SYS_RESOURCE; without it the soft limit goes as far
/// as the hard one lets it.
fn reset_rlimits() -> Vec<String> {
    let mut refused = Vec::new();
    for (resource, name) in RLIMITS {
        let (Ok(wanted), Ok(own)) = (rlimits::wanted(resource), sys::rlimit_of(0, resource)) else { continue };
        if wanted == own || sys::set_rlimit(resource, wanted).is_ok() {
            continue;
        }
        let possible = rlimits::possible(wanted, own);
        let reached = sys::set_rlimit(resource, possible).is_ok();
        if !reached || rlimits::is_short(resource, possible, wanted) {
            refused.push(short(name, possible, wanted));
        }
    }
    refused
}

fn short(name: &str, possible: Rlimit, wanted: Rlimit) -> String {
    format!("{name} stays at {} of {}", possible.soft, wanted.soft)
}

/// The limits that a process like this one, without CAP_SYS_RESOURCE, could not bring up to those
/// that a worker starts with.
pub(crate) fn preview_short_limits() -> Vec<String> {
    let limits = RLIMITS.iter().filter_map(|(resource, name)| {
        let (wanted, own) = (rlimits::wanted(*resource).ok()?, sys::rlimit_of(0, *resource).ok()?);
        let possible = rlimits::possible(wanted, own);
        rlimits::is_short(*resource, possible, wanted).then(|| short(name, possible, wanted))
    });
    limits.collect()
}
