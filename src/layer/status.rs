//! What is known of each layer at the moment.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::LayerStore;
use super::loopdev::BoundDevices;
use super::pins::{Look, backing_file, is_deleted};
use crate::error::Result;
use std::path::Path;

/// A layer that is mounted or used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LayerStatus {
    /// What the run root calls it: what its file is, never a path.
    pub layer_id: String,
    /// The file, by the path that the kernel knows it by now; the path of a launch where no device
    /// is bound.
    pub file: Option<String>,
    /// Whether the file has been deleted. It stays on the disk for as long as the layer is mounted.
    pub deleted: bool,
    /// The digest in the file's name, where it has one; nobody has checked it.
    pub digest: Option<String>,
    /// The file's length.
    pub size_bytes: Option<u64>,
    /// Running containers of this run root whose root it is part of.
    pub users: Vec<String>,
    /// When a launch last asked for it, nanoseconds since 1970; nothing where the cache does not
    /// know it any more.
    pub last_use_unix_ns: Option<u64>,
    /// The number of the loop device that it is bound to.
    pub loop_device: Option<u32>,
    /// Whether it stays mounted while nobody uses it.
    pub pinned: bool,
}

/// Who uses a layer: the containers, and the path that one of them was launched with.
#[derive(Debug, Default)]
pub(crate) struct Use {
    pub(crate) containers: Vec<String>,
    pub(crate) path: String,
}

impl LayerStore {
    /// The layers of the store, and those in use that it has forgotten; the most recently used
    /// first.
    pub(crate) fn list(&self, mut used: BTreeMap<String, Use>) -> Result<Vec<LayerStatus>> {
        let bound = BoundDevices::default();
        let mut layers = Vec::new();
        for candidate in self.candidates(Look::AtDevices)? {
            let device = candidate.device();
            let known = Known {
                device,
                last_use: candidate.last_use.duration_since(UNIX_EPOCH).ok().map(|since| since.as_nanos() as u64),
                pinned: candidate.is_pinned(),
            };
            let user = used.remove(&candidate.layer_id).unwrap_or_default();
            layers.push(status(candidate.layer_id, user, known, &bound));
        }
        let nothing = || Known { device: None, last_use: None, pinned: false };
        layers.extend(used.into_iter().map(|(layer_id, user)| status(layer_id, user, nothing(), &bound)));
        // A directory that means nothing any more is reaping's to remove.
        layers.retain(|layer| layer.pinned || layer.loop_device.is_some() || !layer.users.is_empty());
        layers.sort_by_key(|layer| std::cmp::Reverse(layer.last_use_unix_ns));
        Ok(layers)
    }
}

/// What the cache says.
struct Known {
    device: Option<u32>,
    last_use: Option<u64>,
    pinned: bool,
}

fn status(layer_id: String, user: Use, known: Known, bound: &BoundDevices) -> LayerStatus {
    let device = known.device.or_else(|| bound.number(&layer_id));
    let seen = device.and_then(backing_file);
    let deleted = seen.as_deref().is_some_and(is_deleted);
    let file = seen
        .map(|file| if deleted { file.trim_end_matches(" (deleted)").to_owned() } else { file })
        .or_else(|| Some(user.path).filter(|path| !path.is_empty()));
    LayerStatus {
        digest: file.as_deref().and_then(digest_in_name).map(|digest| format!("sha256:{digest}")),
        size_bytes: layer_id.split('-').nth(2).and_then(|part| u64::from_str_radix(part, 16).ok()),
        users: user.containers,
        last_use_unix_ns: known.last_use,
        loop_device: device,
        pinned: known.pinned,
        layer_id,
        file,
        deleted,
    }
}

/// The digest that a file name carries: 64 hexadecimal digits, with or without an ending.
pub(crate) fn digest_in_name(path: &str) -> Option<String> {
    let stem = Path::new(path).file_stem()?.to_str()?;
    (stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| stem.to_ascii_lowercase())
}
