//! The beginning of a program that has more privilege than its caller: setuid root, or with file
//! capabilities.
//!
//! Such a program starts with its caller's environment, descriptors, limits, signals and real ids,
//! and each of them has been used to make one do what its caller wanted. [`begin`] takes its own in
//! their place, in an order in which nothing of the caller's counts any more before something is
//! read.

use std::ffi::OsString;

use rustix::process::{getegid, getgid, getuid};

use crate::error::Result;
use crate::launch::inheritance;
use crate::sys;

/// Who called, and with what.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Caller {
    /// Its real user id.
    pub uid: u32,
    /// Its real group id.
    pub gid: u32,
    /// The group that this program was given by a setgid bit; else the caller's effective one.
    pub effective_gid: u32,
    /// Its environment. This process has none any more.
    pub environment: Vec<(OsString, OsString)>,
    /// What stays the caller's because the kernel refused to change it, one line each.
    pub refused: Vec<String>,
}

/// Leaves everything of the caller's, first thing in `main`:
///
/// 1. All user and group ids are root's, the real ones too: with the caller's own it could stop or
///    kill this process. No groups. Not dumpable: `/proc` shows nothing of it.
/// 2. No environment; it is in the answer.
/// 3. No descriptors but 0, 1 and 2.
/// 4. No signal is blocked, and each has its own effect, except that a reader who goes away does
///    not end this process (SIGPIPE).
/// 5. Scheduling, securebits and resource limits are a service's; a hard limit that was lowered
///    can only be raised with CAP_SYS_RESOURCE.
///
/// The umask and the working directory stay the caller's. The caller's cgroup is left when a
/// container is launched, if somebody else can write to it. The program must have a single thread.
///
/// # Errors
/// [`Privilege`](crate::ErrorKind::Privilege) when the program has neither CAP_SETUID nor
/// CAP_SETGID: it is not installed setuid root.
pub fn begin() -> Result<Caller> {
    let (uid, gid, effective_gid) = (getuid().as_raw(), getgid().as_raw(), getegid().as_raw());
    inheritance::take_roots_ids()?;
    let environment = std::env::vars_os().collect();
    sys::clear_environment();
    // The standard library has opened /dev/null for those of the three that were closed.
    sys::close_all_but([]);
    sys::reset_dispositions();
    sys::ignore(libc::SIGPIPE);
    sys::unblock_signals();
    let refused = inheritance::reset_limits();
    Ok(Caller { uid, gid, effective_gid, environment, refused })
}
