//! Sockets of sequenced packets, by their names in a directory.
//!
//! They are reached by the directory's descriptor: a path of any length would not fit into a
//! socket's address.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

/// Clients that may wait to be served; a monitor takes eight at once.
const BACKLOG: i32 = 16;

/// A socket of this name that listens, in an open directory.
pub(crate) fn listen_in(directory: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &address(directory, name)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A socket of this name that listens.
pub(crate) fn listen(directory: &Path, name: &str) -> Result<OwnedFd> {
    listen_in(open(directory)?.as_fd(), name)
}

/// A connection that never waits, or `None` where nobody listens.
pub(crate) fn connect(directory: &Path, name: &str) -> Result<Option<OwnedFd>> {
    let directory = match open(directory) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    match rustix::net::connect(&socket, &address(directory.as_fd(), name)?) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn open(directory: &Path) -> Result<OwnedFd> {
    rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn address(directory: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))
}
