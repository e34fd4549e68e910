//! What the programs are linked from.

use std::process::Command;

use runtime_tests::{Bed, Call, cases};

cases![the_core_links_no_network_no_async_runtime_and_no_message_bus];

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
