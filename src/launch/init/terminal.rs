//! A terminal of the container's own, for the program that is about to be executed.
//!
//! It is made by a process that is root still, in a container that may be hostile and awake: the
//! terminal multiplexer is opened below the root by descriptor, has to be on a devpts, and its
//! follower is opened by it and not by a path.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, ResolveFlags, fstatfs};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::tcsetwinsize;

use crate::error::{Context, Error, FileAspect, Result};
use crate::request::Identity;
use crate::root::target::open_in_root;
use crate::stage::Stage;
use crate::stdio::Console;
use crate::sys;

const MULTIPLEXER: &str = "/dev/pts/ptmx";

/// `DEVPTS_SUPER_MAGIC` of <linux/magic.h>.
const DEVPTS: i64 = 0x1cd1;

/// What errors call it.
const OBJECT: &str = "terminal";

/// Makes one below this root and sends its caller the other end. The answer is the program's end.
pub(super) fn make(root: BorrowedFd<'_>, console: &Console, user: &Identity) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let leader = open_in_root(root, MULTIPLEXER, flags, resolve).at(Stage::Mounts, OBJECT, "openat2(/dev/pts/ptmx)")?;
    let file_system = fstatfs(&leader).at(Stage::Mounts, OBJECT, "fstatfs(/dev/pts/ptmx)")?.f_type;
    if file_system as i64 != DEVPTS {
        let found = format!("a file system of type {file_system:#x}");
        return Err(Error::wrong_file(Stage::Mounts, MULTIPLEXER, "fstatfs", FileAspect::Type, found, "one of devpts"));
    }
    unlockpt(&leader).at(Stage::Mounts, OBJECT, "ioctl(TIOCSPTLCK)")?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let follower = ioctl_tiocgptpeer(&leader, peer).at(Stage::Mounts, OBJECT, "ioctl(TIOCGPTPEER)")?;
    rustix::fs::fchown(&follower, Some(rustix::fs::Uid::from_raw(user.uid())), None).at(
        Stage::Mounts,
        OBJECT,
        "fchown",
    )?;
    tcsetwinsize(&leader, console.size.into()).at(Stage::Mounts, OBJECT, "ioctl(TIOCSWINSZ)")?;
    console.send(leader.as_fd()).at(Stage::Mounts, OBJECT, "sendmsg")?;
    Ok(follower)
}

/// Makes it this session's, and the standard streams.
pub(super) fn take(follower: &OwnedFd) -> Result<()> {
    ioctl_tiocsctty(follower).at(Stage::Become, OBJECT, "ioctl(TIOCSCTTY)")?;
    (0..3).try_for_each(|stream| sys::move_to(follower.as_fd(), stream)).at(Stage::Become, OBJECT, "dup2")
}
