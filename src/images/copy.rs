//! From one store to another.

use std::fs::File;
use std::io;

use crate::digest::Digest;
use crate::error::{Cause, Error, Result, Step};
use crate::pull::{ROUNDS, removed_again};
use crate::store::documents::LayerDescription;
use crate::store::new_file::NewFile;
use crate::store::tags;
use crate::store::{NewImage, Store, content_of};

/// What a copy came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Layers that the other store did not have.
    pub layers: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Copies an image to another store, as it is, and gives it names there. Layers that are there
/// already are not copied unless `force` says so. Each is compared with its description on the way.
///
/// # Errors
/// `NotFound` for an image or a layer that is not there; `Mismatch` for one that is damaged;
/// `Conflict`, `System`.
pub fn copy(from: &Store, digest: &Digest, to: &Store, names: &[String], force: bool) -> Result<Copied> {
    for name in names {
        tags::check(name).map_err(|reason| Error::invalid(Step::Request, "tag", reason))?;
    }
    let manifest = from.manifest(digest)?;
    let config = from.config(&manifest.config.digest)?;
    let mut layers: Vec<Digest> = manifest.layers.iter().map(|layer| layer.digest).collect();
    layers.sort();
    layers.dedup();
    let comments: Vec<String> =
        from.tags()?.tags.entries().get(&digest.hex()).iter().flat_map(|entry| &entry.comments).cloned().collect();
    let origin = from.origin(digest)?;
    let image =
        NewImage { manifest: &manifest, config: &config, origin: origin.as_ref(), tags: names, comments: &comments };
    let mut copied = Copied::default();
    for round in 0..ROUNDS {
        for layer in &layers {
            if (force && round == 0) || !to.layer_path(layer).exists() {
                copied.bytes += copy_layer(from, layer, to)?;
                copied.layers += 1;
            }
        }
        if to.change()?.publish(&image)? {
            return Ok(copied);
        }
    }
    Err(removed_again(digest))
}

/// Gives the bytes of the layer's file.
fn copy_layer(from: &Store, digest: &Digest, to: &Store) -> Result<u64> {
    let path = from.layer_path(digest);
    let failed = |call| move |error| Error::system(Step::Store, digest, call, error);
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::new(Step::Store, path.display(), Cause::NotFound("in the store".to_owned())));
        }
        opened => opened.map_err(failed("open"))?,
    };
    let mut new = NewFile::create(to.directory())?;
    let bytes = io::copy(&mut file, &mut new.file).map_err(failed("copy_file_range"))?;
    let Some(description) = from.layer_description(digest)? else {
        new.replace(&to.layer_path(digest))?;
        return Ok(bytes);
    };
    let LayerDescription { squashfs, .. } = &description;
    let found = content_of(&new.file).map_err(failed("read"))?;
    if found != *squashfs {
        let cause = Cause::Mismatch {
            expected: format!("{} of {} bytes", squashfs.digest, squashfs.size),
            found: format!("{} of {} bytes", found.digest, found.size),
        };
        return Err(Error::new(Step::Store, path.display(), cause));
    }
    to.place_layer(new, &description)?;
    Ok(bytes)
}
