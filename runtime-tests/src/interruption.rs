//! A signal that asks a long program to end: it is noted, and the program looks when it can end in
//! order.

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
