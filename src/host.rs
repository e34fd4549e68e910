//! What this machine and this process are: boot, clocks, pid namespace, and small things about
//! files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FileType;
pub(crate) use rustix::time::ClockId;
use rustix::time::clock_gettime;

use crate::error::{Context, Error, Result};
use crate::stage::Stage;

/// The kernel's id of this boot: a pid of another one means nothing.
pub(crate) fn boot_id() -> Result<String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    std::fs::read_to_string(PATH).map(|id| id.trim().to_owned()).at(Stage::Record, PATH, "read")
}

/// The pid namespace of this process, by its inode.
pub(crate) fn pid_namespace() -> Result<u64> {
    const PATH: &str = "/proc/self/ns/pid";
    rustix::fs::stat(PATH).map(|stat| stat.st_ino).at(Stage::Record, PATH, "stat")
}

/// Pids mean nothing where /proc shows another pid namespace than ours.
pub(crate) fn check_proc() -> Result<()> {
    const PATH: &str = "/proc/self";
    let shown = std::fs::read_link(PATH).at(Stage::Claim, PATH, "readlink")?;
    if shown.as_os_str() == std::process::id().to_string().as_str() {
        return Ok(());
    }
    let text = "it is not the /proc of this pid namespace, so no pid in it could be believed";
    Err(Error::lacking(Stage::Claim, PATH, "readlink", "/proc", text))
}

/// A file by what it is and who can reach it: `a directory of uid 0 with mode 0755`.
pub(crate) fn file_with_access(mode: u32, uid: u32) -> String {
    let kind = kind_of_file(FileType::from_raw_mode(mode));
    format!("{kind} of uid {uid} with mode {:04o}", mode & 0o7777)
}

/// What a clock shows, in nanoseconds.
pub(crate) fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub(crate) fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Reads a file's beginning, as far as there is one; how much of the buffer that filled.
pub(crate) fn read_head(file: &File, head: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < head.len() {
        match file.read_at(&mut head[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A little-endian number of up to eight bytes.
pub(crate) fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Makes a directory that only root can look into; one that is there already will do.
pub(crate) fn create_private_directory(path: &Path) -> std::io::Result<()> {
    match rustix::fs::mkdir(path, rustix::fs::Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// What is gone already need not be removed.
pub(crate) fn absent(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A type of file in words.
pub(crate) fn kind_of_file(file: FileType) -> &'static str {
    match file {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "of an unknown type",
    }
}
