//! A worker in the foreground: signals go to it, and its end is ours.

use squall::{Ended, Result, Running, SignalStream};

use rustix::event::{PollFd, PollFlags, poll};

/// What a caller sends to this program and means for the worker. The worker has a session of its own, so the terminal sends it nothing.
const FORWARDED: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCONT,
    libc::SIGWINCH,
];

/// Takes the signals; to be called before the launch, so that none is lost between.
pub fn take_signals() -> Result<SignalStream> {
    SignalStream::of(&FORWARDED)
}

/// Waits for the worker's end and passes every signal on.
pub fn wait(running: Running, signals: &SignalStream) -> Result<Ended> {
    while let Some(process) = running.process() {
        let mut fds = [PollFd::new(&process, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
        let (ended, signalled) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if ended {
            break;
        }
        if signalled {
            let signal = signals.receive()?;
            // It may have ended just now.
            let _ = running.signal(signal);
        }
    }
    running.wait()
}
