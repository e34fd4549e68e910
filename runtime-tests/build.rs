//! Compiles the benchmark's floor (src/floor/main.rs) into `OUT_DIR`: a static program, which no cargo target beside dynamic ones can be.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/floor");
    let variable = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.arg("src/floor/main.rs").arg("-o").arg(PathBuf::from(variable("OUT_DIR")).join("floor"));
    rustc.arg("--target").arg(variable("TARGET")).args(["--edition", "2024", "--crate-name", "floor"]);
    for option in [
        "panic=abort",
        "opt-level=3",
        "codegen-units=1",
        "strip=symbols",
        "relocation-model=static",
        "target-feature=+crt-static",
    ] {
        rustc.args(["-C", option]);
    }
    let status = rustc.status().unwrap_or_else(|error| panic!("cannot run {rustc:?}: {error}"));
    assert!(status.success(), "compiling the floor failed ({status}): {rustc:?}");
}
