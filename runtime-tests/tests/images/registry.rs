//! A real registry on this machine: docker's own, of Debian's package.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use runtime_tests::{Bed, Call, cases, debian, until};
use serde_json::json;

use crate::archive;
use crate::place::{Place, hex};

cases![
    an_image_of_a_registry_is_pulled_and_runs,
    an_image_is_pulled_when_it_is_first_run,
    an_index_gives_the_image_of_the_platform,
    a_pushed_image_is_pulled_again_as_it_was,
];

/// What is run of Debian: a program, what it is linked to, and the release's name.
const FILES: &str = "bin lib lib64 etc/os-release usr/bin/cat usr/bin/id usr/bin/bash usr/lib64 usr/lib/os-release \
    usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 usr/lib/x86_64-linux-gnu/libc.so.6 usr/lib/x86_64-linux-gnu/libtinfo.so.6* \
    usr/lib/x86_64-linux-gnu/libselinux.so.1 usr/lib/x86_64-linux-gnu/libpcre2-8.so.0*";

/// A registry, which ends with this.
struct Registry {
    port: u16,
    server: Child,
}

impl Registry {
    /// Somebody may take its port first: then it is started again, with another.
    fn start(bed: &Bed) -> Registry {
        (0..5).find_map(|_| Registry::attempt(bed)).expect("docker-registry listens")
    }

    /// `None` where it ends.
    fn attempt(bed: &Bed) -> Option<Registry> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = bed.images().join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            bed.images().join("registry").display()
        );
        fs::write(&config, text).unwrap();
        let mut server = Command::new("docker-registry");
        server.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut registry = Registry { port, server: server.spawn().expect("docker-registry runs") };
        let has_ended = |server: &mut Child| server.try_wait().unwrap().is_some();
        let answers = until("the registry answers or ends", || {
            let answers = TcpStream::connect(("127.0.0.1", port)).is_ok();
            (answers || has_ended(&mut registry.server)).then_some(answers)
        });
        (answers && !has_ended(&mut registry.server)).then_some(registry)
    }

    /// Has skopeo put an image there.
    fn push(&self, from: &str, name: &str, flags: &[&str]) {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]).args(flags);
        skopeo.args([from, &format!("docker://localhost:{}/{name}", self.port)]);
        Call::new(skopeo).ok();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// An archive of a small Debian.
fn debian_archive(bed: &Bed) -> String {
    let tree = bed.images().join("debian");
    let mut unsquashfs = Command::new("bash");
    let script = format!("unsquashfs -q -n -d {} {} {FILES} >&2", tree.display(), debian::image().display());
    unsquashfs.args(["-euc", &script]);
    Call::new(unsquashfs).ok();
    fs::create_dir_all(tree.join("etc")).unwrap();
    let file = runtime_tests::bed::text(&bed.images().join("debian.tar"));
    archive::docker(
        &file,
        "debian:12",
        &[tree.to_str().unwrap()],
        &json!({ "Cmd": ["bash"], "Env": ["LANG=C.UTF-8"] }),
    );
    format!("docker-archive:{file}")
}

fn an_image_of_a_registry_is_pulled_and_runs(bed: &Bed) {
    let (place, registry) = (Place::new(bed), Registry::start(bed));
    registry.push(&debian_archive(bed), "debian:12", &["--format", "v2s2"]);
    let name = format!("localhost:{}/debian:12", registry.port);
    let pulled = place.image(&["pull", "--json", &format!("docker://{name}")]).json();
    // As the registry has it, Docker's manifest is Storm's.
    assert_eq!(pulled["digest"], pulled["source_digest"]);
    let digest = pulled["digest"].as_str().unwrap();
    assert_eq!(place.tags(), format!("{name}:{}#docker://{name}\n", hex(digest)));
    let said = place.run(&["--rm"], &["debian:12", "--", "cat", "/etc/os-release"]).ok();
    assert!(said.text().contains("Debian GNU/Linux"), "{said}");
    place.image(&["verify"]).ok();
}

fn an_image_is_pulled_when_it_is_first_run(bed: &Bed) {
    let (place, registry) = (Place::new(bed), Registry::start(bed));
    registry.push(&debian_archive(bed), "debian:12", &["--format", "oci", "--dest-compress-format", "zstd"]);
    let name = format!("localhost:{}/debian:12", registry.port);
    for words in [&["bash", "-c", "echo $LANG"][..], &["bash", "-c", "echo $LANG"]] {
        assert_eq!(place.run(&["--rm"], &[&[&*name], words].concat()).ok().text(), "C.UTF-8");
    }
    // OCI's manifest is none of Storm's: both digests are on record.
    let image = place.inspect(&name);
    assert_ne!(image["digest"], image["origin"]["manifest"]["digest"]);
    assert_eq!(image["origin"]["media_type"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(image["manifest"]["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    // The registry gone, the store is enough.
    drop(registry);
    place.run(&["--rm"], &[&name, "bash", "-c", "true"]).ok();
    assert_eq!(place.run(&["--rm", "--pull", "always"], &[&name, "true"]).output().code(), 125);
}

fn an_index_gives_the_image_of_the_platform(bed: &Bed) {
    let (place, registry) = (Place::new(bed), Registry::start(bed));
    let layout = bed.images().join("layout");
    for (platform, tree) in [("linux/amd64", "amd"), ("linux/arm64", "arm")] {
        let archive = bed.file(&format!("{tree}.tar"));
        archive::docker(&archive, "app:1", &[&place.tree(tree)], &json!({ "Cmd": [platform] }));
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "--quiet", "--insecure-policy", &format!("docker-archive:{archive}")]);
        skopeo.arg(format!("oci:{}:{tree}", layout.display()));
        Call::new(skopeo).ok();
    }
    index(&layout);
    registry.push(&format!("oci:{}:all", layout.display()), "app:1", &["--all"]);
    let name = format!("localhost:{}/app:1", registry.port);
    for (flags, command) in [(&[][..], "linux/amd64"), (&["--platform", "linux/arm64"], "linux/arm64")] {
        place.image(&[&["pull"], flags, &[&*name]].concat()).ok();
        assert_eq!(place.inspect(&name)["config"]["config"]["Cmd"], json!([command]));
    }
    let said = place.image(&["pull", "--platform", "linux/s390x", &name]).output();
    assert!(said.code() == 125 && said.stderr.contains("linux/amd64, linux/arm64"), "{said}");
}

fn a_pushed_image_is_pulled_again_as_it_was(bed: &Bed) {
    let (place, registry) = (Place::new(bed), Registry::start(bed));
    let other = Place { bed, store: bed.images().join("other") };
    place.build(&place.tree("a"), "app:1", &["--entrypoint", "/bin/probe"]);
    let layer =
        |place: &Place<'_>, name: &str| fs::read(place.inspect(name)["layers"][0]["path"].as_str().unwrap()).unwrap();
    let layout = format!("oci:{}:1", bed.images().join("layout").display());
    let archive = format!("oci-archive:{}", bed.images().join("archive.tar").display());
    let there = format!("docker://localhost:{}/app:1", registry.port);
    for (number, to) in [&*there, &layout, &archive].into_iter().enumerate() {
        let pushed = place.image(&["push", "--json", "app:1", to]).json();
        assert_eq!(pushed["layers"][0]["sent"], true, "{to}");
        let name = format!("again:{number}");
        let pulled = other.image(&["pull", "--force", "--json", "--tag", &name, to]).json();
        assert_eq!(pulled["source_digest"], pushed["digest"], "{to}");
        assert_eq!(layer(&other, &name), layer(&place, "app:1"), "{to}");
        assert_eq!(other.run(&["--rm"], &[&*name, "try", "read", "/mark"]).json()["ok"], "a", "{to}");
    }
    assert_eq!(place.image(&["push", "--json", "app:1", &there]).json()["layers"][0]["sent"], false);
    other.image(&["verify"]).ok();
    // What is damaged does not get there.
    let path = place.inspect("app:1")["layers"][0]["path"].as_str().unwrap().to_owned();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "no squashfs").unwrap();
    let said = place.image(&["push", "app:1", &format!("docker://localhost:{}/other:1", registry.port)]).output();
    assert!(said.code() == 125 && said.stderr.contains("expected"), "{said}");
}

/// Makes an index, named `all`, of the layout's two images.
fn index(layout: &Path) {
    let file = layout.join("index.json");
    let mut list: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let mut images = list["manifests"].as_array().unwrap().clone();
    for (image, architecture) in images.iter_mut().zip(["amd64", "arm64"]) {
        image["platform"] = json!({ "os": "linux", "architecture": architecture });
        image.as_object_mut().unwrap().remove("annotations");
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let all = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": images }).to_string();
    let digest = squall_images::digest::Digest::of(all.as_bytes());
    fs::write(layout.join("blobs/sha256").join(digest.hex()), &all).unwrap();
    list["manifests"] = json!([{
        "mediaType": kind, "digest": digest, "size": all.len(),
        "annotations": { "org.opencontainers.image.ref.name": "all" },
    }]);
    fs::write(&file, list.to_string()).unwrap();
}
