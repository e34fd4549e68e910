//! What may be a worker's standard stream.
//!
//! A descriptor is not only something to read or write: a worker reaches its streams by path as
//! well (`/proc/self/fd/0`), and can open them again, from the host's file system. A directory
//! would be the host's tree, a block device its disk.
//!
//! | open on | |
//! |---|---|
//! | a regular file, a FIFO, a pipe | accepted; a file that is open for reading alone stays so (`launch::streams`) |
//! | a stream, datagram or packet socket, Unix or IP | accepted: there is no opening it again |
//! | a terminal; `/dev/null`, `zero`, `full`, `random`, `urandom` | accepted |
//! | a directory, a block device, another character device, the master of a terminal | refused |
//! | anything by `O_PATH`, a socket of another family or a raw one, what is no file at all (an eventfd) | refused |
//!
//! Not taken away: a worker may read a file that is open for writing alone, and empty it, if owner,
//! mode or list of the file let it. Hand over a pipe where what the file held before is not for the
//! worker.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, major, minor};
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use rustix::termios::isatty;

use super::facts::Facts;
use crate::error::{Error, Problem, Result};
use crate::host::kind_of_file;
use crate::request::Identity;

/// What the streams are called, by number.
const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];

/// Character devices that hold nothing of the host's, with their numbers
/// (Documentation/admin-guide/devices.txt of the kernel): null, zero, full, random, urandom.
const HARMLESS: [(u32, u32); 5] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)];

/// The masters of terminals: `/dev/ptmx`, which every master is opened by.
const MASTER: (u32, u32) = (5, 2);

/// Refuses what must not be a worker's stream.
///
/// # Errors
/// `Invalid` with a problem for each stream that is refused, its field the stream's name: `standard
/// input`.
pub(crate) fn check_streams(streams: &[OwnedFd; 3], object: &str) -> Result<()> {
    let refused = |(stream, name): (&OwnedFd, &str)| {
        refusal(stream.as_fd()).map(|reason| Problem { field: name.to_owned(), reason })
    };
    let problems: Vec<Problem> = streams.iter().zip(NAMES).filter_map(refused).collect();
    if problems.is_empty() { Ok(()) } else { Err(Error::invalid(object, problems)) }
}

/// Why it must not be a worker's stream, if that is so.
fn refusal(stream: BorrowedFd<'_>) -> Option<String> {
    let looked_at = fcntl_getfl(stream).and_then(|flags| Ok((flags, fstat(stream)?)));
    let (flags, stat) = match looked_at {
        Ok(found) => found,
        Err(errno) => return Some(format!("cannot be looked at: {errno}")),
    };
    if flags.contains(OFlags::PATH) {
        return Some("is open as a path only (O_PATH): nothing can be read or written by it".to_owned());
    }
    let file = FileType::from_raw_mode(stat.st_mode);
    match file {
        FileType::RegularFile | FileType::Fifo => None,
        FileType::Socket => socket_refusal(stream),
        FileType::CharacterDevice => device_refusal(stream, (major(stat.st_rdev), minor(stat.st_rdev))),
        FileType::Directory => Some("is a directory of the host: the worker would have what lies below it".to_owned()),
        other => Some(format!("is {}: expected a file, a pipe, a socket or a terminal", kind_of_file(other))),
    }
}

fn device_refusal(stream: BorrowedFd<'_>, numbers: (u32, u32)) -> Option<String> {
    if HARMLESS.contains(&numbers) || (numbers != MASTER && isatty(stream)) {
        return None;
    }
    let (major, minor) = numbers;
    Some(format!(
        "is the character device {major}:{minor}: expected a terminal, /dev/null, zero, full, random or urandom"
    ))
}

/// Sockets of other families carry requests to the kernel or other machines' packets.
fn socket_refusal(stream: BorrowedFd<'_>) -> Option<String> {
    let families = [AddressFamily::UNIX, AddressFamily::INET, AddressFamily::INET6];
    let types = [SocketType::STREAM, SocketType::DGRAM, SocketType::SEQPACKET];
    match (socket_domain(stream), socket_type(stream)) {
        (Ok(family), Ok(kind)) if families.contains(&family) && types.contains(&kind) => None,
        (Err(errno), _) | (_, Err(errno)) => Some(format!("is a socket that cannot be looked at: {errno}")),
        _ => Some("is a socket that is not Unix, TCP or UDP: expected one of these".to_owned()),
    }
}

/// Whether a worker could open this stream again for writing, although it is open for reading
/// alone.
pub(crate) fn may_be_reopened_for_writing(stream: BorrowedFd<'_>, worker: &Identity) -> rustix::io::Result<bool> {
    let stat = fstat(stream)?;
    let for_reading = fcntl_getfl(stream)? & OFlags::ACCMODE == OFlags::RDONLY;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(for_reading && is_file && Facts::of(stream, &stat).may_be_changed_by(worker))
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::{MemfdFlags, Mode, memfd_create, open};
    use rustix::net::{SocketFlags, socket, socketpair};
    use rustix::pipe::pipe;

    use super::*;

    fn opened(path: &str, flags: OFlags) -> OwnedFd {
        open(path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn each_kind_of_stream_is_accepted_or_refused() {
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap().0;
        let udp = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
        let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
        let table: [(&str, OwnedFd, Option<&str>); 14] = [
            ("a file", opened("/proc/self/status", OFlags::RDONLY), None),
            ("a memfd", memfd_create("a", MemfdFlags::CLOEXEC).unwrap(), None),
            ("a pipe", pipe().unwrap().0, None),
            ("a Unix socket", pair, None),
            ("a UDP socket", udp, None),
            ("null", opened("/dev/null", OFlags::RDWR), None),
            ("zero", opened("/dev/zero", OFlags::RDONLY), None),
            ("urandom", opened("/dev/urandom", OFlags::RDONLY), None),
            ("a directory", opened("/", OFlags::RDONLY), Some("is a directory of the host")),
            ("a directory's path", opened("/", OFlags::PATH), Some("O_PATH")),
            ("a file's path", opened("/proc/self/status", OFlags::PATH), Some("O_PATH")),
            ("a link's path", opened("/proc/self", OFlags::PATH | OFlags::NOFOLLOW), Some("O_PATH")),
            ("a netlink socket", netlink, Some("not Unix, TCP or UDP")),
            ("an eventfd", eventfd(0, EventfdFlags::CLOEXEC).unwrap(), Some("of an unknown type")),
        ];
        for (what, stream, expected) in table {
            let refusal = refusal(stream.as_fd());
            match (expected, &refusal) {
                (None, None) => {}
                (Some(words), Some(reason)) if reason.contains(words) => {}
                _ => panic!("{what}: {refusal:?}"),
            }
        }
    }

    #[test]
    fn of_three_streams_each_that_is_refused_is_named() {
        let streams = [opened("/", OFlags::RDONLY), opened("/dev/null", OFlags::RDWR), opened("/", OFlags::PATH)];
        let error = check_streams(&streams, "container 'x'").unwrap_err();
        let fields: Vec<&str> = error.problems().iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["standard input", "standard error"]);
    }

    #[test]
    fn a_file_open_for_reading_could_be_opened_for_writing_by_its_owner_and_whom_the_mode_lets() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let own = rustix::process::geteuid().as_raw();
        let worker = |uid| Identity::new(uid, 4711, []).unwrap();
        let asked = |flags, mode, uid| {
            rustix::fs::chmod(path, Mode::from_raw_mode(mode)).unwrap();
            may_be_reopened_for_writing(opened(path, flags).as_fd(), &worker(uid)).unwrap()
        };
        assert!(asked(OFlags::RDONLY, 0o444, own), "the owner may change the mode");
        assert!(asked(OFlags::RDONLY, 0o646, own + 1));
        assert!(!asked(OFlags::RDONLY, 0o644, own + 1));
        assert!(!asked(OFlags::RDWR, 0o646, own), "nothing is gained");
    }
}
