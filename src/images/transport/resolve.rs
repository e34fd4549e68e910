//! From a digest to a manifest, through indexes, each checked.

use crate::digest::Digest;
use crate::error::{Cause, Error, Result, Step};
use crate::manifest::{Document, Manifest};

/// How many documents are read until a manifest: an index of indexes of images is the most that
/// there is.
const DEPTH: usize = 4;

/// Follows digests to a manifest.
pub(crate) fn follow(
    name: &str,
    mut digest: Digest,
    read: impl Fn(Digest) -> Result<Vec<u8>>,
    parse: impl Fn(&[u8]) -> Result<Document>,
) -> Result<Manifest> {
    for _ in 0..DEPTH {
        let bytes = read(digest)?;
        check(name, digest, &bytes)?;
        match parse(&bytes)? {
            Document::Manifest(manifest) => return Ok(manifest),
            Document::Index(next) => digest = next,
        }
    }
    Err(Error::invalid(Step::Resolve, name, format!("more than {DEPTH} indexes, one in the other")))
}

/// Checks a document against its name.
pub(crate) fn check(name: &str, digest: Digest, bytes: &[u8]) -> Result<()> {
    match Digest::of(bytes) {
        found if found == digest => Ok(()),
        found => {
            let cause = Cause::Mismatch { expected: digest.to_string(), found: found.to_string() };
            Err(Error::new(Step::Resolve, format!("{name}: manifest"), cause))
        }
    }
}
