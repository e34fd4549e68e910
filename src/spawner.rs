//! The spawner: a process with one thread that does nothing but fork launch processes.
//!
//! After a fork from a program with threads almost nothing is safe, and libcontainer does a lot. So
//! a program with threads has a helper that was forked before it had any ([`Spawner::fork`]), or
//! that is a program of its own ([`Spawner::program`]). A request is one descriptor: the end of a
//! socket on which the launch process finds its job and answers. The spawner reads none of it, so
//! no request can hold up another, and no bad one can harm it.
//!
//! If the spawner dies, its keeper (forked) or the next launch (program) starts another; monitors
//! and workers notice nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio as ProcessStdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{WaitOptions, setsid, waitpid};

use crate::crash::{self, Role};
use crate::error::{Cause, Context, Error, ErrorKind, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::launch;
use crate::launch::inheritance::take_roots_ids;
use crate::launch::progress::{Answer, Line};
use crate::passing::{receive_descriptor, send_descriptor};
use crate::stage::Stage;
use crate::sys::{self, Fork};
use crate::wait::is_readable_by;

/// The first byte of every packet. Caller and spawner of different versions refuse each other.
const PROTOCOL_VERSION: u8 = 3;

/// Where a distribution puts programs that other programs start.
pub const LIBEXEC: &str = "/usr/libexec/squall";

/// Names the spawner in errors.
const OBJECT: &str = "spawner";

/// How long a spawner program may take to say its version: the time to load it, on a busy machine
/// with a slow disk.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A way to have launches forked.
#[derive(Debug)]
pub struct Spawner {
    origin: Origin,
    /// One packet a request; a lock, because a program spawner may have to be replaced.
    socket: Mutex<OwnedFd>,
}

#[derive(Debug)]
enum Origin {
    Forked,
    Program(PathBuf),
}

impl Spawner {
    /// Forks the spawner from this program. To be called first in `main`: with a second thread
    /// running it is refused ([`ErrorKind::Phase`]).
    pub fn fork() -> Result<Spawner> {
        if !sys::is_single_threaded() {
            return Err(Error::several_threads(OBJECT, "call this first in main, or use a spawner program"));
        }
        let (ours, theirs) = socket_pair()?;
        match sys::fork().at(Stage::Request, OBJECT, "fork")? {
            Fork::Parent(_) => {
                drop(theirs);
                // Until it has parted, a signal meant for this program's group would reach it as
                // well.
                rustix::io::retry_on_intr(|| rustix::io::read(&ours, &mut [0])).at(Stage::Request, OBJECT, "read")?;
                Ok(Spawner { origin: Origin::Forked, socket: Mutex::new(ours) })
            }
            Fork::Child => {
                drop(ours);
                keep(theirs)
            }
        }
    }

    /// Starts `program spawner` (the command line program of this version) as the spawner. It is
    /// given nothing of this program's environment.
    pub fn program(path: impl Into<PathBuf>) -> Result<Spawner> {
        let path = path.into();
        let socket = start(&path)?;
        Ok(Spawner { origin: Origin::Program(path), socket: Mutex::new(socket) })
    }

    /// Starts the command line program from where it is installed: beside this program's own file,
    /// else in [`LIBEXEC`]. Not for a setuid program, whose file its caller may have linked to a
    /// place of his own: that forks its spawner, or names the program.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] names the places where it is not; others as for
    /// [`Spawner::program`].
    pub fn companion() -> Result<Spawner> {
        const NAME: &str = "squall";
        let own = std::env::current_exe().at(Stage::Request, "/proc/self/exe", "readlink")?;
        let places = [own.with_file_name(NAME), PathBuf::from(LIBEXEC).join(NAME)];
        match places.iter().find(|place| place.is_file() && **place != own) {
            Some(place) => Spawner::program(place),
            None => {
                let places = places.iter().map(|place| place.display().to_string()).collect();
                let cause = Cause::NotFoundIn { places };
                Err(Error::new(ErrorKind::NotFound, Stage::Request, "spawner program", "stat", cause))
            }
        }
    }

    /// Has a launch process forked that finds its job on the other end of the socket returned.
    pub(crate) fn request(&self) -> Result<OwnedFd> {
        let (ours, theirs) = stream_pair()?;
        let mut socket = self.socket.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match send_descriptor(socket.as_fd(), PROTOCOL_VERSION, theirs.as_fd()) {
            Ok(()) => Ok(ours),
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET | rustix::io::Errno::NOTCONN) => {
                match &self.origin {
                    Origin::Program(path) => {
                        *socket = start(path)?;
                        send_descriptor(socket.as_fd(), PROTOCOL_VERSION, theirs.as_fd()).at(
                            Stage::Request,
                            OBJECT,
                            "sendmsg",
                        )?;
                        Ok(ours)
                    }
                    Origin::Forked => {
                        let text = "it and its keeper are gone; only a program with one thread can fork another";
                        let error = Error::process_ended(Stage::Request, OBJECT, "sendmsg", None, text);
                        Err(error.with_kind(ErrorKind::Phase))
                    }
                }
            }
            Err(errno) => Err(errno).at(Stage::Request, OBJECT, "sendmsg"),
        }
    }
}

/// The life of a program started as the spawner: its socket is standard input. Returns when the
/// program that it serves has ended.
pub fn serve_standard_input() -> Result<()> {
    let socket = rustix::io::dup(rustix::stdio::stdin()).at(Stage::Request, OBJECT, "dup")?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).at(Stage::Request, OBJECT, "fcntl")?;
    // Before it says that it is there: from then on a signal to the program's group may come, which
    // is not for it.
    part_from_program(&socket);
    rustix::io::write(&socket, &[PROTOCOL_VERSION]).at(Stage::Request, OBJECT, "write(version)")?;
    serve(socket)
}

/// Two connected ends of a packet socket.
fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).at(
        Stage::Request,
        OBJECT,
        "socketpair",
    )
}

fn stream_pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).at(
        Stage::Request,
        OBJECT,
        "socketpair",
    )
}

fn start(path: &PathBuf) -> Result<OwnedFd> {
    let object = format!("spawner program '{}'", path.display());
    let (ours, theirs) = socket_pair()?;
    // Not waited for when all goes well: it ends with this program, and until then it is not a
    // zombie.
    let mut program = Command::new(path)
        .arg("spawner")
        .env_clear()
        .envs(crash::variables())
        .stdin(ProcessStdio::from(theirs))
        .stdout(ProcessStdio::null())
        .spawn()
        .at(Stage::Request, &object, "spawn")?;
    shake_hands(&ours, &object).inspect_err(|_| {
        // Whatever it is, it is not to go on in our name.
        let _ = program.kill();
        let _ = program.wait();
    })?;
    Ok(ours)
}

/// The spawner's first word is its version; a program that is none may never say anything.
fn shake_hands(socket: &OwnedFd, object: &str) -> Result<()> {
    if !is_readable_by(socket.as_fd(), Some(Instant::now() + HANDSHAKE)).at(Stage::Request, object, "poll")? {
        let text = "it said nothing, so it is no spawner";
        return Err(Error::timed_out(Stage::Request, object, "handshake", HANDSHAKE, text));
    }
    let mut version = [0];
    let length =
        retry_on_intr(|| rustix::io::read(socket, &mut version)).at(Stage::Request, object, "read(version)")?;
    let cause = match (length, version[0]) {
        (1, PROTOCOL_VERSION) => return Ok(()),
        (0, _) => Cause::ProcessEnded { end: None, meaning: "it ended without a word, so it is no spawner".to_owned() },
        (_, other) => Cause::Version {
            of: "protocol".to_owned(),
            found: other.into(),
            known: PROTOCOL_VERSION.into(),
            meaning: None,
        },
    };
    Err(Error::new(ErrorKind::Unsupported, Stage::Request, object, "handshake", cause))
}

/// The keeper: forks the spawner, and another one when that has been killed. It ends with the
/// spawner's own end, which is the program's.
fn keep(socket: OwnedFd) -> ! {
    part_from_program(&socket);
    let _ = rustix::io::write(&socket, &[PROTOCOL_VERSION]);
    loop {
        match sys::fork() {
            Err(_) => sys::exit_now(1),
            Ok(Fork::Child) => {
                let code = i32::from(serve(socket).is_err());
                sys::exit_now(code)
            }
            Ok(Fork::Parent(_)) => {}
        }
        match waitpid(None, WaitOptions::empty()) {
            Ok(Some((_, status))) if status.signaled() => {}
            _ => sys::exit_now(0),
        }
    }
}

/// Keeps nothing of the program that it serves: the ids of whoever called that where it is setuid,
/// descriptors (pipes would never end, ports never be free), the terminal (its Ctrl-C is for the
/// program to handle), and a habit of ignoring its children, which would hide their deaths.
fn part_from_program(socket: &OwnedFd) {
    // Refused without the privilege that a launch needs: each says so then.
    let _ = take_roots_ids();
    // Refused only where this process leads a group already, so it has one of its own.
    let _ = setsid();
    sys::reap_children_again();
    forget_standard_streams();
    sys::close_all_but([socket.as_fd()]);
}

fn forget_standard_streams() {
    if let Ok(null) = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()) {
        for stream in 0..3 {
            let _ = sys::move_to(null.as_fd(), stream);
        }
    }
}

/// One request after the other, until the program at the other end is gone.
fn serve(socket: OwnedFd) -> Result<()> {
    sys::ignore_children();
    loop {
        let Some(request) = next_request(socket.as_fd())? else { return Ok(()) };
        crash::point(Role::Spawner, Stage::Request);
        match sys::fork() {
            Ok(Fork::Child) => {
                drop(socket);
                sys::reap_children_again();
                launch::serve(request)
            }
            Ok(Fork::Parent(_)) => {}
            Err(error) => {
                let error = Error::system(Stage::Clone, "launch process", "fork", error);
                let error = error.at_limit(libc::EAGAIN, Limit::Processes);
                Line::new(request).answer(&Answer::Failed(error));
            }
        }
    }
}

/// The descriptor of the next request; nothing when the other end has closed. Packets of another
/// shape are dropped.
fn next_request(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    loop {
        match receive_descriptor(socket).at(Stage::Request, OBJECT, "recvmsg")? {
            None => return Ok(None),
            Some((PROTOCOL_VERSION, Some(descriptor))) => return Ok(Some(descriptor)),
            Some(_) => {}
        }
    }
}
