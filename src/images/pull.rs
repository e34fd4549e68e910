//! From a source to the store: fetched, converted and checked in one pass.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::convert::{self, ConvertOptions};
use crate::digest::{Content, Digest, Hashing};
use crate::error::{Cause, Error, ErrorKind, Result, Step};
use crate::manifest::{Blob, CONFIG_LENGTH, LayerFormat, Manifest, Platform, media_type, parse_config};
use crate::store::documents::{LayerDescription, Origin, SCHEMA_VERSION};
use crate::store::new_file::NewFile;
use crate::store::{NewImage, Store, content_of, tags};
use crate::transport::Source;

/// Layers that are fetched at a time, unless said otherwise: what docker and podman do.
const LAYERS_AT_A_TIME: NonZero<usize> = NonZero::new(3).unwrap();
/// How often a pull begins again because somebody removed what it had stored.
pub(crate) const ROUNDS: u32 = 3;

/// How an image is pulled.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Which image of an index.
    pub platform: Platform,
    /// How layers become squashfs.
    pub convert: ConvertOptions,
    /// Names that it gets, instead of those that it had.
    pub tags: Vec<String>,
    /// The comment in the tag file; where it came from, unless said otherwise.
    pub comment: Option<String>,
    /// Fetch and convert what is in the store already.
    pub force: bool,
    /// How many layers are fetched at a time.
    pub at_a_time: NonZero<usize>,
    /// The most layers, and the most bytes of blobs, that an image may have.
    pub limits: ImageLimits,
}

/// What an image may have at most.
#[derive(Debug, Clone, Copy)]
pub struct ImageLimits {
    /// Layers.
    pub layers: usize,
    /// Bytes of all layers' blobs, as the manifest says them.
    pub bytes: u64,
}

impl Default for ImageLimits {
    /// What an overlay takes, and no bound of the bytes.
    fn default() -> ImageLimits {
        ImageLimits { layers: crate::manifest::LAYERS, bytes: u64::MAX }
    }
}

impl Default for PullOptions {
    /// This machine's platform, three layers at a time.
    fn default() -> PullOptions {
        PullOptions {
            platform: Platform::host(),
            convert: ConvertOptions::default(),
            tags: Vec::new(),
            comment: None,
            force: false,
            at_a_time: LAYERS_AT_A_TIME,
            limits: ImageLimits::default(),
        }
    }
}

/// What has become of an image.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// Its name in the store.
    pub digest: Digest,
    /// Its name at the source; another one where the manifest had to be written anew.
    pub source_digest: Digest,
    /// Its layers, base first.
    pub layers: Vec<PulledLayer>,
}

/// What has become of a layer.
#[derive(Debug, Clone)]
pub struct PulledLayer {
    /// Its blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub blob_size: u64,
    /// Bytes of the squashfs file.
    pub squashfs_size: u64,
    /// Whether it was in the store already.
    pub was_there: bool,
    /// What of it could not be kept as it was.
    pub notes: Vec<String>,
}

/// Who wants to know how a pull goes on. Called from several threads.
pub trait Progress: Sync {
    /// The image's layers are known.
    fn begin(&self, layers: &[Blob]);
    /// So many more bytes of this layer's blob (by number, from 0) have come.
    fn bytes(&self, layer: usize, more: u64);
    /// A layer is in the store.
    fn done(&self, layer: usize, pulled: &PulledLayer);
}

/// For who does not.
impl Progress for () {
    fn begin(&self, _: &[Blob]) {}
    fn bytes(&self, _: usize, _: u64) {}
    fn done(&self, _: usize, _: &PulledLayer) {}
}

/// Brings an image into the store. Several layers are fetched and converted at a time; each goes
/// from the source through decompression to squashfs without being stored in between. Blob and
/// diffID of each layer are checked before it gets its name; manifest and tags come last.
///
/// # Errors
/// Those of the source; `Mismatch` for content that is not what it is named; `Invalid` and `Limit`
/// for layers that cannot be converted; `Conflict` where somebody removes from the store, again and
/// again, what was stored. Layers that were complete by then stay in the store.
pub fn pull(source: &dyn Source, store: &Store, options: &PullOptions, progress: &dyn Progress) -> Result<Pulled> {
    for tag in &options.tags {
        tags::check(tag).map_err(|reason| Error::invalid(Step::Request, "tag", reason))?;
    }
    let manifest = source.manifest(&options.platform)?;
    check_limits(&manifest, source, options.limits)?;
    let stored = stored_manifest(&manifest)?;
    let origin = Origin {
        schema_version: SCHEMA_VERSION,
        source: source.name(),
        manifest: Content { digest: manifest.digest(), size: manifest.bytes.len() as u64 },
        media_type: manifest.media_type.clone(),
    };
    let comment = options.comment.clone().unwrap_or_else(|| source.name());
    let mut force = options.force;
    for _ in 0..ROUNDS {
        let config = fetch_config(source, store, &manifest.config)?;
        let diff_ids = diff_ids(&config, &manifest)?;
        progress.begin(&manifest.layers);
        let pulling = Pulling { source, store, options, force, progress, blobs: &manifest.layers, diff_ids: &diff_ids };
        let layers = pulling.layers()?;
        force = false;
        let image = NewImage {
            manifest: &stored,
            config: &config,
            origin: Some(&origin),
            tags: &options.tags,
            comments: std::slice::from_ref(&comment),
        };
        if store.change()?.publish(&image)? {
            return Ok(Pulled { digest: stored.digest(), source_digest: manifest.digest(), layers });
        }
    }
    Err(removed_again(source.name()))
}

/// The error where what is stored does not stay.
pub(crate) fn removed_again(object: impl Display) -> Error {
    let cause = Cause::Conflict("somebody removes its layers from the store, again and again".to_owned());
    Error::new(Step::Store, object, cause)
}

/// The manifest as it is stored. Storm's plugin takes Docker's media types only, with gzip for the
/// layers, and no field that it does not know; a manifest that it would not take is written anew,
/// with the same config and layers. It then has another digest; both are on record.
///
/// # Errors
/// `Unsupported` for an image with foreign or encrypted layers.
pub fn stored_manifest(manifest: &Manifest) -> Result<Manifest> {
    for layer in &manifest.layers {
        layer.layer_format()?;
    }
    if is_for_storm(manifest) {
        return Ok(manifest.clone());
    }
    let content = |blob: &Blob| Content { digest: blob.digest, size: blob.size };
    let layers: Vec<Content> = manifest.layers.iter().map(content).collect();
    Manifest::for_storm(content(&manifest.config), &layers)
}

/// Whether Storm's classes read it: they know these fields alone, and this type of layers.
fn is_for_storm(manifest: &Manifest) -> bool {
    const MANIFEST: &[&str] = &["schemaVersion", "mediaType", "config", "layers", "annotations"];
    const BLOB: &[&str] = &["mediaType", "digest", "size", "urls", "annotations"];
    let knows = |value: &Value, names: &[&str]| {
        value.as_object().is_some_and(|object| object.keys().all(|name| names.contains(&name.as_str())))
    };
    let Ok(document) = serde_json::from_slice::<Value>(&manifest.bytes) else { return false };
    manifest.media_type == media_type::DOCKER_MANIFEST
        && manifest.config.media_type == media_type::DOCKER_CONFIG
        && manifest.layers.iter().all(|layer| layer.media_type == media_type::DOCKER_LAYER)
        && knows(&document, MANIFEST)
        && knows(&document["config"], BLOB)
        && document["layers"].as_array().is_some_and(|layers| layers.iter().all(|layer| knows(layer, BLOB)))
}

fn check_limits(manifest: &Manifest, source: &dyn Source, limits: ImageLimits) -> Result<()> {
    let bytes = manifest.layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
    let over = |what: String, limit: u64| Err(Error::new(Step::Resolve, source.name(), Cause::Limit { what, limit }));
    match manifest.layers.len() {
        0 => Err(Error::invalid(Step::Resolve, source.name(), "an image without layers")),
        count if count > limits.layers => over(format!("{count} layers"), limits.layers as u64),
        _ if bytes > limits.bytes => over(format!("layers of {bytes} bytes"), limits.bytes),
        _ => Ok(()),
    }
}

/// The config, from the store if it is there.
fn fetch_config(source: &dyn Source, store: &Store, blob: &Blob) -> Result<Vec<u8>> {
    match store.config(&blob.digest) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Mismatch) => {}
        known => return known,
    }
    if blob.size > CONFIG_LENGTH {
        let cause = Cause::Limit { what: format!("image config of {} bytes", blob.size), limit: CONFIG_LENGTH };
        return Err(Error::new(Step::Fetch, blob.digest, cause));
    }
    let mut bytes = Vec::new();
    let mut reader = source.blob(blob, 0)?.take(blob.size + 1);
    reader.read_to_end(&mut bytes).map_err(|error| fetch_failed(blob, error))?;
    check(blob, Digest::of(&bytes), bytes.len() as u64)?;
    Ok(bytes)
}

/// The digest of each layer's tar, from the config: in a squashfs layer's place it says nothing.
fn diff_ids(config: &[u8], manifest: &Manifest) -> Result<Vec<Digest>> {
    let name = manifest.config.digest.to_string();
    let ids = parse_config(config, &name)?.rootfs().diff_ids().clone();
    if ids.len() != manifest.layers.len() {
        let reason = format!("{} diff_ids, but the manifest has {} layers", ids.len(), manifest.layers.len());
        return Err(Error::invalid(Step::Resolve, name, reason));
    }
    let parse = |(index, id): (usize, &String)| {
        id.parse().map_err(|reason| Error::invalid(Step::Resolve, &name, format!("rootfs.diff_ids[{index}]: {reason}")))
    };
    ids.iter().enumerate().map(parse).collect()
}

/// The layers of one pull.
struct Pulling<'a> {
    source: &'a dyn Source,
    store: &'a Store,
    options: &'a PullOptions,
    force: bool,
    progress: &'a dyn Progress,
    blobs: &'a [Blob],
    diff_ids: &'a [Digest],
}

impl Pulling<'_> {
    /// All layers, several at a time. The first failure is the answer, and ends the others.
    fn layers(&self) -> Result<Vec<PulledLayer>> {
        // One that an image has twice is fetched once.
        let first = |blob: &Blob| self.blobs.iter().position(|other| other.digest == blob.digest);
        let distinct = (0..self.blobs.len()).filter(|&index| first(&self.blobs[index]) == Some(index));
        let waiting: Mutex<VecDeque<usize>> = Mutex::new(distinct.collect());
        let failed = AtomicBool::new(false);
        let work = || {
            let mut pulled = Vec::new();
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(index) = next.filter(|_| !failed.load(Ordering::Relaxed)) else { return Ok(pulled) };
                match self.layer(index, &failed) {
                    Ok(layer) => pulled.push(layer),
                    // Of those that end because another has failed, that one's error counts.
                    Err(error) => return if failed.swap(true, Ordering::Relaxed) { Ok(pulled) } else { Err(error) },
                }
            }
        };
        let pulled = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..self.options.at_a_time.get().min(self.blobs.len())).map(|_| scope.spawn(work)).collect();
            let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            ended.collect::<Result<Vec<_>>>()
        })?;
        let pulled: Vec<PulledLayer> = pulled.into_iter().flatten().collect();
        let of = |blob: &Blob| pulled.iter().find(|layer| layer.digest == blob.digest).cloned();
        Ok(self.blobs.iter().filter_map(of).collect())
    }

    fn layer(&self, index: usize, failed: &AtomicBool) -> Result<PulledLayer> {
        let blob = &self.blobs[index];
        let stored = if self.force { None } else { self.stored(blob)? };
        let layer = match stored {
            Some(layer) => layer,
            None => {
                let content = self.source.blob(blob, 0)?;
                let content = Counted { content, index, progress: self.progress, failed };
                // One byte more, so that a blob that is too long is seen to be.
                self.store_layer(blob, self.diff_ids[index], content.take(blob.size.saturating_add(1)))?
            }
        };
        self.progress.done(index, &layer);
        Ok(layer)
    }

    /// A layer that is in the store. One whose size is not that on record is not.
    fn stored(&self, blob: &Blob) -> Result<Option<PulledLayer>> {
        let Ok(file) = std::fs::metadata(self.store.layer_path(&blob.digest)) else { return Ok(None) };
        let description = self.store.layer_description(&blob.digest)?;
        if description.as_ref().is_some_and(|description| description.squashfs.size != file.len()) {
            return Ok(None);
        }
        let notes = description.map(|description| description.notes).unwrap_or_default();
        Ok(Some(PulledLayer {
            digest: blob.digest,
            blob_size: blob.size,
            squashfs_size: file.len(),
            was_there: true,
            notes,
        }))
    }

    fn store_layer(&self, blob: &Blob, diff_id: Digest, content: impl Read + Send) -> Result<PulledLayer> {
        let new = NewFile::create(self.store.directory())?;
        let description = match blob.layer_format()? {
            LayerFormat::Tar => self.convert(blob, diff_id, content, &new)?,
            LayerFormat::Squashfs => copy(blob, content, &new)?,
        };
        self.store.place_layer(new, &description)?;
        Ok(PulledLayer {
            digest: blob.digest,
            blob_size: blob.size,
            squashfs_size: description.squashfs.size,
            was_there: false,
            notes: description.notes,
        })
    }

    fn convert(
        &self,
        blob: &Blob,
        diff_id: Digest,
        content: impl Read + Send,
        new: &NewFile,
    ) -> Result<LayerDescription> {
        let (_, converted) =
            convert::convert(content, &self.options.convert, &new.file).map_err(|error| error.about(blob.digest))?;
        // What the writer took back lies behind the end.
        let cut = new.file.set_len(converted.squashfs_size);
        cut.map_err(|error| Error::system(Step::Store, blob.digest, "ftruncate", error))?;
        check(blob, converted.blob_digest, converted.blob_size)?;
        if converted.diff_id != diff_id {
            let cause = Cause::Mismatch {
                expected: format!("a tar with the config's diff_id {diff_id}"),
                found: converted.diff_id.to_string(),
            };
            return Err(Error::new(Step::Fetch, blob.digest, cause));
        }
        let squashfs = content_of(&new.file).map_err(|error| Error::system(Step::Store, blob.digest, "read", error))?;
        Ok(LayerDescription::of_tar(squashfs, &converted, &self.options.convert))
    }
}

/// A blob that is squashfs already.
fn copy(blob: &Blob, content: impl Read, new: &NewFile) -> Result<LayerDescription> {
    let mut content = Hashing::new(content);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = match content.read(&mut buffer) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(|error| fetch_failed(blob, error))?,
        };
        let written = (&new.file).write_all(&buffer[..read]);
        written.map_err(|error| Error::system(Step::Store, blob.digest, "write", error))?;
    }
    let (digest, size, _) = content.finish();
    check(blob, digest, size)?;
    Ok(LayerDescription::of_squashfs(Content { digest, size }))
}

fn check(blob: &Blob, digest: Digest, size: u64) -> Result<()> {
    if (digest, size) == (blob.digest, blob.size) {
        return Ok(());
    }
    let longer = if size > blob.size { " or more" } else { "" };
    let cause = Cause::Mismatch {
        expected: format!("{} of {} bytes", blob.digest, blob.size),
        found: format!("{digest} of {size} bytes{longer}"),
    };
    Err(Error::new(Step::Fetch, blob.digest, cause))
}

fn fetch_failed(blob: &Blob, error: io::Error) -> Error {
    Error::system(Step::Fetch, blob.digest, "read", error)
}

/// A blob's content that is counted, and that ends with an error where another layer has failed.
struct Counted<'a, R> {
    content: R,
    index: usize,
    progress: &'a dyn Progress,
    failed: &'a AtomicBool,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer has failed"));
        }
        let read = self.content.read(buffer)?;
        self.progress.bytes(self.index, read as u64);
        Ok(read)
    }
}
