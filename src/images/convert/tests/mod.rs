//! Layers by hand, and what becomes of them.

mod archive;
mod blobs;
mod directories;
mod entries;
mod hostile;
mod image;
mod sparse;

use std::io::Cursor;
use std::num::NonZeroUsize;

use super::{Compression, ConvertOptions, Converted, Limits, convert};
use crate::error::{Cause, Error, Result};
use archive::Tar;
use image::{Image, Inode};

/// Images that [`Image`] reads, and limits that tests reach.
fn options() -> ConvertOptions {
    ConvertOptions {
        compression: Compression::None,
        block_size: 4096,
        threads: NonZeroUsize::MIN,
        limits: Limits { entries: 2000, expanded: 8 << 20, header: 1 << 16, metadata: 1 << 20, depth: 20 },
    }
}

fn try_convert(blob: &[u8]) -> Result<(Vec<u8>, Converted)> {
    let (out, converted) = convert(blob, &options(), Cursor::new(Vec::new()))?;
    let mut image = out.into_inner();
    image.truncate(converted.squashfs_size as usize);
    Ok((image, converted))
}

/// What is in the layer, and what the conversion noted.
fn layer(tar: Tar) -> (Image, Vec<String>) {
    let (image, converted) = try_convert(&tar.end()).unwrap_or_else(|error| panic!("{error}"));
    (Image::read(&image), converted.notes.iter().map(ToString::to_string).collect())
}

/// Entry, offset and reason.
fn refused(blob: &[u8]) -> (String, u64, String) {
    let error = try_convert(blob).expect_err("refused");
    match error.cause() {
        Cause::Entry { entry, offset, reason } => (entry.clone(), *offset, reason.clone()),
        _ => panic!("not about an entry: {error}"),
    }
}

fn over_limit(error: &Error) -> u64 {
    match error.cause() {
        Cause::Limit { limit, .. } => *limit,
        _ => panic!("not a limit: {error}"),
    }
}
