//! OCI layouts, as a directory and in a tar.

mod index;
mod read;
mod write;

#[cfg(fuzzing)]
pub(crate) use index::{choose, with_image};
pub(crate) use read::Layout;
pub(crate) use write::{LayoutArchiveSink, LayoutSink};

use crate::digest::Digest;

/// Where a blob is in a layout.
fn blob_path(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The file that says that a directory is a layout, and its content.
const MARKER: (&str, &[u8]) = ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
