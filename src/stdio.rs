//! The standard streams of a worker or a further program: descriptors, or a terminal of its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::termios::Winsize;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::passing::{receive_descriptor, send_descriptor};
use crate::stage::Stage;
use crate::sys;
use crate::wait::is_readable_by;

/// What errors call it.
const OBJECT: &str = "terminal";

/// How long the other end may take to arrive, once what it belongs to has been launched: it is sent
/// long before.
const PATIENCE: Duration = Duration::from_secs(5);

/// The worker's standard streams: regular files, pipes, Unix, TCP and UDP sockets, terminals, and
/// `/dev/null` and its like. A launch refuses what would give the worker more than something to
/// read or write: directories, block devices and other character devices, descriptors by `O_PATH`,
/// other sockets. A regular file that is open for reading alone cannot be opened for writing by the
/// worker, whoever it is: where it could be, by the file's owner, mode or list, the worker gets it
/// read-only, with a position of its own. One that is open for writing alone may be read by a
/// worker that its owner, mode or list lets read it.
///
/// Or a terminal in their place ([`Stdio::terminal`]).
#[derive(Debug)]
pub struct Stdio {
    /// Standard input, output and error. With a terminal they are not used.
    pub streams: [OwnedFd; 3],
    pub(crate) console: Option<Console>,
}

/// Where a terminal's other end is to be sent, and how large it is.
#[derive(Debug)]
pub(crate) struct Console {
    pub(crate) socket: OwnedFd,
    pub(crate) size: WindowSize,
}

/// The size of a terminal's window, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// The caller's end of a terminal that is still to be made ([`Stdio::terminal`]).
#[derive(Debug)]
pub struct TerminalEnd(OwnedFd);

impl Stdio {
    /// These three.
    pub fn new(streams: [OwnedFd; 3]) -> Stdio {
        Stdio { streams, console: None }
    }

    /// `/dev/null` for all three.
    pub fn null() -> Result<Stdio> {
        let open = || {
            rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at(
                Stage::Request,
                "/dev/null",
                "open",
            )
        };
        Ok(Stdio::new([open()?, open()?, open()?]))
    }

    /// This process's own; a closed one becomes `/dev/null`.
    pub fn inherit() -> Result<Stdio> {
        let [mut stdin, mut stdout, mut stderr] = Stdio::null()?.streams;
        let copy = |number: i32, stream: &mut OwnedFd| {
            if let Ok(copied) = sys::duplicate(number) {
                *stream = copied;
            }
        };
        copy(0, &mut stdin);
        copy(1, &mut stdout);
        copy(2, &mut stderr);
        Ok(Stdio::new([stdin, stdout, stderr]))
    }

    /// A terminal for all three, made among the container's own (`/dev/pts`) and the controlling one
    /// of the program. When what these streams are given to has been launched, the caller takes the
    /// other end of it by [`TerminalEnd::receive`].
    ///
    /// # Errors
    /// [`ErrorKind::System`](crate::ErrorKind::System) when no socket can be made.
    pub fn terminal(size: WindowSize) -> Result<(Stdio, TerminalEnd)> {
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.at(Stage::Request, OBJECT, "socketpair")?;
        let console = Some(Console { socket: theirs, size });
        Ok((Stdio { console, ..Stdio::null()? }, TerminalEnd(ours)))
    }
}

impl TerminalEnd {
    /// The terminal: what is written to it is the program's input, what is read from it its output.
    /// Reading ends with `EIO` when no process has the terminal any more. A program that loses its
    /// terminal, because this descriptor and every copy of it is closed, gets SIGHUP.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) when nothing was launched with the
    /// streams.
    pub fn receive(self) -> Result<OwnedFd> {
        let deadline = Instant::now() + PATIENCE;
        if !is_readable_by(self.0.as_fd(), Some(deadline)).at(Stage::Watch, OBJECT, "poll")? {
            let text = "nothing was launched with it";
            return Err(Error::timed_out(Stage::Watch, OBJECT, "recvmsg", PATIENCE, text));
        }
        let packet = receive_descriptor(self.0.as_fd()).at(Stage::Watch, OBJECT, "recvmsg")?;
        let text = "it was closed before it was sent";
        packet
            .and_then(|(_, received)| received)
            .ok_or_else(|| Error::process_ended(Stage::Watch, OBJECT, "recvmsg", None, text))
    }
}

impl Console {
    /// Sends the caller its end.
    pub(crate) fn send(&self, terminal: BorrowedFd<'_>) -> rustix::io::Result<()> {
        send_descriptor(self.socket.as_fd(), 0, terminal)
    }
}

impl From<WindowSize> for Winsize {
    fn from(size: WindowSize) -> Winsize {
        Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
    }
}
