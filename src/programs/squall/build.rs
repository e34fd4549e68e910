//! Compiles the probe (demo/probe.rs), which the demonstration's image holds, into `OUT_DIR`: a
//! static program, because that image has nothing else, and cargo's targets here are dynamic ones.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=demo/probe.rs");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let variable = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.arg("demo/probe.rs").arg("-o").arg(PathBuf::from(variable("OUT_DIR")).join("squall-probe"));
    rustc.arg("--target").arg(variable("TARGET")).args(["--edition", "2024", "--crate-name", "squall_probe"]);
    for option in [
        "panic=abort",
        "opt-level=s",
        "codegen-units=1",
        "strip=symbols",
        "relocation-model=static",
        "target-feature=+crt-static",
    ] {
        rustc.args(["-C", option]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={}", linker.to_string_lossy()));
    }
    let status = rustc.status().unwrap_or_else(|error| panic!("cannot run {rustc:?}: {error}"));
    assert!(status.success(), "compiling the probe failed ({status}): {rustc:?}");
}
