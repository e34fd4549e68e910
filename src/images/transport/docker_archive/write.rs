//! Writing an archive of docker's.

use std::collections::{HashMap, HashSet};
use std::io::{self, Cursor, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::list::{self, Item};
use crate::digest::{Digest, Hashing};
use crate::error::{Cause, Error, Result, Step};
use crate::manifest::{Blob, CONFIG_LENGTH, LayerFormat, Manifest, media_type};
use crate::transport::contents::{self, Compression};
use crate::transport::output::{ArchiveFile, Checked, TarWriter, copy_error};
use crate::transport::{ArchiveImage, ArchivePath, Sink};

/// An archive in the making: `<digest>.tar` for each layer, uncompressed, `<digest>.json` for the
/// config, and `manifest.json` at the end.
pub(crate) struct ArchiveSink {
    name: String,
    tar: Option<TarWriter<ArchiveFile>>,
    /// Where a layer that has to be uncompressed first is put down.
    spool: PathBuf,
    tag: Option<String>,
    /// The path of each blob in the archive.
    paths: HashMap<Digest, String>,
    written: HashSet<String>,
}

impl ArchiveSink {
    pub(crate) fn create(name: String, path: &ArchivePath, image: &ArchiveImage) -> Result<ArchiveSink> {
        let tag = match image {
            ArchiveImage::Only => None,
            ArchiveImage::Tagged(reference) => Some(reference.familiar()),
            ArchiveImage::At(_) => {
                return Err(Error::invalid(Step::Request, name, "an image is added with a tag, not with a place"));
            }
        };
        let spool = match path {
            ArchivePath::Standard => std::env::temp_dir(),
            ArchivePath::File(path) if std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > 0) => {
                let reason = "it is there already, and is not changed; remove it first";
                return Err(Error::new(Step::Request, name, Cause::Conflict(reason.to_owned())));
            }
            ArchivePath::File(path) => match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => Path::new(".").to_owned(),
            },
        };
        let tar = Some(TarWriter::new(ArchiveFile::create(path, &name)?));
        Ok(ArchiveSink { name, tar, spool, tag, paths: HashMap::new(), written: HashSet::new() })
    }

    fn add(&mut self, path: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
        if self.written.contains(path) {
            return Ok(());
        }
        // What fails in the middle of a file leaves no archive that could be gone on with.
        let tar = self.tar.take();
        let mut tar = tar.ok_or_else(|| io::Error::other("the archive is complete, or failed before"))?;
        tar.file(path, size, content)?;
        self.tar = Some(tar);
        self.written.insert(path.to_owned());
        Ok(())
    }

    fn layer(&mut self, blob: &Blob, content: &mut dyn Read) -> Result<String> {
        let failed = |error| copy_error(blob, "write", error);
        if blob.layer_format()? != LayerFormat::Tar {
            let reason = format!("a layer of type {:?} in an archive of docker's", blob.media_type);
            return Err(Error::new(Step::Push, &self.name, Cause::Unsupported(reason)));
        }
        let mut content = Checked::new(blob, content);
        let mut first = Vec::new();
        content.by_ref().take(6).read_to_end(&mut first).map_err(failed)?;
        let compression = Compression::of(&first).map_err(|name| {
            Error::new(Step::Push, blob.digest, Cause::Unsupported(format!("compressed with {name}")))
        })?;
        if compression == Compression::None {
            let path = format!("{}.tar", blob.digest.hex());
            self.add(&path, blob.size, &mut Cursor::new(first).chain(content)).map_err(failed)?;
            return Ok(path);
        }
        // A tar entry begins with its length. The compressed bytes are put down, and read twice.
        let mut file = contents::nameless(&self.spool)?;
        io::copy(&mut Cursor::new(first).chain(content), &mut file).map_err(failed)?;
        let decoder = |file: &std::fs::File| {
            let mut file = file.try_clone()?;
            file.seek(SeekFrom::Start(0))?;
            compression.decoder(Box::new(file))
        };
        let mut whole = Hashing::new(decoder(&file).map_err(failed)?);
        io::copy(&mut whole, &mut io::sink()).map_err(failed)?;
        let (diff_id, size, _) = whole.finish();
        let path = format!("{}.tar", diff_id.hex());
        self.add(&path, size, &mut decoder(&file).map_err(failed)?).map_err(failed)?;
        Ok(path)
    }
}

impl Sink for ArchiveSink {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn has_blob(&mut self, digest: Digest) -> Result<bool> {
        Ok(self.paths.contains_key(&digest))
    }

    fn put_blob(&mut self, blob: &Blob, content: &mut dyn Read) -> Result<()> {
        if self.paths.contains_key(&blob.digest) {
            return Ok(());
        }
        let path = match blob.media_type.as_str() {
            media_type::DOCKER_CONFIG | media_type::OCI_CONFIG => {
                let failed = |error| copy_error(blob, "write", error);
                let mut config = Vec::new();
                Checked::new(blob, content).take(CONFIG_LENGTH + 1).read_to_end(&mut config).map_err(failed)?;
                let path = format!("{}.json", blob.digest.hex());
                self.add(&path, blob.size, &mut config.as_slice()).map_err(failed)?;
                path
            }
            _ => self.layer(blob, content)?,
        };
        self.paths.insert(blob.digest, path);
        Ok(())
    }

    fn put_manifest(&mut self, manifest: &Manifest) -> Result<()> {
        let path = |blob: &Blob| {
            let missing = || Error::invalid(Step::Push, &self.name, format!("{} was not written", blob.digest));
            self.paths.get(&blob.digest).cloned().ok_or_else(missing)
        };
        let config = path(&manifest.config)?;
        let layers = Some(manifest.layers.iter().map(path).collect::<Result<_>>()?);
        let list = list::of_one(Item { config, repo_tags: self.tag.clone().map(|tag| vec![tag]), layers });
        let write = |error| Error::system(Step::Push, &self.name, "write", error);
        let tar = self.tar.take();
        let mut tar =
            tar.ok_or_else(|| Error::invalid(Step::Push, &self.name, "the archive is complete, or failed before"))?;
        tar.file("manifest.json", list.len() as u64, &mut list.as_slice()).map_err(write)?;
        tar.finish().map_err(write)?.commit(&self.name)
    }
}
