//! Writing an image to a layout.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::{MARKER, blob_path, index};
use crate::digest::Digest;
use crate::error::{Error, Result, Step};
use crate::manifest::{Blob, MANIFEST_LENGTH, Manifest};
use crate::transport::contents::{self, Beneath};
use crate::transport::output::{
    ArchiveFile, Checked, Staged, TarWriter, copy_blob, copy_error, has_others, make_directory, sync_directory,
};
use crate::transport::{ArchivePath, LayoutImage, Sink};

/// The name that the image is to have.
fn image_name(image: &LayoutImage, name: &str) -> Result<Option<String>> {
    match image {
        LayoutImage::Only => Ok(None),
        LayoutImage::Named(tag) => Ok(Some(tag.clone())),
        LayoutImage::Digest(_) => {
            Err(Error::invalid(Step::Request, name, "an image is added with a name, not with a digest"))
        }
    }
}

/// A layout in a directory, new or with other images.
pub(crate) struct LayoutSink {
    name: String,
    path: PathBuf,
    image: Option<String>,
}

impl LayoutSink {
    pub(crate) fn create(name: String, path: &Path, image: &LayoutImage) -> Result<LayoutSink> {
        let image = image_name(image, &name)?;
        make_directory(path)?;
        if !path.join(MARKER.0).exists() && has_others(path, &["blobs"])? {
            return Err(Error::invalid(Step::Request, &name, "the directory has files and is no OCI layout"));
        }
        make_directory(&path.join("blobs/sha256"))?;
        if !path.join(MARKER.0).exists() {
            Staged::write(&path.join(MARKER.0), MARKER.1)?;
        }
        Ok(LayoutSink { name, path: path.to_owned(), image })
    }
}

impl Sink for LayoutSink {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn has_blob(&mut self, digest: Digest) -> Result<bool> {
        Ok(std::fs::symlink_metadata(self.path.join(blob_path(digest))).is_ok_and(|file| file.is_file()))
    }

    fn put_blob(&mut self, blob: &Blob, content: &mut dyn Read) -> Result<()> {
        let mut staged = Staged::create(&self.path.join(blob_path(blob.digest)))?;
        copy_blob(blob, content, &mut staged)?;
        staged.commit()
    }

    fn put_manifest(&mut self, manifest: &Manifest) -> Result<()> {
        Staged::write(&self.path.join(blob_path(manifest.digest())), &manifest.bytes)?;
        // The names of the directories, which may be new.
        sync_directory(&self.path.join("blobs"))?;
        // Others may add to the layout at the same time. The lock goes with its descriptor.
        let lock = File::open(&self.path).map_err(|error| Error::system(Step::Push, &self.name, "open", error))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|errno| Error::system(Step::Push, &self.name, "flock", errno))?;
        let beneath = Beneath::open(&self.path, self.name.clone())?;
        let old = match contents::document(&beneath, "index.json", MANIFEST_LENGTH) {
            Ok(bytes) => Some(bytes),
            Err(error) if contents::is_missing(&error) => None,
            Err(error) => return Err(error),
        };
        let new = index::with_image(old.as_deref(), manifest, self.image.as_deref(), &self.name)?;
        Staged::write(&self.path.join("index.json"), &new)
    }
}

/// A tar of a layout, with one image.
pub(crate) struct LayoutArchiveSink {
    name: String,
    tar: Option<TarWriter<ArchiveFile>>,
    image: Option<String>,
    written: HashSet<Digest>,
}

impl LayoutArchiveSink {
    pub(crate) fn create(name: String, path: &ArchivePath, image: &LayoutImage) -> Result<LayoutArchiveSink> {
        let image = image_name(image, &name)?;
        let mut tar = TarWriter::new(ArchiveFile::create(path, &name)?);
        tar.file(MARKER.0, MARKER.1.len() as u64, &mut &*MARKER.1)
            .and_then(|()| tar.directory("blobs/"))
            .and_then(|()| tar.directory("blobs/sha256/"))
            .map_err(|error| Error::system(Step::Push, &name, "write", error))?;
        Ok(LayoutArchiveSink { name, tar: Some(tar), image, written: HashSet::new() })
    }

    /// The archive, taken: it goes back where what is written to it succeeds.
    fn take(&mut self) -> Result<TarWriter<ArchiveFile>> {
        let gone = || Error::invalid(Step::Push, &self.name, "the archive is complete, or failed before");
        self.tar.take().ok_or_else(gone)
    }
}

impl Sink for LayoutArchiveSink {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn has_blob(&mut self, digest: Digest) -> Result<bool> {
        Ok(self.written.contains(&digest))
    }

    fn put_blob(&mut self, blob: &Blob, content: &mut dyn Read) -> Result<()> {
        if self.written.contains(&blob.digest) {
            return Ok(());
        }
        let mut tar = self.take()?;
        tar.file(&blob_path(blob.digest), blob.size, &mut Checked::new(blob, content))
            .map_err(|error| copy_error(blob, "write", error))?;
        self.written.insert(blob.digest);
        self.tar = Some(tar);
        Ok(())
    }

    fn put_manifest(&mut self, manifest: &Manifest) -> Result<()> {
        let index = index::with_image(None, manifest, self.image.as_deref(), &self.name)?;
        let mut tar = self.take()?;
        let write = |error| Error::system(Step::Push, &self.name, "write", error);
        if self.written.insert(manifest.digest()) {
            let path = blob_path(manifest.digest());
            tar.file(&path, manifest.bytes.len() as u64, &mut manifest.bytes.as_slice()).map_err(write)?;
        }
        tar.file("index.json", index.len() as u64, &mut index.as_slice()).map_err(write)?;
        tar.finish().map_err(write)?.commit(&self.name)
    }
}
