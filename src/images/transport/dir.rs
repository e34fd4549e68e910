//! Directories of one image, as skopeo's `dir:` has them: `manifest.json`, `version`, and blobs by
//! their hex digits.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::contents::{self, Beneath, Contents};
use super::output::{Staged, copy_blob, has_others, make_directory};
use super::{Sink, Source, resolve};
use crate::digest::Digest;
use crate::error::{Error, Result, Step};
use crate::manifest::{Blob, Document, MANIFEST_LENGTH, Manifest, Platform};

/// The file that says what the directory is, and how that begins and is written.
const VERSION: (&str, &str, &[u8]) =
    ("version", "Directory Transport Version: 1.", b"Directory Transport Version: 1.1\n");
const VERSION_LENGTH: u64 = 1024;

/// A directory with an image.
pub(crate) struct Directory {
    name: String,
    contents: Beneath,
}

impl Directory {
    pub(crate) fn open(name: String, path: &Path) -> Result<Directory> {
        let contents = Beneath::open(path, name.clone())?;
        // Older ones have none.
        match contents::document(&contents, VERSION.0, VERSION_LENGTH) {
            Ok(version) if !version.starts_with(VERSION.1.as_bytes()) => {
                return Err(Error::invalid(Step::Resolve, name, "the file \"version\" does not say version 1"));
            }
            Err(error) if !contents::is_missing(&error) => return Err(error),
            _ => {}
        }
        Ok(Directory { name, contents })
    }
}

impl Source for Directory {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn tags(&self) -> Vec<String> {
        Vec::new()
    }

    fn manifest(&self, platform: &Platform) -> Result<Manifest> {
        let bytes = contents::document(&self.contents, "manifest.json", MANIFEST_LENGTH)?;
        match Document::parse(&bytes, platform, &self.name)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(digest) => {
                let path = |digest: Digest| format!("{}.manifest.json", digest.hex());
                let read = |digest| contents::document(&self.contents, &path(digest), MANIFEST_LENGTH);
                resolve::follow(&self.name, digest, read, |bytes| Document::parse(bytes, platform, &self.name))
            }
        }
    }

    fn blob(&self, blob: &Blob, offset: u64) -> Result<Box<dyn Read + Send>> {
        Ok(self.contents.open(&blob.digest.hex(), offset)?.1)
    }
}

/// A directory that an image is written to. An image that is there already is replaced; its blobs
/// stay.
pub(crate) struct DirectorySink {
    name: String,
    path: PathBuf,
}

impl DirectorySink {
    pub(crate) fn create(name: String, path: &Path) -> Result<DirectorySink> {
        make_directory(path)?;
        if !path.join(VERSION.0).exists() && has_others(path, &[])? {
            return Err(Error::invalid(Step::Request, name, "the directory has files and is none of an image"));
        }
        Staged::write(&path.join(VERSION.0), VERSION.2)?;
        Ok(DirectorySink { name, path: path.to_owned() })
    }
}

impl Sink for DirectorySink {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn has_blob(&mut self, digest: Digest) -> Result<bool> {
        Ok(std::fs::symlink_metadata(self.path.join(digest.hex())).is_ok_and(|file| file.is_file()))
    }

    fn put_blob(&mut self, blob: &Blob, content: &mut dyn Read) -> Result<()> {
        let mut staged = Staged::create(&self.path.join(blob.digest.hex()))?;
        copy_blob(blob, content, &mut staged)?;
        staged.commit()
    }

    fn put_manifest(&mut self, manifest: &Manifest) -> Result<()> {
        Staged::write(&self.path.join("manifest.json"), &manifest.bytes)
    }
}
