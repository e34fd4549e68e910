//! What a worker of uid 0 needs beyond any other, although it has no capability.
//!
//! Files of the host belong to it, so two ways out are closed that file permissions close for everybody else: the program that launched it,
//! which init *is* until it executes something (see `step/main.rs`), and user namespaces, in which it would have capabilities again and could
//! mount the host's cgroups to take off its limits.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::error::{Context, Result};
use crate::request::LaunchSpec;
use crate::stage::Stage;
use crate::sys;

/// The program in between.
const STEP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/squall-step"));

/// The program in between, in a sealed file; nothing where the worker could not write to our own program anyway. Made by the launch
/// process.
pub(super) fn step_for(spec: &LaunchSpec) -> Result<Option<OwnedFd>> {
    const OWN: &str = "/proc/self/exe";
    let owner = rustix::fs::stat(OWN).at(Stage::Clone, OWN, "stat")?.st_uid;
    if spec.user.uid() != 0 && spec.user.uid() != owner {
        return Ok(None);
    }
    const OBJECT: &str = "squall-step";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Before 6.3 every memfd can be executed, and the flag is unknown.
    let file = match memfd_create(OBJECT, flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => memfd_create(OBJECT, flags),
        other => other,
    };
    let file = file.at(Stage::Clone, OBJECT, "memfd_create")?;
    let mut rest = STEP;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest).at(Stage::Clone, OBJECT, "write")?;
        rest = &rest[written..];
    }
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).at(Stage::Clone, OBJECT, "fcntl(F_ADD_SEALS)")?;
    Ok(Some(file))
}

/// Becomes the program in between, which becomes the workload; returns only if it cannot be executed.
pub(super) fn execute(
    step: &OwnedFd,
    program: CString,
    argv: &[CString],
    envp: &[CString],
    report: &OwnedFd,
) -> std::io::Error {
    let number = CString::new(report.as_raw_fd().to_string()).unwrap_or_default();
    let argv: Vec<CString> = [program, number].into_iter().chain(argv.iter().cloned()).collect();
    // It has to outlive this exec; the program in between lets it end with the next.
    if let Err(errno) = rustix::io::fcntl_setfd(report, rustix::io::FdFlags::empty()) {
        return errno.into();
    }
    sys::execveat(step.as_fd(), &argv, envp)
}
