//! What a store says about its layers and images beside what Storm reads: JSON documents.

use serde::{Deserialize, Serialize};

use crate::convert::{ConvertOptions, Converted};
use crate::digest::{Content, Digest};

/// Of both documents: readers refuse a later one.
pub const SCHEMA_VERSION: u32 = 1;

/// A layer's file: what it is, and what it was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDescription {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Of the squashfs file.
    pub squashfs: Content,
    /// Of the blob that it was made of, as a registry has it.
    pub blob: Content,
    /// Of the tar in the blob; `None` where the blob was squashfs already.
    pub diff_id: Option<Digest>,
    /// What wrote the squashfs file, with all options that its bytes depend on; `None` where the
    /// blob was squashfs already.
    pub writer: Option<String>,
    /// What of the tar is not in the file, or not as it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl LayerDescription {
    /// Of a file that a tar was converted to.
    #[must_use]
    pub fn of_tar(squashfs: Content, converted: &Converted, options: &ConvertOptions) -> LayerDescription {
        LayerDescription {
            schema_version: SCHEMA_VERSION,
            squashfs,
            blob: Content { digest: converted.blob_digest, size: converted.blob_size },
            diff_id: Some(converted.diff_id),
            writer: Some(options.writer()),
            notes: converted.notes.iter().map(ToString::to_string).collect(),
        }
    }

    /// Of a file that is the blob itself.
    #[must_use]
    pub fn of_squashfs(squashfs: Content) -> LayerDescription {
        LayerDescription {
            schema_version: SCHEMA_VERSION,
            squashfs,
            blob: squashfs,
            diff_id: None,
            writer: None,
            notes: Vec::new(),
        }
    }
}

/// An image: where it came from. Its manifest is not always the source's: see
/// [`crate::pull::stored_manifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Where it was read from: `docker://docker.io/library/debian:12`.
    pub source: String,
    /// The manifest there.
    pub manifest: Content,
    /// Its media type.
    pub media_type: String,
}
