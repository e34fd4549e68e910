//! Work with another user's file-system ids, on a short-lived thread of its own.
//!
//! Credentials belong to threads in the kernel. The thread takes the user's groups, fsgid and
//! fsuid, gives up every capability, works, and ends: no other thread is ever somebody else, and
//! nothing has to be restored. All capabilities go, not only those that the kernel drops with the
//! fsuid: CAP_SYS_PTRACE would lead through `/proc` to what other processes have open, and with the
//! securebit `NO_SETUID_FIXUP` the kernel drops none.
//!
//! Real, effective and saved ids stay as they are, as whoever has one of them could send the
//! process signals. So a FUSE file system that its user has not mounted with `allow_other` is
//! closed to this thread: the kernel goes by those ids there.
//!
//! The wait for the thread has a bound, because a user can name a file system that never answers. A
//! thread that is late is left behind: it ends when the file system answers, or with the process.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::thread::{CapabilitySet, CapabilitySets, Gid, set_capabilities, set_thread_groups};

use crate::error::{Context, Error, LackedCapability, Result};
use crate::request::Identity;
use crate::stage::Stage;
use crate::sys;

/// What is done in a user's name, for errors.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) stage: Stage,
    pub(crate) object: String,
    /// How long it may take.
    pub(crate) patience: Duration,
}

/// Does something with a user's file-system ids, supplementary groups and without capabilities, on a
/// short-lived thread of its own: what a program that works for others opens for them, it opens so.
/// For a user that is root the capabilities stay. `object` is what errors call the work.
///
/// A FUSE file system that was not mounted with `allow_other` is closed to it. The program must not
/// change its own ids meanwhile.
///
/// # Errors
/// Those of the work; [`Privilege`](crate::ErrorKind::Privilege) without CAP_SETUID and CAP_SETGID;
/// [`TimedOut`](crate::ErrorKind::TimedOut) when it takes longer than `patience`: the thread is
/// left behind then, and ends when the file system answers; [`Exhausted`](crate::ErrorKind::Exhausted)
/// where no thread can be made.
pub fn as_user<T: Send + 'static>(
    user: &Identity,
    object: impl Into<String>,
    patience: Duration,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    run(Some(user), Task { stage: Stage::Request, object: object.into(), patience }, work)
}

/// Does the work with the user's file-system ids; with the calling thread's own where none is
/// given.
///
/// # Errors
/// `Privilege` without CAP_SETUID and CAP_SETGID. `TimedOut` when the work takes too long.
/// `Exhausted` where no thread can be made.
pub(crate) fn run<T: Send + 'static>(
    user: Option<&Identity>,
    task: Task,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = sync_channel(1);
    let (user, doing) = (user.cloned(), task.clone());
    let done = move || user.as_ref().map_or(Ok(()), |user| become_user(user, &doing)).and_then(|()| work());
    let spawned = thread::Builder::new().spawn(move || answer.send(done()));
    let thread = spawned.at(task.stage, &task.object, "clone(thread)")?;
    match answered.recv_timeout(task.patience) {
        Ok(result) => {
            // Until it is gone this process counts as one with several threads.
            let _ = thread.join();
            result
        }
        Err(RecvTimeoutError::Timeout) => {
            let text = "the file system does not answer, perhaps";
            Err(Error::timed_out(task.stage, task.object, "open", task.patience, text))
        }
        Err(RecvTimeoutError::Disconnected) => {
            Err(Error::process_ended(task.stage, task.object, "join", None, "the thread died"))
        }
    }
}

/// Makes the calling thread the user's, for files. For a user that is root the capabilities stay:
/// they are root's.
fn become_user(user: &Identity, task: &Task) -> Result<()> {
    // A handler of the program's that happened to run here would run as somebody else.
    sys::block_every_signal_of_this_thread();
    let groups: Vec<Gid> = user.groups().iter().map(|gid| Gid::from_raw(*gid)).collect();
    // Of this thread alone: rustix calls the kernel, where glibc's wrapper would change every
    // thread.
    set_thread_groups(&groups).at(task.stage, &task.object, "setgroups")?;
    if !sys::set_fs_ids(user.uid(), user.gid()) {
        let purpose = format!("file-system ids {}:{}", user.uid(), user.gid());
        let lacked = LackedCapability::new("CAP_SETUID", purpose);
        return Err(Error::lacking_capabilities(task.stage, &task.object, "setfsuid", vec![lacked]));
    }
    if user.uid() == 0 {
        return Ok(());
    }
    let none = CapabilitySet::empty();
    let nothing = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, nothing).at(task.stage, &task.object, "capset")
}
