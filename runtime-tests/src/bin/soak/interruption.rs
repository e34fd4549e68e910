//! A signal that asks this program to end: the cycles that run are lived to their end, and no other
//! begins.

use std::sync::atomic::{AtomicBool, Ordering};

static COME: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: libc::c_int) {
    COME.store(true, Ordering::Relaxed);
}

/// Takes such signals from here on. Programs that are started later do not inherit that.
pub fn expect() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler stores one flag, which a handler may.
        unsafe { libc::signal(signal, note as *const () as libc::sighandler_t) };
    }
}

/// Whether one has come.
pub fn has_come() -> bool {
    COME.load(Ordering::Relaxed)
}
