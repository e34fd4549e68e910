//! Where images come from and where they go: skopeo's transports.

mod access;
mod contents;
mod dir;
mod docker_archive;
#[cfg(fuzzing)]
pub mod fuzzing;
mod layout;
mod name;
mod output;
mod registry;
mod resolve;

use std::io::Read;

use crate::digest::Digest;
use crate::error::Result;
use crate::manifest::{Blob, Manifest, Platform};

pub use access::{Access, Credentials};
pub use name::{ArchiveImage, ArchivePath, LayoutImage, Transport};

/// Somewhere that an image can be read from.
///
/// Nothing that it gives is trusted: whoever reads checks digests and sizes.
pub trait Source: Send + Sync {
    /// The image's name, as errors and progress show it: `docker://debian:12`.
    fn name(&self) -> String;

    /// The names that the image has there, as people write them: `debian:12`. None where that is not
    /// known.
    fn tags(&self) -> Vec<String>;

    /// The image's manifest, for this platform where there are several.
    fn manifest(&self, platform: &Platform) -> Result<Manifest>;

    /// The bytes of a blob from `offset` on. Several may be read at a time, from any thread.
    fn blob(&self, blob: &Blob, offset: u64) -> Result<Box<dyn Read + Send>>;
}

/// Somewhere that an image can be written to. Blobs come first, the manifest last: until then
/// nobody sees the image.
pub trait Sink: Send {
    /// The image's name, as errors and progress show it.
    fn name(&self) -> String;

    /// Whether it has this blob already.
    fn has_blob(&mut self, digest: Digest) -> Result<bool>;

    /// Takes a blob; `content` yields exactly its bytes.
    fn put_blob(&mut self, blob: &Blob, content: &mut dyn Read) -> Result<()>;

    /// Takes the manifest, and makes the image visible under its name.
    fn put_manifest(&mut self, manifest: &Manifest) -> Result<()>;
}
