//! A terminal that is kept for whoever comes back to it.
//!
//! A worker loses its terminal, and gets SIGHUP, when the last process with the other end of it
//! goes. A [`TerminalKeeper`] is that last process: it reads what the worker writes, so that the
//! worker never waits, and lends the terminal to one caller at a time, by a socket in the
//! container's directory, which only root reaches.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::net::{SocketFlags, accept_with};

use super::{Container, ExecSession};
use crate::error::{Cause, Context, Error, ErrorKind, Result};
use crate::packet_socket;
use crate::passing::{receive_descriptor, send_descriptor};
use crate::stage::Stage;
use crate::wait::is_readable_by;

/// The socket's name in the directory of a container or exec session.
const SOCKET: &str = "terminal.sock";

/// A keeper answers within microseconds; this long a silence means that it cannot run.
const PATIENCE: Duration = Duration::from_secs(5);

/// The byte that comes with the terminal.
const LENT: u8 = b'L';
/// The byte that comes without it: somebody else has it.
const BUSY: u8 = b'B';

/// Keeps the other end of a worker's terminal, and lends it ([`Container::attach_terminal`]).
#[derive(Debug)]
pub struct TerminalKeeper {
    terminal: OwnedFd,
    listener: OwnedFd,
}

/// A terminal that its keeper has lent. Dropping it gives it back.
#[derive(Debug)]
pub struct LentTerminal {
    terminal: OwnedFd,
    _loan: OwnedFd,
}

impl AsFd for LentTerminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}

impl Container {
    /// Prepares to keep the other end of this container's terminal, as
    /// [`TerminalEnd::receive`](crate::TerminalEnd::receive) gave it. From now on others can ask
    /// for it; they wait until [`TerminalKeeper::keep`] is called, in this process or another.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] when it is being kept already; [`ErrorKind::System`] for what the
    /// kernel refuses.
    pub fn keep_terminal(&self, terminal: OwnedFd) -> Result<TerminalKeeper> {
        let living = self.living().ok_or_else(|| no_terminal(format!("container '{}'", self.id())))?;
        keep(living.directory(), living.object(), terminal)
    }

    /// Borrows the terminal from its keeper. What the worker wrote meanwhile is gone. The
    /// descriptor is non-blocking.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the container has ended, has no terminal, or whoever has the
    /// terminal does not keep it for others; [`ErrorKind::Exists`] when somebody else has borrowed
    /// it; [`ErrorKind::TimedOut`] when the keeper does not answer within 5 s.
    pub fn attach_terminal(&self) -> Result<LentTerminal> {
        let living = self.living().ok_or_else(|| no_terminal(format!("container '{}'", self.id())))?;
        borrow(living.directory(), living.object())
    }
}

impl ExecSession {
    /// As [`Container::keep_terminal`], of this program.
    ///
    /// # Errors
    /// As there.
    pub fn keep_terminal(&self, terminal: OwnedFd) -> Result<TerminalKeeper> {
        keep(self.0.directory(), self.0.object(), terminal)
    }

    /// As [`Container::attach_terminal`], of this program.
    ///
    /// # Errors
    /// As there.
    pub fn attach_terminal(&self) -> Result<LentTerminal> {
        borrow(self.0.directory(), self.0.object())
    }
}

fn keep(directory: &Path, object: String, terminal: OwnedFd) -> Result<TerminalKeeper> {
    let flags = fcntl_getfl(&terminal).at(Stage::Watch, &object, "fcntl(F_GETFL)")?;
    fcntl_setfl(&terminal, flags | OFlags::NONBLOCK).at(Stage::Watch, &object, "fcntl(F_SETFL)")?;
    let listener = match packet_socket::listen(directory, SOCKET) {
        Err(Errno::ADDRINUSE) => return Err(in_use(object, "bind(terminal.sock)", "another keeper of its terminal")),
        other => other.at(Stage::Watch, &object, "bind(terminal.sock)")?,
    };
    Ok(TerminalKeeper { terminal, listener })
}

fn borrow(directory: &Path, object: String) -> Result<LentTerminal> {
    let connected = packet_socket::connect(directory, SOCKET).at(Stage::Watch, &object, "connect(terminal.sock)")?;
    let Some(loan) = connected else { return Err(no_terminal(object)) };
    let deadline = Instant::now() + PATIENCE;
    if !is_readable_by(loan.as_fd(), Some(deadline)).at(Stage::Watch, &object, "poll")? {
        let text = "the process that keeps its terminal does not answer";
        return Err(Error::timed_out(Stage::Watch, object, "recvmsg", PATIENCE, text));
    }
    match receive_descriptor(loan.as_fd()) {
        Ok(Some((LENT, Some(terminal)))) => Ok(LentTerminal { terminal, _loan: loan }),
        Ok(Some((BUSY, _))) => Err(in_use(object, "attach", "somebody who is attached to its terminal")),
        Ok(_) | Err(Errno::CONNRESET) => Err(no_terminal(object)),
        Err(errno) => Err(errno).at(Stage::Watch, object, "recvmsg"),
    }
}

fn in_use(object: String, call: &str, by: &str) -> Error {
    Error::new(ErrorKind::Exists, Stage::Watch, object, call, Cause::InUse { by: by.to_owned() })
}

fn no_terminal(object: String) -> Error {
    let text = "it has no terminal, or whoever has that does not keep it for others";
    Error::found(ErrorKind::NotFound, Stage::Watch, object, "attach", text)
}

impl TerminalKeeper {
    /// The terminal and the socket, to be handed to the process that is to keep them.
    #[must_use]
    pub fn into_descriptors(self) -> [OwnedFd; 2] {
        [self.terminal, self.listener]
    }

    /// The keeper of the two descriptors of [`TerminalKeeper::into_descriptors`].
    #[must_use]
    pub fn from_descriptors([terminal, listener]: [OwnedFd; 2]) -> TerminalKeeper {
        TerminalKeeper { terminal, listener }
    }

    /// Keeps the terminal until no process of the container has it any more. What is written while
    /// nobody has borrowed it is lost.
    ///
    /// # Errors
    /// [`ErrorKind::System`] when the kernel refuses to wait.
    pub fn keep(self) -> Result<()> {
        let mut borrower = None;
        while self.turn(&mut borrower).at(Stage::Watch, "kept terminal", "poll")? {}
        Ok(())
    }

    /// Waits for the next thing to do and does it; false at the end.
    fn turn(&self, borrower: &mut Option<OwnedFd>) -> rustix::io::Result<bool> {
        // Whoever has borrowed it reads it, and says nothing: what comes from there is its end.
        let awaited = borrower.as_ref().map_or(self.terminal.as_fd(), AsFd::as_fd);
        let mut fds = [PollFd::from_borrowed_fd(awaited, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        retry_on_intr(|| poll(&mut fds, None))?;
        let [awaited, asked] = fds.map(|fd| !fd.revents().is_empty());
        if awaited && borrower.take().is_none() && self.has_ended() {
            return Ok(false);
        }
        if asked && let Ok(caller) = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            match borrower {
                Some(_) => drop(rustix::net::send(&caller, &[BUSY], rustix::net::SendFlags::NOSIGNAL)),
                None if send_descriptor(caller.as_fd(), LENT, self.terminal.as_fd()).is_ok() => {
                    *borrower = Some(caller);
                }
                None => {}
            }
        }
        Ok(true)
    }

    /// Reads a part of what there is and forgets it; whether nothing will come any more.
    fn has_ended(&self) -> bool {
        match read(&self.terminal, &mut [0; 16 * 1024]) {
            Ok(length) => length == 0,
            Err(errno) => !matches!(errno, Errno::INTR | Errno::AGAIN),
        }
    }
}
