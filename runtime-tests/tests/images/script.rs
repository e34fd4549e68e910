//! `docker-to-squash`, with the command line of Apache Storm's script.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use runtime_tests::{Bed, Call, cases};
use serde_json::json;

use crate::archive;
use crate::place::{Place, hex, mode};

cases![
    an_image_is_pulled_built_and_tagged_in_one_go,
    options_stand_before_and_behind_the_command,
    what_is_built_apart_is_pushed_later,
    tags_are_added_taken_and_asked_for,
    an_image_is_copied_with_its_comment,
    an_image_is_removed_by_tag_or_hash,
    the_cleanup_goes_through_its_four_states,
    limits_and_the_magic_file_keep_images_out,
    every_failure_is_an_exit_code,
];

/// Where the program is.
pub const PROGRAM: &str = "SQUALL_TEST_DOCKER_TO_SQUASH";

struct Script<'a> {
    place: Place<'a>,
    root: String,
    /// The image's name for `--pull-format docker-archive`.
    image: String,
}

impl<'a> Script<'a> {
    fn new(bed: &'a Bed) -> Script<'a> {
        let place = Place::new(bed);
        let image = bed.file("saved.tar");
        archive::docker(&image, "app:1", &[&place.tree("a"), &place.tree("b")], &json!({}));
        let root = format!("file://{}", place.store.display());
        Script { place, root, image }
    }

    fn bare(&self, args: &[&str]) -> Call {
        let mut command = Command::new(std::env::var_os(PROGRAM).expect("the program is built"));
        command.args(args).current_dir(self.place.bed.work());
        Call::new(command)
    }

    fn call(&self, args: &[&str]) -> Call {
        self.bare(&[&["--hdfs-root", &self.root, "--pull-format", "docker-archive"], args].concat())
    }

    /// Stores the image under this tag; its manifest's hash.
    fn store(&self, tag: &str) -> String {
        self.call(&["pull-build-push-update", "--bootstrap", &format!("{},{tag}", self.image)]).ok();
        hex(self.place.inspect(tag)["digest"].as_str().unwrap()).to_owned()
    }

    fn manifest(&self, hash: &str) -> std::path::PathBuf {
        self.place.store.join("manifests").join(hash)
    }
}

fn an_image_is_pulled_built_and_tagged_in_one_go(bed: &Bed) {
    let script = Script::new(bed);
    let image = format!("{},storm:dev,other", script.image);
    let early = script.call(&["pull-build-push-update", &image]).output();
    assert_eq!(early.code(), 1, "there is no store: {early}");
    script.call(&["bootstrap"]).ok();
    assert_eq!(script.call(&["list-tags"]).ok().text(), "");
    script.call(&["pull-build-push-update", &image]).ok();
    let hash = hex(script.place.inspect("other")["digest"].as_str().unwrap()).to_owned();
    assert_eq!(script.call(&["list-tags"]).ok().text(), format!("other,storm:dev:{hash}#{}", script.image));
    assert_eq!(mode(&script.manifest(&hash)), 0o444);
    let again = script.call(&["pull-build-push-update", &image]).ok();
    assert!(again.stderr.contains("0 of 2 layers are new"), "{again}");
    let forced = script.call(&["--force", "pull-build-push-update", &image]).ok();
    assert!(forced.stderr.contains("2 of 2 layers are new"), "{forced}");
}

fn options_stand_before_and_behind_the_command(bed: &Bed) {
    let script = Script::new(bed);
    let image = format!("{},t", script.image);
    script.bare(&["bootstrap", "--hdfs-root", &script.root, "--image-tag-to-hash", "names"]).ok();
    let args = [
        "--image-tag-to-hash",
        "names",
        "pull-build-push-update",
        "--pull-format",
        "docker-archive",
        &image,
        "--hdfs-root",
        &script.root,
    ];
    script.bare(&args).ok();
    let list = script.bare(&["list-tags", "--hdfs-root", &script.root, "--image-tag-to-hash", "names"]).ok();
    assert!(list.text().starts_with("t:"), "{list}");
    let quiet = script.bare(&[&args[..], &["--log", "ERROR", "-r", "2", "--hadoop-prefix", "/none"]].concat()).ok();
    assert_eq!(quiet.stderr, "");
}

fn what_is_built_apart_is_pushed_later(bed: &Bed) {
    let script = Script::new(bed);
    let image = format!("{},t", script.image);
    script.call(&["bootstrap"]).ok();
    script.call(&["--working-dir", "apart", "pull-build", &image]).ok();
    assert!(bed.work().join("apart/image-tag-to-hash").exists());
    assert_eq!(script.call(&["list-tags"]).ok().text(), "");
    script.call(&["--working-dir", "apart", "push-update", &image]).ok();
    assert!(script.call(&["list-tags"]).ok().text().starts_with("t:"));
    assert!(!bed.work().join("apart").exists());
    script.place.image(&["verify", "t"]).ok();
    assert_eq!(script.call(&["--working-dir", "apart", "push-update", &image]).output().code(), 1);
}

fn tags_are_added_taken_and_asked_for(bed: &Bed) {
    let script = Script::new(bed);
    let hash = script.store("t");
    script.call(&["add-tag", "t,u", &format!("{hash},v,w")]).ok();
    script.call(&["add-tag", &format!("{},x", script.image)]).ok();
    let list = || script.call(&["list-tags"]).ok().text();
    assert!(list().starts_with(&format!("t,u,v,w,x:{hash}#")), "{}", list());
    script.call(&["remove-tag", "u,v", "w", "none"]).ok();
    assert!(list().starts_with(&format!("t,x:{hash}#")), "{}", list());
    let paths = script.call(&["query-tag", "t"]).ok().text();
    let paths: Vec<&str> = paths.lines().collect();
    assert_eq!((paths.len(), Path::new(paths[0])), (4, &*script.manifest(&hash)));
    assert!(paths.iter().all(|path| Path::new(path).is_file()), "{paths:?}");
    assert_eq!(script.call(&["query-tag", "none", "t"]).output().code(), 1);
    assert_eq!(script.call(&["add-tag", "none:1,a"]).output().code(), 1);
}

fn an_image_is_copied_with_its_comment(bed: &Bed) {
    let script = Script::new(bed);
    let hash = script.store("t");
    let other = format!("file://{}/other", bed.images().display());
    script.call(&["-b", "copy-update", &script.root, &other, "t", "t,u"]).ok();
    let list = script.bare(&["--hdfs-root", &other, "list-tags"]).ok().text();
    assert_eq!(list, format!("t,u:{hash}#{}", script.image));
    assert_eq!(script.call(&["copy-update", &script.root, &other, "none"]).output().code(), 1);
}

fn an_image_is_removed_by_tag_or_hash(bed: &Bed) {
    let script = Script::new(bed);
    let hash = script.store("t");
    script.call(&["remove-image", "none"]).ok();
    script.call(&["remove-image", "none,t"]).ok();
    assert_eq!(script.place.files(), ["image-tag-to-hash"]);
    assert_eq!(script.store("t"), hash);
    script.call(&["remove-image", &hash]).ok();
    assert_eq!(script.place.files(), ["image-tag-to-hash"]);
}

fn the_cleanup_goes_through_its_four_states(bed: &Bed) {
    let script = Script::new(bed);
    let hash = script.store("t");
    let marker = script.place.store.join("unreferenced").join(&hash);
    let cleanup = || drop(script.call(&["cleanup", "--untagged-transition-sec", "1000"]).ok());
    let old = || {
        let time = SystemTime::now() - Duration::from_secs(1001);
        File::options().write(true).open(&marker).unwrap().set_modified(time).unwrap();
    };
    cleanup();
    assert!(!marker.exists(), "it has a tag");
    script.call(&["remove-tag", "t"]).ok();
    cleanup();
    cleanup();
    assert!(marker.exists());
    assert_eq!(mode(&script.manifest(&hash)), 0o444, "marked, and not for long");
    old();
    cleanup();
    assert_eq!(mode(&script.manifest(&hash)), 0o400, "closed");
    cleanup();
    assert!(script.manifest(&hash).exists(), "its marker is new again");
    // Tagged again it is as any other.
    script.call(&["add-tag", &format!("{hash},t")]).ok();
    assert_eq!((mode(&script.manifest(&hash)), marker.exists()), (0o444, false));
    script.call(&["remove-tag", "t"]).ok();
    cleanup();
    old();
    cleanup();
    old();
    cleanup();
    assert_eq!(script.place.files(), ["image-tag-to-hash"]);
}

fn limits_and_the_magic_file_keep_images_out(bed: &Bed) {
    let script = Script::new(bed);
    script.call(&["bootstrap"]).ok();
    let image = format!("{},t", script.image);
    for (flags, says) in [
        (&["--max-layers", "1"][..], "2 layers"),
        (&["--max-size", "1000"], "1000"),
        (&["--check-magic-file"], "etc/dockerfile-version"),
        (&["--check-magic-file", "--magic-file", "/srv"], "/srv"),
    ] {
        let said = script.call(&[flags, &["pull-build-push-update", &image]].concat()).output();
        assert_eq!(said.code(), 1, "{flags:?}: {said}");
        assert!(said.stderr.contains(says), "{flags:?}: {said}");
        assert_eq!(script.call(&["list-tags"]).ok().text(), "", "{flags:?}");
    }
    script.call(&["--check-magic-file", "--magic-file", "/mark", "pull-build-push-update", &image]).ok();
    assert!(script.call(&["list-tags"]).ok().text().starts_with("t:"));
}

fn every_failure_is_an_exit_code(bed: &Bed) {
    let script = Script::new(bed);
    script.call(&["bootstrap"]).ok();
    let image = format!("{},t", script.image);
    for args in [
        &["pull-build-push-update", "/none/saved.tar,t"][..],
        &["pull-build-push-update", &script.image],
        &["pull-build-push-update", "--pull-format", "ftp", &image],
        &["push-update", &image],
        &["list-tags", "--hdfs-root", "file:///none"],
        &["list-tags", "--hdfs-root", "/runc-root"],
        &["list-tags", "--hdfs-root", "hdfs://host/runc-root"],
        &["cleanup", "--hdfs-root", "file:///none"],
    ] {
        let said = script.call(args).output();
        assert_eq!(said.code(), 1, "{args:?}: {said}");
        assert!(said.stderr.lines().any(|line| line.starts_with("ERROR: ")), "{args:?}: {said}");
    }
    for args in [
        &["--image-tag-to-hash", "a/b", "list-tags"][..],
        &["frobnicate"],
        &["pull-build"],
        &["--log", "LOUD", "list-tags"],
    ] {
        assert_eq!(script.call(args).output().code(), 2, "{args:?}");
    }
    assert_eq!(fs::read(script.place.store.join("image-tag-to-hash")).unwrap(), b"");
}
