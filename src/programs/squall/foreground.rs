//! A worker in the foreground: signals go to it, and its end is ours.

use squall::record::{EndReason, Exit};
use squall::{Delivery, Ended, Result, Running, SignalStream};

use rustix::event::{PollFd, PollFlags, poll};

/// How a worker in the foreground ended.
pub struct End {
    /// What is known of it.
    pub ended: Ended,
    /// The signal that was passed on and carried out on it, should that be what ended it.
    by: Option<i32>,
}

impl End {
    /// The code that a shell would give for a plain program: the signal that the worker was ended
    /// for, not the SIGKILL that did it.
    pub fn code_by_signal(&self) -> Option<i32> {
        let Ended::Exited(exited) = &self.ended else { return None };
        let killed = matches!(exited.exit().exit, Exit::Signal { signal: 9, .. });
        let stopped = matches!(exited.exit().reason, EndReason::KilledAfterGrace | EndReason::Stopped);
        self.by.filter(|_| killed && stopped).map(|signal| 128 + signal)
    }
}

/// Takes the signals; to be called before the launch, so that none is lost between.
pub fn take_signals() -> Result<SignalStream> {
    SignalStream::of_a_foreground_program()
}

/// Waits for the worker's end and passes every signal on.
pub fn wait(running: Running, signals: &SignalStream) -> Result<End> {
    let mut by = None;
    while let Some(process) = running.process() {
        let mut fds = [PollFd::new(&process, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
        let (ended, signalled) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        // Of a monitor that was killed: the worker runs on, and so does this loop, with the
        // worker's own process.
        if ended && !running.is_alive() {
            break;
        }
        if signalled {
            let signal = signals.receive()?;
            match running.pass_on(signal) {
                Ok(Delivery::CarriedOut) => by = by.or(Some(signal.number)),
                Ok(Delivery::Sent) => {}
                // It may have ended just now, which is no error here.
                Err(error) if running.is_alive() => tell!("warning: signal {}: {error}", signal.number),
                Err(_) => {}
            }
        }
    }
    Ok(End { ended: running.wait()?, by })
}
