//! Archives and layouts: ours read by skopeo and podman, theirs by us.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use squall_images::transport::Access;

use crate::image::{Image, copy_named, inspected, layers, source};
use crate::tools::{program, run, skopeo};

fn read(name: &str, spool: &Path) -> Vec<Vec<u8>> {
    layers(&*source(name, &Access::default(), spool).unwrap()).unwrap().1
}

/// podman with a store of the test's own. Its locks are files there, and not in the machine's
/// `/dev/shm`.
fn podman(place: &Path) -> std::process::Command {
    let config = place.join("containers.conf");
    fs::write(&config, "[engine]\nlock_type = \"file\"\n").unwrap();
    let mut podman = program("podman");
    podman.env("CONTAINERS_CONF", config).arg("--tmpdir").arg(place.join("tmp"));
    podman.arg("--root").arg(place.join("root")).arg("--runroot").arg(place.join("run"));
    podman.args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none"]);
    podman
}

#[test]
fn what_skopeo_writes_is_read() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    let image = Image::make(&place.path().join("layout"));
    let made = format!("oci:{}:made", at("layout"));
    for (name, is_uncompressed) in [
        (format!("docker-archive:{}:example/x:1", at("d.tar")), true),
        (format!("oci-archive:{}:one", at("o.tar")), false),
        (format!("oci:{}:one", at("other")), false),
        (format!("dir:{}", at("dir")), false),
    ] {
        run(skopeo().args(["copy", "--quiet", &made, &name]));
        let found = read(&name, place.path());
        // skopeo compresses plain layers of a layout.
        let layers: Vec<&[u8]> = found[..3].iter().map(Vec::as_slice).collect();
        match is_uncompressed {
            true => assert_eq!(layers, image.layers.iter().map(Vec::as_slice).collect::<Vec<_>>(), "{name}"),
            false => assert_eq!(uncompressed(&found[1]), image.layers[1], "{name}"),
        }
        assert_eq!(found[3], image.config, "{name}");
    }
    // As a whole compressed, and by a pipe.
    for tool in ["gzip", "zstd"] {
        let packed = place.path().join(tool);
        let out = File::create(&packed).unwrap();
        let status = program(tool).args(["-c", &at("d.tar")]).stdin(Stdio::null()).stdout(out).status().unwrap();
        assert!(status.success());
        assert_eq!(read(&format!("docker-archive:{}", packed.display()), place.path())[..3], image.layers[..]);
    }
    let pipe = place.path().join("pipe");
    run(program("mkfifo").arg(&pipe));
    let mut feeder = program("cp").arg(at("o.tar")).arg(&pipe).spawn().unwrap();
    let found = read(&format!("oci-archive:{}", pipe.display()), place.path());
    assert!(feeder.wait().unwrap().success());
    assert_eq!(found[3], image.config);
}

fn uncompressed(content: &[u8]) -> Vec<u8> {
    match content.starts_with(&[0x1f, 0x8b]) {
        true => crate::tools::run_with(program("gzip").arg("-dc"), content),
        false => content.to_vec(),
    }
}

#[test]
fn what_podman_and_buildah_write_is_read() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    let image = Image::make(&place.path().join("layout"));
    let (made, named) = (format!("oci:{}:made", at("layout")), format!("docker-archive:{}:localhost/x:1", at("s.tar")));
    run(skopeo().args(["copy", "--quiet", &made, &named]));
    run(podman(place.path()).args(["load", "--quiet", "--input", &at("s.tar")]));
    let id = run(podman(place.path()).args(["images", "--quiet", "--no-trunc"])).trim().to_owned();
    run(podman(place.path()).args(["tag", &id, "localhost/one:1", "localhost/two:2"]));
    run(podman(place.path()).args(["save", "--quiet", "--output", &at("p.tar"), "localhost/one:1"]));
    let found = read(&format!("docker-archive:{}:localhost/one:1", at("p.tar")), place.path());
    assert_eq!(found[..3], image.layers[..]);
    run(podman(place.path()).args([
        "save",
        "--quiet",
        "--format=oci-archive",
        "--output",
        &at("po.tar"),
        "localhost/one:1",
    ]));
    let found = read(&format!("oci-archive:{}", at("po.tar")), place.path());
    assert_eq!(uncompressed(&found[1]), image.layers[1]);
    let mut buildah = program("buildah");
    buildah.args(["--root", &at("root"), "--runroot", &at("run"), "--storage-driver=vfs", "push", "--quiet"]);
    run(buildah.args(["localhost/two:2", &format!("docker-archive:{}:two:2", at("b.tar"))]));
    let found = read(&format!("docker-archive:{}:two:2", at("b.tar")), place.path());
    assert_eq!(found[..3], image.layers[..]);
    // Ours the other way.
    let out = format!("docker-archive:{}:localhost/back:1", at("back.tar"));
    let manifest = copy_named(&format!("docker-archive:{}", at("p.tar")), &out, &Access::default());
    run(podman(place.path()).args(["load", "--quiet", "--input", &at("back.tar")]));
    let loaded = run(podman(place.path()).args(["image", "inspect", "--format={{.Id}}", "localhost/back:1"]));
    assert_eq!(loaded.trim(), manifest.config.digest.hex());
    // Vfs stores are directories, which nothing is mounted on.
    run(podman(place.path()).args(["system", "reset", "--force"]));
}

#[test]
fn what_we_write_is_read_by_skopeo_and_by_us() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    let image = Image::make(&place.path().join("layout"));
    let made = format!("oci:{}:made", at("layout"));
    for (index, name) in [
        format!("oci-archive:{}:one", at("o.tar")),
        format!("oci:{}:one", at("other")),
        format!("dir:{}", at("dir")),
        format!("docker-archive:{}:example/x:1", at("d.tar")),
    ]
    .iter()
    .enumerate()
    {
        copy_named(&made, name, &Access::default());
        let (manifest, found) = layers(&*source(name, &Access::default(), place.path()).unwrap()).unwrap();
        // All but docker's archive keep the manifest, byte by byte.
        assert_eq!(manifest.bytes == image.manifest, index < 3, "{name}");
        assert_eq!(found[3], image.config, "{name}");
        assert_eq!(found[1], image.layers[1], "{name}");
        assert_eq!(inspected(name)["Layers"].as_array().unwrap().len(), 3, "{name}");
        // skopeo reads all of it, and checks every digest.
        run(skopeo().args(["copy", "--quiet", name, &format!("dir:{}", at(&format!("copy{index}")))]));
    }
    let link = |path: &str| fs::read_dir(at(path)).unwrap().count();
    assert_eq!((link("dir"), link("other")), (6, 3));
}

#[test]
fn a_layout_keeps_its_other_images() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    Image::make(&place.path().join("layout"));
    let layout = at("layout");
    // An entry of somebody else, with fields that nobody here knows.
    let path = place.path().join("layout/index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index["annotations"] = serde_json::json!({ "kept": "yes" });
    index["manifests"][0]["x-unknown"] = serde_json::json!([1]);
    fs::write(&path, index.to_string()).unwrap();
    let made = format!("oci:{layout}:made");
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (made, layout) = (&made, &layout);
            scope.spawn(move || {
                for _ in 0..3 {
                    copy_named(made, &format!("oci:{layout}:tag{number}"), &Access::default());
                }
            });
        }
    });
    let index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(index["annotations"]["kept"], "yes");
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 5);
    assert_eq!(entries[0]["x-unknown"][0], 1);
    for name in ["made", "tag0", "tag1", "tag2", "tag3"] {
        inspected(&format!("oci:{layout}:{name}"));
    }
    let error = source(&format!("oci:{layout}"), &Access::default(), place.path()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("5 images"), "{error}");
    // A directory with something else in it is left alone.
    let other = place.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("file"), "").unwrap();
    for name in ["oci", "dir"] {
        let transport = format!("{name}:{}", other.display()).parse::<squall_images::transport::Transport>().unwrap();
        transport.sink(&Access::default()).map(|_| ()).unwrap_err();
        assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    }
}

#[test]
fn hostile_layouts_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let layout = place.path().join("layout");
    let image = Image::make(&layout);
    let name = format!("oci:{}", layout.display());
    let manifest = layout.join("blobs/sha256").join(squall_images::digest::Digest::of(&image.manifest).hex());
    let refused = |part: &str| {
        let found = source(&name, &Access::default(), place.path()).and_then(|source| layers(&*source));
        let error = found.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    };
    // Other content under the digest's name, then a link to it, then nothing.
    fs::write(&manifest, [image.manifest.as_slice(), b" "].concat()).unwrap();
    refused("expected sha256:");
    let elsewhere = place.path().join("elsewhere");
    fs::write(&elsewhere, &image.manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &manifest).unwrap();
    refused("symbolic link");
    fs::remove_file(&manifest).unwrap();
    refused("not found");
    let index = layout.join("index.json");
    let entry = r#"{"digest":"sha256:../../../../etc/passwd","size":1,"mediaType":"x"}"#;
    fs::write(&index, format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#)).unwrap();
    refused("sha256");
    fs::write(&index, format!(r#"{{"manifests":[{}]}}"#, vec![r#"{"digest":""}"#; 200_000].join(","))).unwrap();
    refused("limit");
    File::create(&index).unwrap().set_len(1 << 30).unwrap();
    refused("limit");
    // An index that is in itself.
    fs::write(&index, "[]").unwrap();
    refused("index.json");
}
