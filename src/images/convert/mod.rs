//! One pass from the tar of a layer to squashfs.
//!
//! [`convert`] reads a blob as registries and archives have it (a tar, plain or compressed with gzip
//! or zstd) and writes a squashfs image with what is in it, for overlayfs to stack. Nothing is
//! unpacked, no file is made, no privilege is needed, and nothing in the layer is believed.
//! [`DirectoryTar`] gives a directory as such a tar.
//!
//! # What becomes of an entry
//!
//! | in the tar | in the image |
//! |---|---|
//! | `.wh.NAME` | character device 0:0 `NAME`, with the header's owner and time: overlayfs' whiteout. Where the layer itself has `NAME`, earlier or later, that stays (OCI: a whiteout hides what lower layers have); a directory becomes opaque |
//! | `.wh..wh..opq` | `trusted.overlay.opaque=y` on its directory, listed before, after or never |
//! | other `.wh..wh.…` | nothing: aufs' own |
//! | hard link | another name of an entry before it. One to a file of a lower layer is refused with both names: squashfs has no place for it. (umoci and podman, which unpack on top of the lower layers, link there) |
//! | an entry again | the last one counts; a directory keeps what is in it |
//! | a path through a symlink of this layer | the place that it leads to, with the image as `/`: as docker and umoci do. A symlink of a lower layer is not known here; such a path makes a directory |
//! | a directory never listed | 0755 root:root, with a note. Overlayfs shows these instead of what a lower layer has |
//! | `/a`, `./a`, `a//b`, `a/` | `a`, `a`, `a/b`, `a` |
//! | `..` in a path | refused |
//! | `SCHILY.xattr.`, `LIBARCHIVE.xattr.` | `user.`, `trusted.` and `security.` are kept, file capabilities as they are. POSIX ACLs, SELinux labels and unknown ones are dropped with a note |
//! | `trusted.overlay.…` | dropped with a note. containers/storage sets all attributes but SELinux labels; here the attributes would be instructions to the runtime's own overlay (a redirect shows another directory), which are not a stranger's to give |
//! | sparse files | GNU's old form and its PAX forms 0.0, 0.1, 1.0; holes stay holes |
//! | times | whole seconds from 1970 to 2106, else the nearest before, with a note |
//! | global PAX headers | ignored with a note: Docker, which made most images, does so |
//! | the end | two blocks of zeros, or the end of the stream. What comes behind counts for the digests only |
//!
//! # Memory
//!
//! Bounded whatever the input: [`Limits::entries`] times about 300 bytes, [`Limits::metadata`] (about
//! twice, as the tables are made at the end), [`Limits::header`], 4 bytes for each block of
//! [`Limits::expanded`], for each thread a few blocks and a compressor's context, and what the
//! decompressor takes: 128 MiB for a zstd blob that asks for the largest window, 8 MiB for usual
//! ones, 64 KiB for gzip.
//!
//! # Why not the crate `tar`
//!
//! It reads PAX records and long names of any length into memory (0.4.46), knows neither PAX' sparse
//! forms nor where an entry begins in an error. The walk over headers is small.

use std::io::{Read, Seek, Write};

use squall::squashfs::Writer;

use crate::digest::Digest;
use crate::error::Result;

mod compress;
mod directory;
mod expand;
mod layer;
mod name;
mod notes;
mod options;
mod tar;
#[cfg(test)]
mod tests;

pub use directory::{DirectoryOptions, DirectoryTar, convert_directory};
pub use notes::{Note, NoteKind};
pub use options::{Compression, ConvertOptions, Limits};

use expand::Expander;
use layer::Layer;

/// What a conversion read and wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Converted {
    /// Digest of the uncompressed tar, to the end of the stream: the layer's name in an image's
    /// config.
    pub diff_id: Digest,
    /// Bytes of the uncompressed tar.
    pub expanded_size: u64,
    /// Digest of the blob as it was read, to its end: the layer's name in a manifest.
    pub blob_digest: Digest,
    /// Bytes of the blob.
    pub blob_size: u64,
    /// Bytes of the image. The output may be longer: the caller truncates it to this.
    pub squashfs_size: u64,
    /// Entries of the tar, without extension headers.
    pub entries: u64,
    /// What was changed or left out.
    pub notes: Vec<Note>,
}

/// Converts a layer: reads `blob` to its end, writes a squashfs image from byte 0 of `out`, and hands
/// `out` back, flushed but not synced.
///
/// `out` may be longer than the image afterwards, where the layer has a large file twice: truncate it
/// to [`Converted::squashfs_size`]. After an error `out` holds no image: it starts with zeros.
///
/// Fails in [`crate::Step::Convert`]: with [`crate::Cause::Entry`] for what is wrong with the tar,
/// with [`crate::Cause::Limit`] for what is over [`Limits`], with [`crate::Cause::Invalid`] for
/// compressed data that is damaged, with [`crate::Cause::System`] where `blob` fails (if its error
/// is an [`crate::Error`] inside an `io::Error`, with that one), with [`crate::Cause::Squashfs`]
/// where `out` does.
pub fn convert<R: Read, W: Write + Seek>(blob: R, options: &ConvertOptions, out: W) -> Result<(W, Converted)> {
    let writer = Writer::new(out, options.for_writer()?).map_err(expand::squashfs)?;
    let tar = Expander::new(blob, options.limits.expanded)?;
    let mut layer = Layer::new(writer, tar, options.limits);
    while layer.entry()? {}
    let (out, tar, made) = layer.finish()?;
    let read = tar.finish()?;
    let converted = Converted {
        diff_id: read.diff_id,
        expanded_size: read.expanded_size,
        blob_digest: read.blob_digest,
        blob_size: read.blob_size,
        squashfs_size: made.squashfs_size,
        entries: made.entries,
        notes: made.notes,
    };
    Ok((out, converted))
}
