//! The store as commands change it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use runtime_tests::{Bed, cases};
use serde_json::json;

use crate::archive;
use crate::place::{Place, hex, mode};

cases![
    an_image_is_stored_as_storm_reads_it,
    the_same_content_is_the_same_image,
    an_image_of_an_archive_is_pulled_from_a_file_and_from_a_pipe,
    names_are_given_moved_and_taken,
    an_image_is_found_by_the_end_of_its_name_and_by_its_hash,
    what_an_image_alone_uses_goes_with_it,
    damage_is_found_and_a_pull_mends_it,
    prune_takes_what_belongs_to_nobody,
    an_image_is_copied_to_another_store,
    what_cannot_be_done_is_said_and_changes_nothing,
    nothing_of_it_needs_root,
    a_name_revives_what_the_cleanup_was_about_to_remove,
];

fn an_image_is_stored_as_storm_reads_it(bed: &Bed) {
    let place = Place::new(bed);
    let digest = place.build(&place.tree("a"), "storm/rhel7:dev", &["--env", "A=1"]);
    let image = place.inspect("storm/rhel7:dev");
    let (config, layer) = (&image["manifest"]["config"], &image["manifest"]["layers"][0]);
    assert_eq!(place.tags(), format!("storm/rhel7:dev:{}\n", hex(&digest)));
    assert_eq!(config["mediaType"], "application/vnd.docker.container.image.v1+json");
    assert_eq!(layer["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    let digits = |value: &serde_json::Value| hex(value["digest"].as_str().unwrap()).to_owned();
    let files = [
        format!("config/{}", digits(config)),
        "image-tag-to-hash".to_owned(),
        format!("layers/{}.json", digits(layer)),
        format!("layers/{}.sqsh", digits(layer)),
        format!("manifests/{}", hex(&digest)),
    ];
    assert_eq!(place.files(), files);
    for file in &files {
        assert_eq!(mode(&place.store.join(file)), 0o444, "{file}");
    }
    for directory in ["", "layers", "config", "manifests", "unreferenced"] {
        assert_eq!(mode(&place.store.join(directory)), 0o755, "{directory}");
    }
    assert_eq!(image["config"]["config"]["Env"], json!(["A=1"]));
}

fn the_same_content_is_the_same_image(bed: &Bed) {
    let place = Place::new(bed);
    let tree = place.tree("a");
    let one = place.build(&tree, "one", &["--threads", "1"]);
    let layer = || fs::read(place.inspect("one")["layers"][0]["path"].as_str().unwrap()).unwrap();
    let before = layer();
    let other = place.build(&tree, "two", &["--threads", "7"]);
    assert_eq!((one, before), (other, layer()));
    assert_ne!(place.build(&tree, "three", &["--env", "B=1"]), place.inspect("one")["digest"]);
}

fn an_image_of_an_archive_is_pulled_from_a_file_and_from_a_pipe(bed: &Bed) {
    let place = Place::new(bed);
    let file = bed.file("saved.tar");
    archive::docker(&file, "example/app:1", &[&place.tree("a"), &place.tree("b")], &json!({ "Cmd": ["/bin/probe"] }));
    let from_file = place.image(&["pull", "--quiet", &format!("docker-archive:{file}")]).ok().text();
    assert!(place.tags().contains(&format!("example/app:1:{}#docker-archive:", hex(&from_file))), "{}", place.tags());
    let pulled =
        place.image(&["pull", "--json", "--tag", "piped", "docker-archive:-"]).stdin(fs::read(&file).unwrap()).json();
    assert_eq!(pulled["digest"], *from_file);
    assert_eq!(pulled["layers"][1]["was_there"], true);
    assert_eq!(place.inspect("piped")["tags"], json!(["example/app:1", "piped"]));
    let mark = place.run(&["--rm"], &["piped", "--", "/bin/probe", "try", "read", "/mark"]).json();
    assert_eq!(mark["ok"], "b", "the upper layer's: {mark}");
}

fn names_are_given_moved_and_taken(bed: &Bed) {
    let place = Place::new(bed);
    let (a, b) = (place.build(&place.tree("a"), "a:1", &[]), place.build(&place.tree("b"), "b:1", &[]));
    place.image(&["tag", "a:1", "x", "y"]).ok();
    place.image(&["tag", "b:1", "y"]).ok();
    let mut expected = [format!("a:1,x:{}", hex(&a)), format!("b:1,y:{}", hex(&b))];
    expected.sort();
    assert_eq!(place.tags(), format!("{}\n{}\n", expected[0], expected[1]));
    place.image(&["untag", "a:1", "x"]).ok();
    assert_eq!(place.image(&["untag", "a:1", "y"]).output().code(), 125, "that is b's");
    place.image(&["untag", "b:1"]).ok();
    assert_eq!(place.tags(), format!("a:1:{}\n", hex(&a)));
    // What has no name is there still.
    assert_eq!(place.image(&["inspect", &b]).json()[0]["tags"], json!([]));
}

fn an_image_is_found_by_the_end_of_its_name_and_by_its_hash(bed: &Bed) {
    let place = Place::new(bed);
    let a = place.build(&place.tree("a"), "localhost:5000/debian:12", &[]);
    let found = |name: &str| place.image(&["inspect", name]).json()[0]["digest"].as_str().unwrap().to_owned();
    for name in ["localhost:5000/debian:12", "debian:12", &a, hex(&a), &hex(&a)[..8]] {
        assert_eq!(found(name), a, "{name}");
    }
    place.build(&place.tree("b"), "quay.io/x/debian:12", &[]);
    for (name, says) in [
        ("debian:12", "localhost:5000/debian:12, quay.io/x/debian:12"),
        ("debian:13", "not found"),
        ("0000", "not found"),
    ] {
        let said = place.image(&["inspect", name]).output();
        assert_eq!(said.code(), 125, "{name}");
        assert!(said.stderr.contains(says), "{name}: {said}");
    }
}

fn what_an_image_alone_uses_goes_with_it(bed: &Bed) {
    let place = Place::new(bed);
    let (base, top) = (place.tree("base"), place.tree("top"));
    let two = place.build(&base, "two", &["--layer", &top]);
    place.build(&base, "one", &[]);
    let shared = place.inspect("one")["layers"][0]["digest"].clone();
    let removed = place.image(&["rm", "--json", "two"]).json();
    assert_eq!((&removed["digest"], &removed["tags"]), (&json!(two), &json!(["two"])));
    assert_eq!(removed["layers"].as_array().unwrap().len(), 1);
    assert_ne!(removed["layers"][0], shared);
    assert_eq!(place.files().iter().filter(|name| name.ends_with(".sqsh")).count(), 1);
    place.image(&["rm", "one"]).ok();
    assert_eq!(place.files(), ["image-tag-to-hash"]);
    assert_eq!(place.image(&["rm", "one"]).output().code(), 125);
}

fn damage_is_found_and_a_pull_mends_it(bed: &Bed) {
    let place = Place::new(bed);
    let file = bed.file("saved.tar");
    archive::docker(&file, "app:1", &[&place.tree("a")], &json!({}));
    let source = format!("docker-archive:{file}");
    place.image(&["pull", &source]).ok();
    place.image(&["verify"]).ok();
    let layer = place.inspect("app:1")["layers"][0]["path"].as_str().unwrap().to_owned();
    let sound = fs::read(&layer).unwrap();
    let mut damaged = sound.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    for bytes in [&damaged[..], &sound[..sound.len() - 4096]] {
        fs::set_permissions(&layer, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&layer, bytes).unwrap();
        let said = place.image(&["verify", "--json", "app:1"]).output();
        assert_eq!(said.code(), 1, "{said}");
        assert_eq!(said.json()["damage"][0]["path"], *layer, "{said}");
        place.image(&["pull", "--force", &source]).ok();
        assert_eq!(fs::read(&layer).unwrap(), sound);
    }
    // A description that is none is in nobody's way who fetches again.
    let description = layer.replace(".sqsh", ".json");
    fs::set_permissions(&description, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&description, "{").unwrap();
    assert_eq!(place.image(&["verify"]).output().code(), 1);
    place.image(&["pull", "--force", &source]).ok();
    place.image(&["verify"]).ok();
    // A wrong length is seen without reading it all.
    fs::set_permissions(&layer, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&layer, &sound[..4096]).unwrap();
    place.image(&["pull", &source]).ok();
    assert_eq!(fs::read(&layer).unwrap(), sound);
    fs::remove_file(&layer).unwrap();
    let missing = place.image(&["verify", "--json"]).output();
    assert_eq!((missing.code(), &missing.json()["damage"][0]["reason"]), (1, &json!("it is missing")));
}

fn prune_takes_what_belongs_to_nobody(bed: &Bed) {
    let place = Place::new(bed);
    let a = place.build(&place.tree("a"), "a", &[]);
    let b = place.build(&place.tree("b"), "b", &[]);
    let kept = place.files();
    let stray = place.store.join(format!("layers/{}.sqsh", "0".repeat(64)));
    fs::write(&stray, "x").unwrap();
    fs::write(place.store.join("working/left"), "x").unwrap();
    fs::write(place.store.join("layers/notes.txt"), "an administrator's").unwrap();
    let would = place.image(&["prune", "--dry-run", "--json"]).json();
    assert_eq!(would["files"], json!([stray]));
    assert!(stray.exists());
    place.image(&["prune"]).ok();
    assert_eq!(
        place.files().iter().filter(|name| *name != "layers/notes.txt").collect::<Vec<_>>(),
        kept.iter().collect::<Vec<_>>()
    );
    place.image(&["untag", "b"]).ok();
    place.image(&["prune"]).ok();
    assert_eq!(place.image(&["ls", "--quiet"]).ok().text().lines().count(), 2, "{a} and {b}");
    assert_eq!(place.image(&["prune", "--all", "--json"]).json()["images"], json!([b]));
    assert_eq!(place.image(&["ls", "--quiet"]).ok().text(), a);
}

fn an_image_is_copied_to_another_store(bed: &Bed) {
    let place = Place::new(bed);
    let digest = place.build(&place.tree("a"), "a", &[]);
    let other = Place { bed, store: bed.images().join("other") };
    other.image(&["bootstrap"]).ok();
    place.image(&["copy", "--tag", "copied", "a"]).args([&other.store]).ok();
    assert_eq!(other.inspect("copied")["digest"], *digest);
    other.image(&["verify"]).ok();
    place.image(&["copy", "a"]).args([&other.store]).ok();
    assert_eq!(other.inspect("a")["tags"], json!(["a", "copied"]));
}

fn nothing_of_it_needs_root(bed: &Bed) {
    let place = Place::new(bed);
    let file = bed.file("saved.tar");
    archive::docker(&file, "app:1", &[&place.tree("a"), &place.tree("b")], &json!({ "Cmd": ["/bin/probe"] }));
    let data = bed.file("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set=-all"];
    // The store is where such a user's is.
    let image = |args: &[&str]| bed.squall(&[&["image"], args].concat()).under(&nobody).env("XDG_DATA_HOME", &data);
    let pulled = image(&["pull", "--quiet", &format!("docker-archive:{file}")]).ok().text();
    image(&["build", "--layer", &place.tree("c"), "--tag", "built"]).ok();
    image(&["tag", "app:1", "other"]).ok();
    image(&["verify"]).ok();
    image(&["rm", "built"]).ok();
    assert_eq!(image(&["ls", "--quiet"]).ok().text(), pulled);
    // The same image as root makes it.
    assert_eq!(place.image(&["pull", "--quiet", &format!("docker-archive:{file}")]).ok().text(), pulled);
    let theirs = std::path::Path::new(&data).join("squall/images/layers");
    for name in place.files().iter().filter_map(|name| name.strip_prefix("layers/")) {
        let (here, there) = (fs::read(place.store.join("layers").join(name)), fs::read(theirs.join(name)));
        assert!(here.unwrap() == there.unwrap(), "{name}");
    }
}

fn a_name_revives_what_the_cleanup_was_about_to_remove(bed: &Bed) {
    let place = Place::new(bed);
    let digest = place.build(&place.tree("a"), "a", &[]);
    let (manifest, marker) =
        (place.store.join("manifests").join(hex(&digest)), place.store.join("unreferenced").join(hex(&digest)));
    for name in [&["tag", &digest, "b"][..], &["build", "--layer", &place.tree("a"), "--tag", "c"]] {
        fs::set_permissions(&manifest, fs::Permissions::from_mode(0o400)).unwrap();
        fs::write(&marker, "").unwrap();
        place.image(name).ok();
        assert_eq!((mode(&manifest), marker.exists()), (0o444, false), "{name:?}");
    }
}

fn what_cannot_be_done_is_said_and_changes_nothing(bed: &Bed) {
    let place = Place::new(bed);
    let said = place.image(&["ls"]).output();
    assert_eq!(said.code(), 125, "{said}");
    assert!(said.stderr.contains("there is no image store"), "{said}");
    place.image(&["bootstrap"]).ok();
    let file = bed.file("saved.tar");
    archive::docker(&file, "app:1", &[&place.tree("a")], &json!({}));
    let whole = fs::read(&file).unwrap();
    let cut = bed.file("cut.tar");
    fs::write(&cut, &whole[..whole.len() / 3]).unwrap();
    let before = place.files();
    for (args, says) in [
        (&["pull", &format!("docker-archive:{cut}")][..], ""),
        (&["pull", "docker-archive:/none"], "/none"),
        (&["pull", "--tag", "a,b", &format!("docker-archive:{file}")], "not allowed in a tag"),
        (&["pull", "ftp://x"], "ftp"),
        (&["pull", "Debian"], "upper-case"),
        (&["build", "--layer", "/none", "--tag", "x"], "/none"),
        (&["build", "--layer", &file, "--tag", "a#b"], "not allowed in a tag"),
        (&["build", "--layer", "/proc/version", "--tag", "x"], "/proc/version"),
        (&["build", "--layer", &file, "--tag", "x", "--compression", "zip"], "zstd"),
        (&["tag", "none", "x"], "none"),
        (&["rm", "none"], "none"),
    ] {
        let said = place.image(args).output();
        assert_eq!(said.code(), 125, "{args:?}: {said}");
        assert!(said.stderr.contains(says), "{args:?}: {said}");
        assert_eq!(place.files(), before, "{args:?}");
    }
}
