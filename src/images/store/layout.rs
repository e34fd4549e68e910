//! The names in a store, as Apache Storm has them, and ours beside them.
//!
//! ```text
//! layers/<hex>.sqsh          squashfs of one layer, named by the digest of the blob it was made of
//! layers/<hex>.json          what it is and how it was made (ours)
//! config/<hex>               image config
//! manifests/<hex>            manifest, named by its own digest
//! origins/<hex>.json         where that image came from (ours)
//! unreferenced/<hex>         empty marker of docker-to-squash's cleanup
//! image-tag-to-hash          tag file; image-tag-to-hash.lock is held while it changes (ours)
//! working/                   files that are being written (ours)
//! ```

use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// Names below the store's directory.
pub const LAYERS: &str = "layers";
/// See [`LAYERS`].
pub const CONFIGS: &str = "config";
/// See [`LAYERS`].
pub const MANIFESTS: &str = "manifests";
/// See [`LAYERS`].
pub const ORIGINS: &str = "origins";
/// See [`LAYERS`].
pub const UNREFERENCED: &str = "unreferenced";
/// See [`LAYERS`].
pub const WORKING: &str = "working";
/// The tag file.
pub const TAGS: &str = "image-tag-to-hash";
/// Of the file beside it that is held while the tag file or the set of images changes.
pub const LOCK_SUFFIX: &str = ".lock";

/// Files are readable by all: layers are opened as the worker's user.
pub const FILE_MODE: u32 = 0o444;
/// Of directories.
pub const DIRECTORY_MODE: u32 = 0o755;

/// Every directory of a store.
pub const DIRECTORIES: [&str; 6] = [LAYERS, CONFIGS, MANIFESTS, ORIGINS, UNREFERENCED, WORKING];

/// `layers/<hex>.sqsh`.
#[must_use]
pub fn layer(top: &Path, digest: &Digest) -> PathBuf {
    top.join(LAYERS).join(format!("{}.sqsh", digest.hex()))
}

/// `layers/<hex>.json`.
#[must_use]
pub fn description(top: &Path, digest: &Digest) -> PathBuf {
    top.join(LAYERS).join(format!("{}.json", digest.hex()))
}

/// `config/<hex>`.
#[must_use]
pub fn config(top: &Path, digest: &Digest) -> PathBuf {
    top.join(CONFIGS).join(digest.hex())
}

/// `manifests/<hex>`.
#[must_use]
pub fn manifest(top: &Path, digest: &Digest) -> PathBuf {
    top.join(MANIFESTS).join(digest.hex())
}

/// `unreferenced/<hex>`.
#[must_use]
pub fn marker(top: &Path, digest: &Digest) -> PathBuf {
    top.join(UNREFERENCED).join(digest.hex())
}

/// `origins/<hex>.json`.
#[must_use]
pub fn origin(top: &Path, digest: &Digest) -> PathBuf {
    top.join(ORIGINS).join(format!("{}.json", digest.hex()))
}
