//! The signals that a program in the foreground takes, to pass them on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Context, Result};
use crate::process::SignalSets;
use crate::stage::Stage;
use crate::sys;

/// What cannot be taken, means this process alone (the end of a child), stops it at its terminal,
/// or does nothing unless it is handled.
const NOT_TAKEN: [i32; 7] =
    [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGURG];

/// `si_code` of a signal that the kernel sent by itself, a terminal's driver for example
/// (<asm-generic/siginfo.h>).
const SI_KERNEL: i32 = 0x80;

/// Signals as something to read: they are blocked for the whole process from here on.
#[derive(Debug)]
pub struct SignalStream(OwnedFd);

/// A signal that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TakenSignal {
    /// Its number.
    pub number: i32,
    /// Who sent it.
    pub sender: Sender,
}

/// Who sent a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sender {
    /// The kernel: for Ctrl-C, `Ctrl-\`, a change of the window's size and a hang-up, which a
    /// terminal's driver tells a whole process group.
    Kernel,
    /// A process, which named this one.
    Process,
}

impl SignalStream {
    /// Takes these signals.
    pub fn of(signals: &[i32]) -> Result<SignalStream> {
        let set = signals.iter().fold(0, |set, signal| set | bit(*signal));
        sys::signal_fd(set).map(SignalStream).at(Stage::Watch, "signals", "signalfd")
    }

    /// Takes every signal that would end this process or tell a worker something, but none that is
    /// ignored at this moment: whoever started this process said so (`nohup`, a shell's `&`), and
    /// it holds for what this process runs.
    pub fn of_a_foreground_program() -> Result<SignalStream> {
        let ignored = SignalSets::of_this_process().map_or(0, |sets| sets.ignored);
        let taken: Vec<i32> =
            (1..=64).filter(|signal| !NOT_TAKEN.contains(signal) && ignored & bit(*signal) == 0).collect();
        SignalStream::of(&taken)
    }

    /// The next signal that has come; waits for one if there is none.
    pub fn receive(&self) -> Result<TakenSignal> {
        // `struct signalfd_siginfo` has 128 bytes and begins with number, errno and code.
        let mut info = [0u8; 128];
        rustix::io::read(&self.0, &mut info).at(Stage::Watch, "signals", "read")?;
        let word = |at: usize| i32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
        let sender = if word(8) == SI_KERNEL { Sender::Kernel } else { Sender::Process };
        Ok(TakenSignal { number: word(0), sender })
    }
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

impl AsFd for SignalStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
