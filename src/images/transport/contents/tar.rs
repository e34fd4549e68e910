//! Files inside a tar archive, by position. The archive is never unpacked.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::Contents;
use crate::error::{Cause, Error, Result, Step};

/// The most entries of an archive. An image has up to 500 layers, and older programs write four
/// entries for each.
const ENTRIES: usize = 1 << 16;
/// The longest path, in bytes: the kernel's `PATH_MAX`.
const PATH_LENGTH: u64 = 4096;
/// The longest PAX header, in bytes.
const PAX_LENGTH: u64 = 1 << 16;
/// How many links are followed to a file. Docker and podman need one.
const LINKS: usize = 8;
const BLOCK: u64 = 512;

/// Where the files of an archive are in it.
#[derive(Debug)]
pub(crate) struct TarIndex {
    file: Arc<File>,
    name: String,
    entries: HashMap<String, Entry>,
}

#[derive(Debug, Clone)]
enum Entry {
    File {
        offset: u64,
        size: u64,
    },
    /// The path of another entry.
    Link(String),
    /// A link out of the archive, or a kind of file that images do not have.
    Unfit(&'static str),
}

impl TarIndex {
    /// Reads the headers of an archive. `name` is what errors call it.
    pub(crate) fn read(file: File, name: String) -> Result<TarIndex> {
        let length = file.metadata().map_err(|error| Error::system(Step::Resolve, &name, "fstat", error))?.len();
        let mut scan = Scan { file: &file, length, position: 0, path: None, target: None, size: None };
        let mut entries = HashMap::new();
        let mut seen = 0;
        loop {
            let at = scan.position;
            let entry = scan.next().map_err(|problem| match problem {
                Problem::Read(error) => Error::system(Step::Resolve, &name, "read", error),
                Problem::Form(reason) => {
                    Error::invalid(Step::Resolve, &name, format!("not a sound tar: at byte {at}: {reason}"))
                }
            })?;
            match entry {
                Next::End => break,
                Next::Entry(path, entry) => drop(entries.insert(path, entry)),
                Next::Other => {}
            }
            seen += 1;
            if seen > ENTRIES {
                let cause = Cause::Limit { what: "entries of the archive".to_owned(), limit: ENTRIES as u64 };
                return Err(Error::new(Step::Resolve, &name, cause));
            }
        }
        Ok(TarIndex { file: Arc::new(file), name, entries })
    }

    /// Whether there is something of this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        normal(path).is_some_and(|path| self.entries.contains_key(&path))
    }

    fn find(&self, path: &str) -> Result<(u64, u64)> {
        let object = || format!("{}: {path:?}", self.name);
        let outside = || Error::invalid(Step::Resolve, object(), "leads out of the archive");
        let mut wanted = normal(path).ok_or_else(outside)?;
        for _ in 0..=LINKS {
            match self.entries.get(&wanted) {
                Some(&Entry::File { offset, size }) => return Ok((offset, size)),
                Some(Entry::Link(target)) => wanted.clone_from(target),
                Some(Entry::Unfit(what)) => return Err(Error::invalid(Step::Resolve, object(), *what)),
                None => return Err(Error::new(Step::Resolve, &self.name, Cause::NotFound(wanted))),
            }
        }
        Err(Error::invalid(Step::Resolve, object(), format!("more than {LINKS} links, or a loop of them")))
    }
}

impl Contents for TarIndex {
    fn open(&self, path: &str, offset: u64) -> Result<(u64, Box<dyn Read + Send>)> {
        let (start, size) = self.find(path)?;
        let skipped = offset.min(size);
        Ok((size, Box::new(Span { file: Arc::clone(&self.file), position: start + skipped, left: size - skipped })))
    }
}

/// A part of a file.
struct Span {
    file: Arc<File>,
    position: u64,
    left: u64,
}

impl Read for Span {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..wanted], self.position)?;
        if read == 0 && wanted > 0 {
            // It was there when the headers were read.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

enum Problem {
    Read(io::Error),
    Form(&'static str),
}

impl From<&'static str> for Problem {
    fn from(reason: &'static str) -> Problem {
        Problem::Form(reason)
    }
}

enum Next {
    Entry(String, Entry),
    /// A directory, or a header for the next entry.
    Other,
    End,
}

/// A pass over the headers.
struct Scan<'a> {
    file: &'a File,
    length: u64,
    position: u64,
    // What headers said about the entry to come.
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Scan<'_> {
    fn next(&mut self) -> Result<Next, Problem> {
        // An archive may end without its blocks of zeros.
        if self.position == self.length {
            return Ok(Next::End);
        }
        let mut header = [0; BLOCK as usize];
        self.exactly(&mut header)?;
        if header.iter().all(|&byte| byte == 0) {
            return Ok(Next::End);
        }
        if number(&header[148..156])? != checksum(&header) {
            return Err("wrong checksum of a header".into());
        }
        let said = number(&header[124..136])?;
        match header[156] {
            b'L' => self.path = Some(self.document(said, PATH_LENGTH)?),
            b'K' => self.target = Some(self.document(said, PATH_LENGTH)?),
            b'x' => {
                let records = self.document(said, PAX_LENGTH)?;
                self.pax(&records)?;
            }
            // Defaults for what follows: comments, for git.
            b'g' => drop(self.document(said, PAX_LENGTH)?),
            kind => return self.entry(&header, kind, said),
        }
        Ok(Next::Other)
    }

    fn entry(&mut self, header: &[u8; BLOCK as usize], kind: u8, said: u64) -> Result<Next, Problem> {
        let path = self.path.take().unwrap_or_else(|| header_path(header));
        let target = self.target.take().unwrap_or_else(|| until_nul(&header[157..257]).to_vec());
        let size = self.size.take().unwrap_or(said);
        let offset = self.position;
        // Links have no content, whatever their header says.
        if !matches!(kind, b'1'..=b'6') {
            self.skip(size)?;
        }
        let (Ok(path), Ok(target)) = (String::from_utf8(path), String::from_utf8(target)) else {
            return Ok(Next::Other);
        };
        let Some(path) = normal(&path) else { return Ok(Next::Other) };
        let link = |target: Option<String>| target.map_or(Entry::Unfit("leads out of the archive"), Entry::Link);
        let entry = match kind {
            b'0' | 0 | b'7' => Entry::File { offset, size },
            b'1' => link(normal(&target)),
            b'2' => link(joined(&path, &target)),
            b'5' => return Ok(Next::Other),
            b'S' => Entry::Unfit("a sparse file, which images do not have"),
            _ => Entry::Unfit("neither a file nor a link"),
        };
        Ok(Next::Entry(path, entry))
    }

    fn pax(&mut self, mut records: &[u8]) -> Result<(), Problem> {
        while !records.is_empty() {
            let space = records.iter().position(|&byte| byte == b' ').ok_or("PAX record without a length")?;
            let length = std::str::from_utf8(&records[..space]).ok().and_then(|text| text.parse::<usize>().ok());
            let length = length.filter(|&length| length > space + 1 && length <= records.len());
            let (record, rest) = records.split_at(length.ok_or("PAX record with a wrong length")?);
            let record = record[space + 1..].strip_suffix(b"\n").ok_or("PAX record without its end")?;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or("PAX record without '='")?;
            let value = &record[equals + 1..];
            match &record[..equals] {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => {
                    let text = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.size = Some(text.ok_or("PAX size that is no number")?);
                }
                _ => {}
            }
            records = rest;
        }
        Ok(())
    }

    /// The content of a header that is about the next entry.
    fn document(&mut self, size: u64, limit: u64) -> Result<Vec<u8>, Problem> {
        if size > limit {
            return Err("a header that is longer than any name".into());
        }
        let start = self.position;
        let mut content = vec![0; usize::try_from(size).map_err(|_| "a header that is too long")?];
        self.exactly(&mut content)?;
        self.position = start;
        self.skip(size)?;
        if content.last() == Some(&0) {
            content.pop();
        }
        Ok(content)
    }

    fn exactly(&mut self, buffer: &mut [u8]) -> Result<(), Problem> {
        match self.file.read_exact_at(buffer, self.position) {
            Ok(()) => self.position += buffer.len() as u64,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err("cut off".into()),
            Err(error) => return Err(Problem::Read(error)),
        }
        Ok(())
    }

    /// Goes over content and what fills its last block. The filling of the last entry may be missing.
    fn skip(&mut self, size: u64) -> Result<(), Problem> {
        let end = self.position.checked_add(size).filter(|&end| end <= self.length);
        let end = end.ok_or("an entry that is longer than the archive")?;
        self.position = end.next_multiple_of(BLOCK).min(self.length);
        Ok(())
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn header_path(header: &[u8; BLOCK as usize]) -> Vec<u8> {
    let (name, prefix) = (until_nul(&header[..100]), until_nul(&header[345..500]));
    // GNU's form has times where POSIX has the prefix.
    match &header[257..263] == b"ustar\0" && !prefix.is_empty() {
        true => [prefix, b"/", name].concat(),
        false => name.to_vec(),
    }
}

fn checksum(header: &[u8; BLOCK as usize]) -> u64 {
    let counted = |(index, &byte): (usize, &u8)| u64::from(if (148..156).contains(&index) { b' ' } else { byte });
    header.iter().enumerate().map(counted).sum()
}

/// An octal number, or GNU's binary one.
fn number(field: &[u8]) -> Result<u64, Problem> {
    if field[0] & 0x80 != 0 {
        // Fields of eight bytes have the mark in the number itself: none is written so.
        let large = "a number that is too large";
        let (mark, rest) = field.split_first().filter(|_| field.len() > 8).ok_or(large)?;
        let (head, tail) = rest.split_at(rest.len() - 8);
        let fits = *mark == 0x80 && head.iter().all(|&byte| byte == 0);
        let value = tail.iter().fold(0, |value: u64, &byte| value << 8 | u64::from(byte));
        return if fits { Ok(value) } else { Err(large.into()) };
    }
    let text = std::str::from_utf8(until_nul(field)).map_err(|_| "a number that is none")?.trim_matches(' ');
    if text.is_empty() {
        return Ok(0);
    }
    u64::from_str_radix(text, 8).map_err(|_| "a number that is none".into())
}

/// A path without `.` and empty components; `None` for one that goes up.
fn normal(path: &str) -> Option<String> {
    joined("", path)
}

/// Where a symbolic link at `link` leads; `None` where that is outside.
fn joined(link: &str, target: &str) -> Option<String> {
    if !link.is_empty() && target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
#[path = "tar_tests.rs"]
mod tests;
