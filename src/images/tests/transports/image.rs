//! An image made by hand: an OCI layout of three layers.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::json;
use squall_images::digest::Digest;
use squall_images::manifest::{Manifest, Platform, media_type};
use squall_images::transport::{Access, Sink, Source, Transport};

use crate::tools::{program, run, run_with};

/// The size of the largest layer's content: more than is pushed at once. It does not compress.
pub const LARGE: usize = 9 << 20;

/// An image in a layout.
pub struct Image {
    /// The content of its layers, uncompressed.
    pub layers: Vec<Vec<u8>>,
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
}

impl Image {
    /// Writes the layout, as `oci:DIRECTORY:made`.
    pub fn make(directory: &Path) -> Image {
        let work = tempfile::tempdir().unwrap();
        let layer = |name: &str, content: &[u8]| {
            fs::write(work.path().join(name), content).unwrap();
            let mut tar = program("tar");
            tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-C"])
                .arg(work.path())
                .args(["-cf", "-", name]);
            tar.output().unwrap().stdout
        };
        let layers = vec![layer("first", b"1"), layer("large", &noise(LARGE)), layer("last", &[b'x'; 100_000])];
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = json!({
            "architecture": Platform::host().architecture,
            "os": "linux",
            "config": { "Cmd": ["/bin/true"], "Env": ["A=b"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": [{ "created_by": "1" }, { "created_by": "2" }, { "created_by": "3" }],
        });
        let config = config.to_string().into_bytes();
        fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
        let put = |kind: &str, content: &[u8]| {
            let digest = Digest::of(content);
            fs::write(directory.join("blobs/sha256").join(digest.hex()), content).unwrap();
            json!({ "mediaType": kind, "digest": digest, "size": content.len() })
        };
        let last = run_with(program("gzip").args(["-nc"]), &layers[2]);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": put(media_type::OCI_CONFIG, &config),
            "layers": [
                put(media_type::OCI_LAYER, &layers[0]),
                put(media_type::OCI_LAYER, &layers[1]),
                put(media_type::OCI_LAYER_GZIP, &last),
            ],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut entry = put(media_type::OCI_MANIFEST, &manifest);
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "made" });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        fs::write(directory.join("index.json"), index.to_string()).unwrap();
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
        Image { layers, config, manifest }
    }
}

/// Bytes without a pattern, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}

/// Opens an image by its name.
pub fn source(name: &str, access: &Access, spool: &Path) -> squall_images::Result<Box<dyn Source>> {
    name.parse::<Transport>().unwrap().source(access, spool)
}

/// The bytes of each layer, checked by digest and size.
pub fn layers(source: &dyn Source) -> squall_images::Result<(Manifest, Vec<Vec<u8>>)> {
    let manifest = source.manifest(&Platform::host())?;
    let mut layers = Vec::new();
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        let mut content = Vec::new();
        source.blob(blob, 0)?.read_to_end(&mut content).map_err(|error| {
            let cause = squall_images::Cause::System { call: "read", source: error };
            squall_images::Error::new(squall_images::Step::Fetch, blob.digest, cause)
        })?;
        assert_eq!((Digest::of(&content), content.len() as u64), (blob.digest, blob.size));
        layers.push(content);
    }
    Ok((manifest, layers))
}

/// Copies an image, blobs first.
pub fn copy(source: &dyn Source, sink: &mut dyn Sink) -> squall_images::Result<Manifest> {
    let manifest = source.manifest(&Platform::host())?;
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        if !sink.has_blob(blob.digest)? {
            sink.put_blob(blob, &mut source.blob(blob, 0)?)?;
        }
    }
    sink.put_manifest(&manifest)?;
    Ok(manifest)
}

/// Copies from one name to another.
pub fn copy_named(from: &str, to: &str, access: &Access) -> Manifest {
    let spool = tempfile::tempdir().unwrap();
    let source = source(from, access, spool.path()).unwrap();
    let mut sink = to.parse::<Transport>().unwrap().sink(access).unwrap();
    copy(&*source, &mut *sink).unwrap_or_else(|error| panic!("{from} to {to}: {error}"))
}

/// What skopeo finds under a name, as JSON: digest, layers, and so on.
pub fn inspected(name: &str) -> serde_json::Value {
    let text = run(crate::tools::skopeo().args(["inspect", "--tls-verify=false", name]));
    serde_json::from_str(&text).unwrap()
}

/// An access that knows nobody, whoever runs the test.
pub fn nobody(place: &Path) -> Access {
    let authfile = place.join("nobody.json");
    fs::write(&authfile, "{}").unwrap();
    Access { authfile: Some(authfile), first_pause: std::time::Duration::from_millis(10), ..Access::default() }
}
