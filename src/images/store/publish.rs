//! Making an image visible, and keeping it so.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::documents::Origin;
use super::new_file::{NewFile, remove, system};
use super::{Changing, layout};
use crate::digest::Digest;
use crate::error::Result;
use crate::manifest::Manifest;

/// An image whose layers are in the store.
#[derive(Debug, Clone, Copy)]
pub struct NewImage<'a> {
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// Its config, as the manifest names it.
    pub config: &'a [u8],
    /// Where it came from.
    pub origin: Option<&'a Origin>,
    /// Names that it gets, and that others lose.
    pub tags: &'a [String],
    /// What the tag file says about it, where it has a name.
    pub comments: &'a [String],
}

impl Changing<'_> {
    /// Makes an image visible: config, origin, manifest and tags, in this order. `false`, and nothing
    /// of that, where a layer is missing: somebody has removed it meanwhile.
    ///
    /// # Errors
    /// `System`; `Conflict` where the tag file changes again and again.
    pub fn publish(&self, image: &NewImage<'_>) -> Result<bool> {
        let store = self.store();
        if !image.manifest.layers.iter().all(|layer| store.layer_path(&layer.digest).exists()) {
            return Ok(false);
        }
        let (top, digest) = (store.directory(), image.manifest.digest());
        let place = |bytes: &[u8], path: &Path| NewFile::with(top, bytes)?.replace(path);
        place(image.config, &layout::config(top, &image.manifest.config.digest))?;
        if let Some(origin) = image.origin {
            let text = serde_json::to_vec_pretty(origin).expect("a document of texts and numbers");
            place(&text, &layout::origin(top, &digest))?;
        }
        place(&image.manifest.bytes, &layout::manifest(top, &digest))?;
        if !image.tags.is_empty() {
            self.revive(&digest)?;
        }
        self.tags(|tags| {
            image.tags.iter().for_each(|tag| drop(tags.assign(tag, &digest.hex())));
            image.comments.iter().for_each(|comment| tags.comment(&digest.hex(), comment));
            Ok(())
        })?;
        Ok(true)
    }

    /// Makes an image one that `docker-to-squash cleanup` does not remove, as it has to be for one
    /// that gets a name: its manifest can be read by all again, its marker goes.
    ///
    /// # Errors
    /// `System`.
    pub fn revive(&self, digest: &Digest) -> Result<()> {
        let top = self.store().directory();
        let manifest = layout::manifest(top, digest);
        match fs::metadata(&manifest) {
            Ok(now) if now.permissions().mode() & 0o7777 == layout::FILE_MODE => {}
            Ok(_) => {
                let set = fs::set_permissions(&manifest, Permissions::from_mode(layout::FILE_MODE));
                set.map_err(|error| system(&manifest, "chmod", error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(system(&manifest, "stat", error)),
        }
        remove(&layout::marker(top, digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Content;
    use crate::store::Store;

    fn content(bytes: &[u8]) -> Content {
        Content { digest: Digest::of(bytes), size: bytes.len() as u64 }
    }

    #[test]
    fn an_image_without_one_of_its_layers_is_not_seen() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::create(directory.path()).unwrap();
        let manifest = Manifest::for_storm(content(b"{}"), &[content(b"one"), content(b"two")]).unwrap();
        let tags = ["x".to_owned()];
        let image = NewImage { manifest: &manifest, config: b"{}", origin: None, tags: &tags, comments: &[] };
        let place = |bytes: &[u8]| fs::write(store.layer_path(&Digest::of(bytes)), bytes).unwrap();
        place(b"one");
        assert!(!store.change().unwrap().publish(&image).unwrap());
        assert_eq!((store.digests().unwrap().len(), store.tags().unwrap().tags.to_text().len()), (0, 0));
        place(b"two");
        assert!(store.change().unwrap().publish(&image).unwrap());
        assert_eq!(store.find("x").unwrap(), manifest.digest());
    }
}
