//! From the store to a registry, an archive or a layout, with the layers as they are: squashfs.
//!
//! What is pushed is an OCI image whose layers have the media type `application/vnd.squashfs`. A
//! store that pulls it has the same files again, without converting anything; docker and podman do
//! not run such an image. Its config is the image's own, whose diffIDs are those of the tars that
//! the layers were made of.

use std::fs::File;

use serde_json::json;

use crate::digest::{Content, Digest};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::manifest::{Blob, Manifest, media_type};
use crate::store::{Store, content_of};
use crate::transport::Sink;

/// How often a blob is sent in all, where the network fails.
const ATTEMPTS: u32 = 3;

/// An image that was pushed.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// Its name there.
    pub digest: Digest,
    /// Its layers there, base first, and whether each had to be sent.
    pub layers: Vec<(Blob, bool)>,
}

/// Writes an image of the store to a sink: layers and config first, the manifest last. Blobs that
/// are there already are not sent.
///
/// # Errors
/// `NotFound` for a layer that is missing in the store, `Mismatch` for one that is damaged, and those
/// of the sink.
pub fn push(store: &Store, digest: &Digest, sink: &mut dyn Sink) -> Result<Pushed> {
    let manifest = store.manifest(digest)?;
    let config = store.config(&manifest.config.digest)?;
    let mut layers = Vec::new();
    for layer in &manifest.layers {
        let (blob, file) = layer_of(store, &layer.digest)?;
        let sent = put(sink, &blob, || file.try_clone())?;
        layers.push((blob, sent));
    }
    let config_blob = Blob { media_type: media_type::OCI_CONFIG.to_owned(), ..manifest.config };
    put_bytes(sink, &config_blob, &config)?;
    let pushed = squashfs_manifest(&config_blob, &layers, &sink.name())?;
    sink.put_manifest(&pushed)?;
    Ok(Pushed { digest: pushed.digest(), layers })
}

/// A layer's file, which is read once to see that it is what it was, or what it is.
fn layer_of(store: &Store, digest: &Digest) -> Result<(Blob, File)> {
    let path = store.layer_path(digest);
    let failed = |call| move |error| Error::system(Step::Push, digest, call, error);
    let file = File::open(&path).map_err(failed("open"))?;
    let found = content_of(&file).map_err(failed("read"))?;
    match store.layer_description(digest)? {
        Some(description) if description.squashfs != found => Err(mismatch(&path, description.squashfs, found)),
        _ => Ok((Blob { digest: found.digest, size: found.size, media_type: media_type::SQUASHFS.to_owned() }, file)),
    }
}

fn mismatch(path: &std::path::Path, expected: Content, found: Content) -> Error {
    let text = |content: Content| format!("{} of {} bytes", content.digest, content.size);
    let cause = crate::Cause::Mismatch { expected: text(expected), found: text(found) };
    Error::new(Step::Push, path.display(), cause)
}

/// Sends a blob unless it is there; whether it was sent.
fn put(sink: &mut dyn Sink, blob: &Blob, open: impl Fn() -> std::io::Result<File>) -> Result<bool> {
    use std::io::Seek;
    let failed = |call| move |error| Error::system(Step::Push, blob.digest, call, error);
    if sink.has_blob(blob.digest)? {
        return Ok(false);
    }
    for attempt in 1.. {
        let mut content = open().map_err(failed("dup"))?;
        content.rewind().map_err(failed("lseek"))?;
        match sink.put_blob(blob, &mut content) {
            Err(error) if error.kind() == ErrorKind::Network && attempt < ATTEMPTS => {}
            done => return done.map(|()| true),
        }
    }
    unreachable!("the last attempt returns")
}

fn put_bytes(sink: &mut dyn Sink, blob: &Blob, bytes: &[u8]) -> Result<()> {
    match sink.has_blob(blob.digest)? {
        true => Ok(()),
        false => sink.put_blob(blob, &mut &*bytes),
    }
}

fn squashfs_manifest(config: &Blob, layers: &[(Blob, bool)], name: &str) -> Result<Manifest> {
    let blob = |blob: &Blob| json!({ "mediaType": blob.media_type, "size": blob.size, "digest": blob.digest });
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": blob(config),
        "layers": layers.iter().map(|(layer, _)| blob(layer)).collect::<Vec<_>>(),
    });
    Manifest::parse(document.to_string().as_bytes(), name)
}
