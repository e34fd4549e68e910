//! Reading what is stored again, to see whether it is what it was.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::Store;
use super::documents::LayerDescription;
use super::new_file::system;
use crate::digest::{Digest, Hashing};
use crate::error::{ErrorKind, Result};

/// What was looked at in an image.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    /// Files that are what is on record, with their bytes in all.
    pub files: usize,
    /// See [`Verified::files`].
    pub bytes: u64,
    /// Layers that no description says anything about: another tool has written them.
    pub undescribed: Vec<Digest>,
    /// What is wrong.
    pub damage: Vec<Damage>,
}

/// A file that is not what it was.
#[derive(Debug, Clone)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl Store {
    /// Reads manifest, config and layers of an image again and compares each with its digest.
    ///
    /// # Errors
    /// `System` where something cannot be read; what is wrong with the image is no error.
    pub fn verify(&self, digest: &Digest) -> Result<Verified> {
        let mut verified = Verified::default();
        let Some(manifest) = verified.sound(self.manifest(digest))? else { return Ok(verified) };
        verified.count(manifest.bytes.len() as u64);
        if let Some(config) = verified.sound(self.config(&manifest.config.digest))? {
            verified.count(config.len() as u64);
        }
        let mut layers: Vec<Digest> = manifest.layers.iter().map(|layer| layer.digest).collect();
        layers.sort();
        layers.dedup();
        for layer in layers {
            self.verify_layer(&layer, &mut verified)?;
        }
        Ok(verified)
    }

    fn verify_layer(&self, digest: &Digest, verified: &mut Verified) -> Result<()> {
        let path = self.layer_path(digest);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                verified.damage.push(Damage { path, reason: "it is missing".to_owned() });
                return Ok(());
            }
            opened => opened.map_err(|error| system(&path, "open", error))?,
        };
        let description = verified.sound(self.layer_description(digest))?.flatten();
        let Some(LayerDescription { squashfs, .. }) = description else {
            verified.undescribed.push(*digest);
            return Ok(());
        };
        let mut reader = Hashing::new(file);
        io::copy(&mut reader, &mut io::sink()).map_err(|error| system(&path, "read", error))?;
        let (found, size, _) = reader.finish();
        if (found, size) != (squashfs.digest, squashfs.size) {
            let reason = format!("expected {} of {} bytes, found {found} of {size}", squashfs.digest, squashfs.size);
            verified.damage.push(Damage { path, reason });
            return Ok(());
        }
        verified.count(size);
        Ok(())
    }
}

impl Verified {
    fn count(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }

    /// What was read; `None` where the image is to blame that it was not, which is noted.
    fn sound<T>(&mut self, read: Result<T>) -> Result<Option<T>> {
        use ErrorKind::{Invalid, Limit, Mismatch, NotFound};
        match read {
            Err(error) if matches!(error.kind(), NotFound | Mismatch | Invalid | Limit) => {
                self.damage.push(Damage { path: PathBuf::from(error.object()), reason: error.cause().to_string() });
                Ok(None)
            }
            read => read.map(Some),
        }
    }
}
