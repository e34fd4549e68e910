//! A store, and trees to make images of.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use runtime_tests::{Bed, Call};
use serde_json::Value;

/// A store in the bed's directory for images.
pub struct Place<'a> {
    pub bed: &'a Bed,
    pub store: PathBuf,
}

impl<'a> Place<'a> {
    pub fn new(bed: &'a Bed) -> Place<'a> {
        Place { bed, store: bed.images().join("store") }
    }

    /// `squall image …` on the store.
    pub fn image(&self, args: &[&str]) -> Call {
        self.bed.squall(&["image", "--store"]).args([&self.store]).args(args)
    }

    /// `squall run …` of an image, or what else is named.
    pub fn run(&self, flags: &[&str], words: &[&str]) -> Call {
        self.bed
            .squall(&["run", "--cgroup-parent", &self.bed.cgroup(), "--store"])
            .args([&self.store])
            .args(flags)
            .args(words)
    }

    /// A tree with the probe, users and groups, and a mark.
    pub fn tree(&self, name: &str) -> String {
        let tree = self.bed.images().join(name);
        for directory in ["bin", "etc", "srv"] {
            fs::create_dir_all(tree.join(directory)).unwrap();
        }
        fs::write(tree.join("bin/probe"), squall_cli::demo::PROBE).unwrap();
        fs::set_permissions(tree.join("bin/probe"), Permissions::from_mode(0o755)).unwrap();
        fs::write(tree.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1234:1235::/srv:/bin/sh\n").unwrap();
        fs::write(tree.join("etc/group"), "root:x:0:\nstaff:x:50:app\napp:x:1235:\nvideo:x:44:other,app\n").unwrap();
        fs::write(tree.join("mark"), name).unwrap();
        runtime_tests::bed::text(&tree)
    }

    /// An image of a tree; its digest.
    pub fn build(&self, tree: &str, tag: &str, flags: &[&str]) -> String {
        self.image(&["build", "--quiet", "--layer", tree, "--tag", tag]).args(flags).ok().text()
    }

    /// What `inspect` says of an image.
    pub fn inspect(&self, name: &str) -> Value {
        self.image(&["inspect", name]).json()[0].clone()
    }

    /// The tag file's text.
    pub fn tags(&self) -> String {
        fs::read_to_string(self.store.join("image-tag-to-hash")).unwrap()
    }

    /// All files of the store but its lock, below its directory.
    pub fn files(&self) -> Vec<String> {
        let directories = runtime_tests::host::tree(&self.store);
        let entries = directories.iter().flat_map(|directory| fs::read_dir(directory).unwrap());
        let files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        let name = |path: PathBuf| path.strip_prefix(&self.store).unwrap().to_string_lossy().into_owned();
        let mut names: Vec<String> = files.map(name).filter(|name| !name.ends_with(".lock")).collect();
        names.sort();
        names
    }
}

/// The 64 digits of a digest.
pub fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or_else(|| panic!("{digest}"))
}

pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o7777
}
