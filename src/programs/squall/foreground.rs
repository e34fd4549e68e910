//! A program in the foreground: signals go to it, a terminal's bytes too, and its end is ours.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use squall::record::{EndReason, Exit, ExitRecord};
use squall::{Delivery, ExecSession, Result, Running, SignalStream, TakenSignal};

use crate::relay::Relay;

/// What can be in the foreground.
pub trait Program {
    /// What becomes readable when it is time to look whether it lives.
    fn process(&self) -> Option<OwnedFd>;
    fn is_alive(&self) -> bool;
    /// Passes a signal on; the answer says whether it was carried out on it.
    fn pass_on(&self, signal: TakenSignal) -> Result<Delivery>;
}

impl Program for Running {
    fn process(&self) -> Option<OwnedFd> {
        Running::process(self)
    }

    fn is_alive(&self) -> bool {
        Running::is_alive(self)
    }

    fn pass_on(&self, signal: TakenSignal) -> Result<Delivery> {
        Running::pass_on(self, signal)
    }
}

impl Program for ExecSession {
    fn process(&self) -> Option<OwnedFd> {
        ExecSession::process(self)
    }

    fn is_alive(&self) -> bool {
        ExecSession::is_alive(self)
    }

    fn pass_on(&self, signal: TakenSignal) -> Result<Delivery> {
        ExecSession::pass_on(self, signal).map(|()| Delivery::Sent)
    }
}

/// What became of a program in the foreground.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has ended; with the signal that was passed on and carried out on it, should that be what
    /// ended it.
    Ended { by: Option<i32> },
    /// It runs on, and whoever sits at the terminal has left it.
    Detached,
}

/// Takes the signals; to be called before the launch, so that none is lost between.
pub fn take_signals() -> Result<SignalStream> {
    SignalStream::of_a_foreground_program()
}

/// Waits for the program's end, and passes every signal and the terminal's bytes on.
pub fn wait(program: &impl Program, signals: &SignalStream, mut relay: Option<&mut Relay>) -> Result<Outcome> {
    let mut by = None;
    while let Some(process) = program.process() {
        let mut fds = vec![PollFd::new(&process, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        fds.extend(relay.as_deref().into_iter().flat_map(Relay::waits_for));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
        let (ended, signalled) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        drop(fds);
        if let Some(relay) = relay.as_deref_mut()
            && relay.pass() == crate::relay::Passed::Detached
        {
            return Ok(Outcome::Detached);
        }
        // Of a monitor that was killed: the program runs on, and so does this loop, with the
        // program's own process.
        if ended && !program.is_alive() {
            break;
        }
        if signalled {
            let signal = signals.receive()?;
            if let (libc::SIGWINCH, Some(relay)) = (signal.number, relay.as_deref()) {
                relay.resize();
                continue;
            }
            match program.pass_on(signal) {
                Ok(Delivery::CarriedOut) => by = by.or(Some(signal.number)),
                Ok(Delivery::Sent) => {}
                // It may have ended just now, which is no error here.
                Err(error) if program.is_alive() => tell!("warning: signal {}: {error}", signal.number),
                Err(_) => {}
            }
        }
    }
    if let Some(relay) = relay {
        relay.finish();
    }
    Ok(Outcome::Ended { by })
}

/// The code that a shell would give for a plain program: the signal that the worker was ended for,
/// not the SIGKILL that did it.
pub fn code_by_signal(exit: &ExitRecord, by: Option<i32>) -> Option<i32> {
    let killed = matches!(exit.exit, Exit::Signal { signal: 9, .. });
    let stopped = matches!(exit.reason, EndReason::KilledAfterGrace | EndReason::Stopped);
    by.filter(|_| killed && stopped).map(|signal| 128 + signal)
}
