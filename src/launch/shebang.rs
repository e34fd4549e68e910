//! What the kernel takes for a script, and for its interpreter: the rules of `fs/binfmt_script.c`.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;

use rustix::fs::{Access, access};

/// How much of a program the kernel looks at: `BINPRM_BUF_SIZE`. What a shorter file lacks counts as NUL.
const HEAD_BYTES: usize = 256;

/// Why a script would not be executed, in words that name its interpreter; nothing for what is no script, or one that is fine, or cannot be
/// read. The kernel says no more than that something does not exist or is no program.
pub(super) fn problem(file: File) -> Option<Problem> {
    let mut head = [0; HEAD_BYTES];
    let mut text = Vec::new();
    file.take(HEAD_BYTES as u64).read_to_end(&mut text).ok()?;
    head[..text.len()].copy_from_slice(&text);
    match interpreter(&head)? {
        Interpreter::TooLong => Some(Problem::TooLong),
        Interpreter::At(path) => {
            let missing = access(&CString::new(path).ok()?, Access::EXISTS).err();
            let missing =
                missing.is_some_and(|errno| matches!(errno, rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR));
            missing.then(|| Problem::Missing(String::from_utf8_lossy(path).into_owned()))
        }
    }
}

/// What is wrong with a script's first line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The interpreter of this name does not exist.
    Missing(String),
    /// The interpreter's name does not end where the kernel stops to read.
    TooLong,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::Missing(name) => {
                write!(f, "its interpreter '{name}' does not exist in the image")?;
                if name.ends_with('\r') { f.write_str(": the script's lines end with CR LF") } else { Ok(()) }
            }
            Problem::TooLong => write!(
                f,
                "its first line names an interpreter of more than the {HEAD_BYTES} bytes that the kernel reads"
            ),
        }
    }
}

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
