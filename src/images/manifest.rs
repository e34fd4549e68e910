//! Manifests, indexes and configs: the documents of an image.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde_json::json;

use crate::digest::{Content, Digest};
use crate::error::{Cause, Error, Result, Step};

/// The largest manifest or index that is read, in bytes: what registries accept (4 MiB in the
/// distribution specification).
pub const MANIFEST_LENGTH: u64 = 4 << 20;
/// The largest config that is read, in bytes: the same.
pub const CONFIG_LENGTH: u64 = 4 << 20;
/// The most layers of an image: what an overlay takes (`OVL_MAX_STACK`, 500 since Linux 4.19).
pub const LAYERS: usize = 500;

/// Media types, in Docker's and in OCI's words.
pub mod media_type {
    /// Docker's manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's index.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's layer. Storm reads manifests whose layers have this type, and no other.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's layer, not compressed.
    pub const DOCKER_LAYER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// OCI's manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI's index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI's config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI's layer, not compressed.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI's layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI's layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// A squashfs layer as it is, as stacker pushes it (`stacker/squashfs+zstd` aside).
    pub const SQUASHFS: &str = "application/vnd.squashfs";
}

/// What a layer's blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerFormat {
    /// A tar archive, compressed with whatever its first bytes say.
    Tar,
    /// A squashfs image.
    Squashfs,
}

/// A blob of an image, by its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What is in it.
    pub media_type: String,
}

impl Blob {
    fn new(descriptor: &Descriptor) -> Result<Blob, String> {
        let digest = descriptor.digest().to_string().parse()?;
        Ok(Blob { digest, size: descriptor.size(), media_type: descriptor.media_type().to_string() })
    }

    /// What kind of layer it is.
    ///
    /// # Errors
    /// `Unsupported` for a media type that is no layer, an encrypted or a foreign one among them.
    pub fn layer_format(&self) -> Result<LayerFormat> {
        use media_type as mt;
        match self.media_type.as_str() {
            mt::DOCKER_LAYER | mt::DOCKER_LAYER_TAR | mt::OCI_LAYER | mt::OCI_LAYER_GZIP | mt::OCI_LAYER_ZSTD => {
                Ok(LayerFormat::Tar)
            }
            text if text == mt::SQUASHFS || text.starts_with("application/vnd.stacker.image.layer.squashfs") => {
                Ok(LayerFormat::Squashfs)
            }
            other => Err(Error::new(
                Step::Resolve,
                self.digest,
                Cause::Unsupported(format!("layer of media type {other:?}")),
            )),
        }
    }
}

/// The manifest of one image for one platform, with the bytes that its digest is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The document as it was found.
    pub bytes: Vec<u8>,
    /// [`media_type::DOCKER_MANIFEST`] or [`media_type::OCI_MANIFEST`].
    pub media_type: String,
    /// The image's config.
    pub config: Blob,
    /// The layers, base first.
    pub layers: Vec<Blob>,
}

impl Manifest {
    /// Reads a manifest. `name` is what an error calls it.
    ///
    /// # Errors
    /// `Invalid` for what is no manifest, has a digest that is no sha256, or says a size that none
    /// can have; `Limit` over [`MANIFEST_LENGTH`] and [`LAYERS`]; `Unsupported` for Docker's
    /// first schema and for artifacts.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Manifest> {
        let invalid = |reason: String| Error::invalid(Step::Resolve, name, reason);
        bound(bytes, MANIFEST_LENGTH, "manifest", name)?;
        let document: ImageManifest =
            serde_json::from_slice(bytes).map_err(|error| invalid(format!("not an image manifest: {error}")))?;
        if document.schema_version() != 2 {
            let reason = format!("manifest of schema version {}", document.schema_version());
            return Err(Error::new(Step::Resolve, name, Cause::Unsupported(reason)));
        }
        if document.layers().len() > LAYERS {
            let cause = Cause::Limit { what: format!("{} layers", document.layers().len()), limit: LAYERS as u64 };
            return Err(Error::new(Step::Resolve, name, cause));
        }
        let config = Blob::new(document.config()).map_err(|reason| invalid(format!("config: {reason}")))?;
        if !matches!(config.media_type.as_str(), media_type::DOCKER_CONFIG | media_type::OCI_CONFIG) {
            let reason = format!("no container image, but an artifact of type {:?}", config.media_type);
            return Err(Error::new(Step::Resolve, name, Cause::Unsupported(reason)));
        }
        let layer = |(index, layer): (usize, &Descriptor)| {
            Blob::new(layer).map_err(|reason| invalid(format!("layers[{index}]: {reason}")))
        };
        let layers = document.layers().iter().enumerate().map(layer).collect::<Result<_>>()?;
        let said = document.media_type().as_ref().map(ToString::to_string);
        let media_type = said.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
        Ok(Manifest { bytes: bytes.to_vec(), media_type, config, layers })
    }

    /// A manifest that Storm's plugin takes: Docker's media types, gzip for every layer. The same
    /// bytes for the same image.
    ///
    /// # Errors
    /// `Limit` for too many layers.
    pub fn for_storm(config: Content, layers: &[Content]) -> Result<Manifest> {
        let blob = |content: &Content, media_type: &str| json!({ "mediaType": media_type, "size": content.size, "digest": content.digest });
        // Keys come sorted.
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": blob(&config, media_type::DOCKER_CONFIG),
            "layers": layers.iter().map(|layer| blob(layer, media_type::DOCKER_LAYER)).collect::<Vec<_>>(),
        });
        Manifest::parse(document.to_string().as_bytes(), "manifest")
    }

    /// The image's name by content.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

/// A manifest or an index, as a registry or an archive gives either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// An image.
    Manifest(Manifest),
    /// Images of several platforms: the one that fits has this digest.
    Index(Digest),
}

impl Document {
    /// Reads either, and chooses from an index.
    ///
    /// # Errors
    /// As [`Manifest::parse`]; `NotFound` where an index has nothing for the platform, with what it
    /// has.
    pub fn parse(bytes: &[u8], platform: &Platform, name: &str) -> Result<Document> {
        bound(bytes, MANIFEST_LENGTH, "manifest", name)?;
        // Which of both it is stands in fields that both have.
        #[derive(serde::Deserialize)]
        struct Shape {
            manifests: Option<serde::de::IgnoredAny>,
        }
        match serde_json::from_slice::<Shape>(bytes) {
            Ok(Shape { manifests: Some(_) }) => choose(bytes, platform, name).map(Document::Index),
            _ => Manifest::parse(bytes, name).map(Document::Manifest),
        }
    }
}

fn choose(bytes: &[u8], platform: &Platform, name: &str) -> Result<Digest> {
    let index: ImageIndex = serde_json::from_slice(bytes)
        .map_err(|error| Error::invalid(Step::Resolve, name, format!("not an image index: {error}")))?;
    let images: Vec<&Descriptor> =
        index.manifests().iter().filter(|entry| !is_attestation(entry) && !is_index(entry)).collect();
    let fits = images.iter().find(|entry| platform.is_that_of(entry)).or_else(|| match images.as_slice() {
        // An archive's only image need not say for what it is.
        [only] if only.platform().is_none() => Some(only),
        _ => None,
    });
    let Some(entry) = fits else {
        let there: Vec<String> = images.iter().filter_map(|entry| Platform::of(entry)).map(|p| p.to_string()).collect();
        let reason = format!("an image for {platform}; there are {}", there.join(", "));
        return Err(Error::new(Step::Resolve, name, Cause::NotFound(reason)));
    };
    entry.digest().to_string().parse().map_err(|reason: String| Error::invalid(Step::Resolve, name, reason))
}

/// What builders say about an image, listed beside it.
fn is_attestation(entry: &Descriptor) -> bool {
    Platform::of(entry).is_some_and(|platform| platform.os == "unknown")
}

fn is_index(entry: &Descriptor) -> bool {
    matches!(entry.media_type().to_string().as_str(), media_type::OCI_INDEX | media_type::DOCKER_LIST)
}

/// What an image runs on: `linux/amd64`, `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// In Go's words: `amd64`, `arm64`.
    pub architecture: String,
    /// `v7`; `None` takes any.
    pub variant: Option<String>,
}

impl Platform {
    /// This machine's.
    #[must_use]
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    fn of(entry: &Descriptor) -> Option<Platform> {
        entry.platform().as_ref().map(|platform| Platform {
            os: platform.os().to_string(),
            architecture: platform.architecture().to_string(),
            variant: platform.variant().clone(),
        })
    }

    fn is_that_of(&self, entry: &Descriptor) -> bool {
        Platform::of(entry).is_some_and(|other| {
            self.os == other.os
                && self.architecture == other.architecture
                && (self.variant.is_none() || self.variant == other.variant)
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Platform, String> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [_, _] | [_, _, _] if parts.iter().all(|part| !part.is_empty()) => Ok(Platform {
                os: parts[0].to_owned(),
                architecture: parts[1].to_owned(),
                variant: parts.get(2).map(|&variant| variant.to_owned()),
            }),
            _ => Err(format!("platform {text:?}: os/architecture[/variant] is wanted, as linux/amd64")),
        }
    }
}

/// Reads an image's config, as OCI and Docker write it.
///
/// # Errors
/// `Invalid` for what is none, `Limit` over [`CONFIG_LENGTH`].
pub fn parse_config(bytes: &[u8], name: &str) -> Result<ImageConfiguration> {
    bound(bytes, CONFIG_LENGTH, "image config", name)?;
    serde_json::from_slice(bytes)
        .map_err(|error| Error::invalid(Step::Resolve, name, format!("not an image config: {error}")))
}

fn bound(bytes: &[u8], limit: u64, what: &str, name: &str) -> Result<()> {
    match bytes.len() as u64 > limit {
        true => Err(Error::new(Step::Resolve, name, Cause::Limit { what: format!("{what}: bytes"), limit })),
        false => Ok(()),
    }
}
