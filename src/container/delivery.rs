//! Signals that a program in the foreground passes on, with the effect that they would have on a
//! plain program.
//!
//! A worker is the first process of its pid namespace, for which the kernel drops every signal that
//! it has no handler for: Ctrl-C would do nothing to a `sleep`. And it has a session without a
//! terminal, so Ctrl-C would reach it alone, and no child that a shell waits for. Both are made up
//! for here, as a first process between (docker's and podman's `--init`) and a terminal's driver
//! would.

use std::time::Duration;

use super::Running;
use crate::error::Result;
use crate::process::SignalSets;
use crate::signal_stream::{Sender, TakenSignal};
use crate::sys::Addressee;

/// What became of a signal that was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It was sent; the worker does with it what it wants.
    Sent,
    /// The worker leaves it to the default action, which is to end: its whole tree has been killed.
    CarriedOut,
}

impl Running {
    /// Passes a signal on. One that a terminal sent goes to the worker's whole process group, as a
    /// terminal would have it. One that the worker neither handles nor ignores nor blocks, and
    /// whose default action is to end, ends it: the record says `killed-after-grace` and signal 9,
    /// because that is what the kernel takes for a first process.
    ///
    /// Errors: those of [`Running::signal`] and [`Running::stop`].
    pub fn pass_on(&self, signal: TakenSignal) -> Result<Delivery> {
        let number = signal.number;
        let ends = !IS_SURVIVED.contains(&number)
            && SignalSets::of(self.record.init).is_some_and(|sets| sets.leaves_to_default(number));
        let of_terminal = signal.sender == Sender::Kernel && OF_A_TERMINAL.contains(&number);
        if of_terminal && self.leads_its_group() {
            self.signal_by_pidfd(number, Addressee::Group)?;
        } else if !ends {
            self.signal(number)?;
        }
        if !ends {
            return Ok(Delivery::Sent);
        }
        // By its monitor, so that the record tells what happened.
        self.stop(number, Duration::ZERO).map(|_| Delivery::CarriedOut)
    }

    /// So it is after its launch, and for good: who leads a session cannot leave its group. Looked
    /// at all the same, because a wrong group would be somebody else's.
    fn leads_its_group(&self) -> bool {
        // By nix: the group of somebody else may be one from outside this PID namespace, which is
        // 0 here, and rustix takes no such number.
        let init = nix::unistd::Pid::from_raw(self.record.init.pid);
        init.as_raw() > 0 && nix::unistd::getpgid(Some(init)) == Ok(init)
    }
}

/// What a terminal's driver sends: hang-up, Ctrl-C, `Ctrl-\`, another size.
const OF_A_TERMINAL: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGWINCH];

/// Signals whose default action is not the end: nothing, to go on, or to stop (signal(7)).
const IS_SURVIVED: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
];
