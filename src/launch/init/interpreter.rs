//! What a program is executed by: the interpreter of a script's first line, and an ELF program's
//! loader.
//!
//! The kernel opens them with the program, and says of neither which it is when something is wrong.
//! The rules are those of `fs/binfmt_script.c` and `fs/binfmt_elf.c`.

use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{Access, Mode, OFlags, access, open};
use rustix::io::Errno;

use crate::host::{little_endian, read_head};

/// How much of a program the kernel looks at: `BINPRM_BUF_SIZE`. What a shorter file lacks counts
/// as NUL.
const HEAD_BYTES: usize = 256;

/// Scripts that are interpreted by scripts, at most: `exec_binprm()` gives up at the sixth.
const MAX_SCRIPTS: usize = 5;

/// Longest path of a loader, with its NUL: PATH_MAX.
const MAX_PATH: u64 = 4096;

/// Most program headers: as many bytes as the kernel reads, of 56 each (`elf_phdr` of 64 bits, at
/// most 64 KiB).
const MAX_HEADERS: u16 = 1170;

/// Why a program would not be executed, or not as one that its user can read, in words that name
/// its interpreter. `None` for one that is fine, that needs none, or that cannot be read.
pub(in crate::launch) fn problem(program: &File) -> Option<Problem> {
    let mut file = program.try_clone().ok()?;
    for _ in 0..=MAX_SCRIPTS {
        let mut head = [0; HEAD_BYTES];
        read_head(&file, &mut head).ok()?;
        let (path, script) = match interpreter(&head) {
            Some(Interpreter::TooLong) => return Some(Problem::TooLong),
            Some(Interpreter::At(path)) => (CString::new(path).ok()?, true),
            None => (loader(&file, &head)?, false),
        };
        file = match open_interpreter(&path) {
            Ok(file) => file,
            Err(problem) => return problem,
        };
        if !script {
            return None;
        }
    }
    Some(Problem::TooDeep)
}

/// What is wrong with an interpreter.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::launch) enum Problem {
    /// The interpreter of this name does not exist.
    Missing(String),
    /// The user may execute the interpreter of this name but not read it. The kernel gives the
    /// process to root then.
    Unreadable(String),
    /// The interpreter's name does not end where the kernel stops to read.
    TooLong,
    /// A script is interpreted by a script, and so on, more often than the kernel follows.
    TooDeep,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::Missing(name) => {
                write!(f, "its interpreter '{name}' does not exist in the image")?;
                if name.ends_with('\r') { f.write_str(": the script's lines end with CR LF") } else { Ok(()) }
            }
            Problem::Unreadable(name) => write!(
                f,
                "the user may execute its interpreter '{name}' but not read it, so its /proc entry would stay root's"
            ),
            Problem::TooLong => write!(
                f,
                "its first line names an interpreter of more than the {HEAD_BYTES} bytes that the kernel reads"
            ),
            Problem::TooDeep => {
                write!(f, "more than {MAX_SCRIPTS} scripts in a row are each interpreted by the next")
            }
        }
    }
}

/// Opens an interpreter as the user. What else may be wrong with it, the kernel says at exec.
fn open_interpreter(path: &CString) -> Result<File, Option<Problem>> {
    let name = || path.to_string_lossy().into_owned();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match open(path, flags, Mode::empty()) {
        Ok(file) => Ok(file.into()),
        Err(Errno::NOENT | Errno::NOTDIR) => Err(Some(Problem::Missing(name()))),
        Err(Errno::ACCESS) if access(path, Access::EXEC_OK).is_ok() => Err(Some(Problem::Unreadable(name()))),
        Err(_) => Err(None),
    }
}

/// The loader that an ELF program of 64 bits and this byte order names (`PT_INTERP`).
fn loader(file: &File, head: &[u8; HEAD_BYTES]) -> Option<CString> {
    const CLASS_64_LITTLE_ENDIAN: &[u8] = b"\x7fELF\x02\x01";
    const HEADER_BYTES: u16 = 56;
    const PT_INTERP: u64 = 3;
    if !head.starts_with(CLASS_64_LITTLE_ENDIAN) {
        return None;
    }
    let (table, size, count) =
        (little_endian(&head[32..40]), little_endian(&head[54..56]), little_endian(&head[56..58]));
    if size != u64::from(HEADER_BYTES) || count > u64::from(MAX_HEADERS) {
        return None;
    }
    for index in 0..count {
        let mut header = [0; HEADER_BYTES as usize];
        file.read_exact_at(&mut header, table.checked_add(index * size)?).ok()?;
        if little_endian(&header[..4]) == PT_INTERP {
            let (offset, length) = (little_endian(&header[8..16]), little_endian(&header[32..40]));
            let mut path = vec![0; length.min(MAX_PATH) as usize];
            file.read_exact_at(&mut path, offset).ok()?;
            return CString::from_vec_with_nul(path).ok();
        }
    }
    None
}

/// What a script's first line names.
#[derive(Debug, PartialEq, Eq)]
enum Interpreter<'a> {
    At(&'a [u8]),
    TooLong,
}

fn interpreter(head: &[u8; HEAD_BYTES]) -> Option<Interpreter<'_>> {
    let line = head.strip_prefix(b"#!")?;
    let end = line.iter().position(|byte| *byte == b'\n');
    let line = &line[..end.unwrap_or(line.len())];
    let name = &line[line.iter().position(|byte| !is_blank(*byte))?..];
    match name.iter().position(|byte| is_blank(*byte) || *byte == 0) {
        Some(0) => None,
        Some(length) => Some(Interpreter::At(&name[..length])),
        None if end.is_some() => Some(Interpreter::At(name)).filter(|_| !name.is_empty()),
        None => Some(Interpreter::TooLong),
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &[u8]) -> Option<Interpreter<'static>> {
        let mut head = [0; HEAD_BYTES];
        let length = text.len().min(HEAD_BYTES);
        head[..length].copy_from_slice(&text[..length]);
        interpreter(Box::leak(Box::new(head)))
    }

    #[test]
    fn the_interpreter_is_what_the_kernel_takes_for_it() {
        let table: [(&[u8], Option<&[u8]>); 10] = [
            (b"#!/bin/sh\n", Some(b"/bin/sh")),
            (b"#!/bin/sh", Some(b"/bin/sh")),
            (b"#! \t/bin/sh -e -x\n", Some(b"/bin/sh")),
            (b"#!/bin/sh\r\ntrue\r\n", Some(b"/bin/sh\r")),
            (b"#!sh\n", Some(b"sh")),
            (b"#!\n/bin/sh", None),
            (b"#!", None),
            (b"#! \t\n", None),
            (b"\x7fELF", None),
            (b"", None),
        ];
        for (text, path) in table {
            assert_eq!(seen(text), path.map(Interpreter::At), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_name_that_does_not_end_in_what_is_read_is_too_long() {
        let line = |length: usize, end: &[u8]| [b"#!/", vec![b'a'; length].as_slice(), end].concat();
        assert_eq!(seen(&line(300, b"\n")), Some(Interpreter::TooLong));
        assert_eq!(seen(&line(253, b"\n")), Some(Interpreter::TooLong));
        assert!(matches!(seen(&line(252, b"\n")), Some(Interpreter::At(_))));
        assert!(
            matches!(seen(&line(200, &[&b" "[..], &[b'x'; 300]].concat())), Some(Interpreter::At(_))),
            "only arguments are cut off"
        );
    }
}
