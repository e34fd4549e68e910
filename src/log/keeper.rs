//! The keeper: has the log copied by a child, and by another one when that was killed.
//!
//! Who we are: forked by the launch process, or by a program that mends a log; one thread. Each of
//! the two processes sees the other's death, the keeper by wait(2), the copier by pidfd.

use std::os::fd::{AsFd, AsRawFd};

use rustix::process::{PidfdFlags, WaitOptions, getpid, pidfd_open, setsid, waitpid};

use super::copier::{Copier, End, Keeper};
use crate::process::ProcessId;
use crate::sys::{self, Fork};

/// How the processes are called in `ps`, 15 bytes at most.
const NAME: &std::ffi::CStr = c"squall-log";

/// Copiers that ended by a fault of their own, before no other is started: the next one would do
/// the same.
const MOST_FAULTS: u32 = 8;

/// Signals by which a process ends itself.
const FAULTS: [i32; 5] = [libc::SIGABRT, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

/// The life of the keeper; called in a child just forked.
pub(super) fn keep(mut copier: Copier) -> ! {
    part_from_parent(&copier);
    let mut faults = 0;
    loop {
        let own = own_process();
        match sys::fork() {
            Ok(Fork::Parent(_)) => {
                drop(own);
                match end_of_copier() {
                    None => sys::exit_now(0),
                    Some(signal) => faults += u32::from(FAULTS.contains(&signal)),
                }
                if faults > MOST_FAULTS {
                    sys::exit_now(1);
                }
            }
            Ok(Fork::Child) => match copier.copy(own.as_ref()) {
                End::Complete => leave(&copier),
                End::KeeperGone => {}
            },
            // No second process can be had: this one copies, and nobody sees its end.
            Err(_) => {
                copier.copy(None);
                leave(&copier)
            }
        }
    }
}

fn leave(copier: &Copier) -> ! {
    copier.clear();
    sys::exit_now(0)
}

/// This process, as its child will watch it.
fn own_process() -> Option<Keeper> {
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
    Some(Keeper { id: ProcessId::of(getpid().as_raw_pid()), pidfd })
}

/// The signal that ended the copier; `None` where it ended by itself, or cannot be waited for.
fn end_of_copier() -> Option<i32> {
    loop {
        match waitpid(None, WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(Some((_, status))) => return status.terminating_signal(),
            _ => return None,
        }
    }
}

/// Keeps nothing of the process that forked it: session, working directory, signals, descriptors
/// (pipes would never end, ports never be free).
fn part_from_parent(copier: &Copier) {
    let _ = setsid();
    let _ = rustix::process::chdir("/");
    let _ = rustix::thread::set_name(NAME);
    sys::clear_environment();
    sys::block_signals();
    sys::reset_dispositions();
    sys::reap_children_again();
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty());
    if let Ok(null) = &null {
        let unused = (0..3).filter(|stream| copier.descriptors().all(|fd| fd.as_raw_fd() != *stream));
        unused.for_each(|stream| drop(sys::move_to(null.as_fd(), stream)));
    }
    sys::close_all_but(copier.descriptors());
    // Closed above, unless it is a standard stream itself.
    std::mem::forget(null);
}
