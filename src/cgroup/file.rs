//! Reading and writing the kernel's files in a cgroup's directory.
//!
//! Owns the three system calls per value (openat, write, pread) and the buffer. It knows no file by
//! name. Used by the launch process and the monitor; allocates only for what may be longer than a
//! page.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, pread, pwrite, read};

/// Longer than every file of the kernel that is read here but the lists of processes.
const SHORT: usize = 4096;

/// A directory of a cgroup, for the `*at` calls and `CLONE_INTO_CGROUP` alone: `O_PATH` asks for no
/// permission and costs the least.
pub(super) fn open_directory(path: &str) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The file `name` of a cgroup.
pub(super) fn open(directory: impl AsFd, name: &str, access: OFlags) -> Result<OwnedFd, Errno> {
    openat(directory, name, access | OFlags::CLOEXEC, Mode::empty())
}

/// Writes `value` whole: the kernel takes a value of a cgroup file in one call or not at all.
pub(super) fn write(file: impl AsFd, value: &str) -> Result<(), Errno> {
    loop {
        match pwrite(&file, value.as_bytes(), 0) {
            Ok(count) if count == value.len() => return Ok(()),
            Ok(_) => return Err(Errno::IO),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// What an open file shows, up to a page.
pub(super) fn show(file: impl AsFd) -> Result<Text, Errno> {
    let mut text = Text { bytes: [0; SHORT], length: 0 };
    text.length = pread(&file, &mut text.bytes, 0)?;
    Ok(text)
}

/// What the file `name` shows, up to a page.
pub(super) fn read_short(directory: impl AsFd, name: &str) -> Result<Text, Errno> {
    show(open(directory, name, OFlags::RDONLY)?)
}

/// Everything that the file `name` shows. A page at a time: these files have no size, and longer
/// reads return no more.
pub(super) fn read_whole(directory: impl AsFd, name: &str) -> Result<Vec<u8>, Errno> {
    let file = open(directory, name, OFlags::RDONLY)?;
    let mut bytes = Vec::new();
    let mut part = [0; SHORT];
    loop {
        match read(&file, &mut part) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The process ids in `cgroup.procs`. Processes of other pid namespaces are shown as 0 and left
/// out.
pub(super) fn processes(directory: impl AsFd) -> Result<Vec<i32>, Errno> {
    let bytes = read_whole(directory, "cgroup.procs")?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
}

/// The number after `key` in a file of lines `key number`.
pub(super) fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim_end().rsplit('=').next()?.parse().ok())
}

/// What a short file shows.
pub(super) struct Text {
    bytes: [u8; SHORT],
    length: usize,
}

impl Text {
    /// The text; files of the kernel are ASCII, so what is not UTF-8 counts as nothing.
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_whole_or_not_at_all() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 12\nmax\nbad x\n";
        for (key, expected) in
            [("oom_kill", Some(12)), ("under_oom", Some(0)), ("oom", None), ("max", None), ("bad", None), ("", None)]
        {
            assert_eq!(value_of(text, key), expected, "{key}");
        }
    }
}
