//! Archives as `docker save` writes them, by hand.

use std::fs;
use std::path::Path;
use std::process::Command;

use runtime_tests::Call;
use serde_json::json;

/// A docker-archive of one image with these layers, each a tree, base first.
pub fn docker(path: &str, name: &str, trees: &[&str], config: &serde_json::Value) {
    let work = format!("{path}.work");
    fs::create_dir(&work).unwrap();
    let mut diff_ids = Vec::new();
    let mut layers = Vec::new();
    for (index, tree) in trees.iter().enumerate() {
        let layer = format!("{index}.tar");
        tar(&[
            "--create",
            "--numeric-owner",
            "--sort=name",
            "--file",
            &format!("{work}/{layer}"),
            "--directory",
            tree,
            ".",
        ]);
        let mut sum = Command::new("sha256sum");
        sum.arg(format!("{work}/{layer}"));
        diff_ids.push(format!("sha256:{}", &Call::new(sum).ok().text()[..64]));
        layers.push(layer);
    }
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": config, "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    fs::write(format!("{work}/config.json"), config.to_string()).unwrap();
    let manifest = json!([{ "Config": "config.json", "RepoTags": [name], "Layers": layers }]);
    fs::write(format!("{work}/manifest.json"), manifest.to_string()).unwrap();
    tar(&["--create", "--file", path, "--directory", &work, "."]);
    fs::remove_dir_all(Path::new(&work)).unwrap();
}

fn tar(args: &[&str]) {
    let mut tar = Command::new("tar");
    tar.args(args);
    Call::new(tar).ok();
}
