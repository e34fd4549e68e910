//! Reading an archive of docker's.

use std::collections::HashMap;
use std::io::{self, Cursor, Read};
use std::path::Path;

use serde::Serialize;

use super::list;
use crate::digest::Digest;
use crate::error::{Cause, Error, Result, Step};
use crate::manifest::{self, Blob, CONFIG_LENGTH, LAYERS, MANIFEST_LENGTH, Manifest, Platform, media_type};
use crate::transport::contents::{self, Compression, Contents, TarIndex};
use crate::transport::{ArchiveImage, ArchivePath, Source};

/// The largest layer that is accepted, uncompressed, in bytes. Only the length of a compressed one
/// has to be found by reading it.
const LAYER_LENGTH: u64 = 1 << 40;

/// One image of an archive.
pub(crate) struct Archive {
    name: String,
    tags: Vec<String>,
    index: TarIndex,
    manifest: Manifest,
    config: Vec<u8>,
    layers: HashMap<Digest, Layer>,
}

struct Layer {
    path: String,
    compression: Compression,
}

impl Archive {
    pub(crate) fn open(name: String, path: &ArchivePath, image: &ArchiveImage, spool: &Path) -> Result<Archive> {
        let file = contents::open_archive(path, spool, &name)?;
        let index = TarIndex::read(file, name.clone())?;
        if !index.has("manifest.json") {
            let hint = if index.has("index.json") { ": an oci-archive:" } else { "" };
            let reason = format!("no archive of docker's, it has no manifest.json{hint}");
            return Err(Error::invalid(Step::Resolve, name, reason));
        }
        let item = list::choose(&contents::document(&index, "manifest.json", MANIFEST_LENGTH)?, image, &name)?;
        let tags = item.familiar_tags();
        let config = contents::document(&index, &item.config, CONFIG_LENGTH)?;
        let parsed = manifest::parse_config(&config, &name)?;
        let paths = item.layers.unwrap_or_default();
        let diff_ids = parsed.rootfs().diff_ids();
        if paths.len() != diff_ids.len() {
            let reason = format!("{} layers, but {} digests of layers in the config", paths.len(), diff_ids.len());
            return Err(Error::invalid(Step::Resolve, name, reason));
        }
        if paths.len() > LAYERS {
            let cause = Cause::Limit { what: format!("{} layers", paths.len()), limit: LAYERS as u64 };
            return Err(Error::new(Step::Resolve, name, cause));
        }
        let mut layers = HashMap::new();
        let mut blobs: Vec<Blob> = Vec::new();
        for (path, diff_id) in paths.into_iter().zip(diff_ids) {
            let digest = diff_id.parse().map_err(|reason: String| Error::invalid(Step::Resolve, &name, reason))?;
            // The same layer twice is one file, or two that are alike.
            let known = blobs.iter().find(|blob| blob.digest == digest).cloned();
            let blob = match known {
                Some(blob) => blob,
                None => {
                    let (layer, size) = Layer::look(&index, path)?;
                    layers.insert(digest, layer);
                    Blob { digest, size, media_type: media_type::DOCKER_LAYER_TAR.to_owned() }
                }
            };
            blobs.push(blob);
        }
        let manifest = make_manifest(&config, &blobs, &name)?;
        Ok(Archive { name, tags, index, manifest, config, layers })
    }
}

impl Layer {
    /// Finds the layer, and its uncompressed length.
    fn look(index: &TarIndex, path: String) -> Result<(Layer, u64)> {
        let (size, content) = index.open(&path, 0)?;
        let (compression, content) = Compression::undo(content).map_err(|error| unpack_error(&path, error))?;
        if compression == Compression::None {
            return Ok((Layer { path, compression }, size));
        }
        // An archive of docker's with containerd: the manifest to be made speaks of the tar inside.
        let length = io::copy(&mut content.take(LAYER_LENGTH + 1), &mut io::sink());
        match length.map_err(|error| unpack_error(&path, error))? {
            length if length > LAYER_LENGTH => {
                let cause = Cause::Limit { what: "layer: uncompressed bytes".to_owned(), limit: LAYER_LENGTH };
                Err(Error::new(Step::Resolve, path, cause))
            }
            length => Ok((Layer { path, compression }, length)),
        }
    }
}

fn unpack_error(path: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::Unsupported => Error::new(Step::Resolve, path, Cause::Unsupported(error.to_string())),
        _ => Error::invalid(Step::Resolve, path, format!("cannot be uncompressed: {error}")),
    }
}

fn make_manifest(config: &[u8], layers: &[Blob], name: &str) -> Result<Manifest> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry<'a> {
        media_type: &'a str,
        size: u64,
        digest: Digest,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        schema_version: u8,
        media_type: &'a str,
        config: Entry<'a>,
        layers: Vec<Entry<'a>>,
    }
    let config = Entry { media_type: media_type::DOCKER_CONFIG, size: config.len() as u64, digest: Digest::of(config) };
    let entry = |blob: &Blob| Entry { media_type: media_type::DOCKER_LAYER_TAR, size: blob.size, digest: blob.digest };
    let layers = layers.iter().map(entry).collect();
    let document = Document { schema_version: 2, media_type: media_type::DOCKER_MANIFEST, config, layers };
    let bytes = serde_json::to_vec(&document)
        .map_err(|error| Error::invalid(Step::Resolve, name, format!("manifest: {error}")))?;
    Manifest::parse(&bytes, name)
}

impl Source for Archive {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn tags(&self) -> Vec<String> {
        self.tags.clone()
    }

    fn manifest(&self, _: &Platform) -> Result<Manifest> {
        // One image, for whatever it is made: what it runs on stands in its config.
        Ok(self.manifest.clone())
    }

    fn blob(&self, blob: &Blob, offset: u64) -> Result<Box<dyn Read + Send>> {
        if blob.digest == self.manifest.config.digest {
            let mut config = Cursor::new(self.config.clone());
            config.set_position(offset);
            return Ok(Box::new(config));
        }
        let missing = || Error::new(Step::Fetch, &self.name, Cause::NotFound(blob.digest.to_string()));
        let layer = self.layers.get(&blob.digest).ok_or_else(missing)?;
        if layer.compression == Compression::None {
            return Ok(self.index.open(&layer.path, offset)?.1);
        }
        let unpack = |error| unpack_error(&layer.path, error);
        let mut content = layer.compression.decoder(self.index.open(&layer.path, 0)?.1).map_err(unpack)?;
        io::copy(&mut content.by_ref().take(offset), &mut io::sink()).map_err(unpack)?;
        Ok(content)
    }
}
