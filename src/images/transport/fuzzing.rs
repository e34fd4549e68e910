//! The parsers that read what others wrote, for fuzzing.

use std::fs::File;
use std::io::{Read as _, Write as _};

use super::contents::{Contents as _, TarIndex};
use super::{ArchiveImage, LayoutImage, Transport, docker_archive, layout, registry};
use crate::manifest::{Document, Manifest, Platform, parse_config};
use crate::reference::Reference;
use crate::run_config::RunConfig;
use crate::store::tags::Tags;
use crate::user;

/// Feeds the bytes to each of them.
pub fn feed(bytes: &[u8]) {
    let name = "fuzzed";
    let reference: Reference = "quay.io/a/b:1".parse().expect("a reference");
    let platform = Platform::host();
    if let Ok(manifest) = Manifest::parse(bytes, name) {
        assert_eq!(Manifest::parse(&manifest.bytes, name).ok(), Some(manifest.clone()));
        let index = layout::with_image(Some(bytes), &manifest, Some("x"), name);
        assert!(index.is_err(), "a manifest is no index");
        let index = layout::with_image(None, &manifest, Some("x"), name).expect("a new index");
        // The index that has the image gives it.
        let chosen = layout::choose(&index, &LayoutImage::Named("x".to_owned()), name);
        assert_eq!(chosen.ok(), Some((manifest.digest(), vec!["x".to_owned()])));
        let _ = layout::with_image(Some(&index), &manifest, None, name).expect("the index again");
    }
    let _ = Document::parse(bytes, &platform, name);
    let _ = parse_config(bytes, name);
    let _ = RunConfig::parse(bytes, name);
    tags(bytes);
    for image in [LayoutImage::Only, LayoutImage::Named("x".to_owned())] {
        let _ = layout::choose(bytes, &image, name);
    }
    for image in [ArchiveImage::Only, ArchiveImage::At(1), ArchiveImage::Tagged(reference.clone())] {
        let _ = docker_archive::choose(bytes, &image, name);
    }
    if let Ok(file) = registry::AuthFile::parse(bytes) {
        let _ = (file.helper(&reference), file.login(&reference));
    }
    tar(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        for challenge in registry::parse_challenges(text) {
            let _ = challenge.get("realm");
        }
        let _ = text.parse::<Platform>();
        if let Ok(transport) = text.parse::<Transport>() {
            assert_eq!(transport.to_string().parse::<Transport>().ok(), Some(transport), "{text:?}");
        }
    }
}

/// The bytes as a tag file, and a user among what could be an image's own files. What is written of
/// a tag file is read as the same.
fn tags(bytes: &[u8]) {
    let (tags, _) = Tags::parse(bytes);
    let text = tags.to_text();
    assert_eq!(Tags::parse(&text).0.to_text(), text);
    let _ = user::find("app:staff", bytes, bytes);
    let _ = user::find("1", bytes, bytes);
}

/// The bytes as the headers of an archive. The checksums are made right: no mutation would.
fn tar(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    for header in bytes.chunks_exact_mut(512).filter(|header| header[0] != 0) {
        header[148..156].fill(b' ');
        let sum: u64 = header.iter().map(|&byte| u64::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    let memory = rustix::fs::memfd_create("fuzzed", rustix::fs::MemfdFlags::CLOEXEC).expect("a memory file");
    let mut file = File::from(memory);
    file.write_all(&bytes).expect("memory");
    if let Ok(index) = TarIndex::read(file, String::new()) {
        for path in ["a", "manifest.json", "b/c"] {
            if let Ok((size, mut content)) = index.open(path, 0) {
                let mut read = Vec::new();
                content.read_to_end(&mut read).expect("what the index has is there");
                assert_eq!(read.len() as u64, size);
            }
        }
    }
}
