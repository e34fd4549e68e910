//! The entries of a tar as entries of an image: whiteouts, links, attributes, what is left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error as _;
use std::ffi::OsStr;
use std::io::{BufReader, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use squall::squashfs::{Attributes, DeviceKind, Fault, Present, SquashfsError, Writer};

use super::Limits;
use super::expand::{Expander, LAYER, squashfs};
use super::name::components;
use super::notes::{Note, NoteKind, Notes, shown};
use super::tar::{Entry, Kind, TarReader, Time};
use crate::error::{Cause, Error, Result, Step};

/// Read from the tar at a time, where less is asked for.
const PIECE: usize = 1 << 16;
const WHITEOUT: &[u8] = b".wh.";
/// aufs' own names.
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// How overlayfs knows an opaque directory.
const OPAQUE_XATTR: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");
/// As the kernel does (`MAXSYMLINKS`).
const SYMLINKS: usize = 40;
/// Steps through paths with symlinks or unlisted directories in them, for each entry that may be:
/// ten components and a few targets. Bounds the time that entries below long chains of symlinks
/// take.
const STEPS: u64 = 16;
/// What an entry costs besides its names and attributes, so that many empty ones count too.
const ENTRY_COST: usize = 16;

/// A layer on its way from tar to image.
pub(super) struct Layer<R: Read, W> {
    writer: Writer<W>,
    tar: TarReader<BufReader<Expander<R>>>,
    limits: Limits,
    notes: Notes,
    entries: u64,
    /// Bytes of names, targets and attributes.
    metadata: u64,
    /// Names that lower layers must not show, with what the whiteout's header says. Made at the end:
    /// only then it is known whether the layer itself has the name.
    whiteouts: BTreeMap<Vec<u8>, Attributes>,
    /// Directories that hide what lower layers have in them.
    opaque: BTreeSet<Vec<u8>>,
    /// Directories that were on the way to an entry and are not listed so far.
    implied: BTreeSet<Vec<u8>>,
    /// See [`STEPS`].
    steps: u64,
}

/// What was written.
pub(super) struct Made {
    pub(super) squashfs_size: u64,
    pub(super) entries: u64,
    pub(super) notes: Vec<Note>,
}

impl<R: Read, W: Write + Seek> Layer<R, W> {
    pub(super) fn new(writer: Writer<W>, tar: Expander<R>, limits: Limits) -> Layer<R, W> {
        Layer {
            writer,
            tar: TarReader::new(BufReader::with_capacity(PIECE, tar), limits),
            limits,
            notes: Notes::default(),
            entries: 0,
            metadata: 0,
            whiteouts: BTreeMap::new(),
            opaque: BTreeSet::new(),
            implied: BTreeSet::new(),
            steps: 0,
        }
    }

    /// Takes the next entry; false at the end.
    pub(super) fn entry(&mut self) -> Result<bool> {
        let Some(entry) = self.tar.next(&mut self.notes)? else { return Ok(false) };
        self.count(&entry)?;
        let names = components(&entry.path, self.limits.depth).map_err(|reason| self.tar.bad(reason))?;
        match names.split_last() {
            None => self.root(&entry)?,
            Some((name, parents)) if *name == OPAQUE => {
                let parent = self.place(parents)?;
                self.opaque.insert(parent);
            }
            Some(_) if names.iter().any(|name| name.starts_with(AUFS)) => {
                self.notes.add(NoteKind::AufsName, &entry.path);
            }
            Some((name, parents)) => match name.strip_prefix(WHITEOUT) {
                Some(hidden) => self.whiteout(&entry, parents, hidden)?,
                None => {
                    let parent = self.place(parents)?;
                    self.add(&entry, &joined(&parent, name))?;
                }
            },
        }
        self.check_entries()?;
        Ok(true)
    }

    /// Makes whiteouts and opaque directories, and ends the image. Gives back the blob, whose rest has
    /// to be read.
    pub(super) fn finish(mut self) -> Result<(W, Expander<R>, Made)> {
        for (path, attributes) in std::mem::take(&mut self.whiteouts) {
            self.make_whiteout(path, &attributes)?;
        }
        for path in std::mem::take(&mut self.opaque) {
            self.make_opaque(&path)?;
        }
        self.check_entries()?;
        for path in std::mem::take(&mut self.implied) {
            // Something else may have taken its place.
            if self.present(&path) == Some(Present::Directory) {
                self.notes.add(NoteKind::ImpliedDirectory, &path);
            }
        }
        let tar = self.tar.finish(&mut self.notes)?.into_inner();
        let (out, summary) = self.writer.finish().map_err(squashfs)?;
        let made = Made { squashfs_size: summary.bytes, entries: self.entries, notes: self.notes.into_vec() };
        Ok((out, tar, made))
    }

    fn count(&mut self, entry: &Entry) -> Result<()> {
        self.entries += 1;
        let target = match &entry.kind {
            Kind::HardLink(target) | Kind::Symlink(target) => target.len(),
            _ => 0,
        };
        let xattrs: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.metadata += (ENTRY_COST + entry.path.len() + target + xattrs) as u64;
        let limit = self.limits.metadata;
        if self.metadata > limit { Err(self.over("bytes of names and attributes", limit)) } else { Ok(()) }
    }

    fn check_entries(&self) -> Result<()> {
        let limit = self.limits.entries;
        // The writer's has implied directories in it, ours hard links and whiteouts.
        if self.entries.max(self.writer.entries()) > limit { Err(self.over("entries", limit)) } else { Ok(()) }
    }

    fn over(&self, what: &str, limit: u64) -> Error {
        Error::new(Step::Convert, LAYER, Cause::Limit { what: what.to_owned(), limit })
    }

    /// The root is listed too.
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(self.tar.bad("the root can only be a directory"));
        }
        let attributes = self.attributes(entry)?;
        self.writer.directory("", &attributes).map_err(|error| self.refused(error))
    }

    fn whiteout(&mut self, entry: &Entry, parents: &[&[u8]], hidden: &[u8]) -> Result<()> {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(self.tar.bad("a whiteout without a name"));
        }
        let attributes = Attributes { mode: 0, xattrs: Vec::new(), ..self.attributes(entry)? };
        let parent = self.place(parents)?;
        self.whiteouts.insert(joined(&parent, hidden), attributes);
        Ok(())
    }

    fn make_whiteout(&mut self, path: Vec<u8>, attributes: &Attributes) -> Result<()> {
        match self.present(&path) {
            Some(Present::Directory) => {
                self.opaque.insert(path);
                Ok(())
            }
            Some(_) => Ok(()),
            None => {
                self.note_implied(&path);
                let result = self.writer.device(as_path(&path), attributes, DeviceKind::Character, 0, 0);
                self.unless_replaced(result)
            }
        }
    }

    fn make_opaque(&mut self, path: &[u8]) -> Result<()> {
        if self.present(path).is_none() {
            self.note_implied(&joined(path, b""));
            let result = self.writer.directory(as_path(path), &Attributes::new(0o755));
            self.unless_replaced(result)?;
        }
        if self.present(path) != Some(Present::Directory) {
            return Ok(());
        }
        let (name, value) = OPAQUE_XATTR;
        self.writer.set_xattr(as_path(path), name, value).map_err(squashfs)
    }

    /// What was a directory on the way to a whiteout may have been replaced by a later entry: then
    /// lower layers show nothing there anyway.
    fn unless_replaced(&self, result: Result<(), SquashfsError>) -> Result<()> {
        match result {
            Err(error) if matches!(error.fault(), Fault::NotDirectory(_)) => Ok(()),
            result => result.map_err(squashfs),
        }
    }

    fn add(&mut self, entry: &Entry, path: &[u8]) -> Result<()> {
        let place = as_path(path);
        let attributes = self.attributes(entry)?;
        self.note_implied(path);
        let result = match &entry.kind {
            Kind::Directory => {
                self.implied.remove(path);
                self.writer.directory(place, &attributes)
            }
            Kind::File => self.writer.file(place, &attributes, &mut self.tar).map(|_| ()),
            Kind::Symlink(target) => self.writer.symlink(place, &attributes, as_path(target)),
            Kind::Fifo => self.writer.fifo(place, &attributes),
            Kind::Device { kind, major, minor } => {
                let number = |part: i64| u32::try_from(part).unwrap_or(u32::MAX);
                self.writer.device(place, &attributes, *kind, number(*major), number(*minor))
            }
            Kind::HardLink(target) => return self.hard_link(path, target),
        };
        result.map_err(|error| self.refused(error))
    }

    fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let names = components(target, self.limits.depth)
            .map_err(|reason| self.tar.bad(format!("hard link to {:?}: {reason}", shown(target))))?;
        let existing = match names.split_last() {
            Some((name, parents)) => joined(&self.place(parents)?, name),
            None => Vec::new(),
        };
        self.writer.hard_link(as_path(path), as_path(&existing)).map_err(|error| match error.fault() {
            Fault::LinkTargetMissing(_) => self.tar.bad(format!(
                "a hard link to {:?}, which is not before it in this layer; squashfs cannot link to a lower layer",
                shown(target)
            )),
            _ => self.refused(error),
        })
    }

    /// Where a directory of the tar is in the image, all symlinks on the way followed.
    fn place(&mut self, parents: &[&[u8]]) -> Result<Vec<u8>> {
        let direct = parents.join(&b'/');
        // The writer follows no symlink: what it finds has none on the way.
        if self.present(&direct) == Some(Present::Directory) { Ok(direct) } else { self.resolved(parents) }
    }

    fn resolved(&mut self, parents: &[&[u8]]) -> Result<Vec<u8>> {
        let mut todo: VecDeque<Vec<u8>> = parents.iter().map(|name| name.to_vec()).collect();
        let mut path: Vec<Vec<u8>> = Vec::new();
        let mut symlinks = 0;
        let most = self.limits.entries.saturating_mul(STEPS);
        while let Some(name) = todo.pop_front() {
            self.steps += 1;
            if self.steps > most {
                return Err(self.over("steps through symlinks and unlisted directories", most));
            }
            match name.as_slice() {
                b"" | b"." => continue,
                // Only targets have it; the root's parent is the root.
                b".." => {
                    path.pop();
                    continue;
                }
                _ => path.push(name),
            }
            let here = path.join(&b'/');
            if path.len() > self.limits.depth {
                return Err(self.tar.bad(format!("a path of more than {} components", self.limits.depth)));
            }
            match self.present(&here) {
                Some(Present::Symlink(target)) => {
                    symlinks += 1;
                    if symlinks > SYMLINKS {
                        return Err(self.tar.bad(format!("more than {SYMLINKS} symlinks on the way")));
                    }
                    let target = target.as_os_str().as_bytes();
                    path.pop();
                    if target.starts_with(b"/") {
                        path.clear();
                    }
                    for name in target.split(|byte| *byte == b'/').rev() {
                        todo.push_front(name.to_vec());
                    }
                }
                Some(Present::Other) => {
                    return Err(self.tar.bad(format!("{:?} is not a directory", shown(&here))));
                }
                Some(Present::Directory) | None => {}
            }
        }
        Ok(path.join(&b'/'))
    }

    /// Remembers directories that adding this path brings into being.
    fn note_implied(&mut self, path: &[u8]) {
        let mut end = path.len();
        while let Some(slash) = path[..end].iter().rposition(|byte| *byte == b'/') {
            end = slash;
            if self.present(&path[..end]).is_some() || !self.implied.insert(path[..end].to_vec()) {
                return;
            }
        }
    }

    fn present(&self, path: &[u8]) -> Option<Present<'_>> {
        self.writer.present(as_path(path))
    }

    fn attributes(&mut self, entry: &Entry) -> Result<Attributes> {
        Ok(Attributes {
            mode: entry.mode,
            uid: self.id("user", entry.uid)?,
            gid: self.id("group", entry.gid)?,
            modification_time: self.time(entry),
            xattrs: self.xattrs(entry),
        })
    }

    fn id(&self, whose: &str, id: i64) -> Result<u32> {
        u32::try_from(id).map_err(|_| self.tar.bad(format!("{id} is not a {whose} id")))
    }

    fn time(&mut self, entry: &Entry) -> u32 {
        let Time { seconds, rounded } = entry.time;
        if rounded {
            self.notes.add(NoteKind::TimeRounded, &entry.path);
        }
        u32::try_from(seconds).unwrap_or_else(|_| {
            self.notes.add(NoteKind::TimeClamped, &entry.path);
            if seconds < 0 { 0 } else { u32::MAX }
        })
    }

    fn xattrs(&mut self, entry: &Entry) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut kept = Vec::new();
        for (name, value) in &entry.xattrs {
            match dropped(name) {
                Some(kind) => self.notes.add(kind, &entry.path),
                None => kept.push((name.clone(), value.clone())),
            }
        }
        kept
    }

    /// The error for an entry that the writer did not take.
    fn refused(&mut self, error: SquashfsError) -> Error {
        match error.fault() {
            Fault::Read { .. } => self.tar.failure().unwrap_or_else(|| squashfs(error)),
            fault if error.kind() == squall::ErrorKind::Invalid => {
                let source = fault.source().map(|source| format!(": {source}")).unwrap_or_default();
                self.tar.bad(format!("{fault}{source}"))
            }
            _ => squashfs(error),
        }
    }
}

/// Why an extended attribute is left out, if it is.
fn dropped(name: &[u8]) -> Option<NoteKind> {
    if name.starts_with(b"trusted.overlay.") {
        Some(NoteKind::OverlayXattr)
    } else if name == b"security.selinux" {
        Some(NoteKind::SelinuxLabel)
    } else if name.starts_with(b"system.posix_acl_") {
        Some(NoteKind::PosixAcl)
    } else if [&b"user."[..], b"trusted.", b"security."].iter().any(|prefix| name.starts_with(prefix)) {
        None
    } else {
        Some(NoteKind::UnknownXattr)
    }
}

fn joined(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
