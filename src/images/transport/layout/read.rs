//! Reading an image of a layout.

use std::io::Read;
use std::path::Path;

use super::{blob_path, index};
use crate::digest::Digest;
use crate::error::Result;
use crate::manifest::{Blob, Document, MANIFEST_LENGTH, Manifest, Platform};
use crate::transport::contents::{self, Beneath, Contents, TarIndex};
use crate::transport::{ArchivePath, LayoutImage, Source, resolve};

/// One image of a layout, for each platform that it is made for.
pub(crate) struct Layout {
    name: String,
    tags: Vec<String>,
    contents: Box<dyn Contents>,
    digest: Digest,
}

impl Layout {
    /// A layout in a directory.
    pub(crate) fn directory(name: String, path: &Path, image: &LayoutImage) -> Result<Layout> {
        let contents = Box::new(Beneath::open(path, name.clone())?);
        Layout::open(name, contents, image)
    }

    /// A layout in a tar.
    pub(crate) fn archive(name: String, path: &ArchivePath, image: &LayoutImage, spool: &Path) -> Result<Layout> {
        let file = contents::open_archive(path, spool, &name)?;
        let contents = Box::new(TarIndex::read(file, name.clone())?);
        Layout::open(name, contents, image)
    }

    fn open(name: String, contents: Box<dyn Contents>, image: &LayoutImage) -> Result<Layout> {
        let list = contents::document(&*contents, "index.json", MANIFEST_LENGTH)?;
        let (digest, tags) = index::choose(&list, image, &name)?;
        Ok(Layout { name, tags, contents, digest })
    }
}

impl Source for Layout {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn tags(&self) -> Vec<String> {
        self.tags.clone()
    }

    fn manifest(&self, platform: &Platform) -> Result<Manifest> {
        let read = |digest| contents::document(&*self.contents, &blob_path(digest), MANIFEST_LENGTH);
        let parse = |bytes: &[u8]| Document::parse(bytes, platform, &self.name);
        resolve::follow(&self.name, self.digest, read, parse)
    }

    fn blob(&self, blob: &Blob, offset: u64) -> Result<Box<dyn Read + Send>> {
        Ok(self.contents.open(&blob_path(blob.digest), offset)?.1)
    }
}
