//! A directory as the tar of a layer.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};

use super::notes::{NoteKind, Notes};
use super::{ConvertOptions, Converted, convert};
use crate::error::{Error, Result, Step};

/// Blocks of a tar.
const BLOCK: u64 = 512;
/// What a header's octal fields hold: 7 and 11 digits.
const SMALL: u64 = 0o7_777_777;
const LARGE: u64 = 0o77_777_777_777;
/// What a header has room for as path and as target.
const NAME: usize = 100;
/// `XATTR_LIST_MAX`, `XATTR_SIZE_MAX`.
const XATTRS: usize = 65536;

/// How a directory becomes a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DirectoryOptions {
    /// The time of all entries, in seconds since 1970; else each has its own.
    pub modification_time: Option<u32>,
}

/// Reads a directory as a tar, in the order of the names' bytes: the same directory gives the same
/// tar.
///
/// The directory itself is the root. No symlink is followed, also not one that takes the place of a
/// directory meanwhile. Ids are those on disk, times whole seconds. Hard links within the directory
/// stay, `user.`, `security.` attributes and POSIX ACLs too. Sockets are left out. Names that begin
/// with `.wh.` mean in a layer what they always mean: whiteouts.
///
/// A file that becomes shorter while it is read is an error. Errors are [`Error`] inside
/// `io::Error`.
pub struct DirectoryTar {
    root: OwnedFd,
    path: PathBuf,
    options: DirectoryOptions,
    /// Directories from the root down to where the walk is, with the names that are still to come,
    /// the next one last.
    open: Vec<(PathBuf, Vec<Vec<u8>>)>,
    /// Bytes to give out, and how many of them are given.
    ready: (Vec<u8>, usize),
    /// The file whose content comes.
    content: Option<Content>,
    /// Files with several names that were seen.
    links: HashMap<(u64, u64), PathBuf>,
    notes: Notes,
    /// Room for attributes.
    scratch: Vec<u8>,
    state: State,
}

struct Content {
    file: File,
    path: PathBuf,
    left: u64,
    /// Zeros behind it.
    padding: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Root,
    Walking,
    Ended,
}

impl DirectoryTar {
    /// Opens a directory.
    pub fn new(path: &Path, options: DirectoryOptions) -> Result<DirectoryTar> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| Error::system(Step::Convert, path.display(), "open", error))?;
        Ok(DirectoryTar {
            root,
            path: path.to_owned(),
            options,
            open: Vec::new(),
            ready: (Vec::new(), 0),
            content: None,
            links: HashMap::new(),
            notes: Notes::default(),
            scratch: vec![0; XATTRS],
            state: State::Root,
        })
    }

    /// An error about something below the root.
    fn error(&self, below: &Path, call: &'static str, source: impl Into<io::Error>) -> Error {
        Error::system(Step::Convert, self.path.join(below).display(), call, source)
    }

    /// Makes more bytes ready, or content; nothing at the end.
    fn advance(&mut self) -> Result<()> {
        self.ready = (Vec::new(), 0);
        match self.state {
            State::Root => {
                self.state = State::Walking;
                self.entry(PathBuf::new())
            }
            State::Walking => self.walk(),
            State::Ended => Ok(()),
        }
    }

    fn walk(&mut self) -> Result<()> {
        while let Some((directory, names)) = self.open.last_mut() {
            match names.pop() {
                Some(name) => {
                    let path = directory.join(OsString::from_vec(name));
                    return self.entry(path);
                }
                None => {
                    self.open.pop();
                }
            }
        }
        self.state = State::Ended;
        self.ready.0 = vec![0; 2 * BLOCK as usize];
        Ok(())
    }

    fn entry(&mut self, path: PathBuf) -> Result<()> {
        let found = self.open_at(&path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let stat = rustix::fs::fstat(&found).map_err(|error| self.error(&path, "fstat", error))?;
        let mut header = self.header(&path, &stat);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => {
                self.notes.add(NoteKind::Socket, path.as_os_str().as_bytes());
                return Ok(());
            }
            FileType::Directory => {
                header.kind = b'5';
                let names = self.names(&path)?;
                self.open.push((path.clone(), names));
            }
            _ if stat.st_nlink > 1 && self.links.contains_key(&identity(&stat)) => {
                header.kind = b'1';
                header.link = bytes(&self.links[&identity(&stat)]);
            }
            kind => self.leaf(&mut header, kind, &stat, &found, &path)?,
        }
        if header.kind != b'1' {
            header.xattrs = self.xattrs(&path)?;
        }
        self.ready.0 = header.encode();
        Ok(())
    }

    /// What is not a directory, and was not seen under another name.
    fn leaf(&mut self, header: &mut Header, kind: FileType, stat: &Stat, found: &OwnedFd, path: &Path) -> Result<()> {
        if stat.st_nlink > 1 {
            self.links.insert(identity(stat), path.to_owned());
        }
        header.kind = match kind {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(found, "", Vec::new());
                header.link = target.map_err(|error| self.error(path, "readlinkat", error))?.into_bytes();
                b'2'
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                header.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                if kind == FileType::CharacterDevice { b'3' } else { b'4' }
            }
            FileType::Fifo => b'6',
            _ => {
                let file = self.open_at(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
                header.size = stat.st_size as u64;
                let padding = (header.size.wrapping_neg() % BLOCK) as usize;
                self.content = Some(Content { file: file.into(), path: path.to_owned(), left: header.size, padding });
                b'0'
            }
        };
        Ok(())
    }

    /// Opens what is at a path below the root, following nothing.
    fn open_at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let place = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        // The last component may be a symlink, which is then opened itself.
        let resolve = if flags.contains(OFlags::PATH) { resolve } else { resolve | ResolveFlags::NO_SYMLINKS };
        rustix::fs::openat2(&self.root, place, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
            .map_err(|error| self.error(path, "openat2", error))
    }

    /// The names in a directory, the first one last.
    fn names(&self, path: &Path) -> Result<Vec<Vec<u8>>> {
        let directory = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let failed = |error| self.error(path, "getdents64", error);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }

    fn header(&self, path: &Path, stat: &Stat) -> Header {
        let own = stat.st_mtime;
        Header {
            path: if path.as_os_str().is_empty() { b".".to_vec() } else { bytes(path) },
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            time: self.options.modification_time.map_or(own, i64::from),
            ..Header::default()
        }
    }

    fn xattrs(&mut self, path: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let place = self.path.join(path);
        let names = match rustix::fs::llistxattr(&place, self.scratch.as_mut_slice()) {
            Ok(length) => self.scratch[..length].to_vec(),
            Err(rustix::io::Errno::OPNOTSUPP) => Vec::new(),
            Err(error) => return Err(self.error(path, "llistxattr", error)),
        };
        let mut xattrs = Vec::new();
        for name in names.split(|byte| *byte == 0) {
            if [&b"user."[..], b"security.", b"system.posix_acl_"].iter().any(|prefix| name.starts_with(prefix)) {
                let length = rustix::fs::lgetxattr(&place, name, self.scratch.as_mut_slice())
                    .map_err(|error| self.error(path, "lgetxattr", error))?;
                xattrs.push((name.to_vec(), self.scratch[..length].to_vec()));
            }
        }
        xattrs.sort();
        Ok(xattrs)
    }

    /// Gives out content; nothing at its end.
    fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(content) = self.content.as_mut().filter(|content| content.left > 0) else { return Ok(0) };
        let wanted = content.left.min(buffer.len() as u64) as usize;
        let result = content.file.read(&mut buffer[..wanted]);
        let path = || self.path.join(&content.path);
        let read = result.map_err(|error| Error::system(Step::Convert, path().display(), "read", error))?;
        if read == 0 {
            return Err(Error::invalid(Step::Convert, path().display(), "the file became shorter while it was read"));
        }
        content.left -= read as u64;
        Ok(read)
    }
}

impl Read for DirectoryTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let (bytes, given) = &mut self.ready;
            if *given < bytes.len() {
                let length = buffer.len().min(bytes.len() - *given);
                buffer[..length].copy_from_slice(&bytes[*given..*given + length]);
                *given += length;
                return Ok(length);
            }
            let read = self.read_content(buffer).map_err(io::Error::other)?;
            if read > 0 {
                return Ok(read);
            }
            if let Some(content) = self.content.take() {
                self.ready = (vec![0; content.padding], 0);
                continue;
            }
            if self.state == State::Ended {
                return Ok(0);
            }
            self.advance().map_err(io::Error::other)?;
        }
    }
}

/// Converts a directory, as [`convert`] does with its tar.
pub fn convert_directory<W: Write + Seek>(
    path: &Path,
    directory: DirectoryOptions,
    options: &ConvertOptions,
    out: W,
) -> Result<(W, Converted)> {
    let mut tar = DirectoryTar::new(path, directory)?;
    let (out, mut converted) = convert(&mut tar, options, out)?;
    let mut notes = tar.notes.into_vec();
    notes.append(&mut converted.notes);
    Ok((out, Converted { notes, ..converted }))
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// What becomes a header, with PAX records in front where it has no room.
#[derive(Debug, Default)]
struct Header {
    path: Vec<u8>,
    link: Vec<u8>,
    kind: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    time: i64,
    device: (u32, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let records = self.records();
        let mut bytes = Vec::new();
        if !records.is_empty() {
            let size = records.len() as u64;
            let pax = Header { path: b"PaxHeader".to_vec(), kind: b'x', mode: 0o644, size, ..Header::default() };
            bytes.extend(pax.block());
            bytes.extend(records);
            bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
        }
        bytes.extend(self.block());
        bytes
    }

    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let mut add = |key: &[u8], value: &[u8]| record(&mut records, key, value);
        for (key, text) in [(&b"path"[..], &self.path), (b"linkpath", &self.link)] {
            if text.len() > NAME {
                add(key, text);
            }
        }
        for (key, number, limit) in
            [("uid", u64::from(self.uid), SMALL), ("gid", u64::from(self.gid), SMALL), ("size", self.size, LARGE)]
        {
            if number > limit {
                add(key.as_bytes(), number.to_string().as_bytes());
            }
        }
        if !(0..=LARGE as i64).contains(&self.time) {
            add(b"mtime", self.time.to_string().as_bytes());
        }
        for (name, value) in &self.xattrs {
            add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        records
    }

    /// The header itself, in ustar's form. What has no room in it is in the records.
    fn block(&self) -> [u8; BLOCK as usize] {
        let mut block = [0; BLOCK as usize];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        let fits = |number: u64, limit: u64| if number > limit { 0 } else { number };
        let short = |number: u32| format!("{:07o}", fits(u64::from(number), SMALL));
        let time = u64::try_from(self.time).unwrap_or_default();
        put(0, &self.path[..self.path.len().min(NAME)]);
        put(100, short(self.mode).as_bytes());
        put(108, short(self.uid).as_bytes());
        put(116, short(self.gid).as_bytes());
        put(124, format!("{:011o}", fits(self.size, LARGE)).as_bytes());
        put(136, format!("{:011o}", fits(time, LARGE)).as_bytes());
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, &self.link[..self.link.len().min(NAME)]);
        put(257, b"ustar\x0000");
        put(329, short(self.device.0).as_bytes());
        put(337, short(self.device.1).as_bytes());
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// A record begins with its own length, that of the length's digits among it.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend(format!("{length} ").bytes());
    records.extend([key, b"=", value, b"\n"].concat());
}
