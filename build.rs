//! Compiles `squall-monitor` (src/monitor/main.rs) into `OUT_DIR/squall-monitor`, where `monitor::PROGRAM` embeds it.
//!
//! It is no cargo target: it has no standard library, no libc and link arguments of its own, whatever the profile and the
//! flags of the program around it are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    // The whole directory: every file in it is part of the program, of the library, or of both.
    println!("cargo::rerun-if-changed=src/monitor");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("squall-monitor");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let mut rustc = rustc(&target, &out);
    let status = rustc.status().unwrap_or_else(|error| panic!("cannot run {rustc:?}: {error}"));
    assert!(status.success(), "compiling squall-monitor failed ({status}): {rustc:?}");
}

fn rustc(target: &str, out: &Path) -> Command {
    let mut command = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    command.arg("src/monitor/main.rs").arg("-o").arg(out).args(["--target", target]);
    command.args(["--edition", "2024", "--crate-name", "squall_monitor", "--crate-type", "bin"]);
    for option in ["panic=abort", "opt-level=s", "lto=fat", "codegen-units=1", "strip=symbols", "overflow-checks=off"] {
        command.args(["-C", option]);
    }
    // Not position independent: nothing to relocate when it starts, so that no page is written for it.
    command.args(["-C", "relocation-model=static", "-C", "force-unwind-tables=no"]);
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,noexecstack"] {
        command.arg("-C").arg(format!("link-arg={argument}"));
    }
    // One segment for code and constants, no padding between segments in the file.
    for argument in ["-Wl,-z,noseparate-code", "-Wl,-z,norelro", "-Wl,--no-eh-frame-hdr"] {
        command.arg("-C").arg(format!("link-arg={argument}"));
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        command.arg("-C").arg(format!("linker={}", linker.to_string_lossy()));
    }
    command
}
