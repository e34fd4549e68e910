//! The exit file: the exit record once more, whole, in a directory of whoever launched the container.
//!
//! It is the last thing, when the record is on disk and the cgroups are gone, and nothing depends on
//! it. A process of its own writes it, because it becomes the user that the launch was for, and
//! because the directory may lie in a file system that does not answer: the monitor ends by then all
//! the same, and with it whoever waits for it goes on.
//!
//! The directory is held from before the launch, and nothing in it is opened: the file is made under
//! a name that nobody can have prepared, and renamed when it is complete. What has the name by then
//! is replaced, never followed; a directory stays, and there is no exit file.

use core::ffi::CStr;

use crate::decimal::Decimal;
use crate::finish::write_text;
use crate::handover::ExitFile;
use crate::list::List;
use crate::record::{Extent, Facts};
use crate::sys::{self, Forked, Open, POLLIN, PollFd};

/// How long the monitor waits for it: as long as a launch waits for one step of a pid file.
const PATIENCE_NS: u64 = 10_000_000_000;

/// A supervisor need not be the user.
const MODE: u32 = 0o644;

/// Writes it, where one is asked for. A failure changes nothing.
pub fn write(facts: &Facts<'_>) {
    let Some(file) = &facts.handover.exit_file else { return };
    match sys::fork() {
        Ok(Forked::Child) => {
            let _ = as_user(file, facts);
            sys::exit(0)
        }
        Ok(Forked::Parent(pidfd)) => {
            let _ = sys::poll(&mut [PollFd { fd: pidfd, events: POLLIN, revents: 0 }], Some(PATIENCE_NS));
        }
        Err(_) => (),
    }
}

/// One that hangs is to hold nothing else: neither the container's lock nor a pipe of its log.
fn as_user(file: &ExitFile<'_>, facts: &Facts<'_>) -> Option<()> {
    crate::close_all_but(&[file.directory])?;
    let is_user = file.user.is_none_or(|(uid, gid)| sys::become_for_files(uid, gid));
    // What it is called until it is complete: nobody can tell the instant of the end before it.
    let mut temporary: List<u8, 32> = List::new();
    for part in [".exit.", Decimal::new(facts.ended_ns.1).as_str(), "\0"] {
        part.bytes().try_for_each(|byte| temporary.push(byte)).ok()?;
    }
    let temporary = CStr::from_bytes_with_nul(&temporary).ok().filter(|_| is_user)?;
    let fd = sys::open_at(file.directory, temporary, Open::New).ok()?;
    let complete = write_text(fd, facts, Extent::Whole).and_then(|_| sys::chmod(fd, MODE));
    if complete.and_then(|()| sys::rename_at(file.directory, temporary, file.name)).is_err() {
        let _ = sys::unlink_at(file.directory, temporary);
    }
    Some(())
}
