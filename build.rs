//! Compiles the programs that the library carries inside itself into `OUT_DIR`: `squall-monitor` (src/monitor/main.rs) and `squall-step`
//! (src/launch/init/exec_stub/main.rs).
//!
//! They are no cargo targets: they have no standard library, no libc and link arguments of their own, whatever the profile and the flags of
//! the program around them are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    // Whole directories: every file of the monitor is part of the program, of the library, or of both.
    println!("cargo::rerun-if-changed=src/monitor");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    println!("cargo::rerun-if-changed=src/launch/init/exec_stub");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    compile(freestanding("src/monitor/main.rs", "squall_monitor", &out.join("squall-monitor")), "squall-monitor");
    compile(freestanding("src/launch/init/exec_stub/main.rs", "squall_step", &out.join("squall-step")), "squall-step");
}

fn compile(mut rustc: Command, what: &str) {
    let status = rustc.status().unwrap_or_else(|error| panic!("cannot run {rustc:?}: {error}"));
    assert!(status.success(), "compiling {what} failed ({status}): {rustc:?}");
}

/// A compiler for a program of one file and the modules below it.
fn rustc(source: &str, name: &str, out: &Path) -> Command {
    let mut command = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    let target = env::var("TARGET").expect("cargo sets TARGET");
    command.arg(source).arg("-o").arg(out).args(["--target", &target]);
    command.args(["--edition", "2024", "--crate-name", name, "--crate-type", "bin"]);
    for option in ["panic=abort", "opt-level=s", "codegen-units=1", "strip=symbols", "relocation-model=static"] {
        command.args(["-C", option]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        command.arg("-C").arg(format!("linker={}", linker.to_string_lossy()));
    }
    command
}

/// Without libc and standard library.
fn freestanding(source: &str, name: &str, out: &Path) -> Command {
    let mut command = rustc(source, name, out);
    command.args(["-C", "lto=fat", "-C", "overflow-checks=off", "-C", "force-unwind-tables=no"]);
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,noexecstack"] {
        command.arg("-C").arg(format!("link-arg={argument}"));
    }
    // One segment for code and constants, no padding between segments in the file.
    for argument in ["-Wl,-z,noseparate-code", "-Wl,-z,norelro", "-Wl,--no-eh-frame-hdr"] {
        command.arg("-C").arg(format!("link-arg={argument}"));
    }
    command
}
