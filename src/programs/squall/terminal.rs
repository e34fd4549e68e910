//! The caller's terminal, as it was: a worker that has it as a standard stream may change its mode
//! and be killed before it can change it back.

use std::os::fd::BorrowedFd;

use nix::unistd::{getpgrp, tcgetpgrp};
use rustix::fs::{FileType, fstat};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use squall::{Result, SignalStream};

/// The modes of the terminals among the standard streams, put back when this is dropped.
pub struct Terminals {
    modes: Vec<(BorrowedFd<'static>, Termios)>,
    /// Blocks SIGTTOU, by which setting a mode from the background would stop this program.
    _blocked: SignalStream,
}

impl Terminals {
    /// Takes the modes as they are. Nothing where the output goes into a pipe: then whoever reads
    /// it, a pager for example, has the terminal.
    pub fn remember() -> Result<Terminals> {
        let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        let mine = streams.into_iter().filter(|stream| !is_pipe(streams[1]) && isatty(stream));
        let modes = mine.filter_map(|stream| Some((stream, tcgetattr(stream).ok()?))).collect();
        Ok(Terminals { modes, _blocked: SignalStream::of(&[libc::SIGTTOU])? })
    }
}

impl Drop for Terminals {
    fn drop(&mut self) {
        for (stream, mode) in &self.modes {
            if is_in_foreground(*stream) {
                let _ = tcsetattr(stream, OptionalActions::Now, mode);
            }
        }
    }
}

/// Whether the terminal is this program's: in the background it is somebody else's.
///
/// A process group from outside this PID namespace is 0 here, the program's own and the terminal's,
/// and so is that of a PID 1 without a session; rustix takes no such number.
pub fn is_in_foreground(terminal: BorrowedFd<'_>) -> bool {
    tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp())
}

fn is_pipe(stream: BorrowedFd<'_>) -> bool {
    fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}
