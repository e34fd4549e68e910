//! Docker's registry without protection: push, pull, platforms, digests.

use std::sync::Arc;

use squall_images::ErrorKind;
use squall_images::digest::Digest;
use squall_images::manifest::{Platform, media_type};
use squall_images::transport::Transport;

use crate::image::{Image, copy_named, inspected, layers, nobody, source};
use crate::servers::{Asked, Listening, Registry, answer};
use crate::tools::{run, skopeo};

#[test]
fn what_is_pushed_is_pulled_by_us_and_by_skopeo() {
    let place = tempfile::tempdir().unwrap();
    let registry = Registry::plain(place.path());
    let access = nobody(place.path());
    let image = Image::make(&place.path().join("layout"));
    let made = format!("oci:{}:made", place.path().join("layout").display());
    let name = registry.name("group/x:1");
    copy_named(&made, &name, &access);
    let (manifest, found) = layers(&*source(&name, &access, place.path()).unwrap()).unwrap();
    assert_eq!(manifest.bytes, image.manifest);
    assert_eq!(found[1], image.layers[1]);
    assert_eq!(inspected(&name)["Digest"], manifest.digest().to_string());
    // Again: everything is there. And by digest.
    copy_named(&made, &name, &access);
    let by_digest = registry.name(&format!("group/x@{}", manifest.digest()));
    assert_eq!(layers(&*source(&by_digest, &access, place.path()).unwrap()).unwrap().0, manifest);
    copy_named(&made, &by_digest, &access);
    // What skopeo pushed, with Docker's media types.
    let docker = registry.name("docker:v2s2");
    run(skopeo().args(["copy", "--quiet", "--format=v2s2", "--dest-tls-verify=false", &made, &docker]));
    let (manifest, found) = layers(&*source(&docker, &access, place.path()).unwrap()).unwrap();
    assert_eq!(manifest.media_type, media_type::DOCKER_MANIFEST);
    assert_eq!(found[3], image.config);
    // Several blobs at a time, by several threads.
    let source: Arc<dyn squall_images::transport::Source> = Arc::from(source(&name, &access, place.path()).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            let source = Arc::clone(&source);
            scope.spawn(move || layers(&*source).unwrap());
        }
    });
    for (name, kind) in [("group/x:none", ErrorKind::NotFound), ("none:1", ErrorKind::NotFound)] {
        let error = crate::image::source(&registry.name(name), &access, place.path());
        let error = error.and_then(|source| source.manifest(&Platform::host())).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    let wrong = registry.name(&format!("group/x@{}", Digest::of(b"another")));
    let mut sink = wrong.parse::<Transport>().unwrap().sink(&access).unwrap();
    assert_eq!(sink.put_manifest(&manifest).unwrap_err().kind(), ErrorKind::Mismatch);
}

/// A registry that has what it is given: path and answer's headers and body.
fn registry_of(files: Vec<(String, String, Vec<u8>)>) -> Listening {
    Listening::start(move |connection| {
        let Some(asked) = Asked::read(&connection) else { return };
        let path = asked.line.split(' ').nth(1).unwrap().to_owned();
        match files.iter().find(|(known, _, _)| *known == path) {
            Some((_, headers, body)) => answer(connection, "200 OK", headers, body),
            None => answer(
                connection,
                "404 Not Found",
                "",
                br#"{"errors":[{"code":"UNKNOWN","message":"it is\u0007 not here"}]}"#,
            ),
        }
    })
}

#[test]
fn an_index_is_resolved_by_platform_and_every_digest_checked() {
    let place = tempfile::tempdir().unwrap();
    let access = nobody(place.path());
    let image = Image::make(&place.path().join("layout"));
    let digest = Digest::of(&image.manifest);
    let index = |digest: Digest| {
        let entry = |digest, architecture: &str| {
            serde_json::json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": 1,
                "platform": { "os": "linux", "architecture": architecture } })
        };
        let entries = [entry(Digest::of(b"other"), "s390x"), entry(digest, &Platform::host().architecture)];
        serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries })
            .to_string()
            .into_bytes()
    };
    let good = index(digest);
    let path = |wanted: &str| format!("/v2/x/manifests/{wanted}");
    let says = |digest: Digest| format!("docker-content-digest: {digest}\r\n");
    let none = String::new;
    let server = registry_of(vec![
        (path("good"), says(Digest::of(&good)), good.clone()),
        (path(&digest.to_string()), says(digest), image.manifest.clone()),
        (path("lies"), says(Digest::of(b"other")), image.manifest.clone()),
        (path("forged"), none(), index(Digest::of(b"forged"))),
        (path(&Digest::of(b"forged").to_string()), none(), image.manifest.clone()),
        (path("huge"), none(), vec![b' '; 5 << 20]),
    ]);
    let manifest = |name: &str, platform: &str| {
        let name = format!("docker://127.0.0.1:{}/x{name}", server.port);
        source(&name, &access, place.path()).unwrap().manifest(&platform.parse().unwrap())
    };
    let here = Platform::host().to_string();
    assert_eq!(manifest(":good", &here).unwrap().bytes, image.manifest);
    for (name, platform, kind) in [
        (":good", "linux/riscv64", ErrorKind::NotFound),
        (":good", "linux/s390x", ErrorKind::NotFound),
        (":lies", &here, ErrorKind::Mismatch),
        (":forged", &here, ErrorKind::Mismatch),
        (&format!("@{}", Digest::of(b"forged")), &here, ErrorKind::Mismatch),
        (":huge", &here, ErrorKind::Limit),
        (":none", &here, ErrorKind::NotFound),
    ] {
        let error = manifest(name, platform).unwrap_err();
        assert_eq!(error.kind(), kind, "{name} {platform}: {error}");
    }
    let error = manifest(":none", &here).unwrap_err().to_string();
    assert!(error.contains("UNKNOWN it is not here"), "{error}");
}
