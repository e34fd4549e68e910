//! Walks over a tar: one entry after the other, with all that headers, PAX records and GNU's long
//! names say of it, and its content.
//!
//! Nothing is believed: what stays in memory is bounded by [`super::Limits::header`], checksums are
//! checked, and every error names the entry and the byte where it begins.

mod header;
mod pax;
mod sparse;
mod time;

use std::io::{self, BufRead, Read};

use squall::squashfs::DeviceKind;

use super::Limits;
use super::expand::{Stop, failed};
use super::notes::{NoteKind, Notes, shown};
use crate::error::{Cause, Error, Result, Step};
use header::{BLOCK, RawHeader, sparse_extension};
use pax::Pax;
use sparse::Piece;
pub(super) use time::Time;

/// An entry without its content.
#[derive(Debug)]
pub(super) struct Entry {
    /// As the tar has it.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// At most 0o7777.
    pub(super) mode: u32,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) time: Time,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its content is what [`TarReader`] reads until the next entry.
    File,
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    Device {
        kind: DeviceKind,
        major: i64,
        minor: i64,
    },
    Directory,
    Fifo,
}

/// Reads a tar. As a [`Read`] it gives the content of the entry that came last.
pub(super) struct TarReader<R> {
    inner: R,
    /// In the tar.
    offset: u64,
    /// The entry that errors name: the last one whose name is known, and where it began.
    current: (Vec<u8>, u64),
    /// What is left of the content.
    pieces: Vec<Piece>,
    /// Behind the content, up to the next header.
    padding: u64,
    /// Bytes of sparse files.
    sparse_bytes: u64,
    limits: Limits,
    /// Why content could not be read; whoever reads it may not be able to pass the error on.
    failure: Option<io::Error>,
}

/// Extension headers in front of an entry.
#[derive(Default)]
struct Extensions {
    pax: Option<Pax>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    /// Of the first one.
    offset: Option<u64>,
}

impl<R: BufRead> TarReader<R> {
    pub(super) fn new(inner: R, limits: Limits) -> TarReader<R> {
        let (pieces, current) = (Vec::new(), (Vec::new(), 0));
        TarReader { inner, offset: 0, current, pieces, padding: 0, sparse_bytes: 0, limits, failure: None }
    }

    /// The next entry; what is left of the last one's content is skipped. Nothing at the end of the
    /// archive.
    pub(super) fn next(&mut self, notes: &mut Notes) -> Result<Option<Entry>> {
        let left = self.pieces.drain(..).map(|piece| piece.data).sum::<u64>() + std::mem::take(&mut self.padding);
        self.skip(left)?;
        let mut extensions = Extensions::default();
        loop {
            let offset = self.offset;
            let Some(header) = self.header()? else {
                return match extensions.offset {
                    None => Ok(None),
                    Some(_) => Err(self.bad("the archive ends behind an extension header")),
                };
            };
            self.current.1 = *extensions.offset.get_or_insert(offset);
            match header.kind() {
                b'x' | b'X' => {
                    let records = self.extension(&header, extensions.pax.is_some())?;
                    extensions.pax = Some(Pax::parse(&records).map_err(|reason| self.bad(reason))?);
                }
                b'L' => extensions.path = Some(self.long_name(&header, extensions.path.is_some())?),
                b'K' => extensions.link = Some(self.long_name(&header, extensions.link.is_some())?),
                kind @ (b'g' | b'V') => {
                    let kind = if kind == b'g' { NoteKind::GlobalHeader } else { NoteKind::VolumeLabel };
                    notes.add(kind, &header.path());
                    let size = header.size().map_err(|reason| self.bad(reason))?;
                    self.skip(size + padding(size))?;
                    // They stand by themselves, so extension headers in front of one mean nothing.
                    extensions = Extensions::default();
                }
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
    }

    /// Why the content could not be read, if that was so.
    pub(super) fn failure(&mut self) -> Option<Error> {
        self.failure.take().map(|error| self.unread(error))
    }

    /// Reads what is behind the end of the archive; gives back what it was read from.
    pub(super) fn finish(mut self, notes: &mut Notes) -> Result<R> {
        loop {
            let bytes = self.inner.fill_buf().map_err(failed)?;
            if bytes.is_empty() {
                return Ok(self.inner);
            }
            if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
                notes.add(NoteKind::TrailingData, format!("byte {}", self.offset + at as u64).as_bytes());
                io::copy(&mut self.inner, &mut io::sink()).map_err(failed)?;
                return Ok(self.inner);
            }
            let length = bytes.len();
            self.inner.consume(length);
            self.offset += length as u64;
        }
    }

    /// An error about an entry, where it began.
    pub(super) fn bad(&self, reason: impl Into<String>) -> Error {
        let (entry, offset) = (shown(&self.current.0), self.current.1);
        Error::new(Step::Convert, super::expand::LAYER, Cause::Entry { entry, offset, reason: reason.into() })
    }

    /// The next header; nothing at the end: two blocks of zeros, or the end of the stream.
    fn header(&mut self) -> Result<Option<RawHeader>> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block.iter().all(|byte| *byte == 0) {
            return match self.block()? {
                Some(second) if second.iter().any(|byte| *byte != 0) => {
                    Err(self.bad_header(2, "a single block of zeros between headers"))
                }
                _ => Ok(None),
            };
        }
        RawHeader::new(block).map(Some).map_err(|reason| self.bad_header(1, &reason))
    }

    /// An error about a header that may be anything: names the entry before it.
    fn bad_header(&mut self, blocks_ago: u64, reason: &str) -> Error {
        let behind = if self.current.0.is_empty() { "" } else { "behind this entry: " };
        self.current.1 = self.offset - blocks_ago * BLOCK as u64;
        self.bad(format!("{behind}{reason}"))
    }

    /// A whole block; nothing at the end of the stream.
    fn block(&mut self) -> Result<Option<Box<[u8; BLOCK]>>> {
        let mut block = Box::new([0; BLOCK]);
        let mut length = 0;
        while length < BLOCK {
            match self.inner.read(&mut block[length..]) {
                Ok(0) if length == 0 => return Ok(None),
                Ok(0) => return Err(self.bad_cut(length)),
                Ok(read) => length += read,
                Err(error) => return Err(self.unread(error)),
            }
        }
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }

    fn bad_cut(&self, length: usize) -> Error {
        self.bad(format!("the archive is cut off at byte {}, in a header", self.offset + length as u64))
    }

    /// The body of an extension header.
    fn extension(&mut self, header: &RawHeader, again: bool) -> Result<Vec<u8>> {
        let size = header.size().map_err(|reason| self.bad(reason))?;
        // Named before the entry itself: what the extension's own header calls it.
        self.current.0 = header.path();
        if again {
            return Err(self.bad("two extension headers of one kind for one entry"));
        }
        let limit = self.limits.header;
        if size > limit {
            return Err(self.bad(format!("an extension header of {size} bytes, over the limit of {limit}")));
        }
        let mut body = vec![0; size as usize];
        self.pieces = vec![Piece { hole: 0, data: size }];
        self.padding = padding(size);
        self.read_exact(&mut body).map_err(|error| self.failure().unwrap_or_else(|| failed(error)))?;
        self.skip_padding()?;
        Ok(body)
    }

    fn long_name(&mut self, header: &RawHeader, again: bool) -> Result<Vec<u8>> {
        let mut name = self.extension(header, again)?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn entry(&mut self, header: &RawHeader, extensions: Extensions) -> Result<Entry> {
        let mut pax = extensions.pax.unwrap_or_default();
        let sparse_name = pax.sparse.name.take();
        let path = sparse_name.or(pax.path.take()).or(extensions.path).unwrap_or_else(|| header.path());
        self.current.0.clone_from(&path);
        let link = pax.link.take().or(extensions.link);
        let kind = kind(header, &path, link).map_err(|reason| self.bad(reason))?;
        self.content(header, &pax, &kind)?;
        let own = |value: Option<i64>, field: Result<i64, String>| value.map_or(field, Ok);
        let attributes = || -> Result<_, String> {
            let time = pax.time.map_or_else(|| header.time().map(Time::whole), Ok)?;
            Ok((header.mode()?, own(pax.uid, header.uid())?, own(pax.gid, header.gid())?, time))
        };
        let (mode, uid, gid, time) = attributes().map_err(|reason| self.bad(reason))?;
        let xattrs = pax.xattrs.into_iter().collect();
        Ok(Entry { path, kind, mode, uid, gid, time, xattrs })
    }

    /// Finds out what the content is, and where the next header begins.
    fn content(&mut self, header: &RawHeader, pax: &Pax, kind: &Kind) -> Result<()> {
        let stored = pax.size.map_or_else(|| header.size(), Ok).map_err(|reason| self.bad(reason))?;
        // As Go reads archives: a size means nothing for what has no content.
        let stored = if *kind == Kind::File { stored } else { 0 };
        self.padding = padding(stored);
        self.pieces = vec![Piece { hole: 0, data: stored }];
        if *kind == Kind::File
            && let Some((ranges, size, stored)) = self.sparse(header, pax, stored)?
        {
            self.count_sparse(size)?;
            self.pieces = sparse::pieces(&ranges, size, stored).map_err(|reason| self.bad(reason))?;
            // They are taken from the end.
            self.pieces.reverse();
        }
        Ok(())
    }

    /// Stored ranges, size with holes and stored bytes of a sparse file.
    #[expect(clippy::type_complexity, reason = "named where it is used")]
    fn sparse(&mut self, header: &RawHeader, pax: &Pax, stored: u64) -> Result<Option<(Vec<(u64, u64)>, u64, u64)>> {
        let records = &pax.sparse;
        if header.kind() == b'S' {
            let size = header.sparse_size().map_err(|reason| self.bad(reason))?;
            return Ok(Some((self.old_map(header)?, size, stored)));
        }
        let Some(size) = records.size else { return Ok(None) };
        if records.major == Some(1) {
            let ranges = self.map_in_content()?;
            let left = self.pieces.iter().map(|piece| piece.data).sum();
            return Ok(Some((ranges, size, left)));
        }
        let ranges = sparse::pairs(&records.map).map_err(|reason| self.bad(reason))?;
        Ok(Some((ranges, size, stored)))
    }

    /// Holes are not in the stream, so that nothing else bounds them.
    fn count_sparse(&mut self, size: u64) -> Result<()> {
        let limit = self.limits.expanded;
        self.sparse_bytes = self.sparse_bytes.saturating_add(size);
        if self.sparse_bytes > limit {
            let what = format!("bytes of sparse files, at entry {:?},", shown(&self.current.0));
            return Err(Error::new(Step::Convert, super::expand::LAYER, Cause::Limit { what, limit }));
        }
        Ok(())
    }

    /// GNU's old form: four ranges in the header, more in blocks behind it.
    fn old_map(&mut self, header: &RawHeader) -> Result<Vec<(u64, u64)>> {
        let (mut ranges, mut more) = header.sparse_pieces().map_err(|reason| self.bad(reason))?;
        while more {
            self.check_ranges(ranges.len() as u64)?;
            let block = self.block()?.ok_or_else(|| self.bad_cut(0))?;
            let (next, again) = sparse_extension(&block).map_err(|reason| self.bad(reason))?;
            ranges.extend(next);
            more = again;
        }
        Ok(ranges)
    }

    fn check_ranges(&self, count: u64) -> Result<()> {
        let limit = self.limits.header / size_of::<(u64, u64)>() as u64;
        if count > limit { Err(self.bad(format!("a sparse file of more than {limit} ranges"))) } else { Ok(()) }
    }

    /// The PAX form 1.0: a count, then offsets and lengths, a decimal number a line, in whole blocks at
    /// the start of the content.
    fn map_in_content(&mut self) -> Result<Vec<(u64, u64)>> {
        let count = self.map_number()?;
        self.check_ranges(count)?;
        let mut ranges = Vec::new();
        for _ in 0..count {
            ranges.push((self.map_number()?, self.map_number()?));
        }
        let left: u64 = self.pieces.iter().map(|piece| piece.data).sum();
        // Up to the end of the block; the content itself ends where the padding begins.
        let rest = (left + self.padding) % BLOCK as u64;
        if rest > left {
            return Err(self.bad("the map of the sparse file does not end"));
        }
        self.skip(rest)?;
        self.pieces = vec![Piece { hole: 0, data: left - rest }];
        Ok(ranges)
    }

    fn map_number(&mut self) -> Result<u64> {
        let mut number = 0_u64;
        for _ in 0..21 {
            let mut digit = [0];
            if self.read(&mut digit).map_err(|error| self.failure().unwrap_or_else(|| failed(error)))? == 0 {
                break;
            }
            let next = match digit[0] {
                b'\n' => return Ok(number),
                digit @ b'0'..=b'9' => {
                    number.checked_mul(10).and_then(|number| number.checked_add(u64::from(digit - b'0')))
                }
                _ => None,
            };
            number = next.ok_or_else(|| self.bad("the map of the sparse file has something else than numbers"))?;
        }
        Err(self.bad("the map of the sparse file does not end"))
    }

    fn skip_padding(&mut self) -> Result<()> {
        let padding = std::mem::take(&mut self.padding);
        self.skip(padding)
    }

    fn skip(&mut self, mut count: u64) -> Result<()> {
        while count > 0 {
            let available = match self.inner.fill_buf() {
                Ok(bytes) => (bytes.len() as u64).min(count),
                Err(error) => return Err(self.unread(error)),
            };
            if available == 0 {
                return Err(self.unread(self.cut_off()));
            }
            self.inner.consume(available as usize);
            self.offset += available;
            count -= available;
        }
        Ok(())
    }

    fn cut_off(&self) -> io::Error {
        let message = format!("the archive is cut off at byte {}, in the content", self.offset);
        io::Error::new(io::ErrorKind::UnexpectedEof, message)
    }

    /// The error of a failed read in an entry. What is wrong with the data is about the entry; what is
    /// wrong with the caller's reader or with its size is not.
    fn unread(&self, error: io::Error) -> Error {
        let about_data = match error.get_ref().and_then(|inner| inner.downcast_ref::<Stop>()) {
            Some(stop) => matches!(stop, Stop::Damaged(..)),
            None => error.kind() == io::ErrorKind::UnexpectedEof,
        };
        if about_data { self.bad(error.to_string()) } else { failed(error) }
    }

    /// Content as [`Read::read`] gives it.
    fn some_content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(piece) = self.pieces.last_mut() {
            let length = |left: u64| left.min(buffer.len() as u64);
            if piece.hole > 0 {
                let zeros = length(piece.hole);
                buffer[..zeros as usize].fill(0);
                piece.hole -= zeros;
                return Ok(zeros as usize);
            }
            if piece.data > 0 {
                let data = length(piece.data) as usize;
                let read = self.inner.read(&mut buffer[..data])?;
                piece.data -= read as u64;
                self.offset += read as u64;
                return if read == 0 && data > 0 { Err(self.cut_off()) } else { Ok(read) };
            }
            self.pieces.pop();
        }
        Ok(0)
    }
}

impl<R: BufRead> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.some_content(buffer).map_err(|error| {
            let kind = error.kind();
            self.failure = Some(error);
            kind.into()
        })
    }
}

/// What an entry is, by the letter in its header.
fn kind(header: &RawHeader, path: &[u8], link: Option<Vec<u8>>) -> Result<Kind, String> {
    let link = || link.unwrap_or_else(|| header.link());
    let device = |kind| header.device().map(|(major, minor)| Kind::Device { kind, major, minor });
    match header.kind() {
        // Before there was a letter for directories.
        0 | b'0' if path.ends_with(b"/") => Ok(Kind::Directory),
        0 | b'0' | b'7' | b'S' => Ok(Kind::File),
        b'1' => Ok(Kind::HardLink(link())),
        b'2' => Ok(Kind::Symlink(link())),
        b'3' => device(DeviceKind::Character),
        b'4' => device(DeviceKind::Block),
        b'5' => Ok(Kind::Directory),
        b'6' => Ok(Kind::Fifo),
        other => Err(format!("entries of the type {:?} are not known", char::from(other))),
    }
}

/// From the end of some content to the next header. Sizes have 63 bits, so that sums fit.
fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}
