//! Between the caller's terminal and one inside the container: bytes, size, and the keys by which
//! the caller leaves.
//!
//! The caller's terminal is raw meanwhile: Ctrl-C and its like are bytes for the one inside, whose
//! own driver makes signals of them. Whoever leaves does not take the terminal inside with him,
//! which would hang up on the program: a process of this program keeps it, and `squall attach`
//! borrows it from there.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio as ProcessStdio};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use squall::{Error, LentTerminal, Problem, Result, Stage, Stdio, TerminalEnd, TerminalKeeper, WindowSize};

use crate::terminal::is_in_foreground;

/// What a terminal's driver takes for the end of the input (Ctrl-D).
const END_OF_INPUT: u8 = 4;

/// Input that the program has not read is kept up to this many bytes; then no more is read.
const MOST_PENDING: usize = 64 * 1024;

/// What came of passing bytes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    On,
    /// The caller typed the keys to leave by.
    Detached,
}

/// The bytes between the two terminals.
#[derive(Debug)]
pub struct Relay {
    inside: Inside,
    /// Whether somebody may still write to it.
    is_open: bool,
    /// Whether standard input is read.
    reads: bool,
    pending: VecDeque<u8>,
    keys: DetachKeys,
    /// The mode of the caller's terminal, which is raw meanwhile.
    mode: Option<Termios>,
}

/// The other end of the terminal inside.
#[derive(Debug)]
enum Inside {
    /// Nobody else has it.
    Own(OwnedFd),
    /// Its keeper has it as well.
    Lent(LentTerminal),
}

impl AsFd for Inside {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Inside::Own(terminal) => terminal.as_fd(),
            Inside::Lent(terminal) => terminal.as_fd(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(mode) = self.mode.as_ref().filter(|_| is_in_foreground(stdin())) {
            let _ = tcsetattr(stdin(), OptionalActions::Now, mode);
        }
    }
}

impl Relay {
    /// Takes the terminal inside and makes the caller's raw, until this is dropped.
    pub fn begin(end: TerminalEnd, interactive: bool, keys: DetachKeys) -> Result<Relay> {
        let inside = end.receive()?;
        let nonblocking = fcntl_getfl(&inside).and_then(|flags| fcntl_setfl(&inside, flags | OFlags::NONBLOCK));
        nonblocking.map_err(|errno| failed("fcntl", errno))?;
        Relay::over(Inside::Own(inside), interactive, keys)
    }

    /// As [`Relay::begin`], with a terminal that its keeper has lent. It gets the size of the
    /// caller's.
    pub fn resume(terminal: LentTerminal, interactive: bool, keys: DetachKeys) -> Result<Relay> {
        let relay = Relay::over(Inside::Lent(terminal), interactive, keys)?;
        relay.resize();
        Ok(relay)
    }

    fn over(inside: Inside, interactive: bool, keys: DetachKeys) -> Result<Relay> {
        let mode = (interactive && isatty(stdin())).then(|| tcgetattr(stdin()));
        let mode = mode.transpose().map_err(|errno| failed("tcgetattr", errno))?;
        let relay = Relay { inside, is_open: true, reads: interactive, pending: VecDeque::new(), keys, mode };
        if let Some(mut raw) = relay.mode.clone() {
            raw.make_raw();
            tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(|errno| failed("tcsetattr", errno))?;
        }
        Ok(relay)
    }

    /// What is worth waiting for.
    pub fn waits_for(&self) -> Vec<PollFd<'_>> {
        let mut fds = Vec::new();
        if self.is_open {
            let wanted = if self.pending.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
            fds.push(PollFd::new(&self.inside, wanted));
        }
        if self.reads && self.pending.len() < MOST_PENDING {
            fds.push(PollFd::from_borrowed_fd(stdin(), PollFlags::IN));
        }
        fds
    }

    /// Passes on what there is, and does not wait for more.
    pub fn pass(&mut self) -> Passed {
        if self.reads && self.pending.len() < MOST_PENDING && is_readable(stdin()) {
            let mut bytes = [0; 4096];
            match rustix::io::read(stdin(), &mut bytes) {
                Ok(0) | Err(Errno::IO) => {
                    self.reads = false;
                    self.pending.push_back(END_OF_INPUT);
                }
                Ok(length) => {
                    if self.keys.pass(&bytes[..length], &mut self.pending) == Passed::Detached {
                        return Passed::Detached;
                    }
                }
                Err(_) => {}
            }
        }
        self.write_pending();
        self.copy_output(1);
        Passed::On
    }

    /// Passes on what is left to be read, now that the program has ended. What it has left behind
    /// may hold the terminal, and is not waited for.
    pub fn finish(&mut self) {
        self.copy_output(usize::MAX);
    }

    /// Gives the terminal inside the size of the caller's.
    pub fn resize(&self) {
        if let Some(size) = callers_size() {
            let _ = tcsetwinsize(&self.inside, size);
        }
    }

    fn write_pending(&mut self) {
        while !self.pending.is_empty() {
            match rustix::io::write(&self.inside, self.pending.make_contiguous()) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(Errno::INTR) => {}
                // Full, or nobody reads any more.
                Err(_) => break,
            }
        }
    }

    fn copy_output(&mut self, turns: usize) {
        let mut bytes = [0; 16 * 1024];
        for _ in 0..turns {
            match rustix::io::read(&self.inside, &mut bytes) {
                Ok(0) | Err(Errno::IO) => {
                    self.is_open = false;
                    break;
                }
                Ok(length) => write_out(&bytes[..length]),
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
    }

    /// Leaves the terminal inside to a process that keeps it; `keep` makes the keeper.
    pub fn leave(self, keep: impl FnOnce(OwnedFd) -> Result<TerminalKeeper>) -> Result<()> {
        let copy = match &self.inside {
            Inside::Own(terminal) => terminal.try_clone(),
            Inside::Lent(_) => return Ok(()),
        };
        let [terminal, listener] = keep(copy.map_err(|error| failed("dup", error))?)?.into_descriptors();
        let hand_over = || -> io::Result<()> {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("keep-terminal").env_clear().current_dir("/").process_group(0);
            command.stdin(terminal).stdout(listener).stderr(ProcessStdio::null());
            // Not waited for: it ends with the program.
            command.spawn().map(drop)
        };
        hand_over().map_err(|error| failed("spawn(squall keep-terminal)", error))
    }
}

fn failed(call: &str, errno: impl Into<squall::error::Errno>) -> Error {
    Error::system(Stage::Watch, "terminal", call, errno)
}

/// The streams of a program with a terminal of its own, our end of it, and the keys to leave it by.
pub fn terminal(keys: &str) -> Result<(Stdio, (TerminalEnd, DetachKeys))> {
    let keys = DetachKeys::parse(keys)?;
    let (stdio, end) = Stdio::terminal(window_size())?;
    Ok((stdio, (end, keys)))
}

/// The life of a process that keeps a terminal for somebody who has left: its standard input, with
/// its standard output as the socket.
pub fn keep() -> Result<i32> {
    let _ = rustix::process::setsid();
    let [terminal, listener, _] = Stdio::inherit()?.streams;
    // Its own stay open as long as the copies: nobody waits for either to be closed.
    TerminalKeeper::from_descriptors([terminal, listener]).keep().map(|()| 0)
}

/// All of it; the caller's terminal may be held up (Ctrl-S), and so is the program then.
fn write_out(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(stdout(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = rustix::event::poll(&mut [PollFd::from_borrowed_fd(stdout(), PollFlags::OUT)], None);
            }
            Err(_) => break,
        }
    }
}

fn is_readable(fd: impl AsFd) -> bool {
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

fn callers_size() -> Option<Winsize> {
    [stdin(), stdout()].into_iter().find_map(|stream| tcgetwinsize(stream).ok())
}

/// The size for a terminal inside: the caller's, or what a terminal has had for ever.
fn window_size() -> WindowSize {
    match callers_size().filter(|size| size.ws_row > 0 && size.ws_col > 0) {
        Some(size) => WindowSize { rows: size.ws_row, columns: size.ws_col },
        None => WindowSize { rows: 24, columns: 80 },
    }
}

/// The keys to leave by, and how many of them have been typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys {
    keys: Vec<u8>,
    typed: usize,
}

impl DetachKeys {
    /// A list of characters and `ctrl-X`, as podman has it; without any there is no way to leave.
    pub fn parse(text: &str) -> Result<DetachKeys> {
        let words = text.split(',').filter(|_| !text.is_empty());
        let keys = words.map(key).collect::<Option<Vec<u8>>>().ok_or_else(|| {
            let reason = format!(
                "'{}' is no list of keys: expected characters and ctrl-X, separated by ','",
                text.escape_debug()
            );
            Error::invalid("command line", vec![Problem { field: "--detach-keys".to_owned(), reason }])
        })?;
        Ok(DetachKeys { keys, typed: 0 })
    }

    /// Adds what is typed to the input, but for the keys to leave by. A part of them that is not
    /// followed by the rest is input as well.
    fn pass(&mut self, bytes: &[u8], input: &mut VecDeque<u8>) -> Passed {
        for byte in bytes {
            if self.keys.get(self.typed) != Some(byte) && self.typed > 0 {
                input.extend(&self.keys[..self.typed]);
                self.typed = 0;
            }
            if self.keys.get(self.typed) == Some(byte) {
                self.typed += 1;
            } else {
                input.push_back(*byte);
            }
            if self.typed > 0 && self.typed == self.keys.len() {
                return Passed::Detached;
            }
        }
        Passed::On
    }
}

fn key(word: &str) -> Option<u8> {
    if let [byte] = word.as_bytes() {
        return byte.is_ascii_graphic().then_some(*byte);
    }
    match word.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(letter & 0x1f),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &str, bytes: &[u8]) -> (Vec<u8>, Passed) {
        let (mut keys, mut input) = (DetachKeys::parse(keys).unwrap(), VecDeque::new());
        let mut passed = Passed::On;
        // One at a time, as they are typed.
        for byte in bytes {
            passed = keys.pass(&[*byte], &mut input);
        }
        (input.into(), passed)
    }

    #[test]
    fn whoever_types_all_keys_leaves_and_a_part_of_them_is_input() {
        assert_eq!(typed("ctrl-p,ctrl-q", b"a\x10\x11"), (b"a".to_vec(), Passed::Detached));
        assert_eq!(typed("ctrl-p,ctrl-q", b"a\x10b\x11"), (b"a\x10b\x11".to_vec(), Passed::On));
        assert_eq!(typed("ctrl-p,ctrl-q", b"\x10\x10\x11"), (b"\x10".to_vec(), Passed::Detached));
        assert_eq!(typed("q", b"aq"), (b"a".to_vec(), Passed::Detached));
        assert_eq!(typed("", b"\x10\x11"), (b"\x10\x11".to_vec(), Passed::On));
    }

    #[test]
    fn keys_are_characters_and_control_characters() {
        assert_eq!(DetachKeys::parse("ctrl-@,a,ctrl-_").unwrap().keys, [0, b'a', 0x1f]);
        for wrong in ["ctrl-", "ctrl-A", "ab", "a,,b", "ctrl-é", "\n"] {
            assert!(DetachKeys::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
