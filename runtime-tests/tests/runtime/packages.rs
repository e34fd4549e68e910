//! What the programs are linked from, which part of the library uses which, and whether lists of
//! source texts follow them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime_tests::{Bed, Call, cases};

cases![
    the_core_links_no_network_no_async_runtime_and_no_message_bus,
    no_room_of_the_library_uses_one_above_it,
    each_protection_is_where_the_list_of_them_has_it
];

fn the_core_links_no_network_no_async_runtime_and_no_message_bus(_: &Bed) {
    const FORBIDDEN: [&str; 16] = [
        "tokio",
        "async-std",
        "smol",
        "async-io",
        "rustls",
        "openssl",
        "openssl-sys",
        "native-tls",
        "aws-lc-sys",
        "ring",
        "hyper",
        "reqwest",
        "ureq",
        "curl",
        "zbus",
        "clap",
    ];
    let mut tree = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    tree.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    tree.args(["tree", "--package", "squall", "--edges", "normal,build", "--prefix", "none", "--offline"]);
    let listed = Call::new(tree).ok().text();
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"squall") && names.contains(&"libcontainer"), "{listed}");
    let found: Vec<&str> = FORBIDDEN.into_iter().filter(|name| names.contains(name)).collect();
    assert_eq!(found, Vec::<&str>::new());
}

fn each_protection_is_where_the_list_of_them_has_it(_: &Bed) {
    let mut list = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/without-protections"));
    list.arg("--check");
    let said = Call::new(list).output();
    assert_eq!(said.code(), 0, "{said}");
}

/// The rooms of the library from the ground up, those of one floor in one line. A room uses only
/// what lies before it.
const FLOORS: &[&[&str]] = &[
    // Ground: no knowledge of containers.
    &["stage", "phase", "one_line", "packet_socket", "passing", "sys", "wait"],
    &["error", "crash", "child_task"],
    &["exhausted", "host", "process"],
    &["reactor"],
    &["document", "fsmount", "squashfs", "signal_stream", "stdio"],
    // The kernel's and the host's parts, one by one.
    &["cgroup", "seccomp"],
    &["monitor"],
    &["systemd"],
    // What is asked for: rules alone.
    &["request"],
    &["host_files", "lsm", "privilege"],
    &["layer"],
    &["opened"],
    // The container's root, its document, and what is on disk.
    &["root", "state"],
    &["image_file"],
    // Where a worker's output goes.
    &["log"],
    &["oci", "kernel", "settings", "supported"],
    // Launching, and what there is afterwards.
    &["launch"],
    &["spawner", "container", "plan"],
    &["runtime", "setuid"],
    &["reap"],
    &["events"],
    &["usages"],
    // What tests may have of all that.
    &["testing"],
];

fn no_room_of_the_library_uses_one_above_it(_: &Bed) {
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../src"));
    let floor = |room: &str| FLOORS.iter().position(|rooms| rooms.contains(&room));
    let mut seen = BTreeSet::new();
    let mut upward = Vec::new();
    for file in rust_files(source) {
        let Some(room) = room_of(source, &file) else { continue };
        let own = floor(&room).unwrap_or_else(|| panic!("{room} ({}) lies on no floor", file.display()));
        seen.insert(room.clone());
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for used in rooms_used(code).filter(|used| *used != room) {
            // Names that are items of the crate's root, or of a program with a root of its own.
            let Some(theirs) = floor(&used) else { continue };
            if theirs >= own {
                upward.push(format!("{} uses {used}", file.display()));
            }
        }
    }
    let missing: Vec<_> = FLOORS.iter().copied().flatten().filter(|room| !seen.contains(**room)).collect();
    assert!(missing.is_empty(), "rooms without a file: {missing:?}");
    assert!(upward.is_empty(), "{upward:#?}");
}

/// Every file of the library; `programs` and directories that are packages of their own are no part
/// of it.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            let is_other = entry.file_name() == Some("programs".as_ref()) || entry.join("Cargo.toml").exists();
            if !is_other {
                files.extend(rust_files(&entry));
            }
        } else if entry.extension() == Some("rs".as_ref()) {
            files.push(entry);
        }
    }
    files
}

/// The room that a file belongs to; the crate's root belongs to none, and tests in files of their
/// own may use anything.
fn room_of(source: &Path, file: &Path) -> Option<String> {
    let first = file.strip_prefix(source).unwrap().iter().next().unwrap().to_string_lossy().into_owned();
    let is_tests = file.ends_with("tests.rs") || file.iter().any(|part| part == "tests");
    let room = first.trim_end_matches(".rs").to_owned();
    (room != "lib" && !is_tests).then_some(room)
}

/// The first name behind each `crate::`, those of a group as well. Comments are no code.
fn rooms_used(code: &str) -> impl Iterator<Item = String> {
    let lines: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = lines.join("\n");
    let mut used = BTreeSet::new();
    for (at, mark) in code.match_indices("crate::") {
        let rest = &code[at + mark.len()..];
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => used.extend([word(rest)]),
            Some(group) => used.extend(group.split('}').next().unwrap().split(',').map(|name| word(name.trim()))),
        }
    }
    used.into_iter()
}
