//! The devices of a container, and the links beside them, on the file system that is its `/dev`.
//!
//! Made by name below the descriptor of a tmpfs that is not even attached yet: nothing of the image
//! or the caller can have been there. Which they are is what the OCI runtime specification has
//! under "Default Devices" and what libcontainer makes. Runs in the container's first process,
//! whose umask is empty.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, major, makedev, minor, mknodat, openat, symlinkat};

use crate::error::{Context, Error, FileAspect, Result};
use crate::stage::Stage;

/// Where they are.
pub(crate) const DEV: &str = "/dev";

/// The null device's numbers (Documentation/admin-guide/devices.txt of the kernel).
const NULL: (u32, u32) = (1, 3);

/// Character devices, with their numbers.
const NODES: [(&str, (u32, u32)); 6] =
    [("null", NULL), ("zero", (1, 5)), ("full", (1, 7)), ("tty", (5, 0)), ("random", (1, 8)), ("urandom", (1, 9))];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// What else stands in `/dev` by the OCI runtime specification, or in that of other runtimes: no
/// mount of a caller's may take the place.
const RESERVED: [&str; 3] = ["console", "core", "kcore"];

/// Whether the name in `/dev` is the container's own.
pub(crate) fn is_own(name: &str) -> bool {
    let nodes = NODES.iter().map(|(node, _)| *node);
    nodes.chain(LINKS.iter().map(|(link, _)| *link)).chain(RESERVED).any(|own| own == name)
}

/// Makes nodes and links on the file system that `dev` is the root of.
pub(crate) fn make(dev: BorrowedFd<'_>) -> Result<()> {
    for (name, (major, minor)) in NODES {
        let mode = Mode::from_raw_mode(0o666);
        mknodat(dev, name, FileType::CharacterDevice, mode, makedev(major, minor)).at(
            Stage::Mounts,
            format!("device '{DEV}/{name}'"),
            "mknodat",
        )?;
    }
    LINKS.into_iter().try_for_each(|(name, to)| link(dev, name, to))
}

/// The link to the kernel's memory, for a `/proc` that has it; what it leads to is masked.
pub(crate) fn link_kcore(dev: BorrowedFd<'_>) -> Result<()> {
    link(dev, "kcore", "/proc/kcore")
}

fn link(dev: BorrowedFd<'_>, name: &str, to: &str) -> Result<()> {
    symlinkat(to, dev, name).at(Stage::Mounts, format!("link '{DEV}/{name}'"), "symlinkat")
}

/// The null device of this `/dev`, to be bound, and certainly that device: whatever else stood
/// there would be laid over the masked paths (CVE-2025-31133).
pub(crate) fn null(dev: BorrowedFd<'_>) -> Result<OwnedFd> {
    open_null(dev, "null", OFlags::PATH)
}

/// The null device by a path of the container that this process is in, for reading and writing.
pub(crate) fn open_null_of_root() -> Result<OwnedFd> {
    open_null(rustix::fs::CWD, "/dev/null", OFlags::RDWR)
}

/// Whether it is open on the null device, of whichever `/dev`.
pub(crate) fn is_null(descriptor: impl AsFd) -> rustix::io::Result<bool> {
    let stat = fstat(descriptor)?;
    let is_device = FileType::from_raw_mode(stat.st_mode).is_char_device();
    Ok(is_device && (major(stat.st_rdev), minor(stat.st_rdev)) == NULL)
}

fn open_null(directory: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd> {
    const OBJECT: &str = "device '/dev/null'";
    let null = openat(directory, path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).at(
        Stage::Mounts,
        OBJECT,
        "openat",
    )?;
    match is_null(&null).at(Stage::Mounts, OBJECT, "fstat")? {
        true => Ok(null),
        false => {
            let (found, expected) = ("another file", "the null device");
            Err(Error::wrong_file(Stage::Mounts, OBJECT, "fstat", FileAspect::Type, found, expected))
        }
    }
}
