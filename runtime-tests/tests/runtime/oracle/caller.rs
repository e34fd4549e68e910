//! A caller with habits of its own, which no worker is to inherit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// From here on this process ignores a signal, blocks another, has little room for descriptors and
/// a low priority.
pub fn be_unclean() {
    // SAFETY: SIG_IGN is a valid disposition, and the set is initialised before it is used; this
    // process has one thread.
    unsafe {
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
        let mut blocked: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut blocked);
        libc::sigaddset(&mut blocked, libc::SIGUSR2);
        libc::sigprocmask(libc::SIG_BLOCK, &blocked, std::ptr::null_mut());
    }
    let few = Rlimit { current: Some(200), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, few).unwrap();
    rustix::process::nice(1).unwrap();
}
