//! Commands that are killed at random instants, with a reader beside.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runtime_tests::{Bed, cases};
use serde_json::{Value, json};

use crate::archive;
use crate::place::Place;

cases![whoever_is_killed_leaves_a_store_that_is_whole];

/// How often something is killed.
const KILLS: u64 = 60;

/// Every image that has a name is whole, at every moment: as a reader without any lock sees it.
fn whole(store: &Path) {
    let Ok(tags) = fs::read_to_string(store.join("image-tag-to-hash")) else { return };
    for line in tags.lines() {
        let hash = line.split('#').next().unwrap().rsplit(':').next().unwrap();
        let present = |path: &Path| path.exists() || !named(store, hash);
        let manifest = store.join("manifests").join(hash);
        let Ok(text) = fs::read(&manifest) else {
            assert!(!named(store, hash), "{line}: no manifest");
            continue;
        };
        let manifest: Value = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{line}: {error}"));
        let hex = |blob: &Value| blob["digest"].as_str().unwrap()[7..].to_owned();
        assert!(present(&store.join("config").join(hex(&manifest["config"]))), "{line}: no config");
        for layer in manifest["layers"].as_array().unwrap() {
            let file = store.join("layers").join(format!("{}.sqsh", hex(layer)));
            assert!(present(&file), "{line}: no {}", file.display());
        }
    }
}

/// Whether the image has a name still, or again: it may have been removed since it was looked at.
fn named(store: &Path, hash: &str) -> bool {
    fs::read_to_string(store.join("image-tag-to-hash")).is_ok_and(|tags| tags.contains(hash))
}

fn whoever_is_killed_leaves_a_store_that_is_whole(bed: &Bed) {
    let place = Place::new(bed);
    let file = bed.file("saved.tar");
    archive::docker(&file, "app:1", &[&place.tree("a"), &place.tree("b"), &place.tree("c")], &json!({}));
    let source = format!("docker-archive:{file}");
    let tree = place.tree("a");
    let commands: [&[&str]; 6] = [
        &["pull", &source],
        &["build", "--layer", &tree, "--tag", "built"],
        &["tag", "app:1", "other"],
        &["rm", "app:1"],
        &["prune", "--all"],
        &["pull", "--force", &source],
    ];
    place.image(&["bootstrap"]).ok();
    let began = Instant::now();
    place.image(&["pull", &source]).ok();
    // As long as the longest takes, so that a kill may fall anywhere in it.
    let span = began.elapsed();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                whole(&place.store);
            }
        });
        for number in 0..KILLS {
            let command = commands[number as usize % commands.len()];
            let mut child = start(&place, command);
            // Spread over the span, another instant for each.
            std::thread::sleep(span.mul_f64((number * 37 % 100) as f64 / 80.0).min(Duration::from_secs(5)));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    // What comes next goes on from there, and nothing unfinished stays.
    place.image(&["pull", &source]).ok();
    place.image(&["verify"]).ok();
    place.image(&["prune", "--all"]).ok();
    assert_eq!(fs::read_dir(place.store.join("working")).unwrap().count(), 0);
    assert_eq!(place.run(&["--rm"], &["app:1", "/bin/probe", "try", "read", "/mark"]).json()["ok"], "c");
}

fn start(place: &Place<'_>, command: &[&str]) -> Child {
    let mut command = place.image(command).into_command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}
