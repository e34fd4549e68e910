//! Taking things out of a store: images, and what belongs to none.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::new_file::{remove, sweep};
use super::{Changing, layout};
use crate::digest::Digest;
use crate::error::{ErrorKind, Result};

/// An image that was removed.
#[derive(Debug, Clone, Default)]
pub struct Removed {
    /// The tags that it had.
    pub tags: BTreeSet<String>,
    /// Layers that no other image uses, by digest. Containers that run on them go on.
    pub layers: Vec<Digest>,
}

/// What belonged to no image.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// Images without a tag.
    pub images: Vec<Digest>,
    /// Files, with their descriptions not counted.
    pub files: Vec<PathBuf>,
    /// Their bytes.
    pub bytes: u64,
}

impl Changing<'_> {
    /// Removes an image with all its tags, and what no other image uses.
    ///
    /// In this order: tags, manifest, config, layers. After a crash in between, what is left is
    /// [`Changing::prune`]'s.
    ///
    /// # Errors
    /// `System`. A manifest that is damaged is removed without its layers.
    pub fn remove(&self, digest: &Digest) -> Result<Removed> {
        let store = self.store();
        let manifest = match store.manifest(digest) {
            Ok(manifest) => Some(manifest),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Mismatch | ErrorKind::Invalid) => {
                None
            }
            Err(error) => return Err(error),
        };
        let tags = self.tags(|tags| Ok(tags.remove_image(&digest.hex())))?;
        remove(&layout::manifest(store.directory(), digest))?;
        remove(&layout::origin(store.directory(), digest))?;
        remove(&layout::marker(store.directory(), digest))?;
        let Some(manifest) = manifest else { return Ok(Removed { tags, layers: Vec::new() }) };
        let used = self.used()?;
        if !used.contains(&manifest.config.digest) {
            remove(&layout::config(store.directory(), &manifest.config.digest))?;
        }
        let unused: BTreeSet<Digest> =
            manifest.layers.iter().map(|layer| layer.digest).filter(|layer| !used.contains(layer)).collect();
        for layer in &unused {
            remove(&store.layer_path(layer))?;
            remove(&layout::description(store.directory(), layer))?;
        }
        Ok(Removed { tags, layers: unused.into_iter().collect() })
    }

    /// Removes images without a tag where they are asked for, files that no image uses, and what
    /// dead writers have left. With `dry` it only says what it would remove.
    ///
    /// A pull that runs meanwhile fetches again what was taken from it.
    ///
    /// # Errors
    /// `System`; a manifest that is damaged is one, because what it uses is not known.
    pub fn prune(&self, untagged: bool, dry: bool) -> Result<Pruned> {
        let store = self.store();
        let mut pruned = Pruned::default();
        if untagged {
            let tags = store.tags()?.tags;
            let all = store.digests()?.into_iter();
            pruned.images = all.filter(|digest| !tags.entries().contains_key(&digest.hex())).collect();
        }
        let used = self.used_without(&pruned.images)?;
        if !dry {
            for image in &pruned.images {
                self.remove(image)?;
            }
            sweep(store.directory())?;
        }
        let configs = store.named_files(layout::CONFIGS, "")?.into_iter().filter(|digest| !used.contains(digest));
        let layers = store.named_files(layout::LAYERS, ".sqsh")?.into_iter().filter(|digest| !used.contains(digest));
        let described = store.named_files(layout::LAYERS, ".json")?.into_iter().filter(|digest| !used.contains(digest));
        let files = configs.map(|digest| layout::config(store.directory(), &digest));
        let files = files.chain(layers.map(|digest| store.layer_path(&digest)));
        for path in files {
            pruned.bytes += fs::metadata(&path).map(|file| file.len()).unwrap_or(0);
            if !dry {
                remove(&path)?;
            }
            pruned.files.push(path);
        }
        // After the layers: a layer without its description would be one of another tool.
        for digest in described.filter(|_| !dry) {
            remove(&layout::description(store.directory(), &digest))?;
        }
        Ok(pruned)
    }

    /// Layers and configs of all images.
    fn used(&self) -> Result<BTreeSet<Digest>> {
        self.used_without(&[])
    }

    fn used_without(&self, images: &[Digest]) -> Result<BTreeSet<Digest>> {
        let store = self.store();
        let mut used = BTreeSet::new();
        for digest in store.digests()?.iter().filter(|digest| !images.contains(digest)) {
            let manifest = store.manifest(digest)?;
            used.insert(manifest.config.digest);
            used.extend(manifest.layers.iter().map(|layer| layer.digest));
        }
        Ok(used)
    }
}
