use std::io::{Read, Write};
use std::path::Path;

use super::*;
use crate::digest::Digest;
use crate::manifest::{LAYERS, Manifest, Platform, media_type};
use crate::transport::output::TarWriter;
use crate::transport::{ArchiveImage, ArchivePath, Sink, Source};
use crate::{ErrorKind, Result};

const FIRST: &[u8] = b"the first layer's tar";
const SECOND: &[u8] = b"the second layer's tar";

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let rootfs = serde_json::json!({ "type": "layers", "diff_ids": diff_ids });
    serde_json::json!({ "architecture": "amd64", "os": "linux", "rootfs": rootfs }).to_string().into_bytes()
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (path, content) in files {
        tar.file(path, content.len() as u64, &mut &**content).unwrap();
    }
    tar.finish().unwrap()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn open(bytes: &[u8], image: &ArchiveImage) -> Result<Archive> {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.tar");
    std::fs::write(&path, bytes).unwrap();
    let opened = Archive::open("docker-archive:a.tar".to_owned(), &ArchivePath::File(path), image, place.path());
    // What was put down has no name.
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    opened
}

fn only(bytes: &[u8]) -> Result<Archive> {
    open(bytes, &ArchiveImage::Only)
}

/// The content of each layer.
fn layers(source: &dyn Source, offset: u64) -> Vec<Vec<u8>> {
    let manifest = source.manifest(&Platform::host()).unwrap();
    let read = |blob| {
        let mut content = Vec::new();
        source.blob(blob, offset).unwrap().read_to_end(&mut content).unwrap();
        content
    };
    manifest.layers.iter().map(read).collect()
}

#[test]
fn the_manifest_names_the_uncompressed_layers() {
    let config = config(&[FIRST, SECOND, FIRST]);
    let list = br#"[{"Config":"c.json","RepoTags":null,"Layers":["1/layer.tar","2.tar","1/layer.tar"]}]"#;
    let second = gzip(SECOND);
    let plain = archive(&[("c.json", &config), ("1/layer.tar", FIRST), ("2.tar", SECOND), ("manifest.json", list)]);
    let inner = archive(&[("manifest.json", list), ("2.tar", &second), ("1/layer.tar", FIRST), ("c.json", &config)]);
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    let mut manifests = Vec::new();
    for bytes in [&plain, &gzip(&plain), &zstd, &inner] {
        let archive = only(bytes).unwrap();
        assert_eq!(layers(&archive, 0), [FIRST, SECOND, FIRST]);
        assert_eq!(layers(&archive, 4), [&FIRST[4..], &SECOND[4..], &FIRST[4..]]);
        let manifest = archive.manifest(&Platform::host()).unwrap();
        let mut read = Vec::new();
        archive.blob(&manifest.config, 0).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, config);
        manifests.push(manifest);
    }
    assert!(manifests.iter().all(|manifest| manifest.bytes == manifests[0].bytes));
    assert_eq!(manifests[0].media_type, media_type::DOCKER_MANIFEST);
    assert!(manifests[0].layers.iter().all(|layer| layer.media_type == media_type::DOCKER_LAYER_TAR));
}

#[test]
fn an_image_is_chosen_by_tag_and_by_place() {
    let (one, two) = (config(&[FIRST]), config(&[SECOND]));
    let list = br#"[{"Config":"1","RepoTags":["debian:12","me/x:1"],"Layers":["f"]},
        {"Config":"2","RepoTags":["docker.io/library/debian:13"],"Layers":["s"]}]"#;
    let bytes = archive(&[("manifest.json", list), ("1", &one), ("2", &two), ("f", FIRST), ("s", SECOND)]);
    let tagged = |tag: &str| ArchiveImage::Tagged(tag.parse().unwrap());
    for (image, layer) in [
        (tagged("debian:12"), FIRST),
        (tagged("docker.io/me/x:1"), FIRST),
        (tagged("debian:13"), SECOND),
        (ArchiveImage::At(1), SECOND),
    ] {
        assert_eq!(layers(&open(&bytes, &image).unwrap(), 0), [layer], "{image}");
    }
    for (image, part) in [
        (ArchiveImage::Only, "2 images"),
        (ArchiveImage::At(2), "2 images"),
        (tagged("debian:14"), "docker.io/library/debian:13"),
    ] {
        let error = open(&bytes, &image).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn hostile_archives_are_refused() {
    let config = config(&[FIRST]);
    let with = |list: &[u8]| archive(&[("manifest.json", list), ("c", &config), ("l", FIRST), ("bad", b"{}")]);
    let million = format!("[{}]", vec![r#"{"Config":""}"#; 100_000].join(","));
    let many = format!(r#"[{{"Config":"c","Layers":[{}]}}]"#, vec![r#""l""#; LAYERS + 1].join(","));
    let deep = "[".repeat(1_000_000);
    for (list, kind) in [
        (r#"[{"Config":"../../etc/passwd","Layers":["l"]}]"#, ErrorKind::Invalid),
        (r#"[{"Config":"c","Layers":["../../etc/passwd"]}]"#, ErrorKind::Invalid),
        (r#"[{"Config":"c","Layers":["/etc/passwd"]}]"#, ErrorKind::NotFound),
        (r#"[{"Config":"c","Layers":["none"]}]"#, ErrorKind::NotFound),
        (r#"[{"Config":"none","Layers":["l"]}]"#, ErrorKind::NotFound),
        (r#"[{"Config":"c","Layers":[]}]"#, ErrorKind::Invalid),
        (r#"[{"Config":"bad","Layers":["l"]}]"#, ErrorKind::Invalid),
        (r#"[{"Layers":["l"]}]"#, ErrorKind::Invalid),
        ("[]", ErrorKind::NotFound),
        ("{}", ErrorKind::Invalid),
        ("", ErrorKind::Invalid),
        (&million, ErrorKind::Limit),
        (&many, ErrorKind::Invalid),
        (&deep, ErrorKind::Invalid),
    ] {
        let error = only(&with(list.as_bytes())).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), kind, "{}: {error}", &list[..list.len().min(80)]);
    }
    let long = vec![b' '; 5 << 20];
    assert_eq!(only(&with(&long)).map(|_| ()).unwrap_err().kind(), ErrorKind::Limit);
    for bytes in [&b""[..], b"no tar", &gzip(b"no tar"), b"\x28\xb5\x2f\xfdno zstd", b"\xfd7zXZ\0"] {
        only(bytes).map(|_| ()).unwrap_err();
    }
    // A manifest that says 1 GiB and is not there.
    let mut bytes = archive(&[("manifest.json", b"")]);
    bytes[124..135].copy_from_slice(b"10000000000");
    let error = only(&bytes).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("checksum"), "{error}");
}

/// Reads what was written, and says which files the archive has.
fn copied(source: &Archive, image: &ArchiveImage, path: &Path) -> Archive {
    let archive_path = ArchivePath::File(path.to_owned());
    let mut sink = ArchiveSink::create("out".to_owned(), &archive_path, image).unwrap();
    let manifest = source.manifest(&Platform::host()).unwrap();
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        sink.put_blob(blob, &mut source.blob(blob, 0).unwrap()).unwrap();
        assert!(sink.has_blob(blob.digest).unwrap());
    }
    assert!(!path.exists());
    sink.put_manifest(&manifest).unwrap();
    Archive::open("back".to_owned(), &archive_path, image, path.parent().unwrap()).unwrap()
}

#[test]
fn what_is_written_is_read_as_the_same_image() {
    let config = config(&[FIRST, SECOND, FIRST]);
    let list = br#"[{"Config":"c","Layers":["f","s","f"]}]"#;
    let source = only(&archive(&[("manifest.json", list), ("c", &config), ("f", FIRST), ("s", SECOND)])).unwrap();
    let place = tempfile::tempdir().unwrap();
    let image = ArchiveImage::Tagged("x:1".parse().unwrap());
    let back = copied(&source, &image, &place.path().join("out.tar"));
    let manifest = |archive: &Archive| archive.manifest(&Platform::host()).unwrap();
    assert_eq!(manifest(&back), manifest(&source));
    assert_eq!(layers(&back, 0), [FIRST, SECOND, FIRST]);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    // Another image does not go into it.
    let path = ArchivePath::File(place.path().join("out.tar"));
    let error = ArchiveSink::create("out".to_owned(), &path, &image).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[test]
fn wrong_content_leaves_no_archive() {
    let place = tempfile::tempdir().unwrap();
    let path = ArchivePath::File(place.path().join("out.tar"));
    let config = config(&[FIRST]);
    let blob = |content: &[u8], media_type: &str| crate::manifest::Blob {
        digest: Digest::of(content),
        size: content.len() as u64,
        media_type: media_type.to_owned(),
    };
    let layer = blob(FIRST, media_type::OCI_LAYER);
    for wrong in [&SECOND[..FIRST.len()], &FIRST[1..], SECOND, b""] {
        let mut sink = ArchiveSink::create("out".to_owned(), &path, &ArchiveImage::Only).unwrap();
        let error = sink.put_blob(&layer, &mut &*wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
        assert!(!sink.has_blob(layer.digest).unwrap());
        // Once some of it is in the archive, that cannot be gone on with.
        let again = sink.put_blob(&layer, &mut &*FIRST).map_err(|error| error.to_string());
        assert!(wrong.is_empty() || again.unwrap_err().contains("failed before"));
        drop(sink);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }
    let mut sink = ArchiveSink::create("out".to_owned(), &path, &ArchiveImage::Only).unwrap();
    let squashfs = blob(FIRST, media_type::SQUASHFS);
    assert_eq!(sink.put_blob(&squashfs, &mut &*FIRST).unwrap_err().kind(), ErrorKind::Unsupported);
    // A compressed layer is written as the tar that it is of.
    let gzipped = gzip(FIRST);
    let compressed = blob(&gzipped, media_type::OCI_LAYER_GZIP);
    sink.put_blob(&compressed, &mut gzipped.as_slice()).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": { "mediaType": media_type::OCI_CONFIG, "digest": Digest::of(&config), "size": config.len() },
        "layers": [{ "mediaType": media_type::OCI_LAYER_GZIP, "digest": compressed.digest, "size": compressed.size }],
    });
    let manifest = Manifest::parse(manifest.to_string().as_bytes(), "made").unwrap();
    let error = sink.put_manifest(&manifest).unwrap_err().to_string();
    assert!(error.contains("was not written"), "{error}");
    sink.put_blob(&blob(&config, media_type::OCI_CONFIG), &mut config.as_slice()).unwrap();
    sink.put_manifest(&manifest).unwrap();
    let back = Archive::open("back".to_owned(), &path, &ArchiveImage::Only, place.path()).unwrap();
    assert_eq!(layers(&back, 0), [FIRST]);
}
