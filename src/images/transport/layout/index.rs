//! The layout's `index.json`.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::error::{Cause, Error, Result, Step};
use crate::manifest::{MANIFEST_LENGTH, Manifest, media_type};
use crate::transport::LayoutImage;

/// The annotation with an image's name.
const NAME: &str = "org.opencontainers.image.ref.name";
/// The most images of a layout.
const IMAGES: usize = 8192;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: String,
    #[serde(default)]
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    name: Option<String>,
}

impl Entry {
    fn name(&self) -> Option<&str> {
        self.annotations.as_ref()?.name.as_deref()
    }
}

/// The digest of the image that is meant, and its names.
pub(crate) fn choose(bytes: &[u8], image: &LayoutImage, name: &str) -> Result<(Digest, Vec<String>)> {
    let index: Index = serde_json::from_slice(bytes)
        .map_err(|error| Error::invalid(Step::Resolve, name, format!("index.json: {error}")))?;
    if index.manifests.len() > IMAGES {
        let what = format!("index.json: {} images", index.manifests.len());
        return Err(Error::new(Step::Resolve, name, Cause::Limit { what, limit: IMAGES as u64 }));
    }
    let entry = match image {
        LayoutImage::Digest(digest) => return Ok((*digest, Vec::new())),
        LayoutImage::Named(wanted) => index.manifests.iter().find(|entry| entry.name() == Some(wanted)),
        LayoutImage::Only if index.manifests.len() > 1 => {
            let reason = format!("the layout has {} images; name one of {}", index.manifests.len(), names(&index));
            return Err(Error::invalid(Step::Resolve, name, reason));
        }
        LayoutImage::Only => index.manifests.first(),
    };
    let missing = || {
        let what = match image {
            LayoutImage::Named(wanted) => format!("{wanted:?}; the layout has {}", names(&index)),
            _ => "an image; the layout is empty".to_owned(),
        };
        Error::new(Step::Resolve, name, Cause::NotFound(what))
    };
    let entry = entry.ok_or_else(missing)?;
    let digest = entry.digest.parse().map_err(|reason: String| Error::invalid(Step::Resolve, name, reason))?;
    Ok((digest, entry.name().map(str::to_owned).into_iter().collect()))
}

/// Some of the names, for an error.
fn names(index: &Index) -> String {
    let name = |entry: &Entry| {
        let name = entry.name().map_or_else(|| format!("@{}", entry.digest), ToOwned::to_owned);
        name.chars().take(256).collect::<String>()
    };
    format!("{:?}", index.manifests.iter().take(8).map(name).collect::<Vec<_>>())
}

/// An index with the image added. What it has already stays as it is, fields unknown here too, but
/// for an image that had the same name, which loses it as a tag does.
pub(crate) fn with_image(old: Option<&[u8]>, manifest: &Manifest, name: Option<&str>, object: &str) -> Result<Vec<u8>> {
    let invalid = |reason: String| Error::invalid(Step::Push, object, reason);
    let mut index: Map<String, Value> = match old {
        Some(bytes) => serde_json::from_slice(bytes).map_err(|error| invalid(format!("index.json: {error}")))?,
        None => [
            ("schemaVersion".to_owned(), json!(2)),
            ("mediaType".to_owned(), json!(media_type::OCI_INDEX)),
            ("manifests".to_owned(), json!([])),
        ]
        .into_iter()
        .collect(),
    };
    let entries = index.get_mut("manifests").and_then(Value::as_array_mut);
    let entries = entries.ok_or_else(|| invalid("index.json: no list \"manifests\"".to_owned()))?;
    let digest = manifest.digest().to_string();
    let entry_name = |entry: &Value| {
        entry
            .get("annotations")
            .and_then(|annotations| annotations.get(NAME))
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    entries.retain(|entry| match (name, entry_name(entry)) {
        (Some(name), Some(other)) => name != other,
        // Without a name it stands there once. A name takes the place of none.
        (_, None) => entry.get("digest").and_then(Value::as_str) != Some(&digest),
        (None, Some(_)) => true,
    });
    let mut entry = json!({
        "mediaType": manifest.media_type,
        "digest": digest,
        "size": manifest.bytes.len(),
    });
    if let Some(name) = name {
        entry["annotations"] = json!({ NAME: name });
    }
    entries.push(entry);
    let bytes = serde_json::to_vec(&index).map_err(|error| invalid(format!("index.json: {error}")))?;
    if bytes.len() as u64 > MANIFEST_LENGTH {
        let cause = Cause::Limit { what: "index.json: bytes".to_owned(), limit: MANIFEST_LENGTH };
        return Err(Error::new(Step::Push, object, cause));
    }
    Ok(bytes)
}
