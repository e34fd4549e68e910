//! Images of a store, and how they are found by name.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use oci_spec::image::ImageConfiguration;

use super::documents::Origin;
use super::new_file::system;
use super::{Store, layout};
use crate::digest::Digest;
use crate::error::{Cause, Error, Result, Step};
use crate::manifest::{Blob, Manifest, parse_config};
use crate::reference::Reference;

/// The shortest beginning of a hash that names an image.
const HASH_PREFIX: usize = 8;

/// An image that a store has.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name by content: that of its manifest.
    pub digest: Digest,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its config.
    pub config: ImageConfiguration,
    /// Its layers, base first.
    pub layers: Vec<Layer>,
    /// Where it came from, where that is on record.
    pub origin: Option<Origin>,
}

/// A layer of an image.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The blob, as the manifest has it.
    pub blob: Blob,
    /// Its squashfs file.
    pub path: PathBuf,
    /// The file's length in bytes; `None` where it is missing.
    pub size: Option<u64>,
}

impl Image {
    /// The bytes of its squashfs files; one that is there twice counts once.
    #[must_use]
    pub fn size(&self) -> u64 {
        let unique: BTreeSet<_> =
            self.layers.iter().map(|layer| (layer.blob.digest, layer.size.unwrap_or(0))).collect();
        unique.iter().map(|(_, size)| size).sum()
    }
}

impl Store {
    /// The image of this name: a tag; an image's name as docker completes it (`debian` for
    /// `docker.io/library/debian:latest`); one whose registry and first components are left out,
    /// where it is the only one (`debian:12` for `localhost:5000/debian:12`); the manifest's hash or
    /// at least eight digits of it.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` where several images fit, with their names.
    pub fn find(&self, name: &str) -> Result<Digest> {
        let tags = self.tags()?.tags;
        let reference = name.parse::<Reference>().ok();
        let exact = [Some(name.to_owned()), reference.as_ref().map(Reference::familiar)];
        if let Some(hash) = exact.iter().flatten().find_map(|name| tags.hash_of(name)) {
            return named_hash(hash, name);
        }
        let mut fits: BTreeSet<String> = BTreeSet::new();
        if let Some(reference) = &reference {
            let suffix = format!("/{}", reference.familiar());
            let all = tags.entries().values().flat_map(|entry| &entry.tags);
            fits.extend(all.filter(|tag| tag.ends_with(&suffix)).cloned());
        }
        let hashes: BTreeSet<&str> = fits.iter().filter_map(|tag| tags.hash_of(tag)).collect();
        match Vec::from_iter(hashes).as_slice() {
            [one] => named_hash(one, name),
            [] => self.by_hash(name),
            _ => {
                let names = Vec::from_iter(fits).join(", ");
                Err(Error::invalid(Step::Resolve, name, format!("it may be any of {names}")))
            }
        }
    }

    fn by_hash(&self, name: &str) -> Result<Digest> {
        let unknown = || {
            let reason = format!("no image of this name in {}", self.directory().display());
            Error::new(Step::Resolve, name, Cause::NotFound(reason))
        };
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let is_hash =
            hex.len() >= HASH_PREFIX && hex.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
        if !is_hash {
            return Err(unknown());
        }
        let fits: Vec<Digest> = self.digests()?.into_iter().filter(|digest| digest.hex().starts_with(hex)).collect();
        match fits.as_slice() {
            [one] => Ok(*one),
            [] => Err(unknown()),
            several => {
                let reason = format!("{} images have a hash that begins so", several.len());
                Err(Error::invalid(Step::Resolve, name, reason))
            }
        }
    }

    /// An image by its digest.
    ///
    /// # Errors
    /// `NotFound`; `Mismatch` where manifest or config are not what their names say.
    pub fn image(&self, digest: &Digest) -> Result<Image> {
        let manifest = self.manifest(digest)?;
        let config = parse_config(&self.config(&manifest.config.digest)?, &manifest.config.digest.to_string())?;
        let layer = |blob: &Blob| {
            let path = self.layer_path(&blob.digest);
            Layer { blob: blob.clone(), size: fs::metadata(&path).ok().map(|file| file.len()), path }
        };
        let layers = manifest.layers.iter().map(layer).collect();
        let tags = self.tags()?.tags.entries().get(&digest.hex()).map(|entry| entry.tags.clone()).unwrap_or_default();
        Ok(Image { digest: *digest, tags, manifest, config, layers, origin: self.origin(digest)? })
    }

    /// The digests of all images, sorted. Files with other names are not looked at.
    ///
    /// # Errors
    /// `System`.
    pub fn digests(&self) -> Result<Vec<Digest>> {
        self.named_files(layout::MANIFESTS, "")
    }

    /// The digests by which files of a directory are named, without their suffix.
    pub(super) fn named_files(&self, directory: &str, suffix: &str) -> Result<Vec<Digest>> {
        let path = self.top.join(directory);
        let mut digests = Vec::new();
        for entry in fs::read_dir(&path).map_err(|error| system(&path, "open", error))? {
            let name = entry.map_err(|error| system(&path, "getdents", error))?.file_name();
            let hex = name.to_str().and_then(|name| name.strip_suffix(suffix));
            digests.extend(hex.and_then(Digest::from_hex));
        }
        digests.sort();
        Ok(digests)
    }
}

fn named_hash(hash: &str, name: &str) -> Result<Digest> {
    let reason = || format!("the tag file has {hash:?} for it, which is no sha256");
    Digest::from_hex(hash).ok_or_else(|| Error::invalid(Step::Tag, name, reason()))
}
