//! What a worker of uid 0 needs beyond any other, although it has no capability.
//!
//! Files of the host belong to it, so two ways out are closed that file permissions close for everybody else: the program that launched it,
//! which init *is* until it executes something (see `step/main.rs`), and user namespaces, in which it would have capabilities again and could
//! mount the host's cgroups to take off its limits.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, SeekFrom, fcntl_add_seals, memfd_create};

use super::executor::Workload;
use super::watch::write_all;
use crate::error::{Context, Error, Result};
use crate::request::LaunchSpec;
use crate::seccomp::{Filter, Profile};
use crate::stage::Stage;
use crate::sys;

/// What errors call the program in between.
const STEP_NAME: &str = "squall-step";

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
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Before 6.3 every memfd can be executed, and the flag is unknown.
    let file = match memfd_create(STEP_NAME, flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => memfd_create(STEP_NAME, flags),
        other => other,
    };
    let file = file.at(Stage::Clone, STEP_NAME, "memfd_create")?;
    write_all(file.as_fd(), STEP).at(Stage::Clone, STEP_NAME, "write")?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).at(Stage::Clone, STEP_NAME, "fcntl(F_ADD_SEALS)")?;
    Ok(Some(file))
}

/// What root is denied whatever its own profile says: a user namespace. clone3, whose flags lie in memory, is answered as by a kernel that has
/// none, so that the C library falls back to clone.
const NO_USER_NAMESPACES: &str = r#"{
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        { "names": ["clone", "unshare"], "action": "SCMP_ACT_ERRNO",
          "args": [{ "index": 0, "value": 268435456, "valueTwo": 268435456, "op": "SCMP_CMP_MASKED_EQ" }] },
        { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }
    ]
}"#;

/// The filter that a worker of uid 0 gets beside its own. Made by the launch process.
pub(super) fn filter_for(spec: &LaunchSpec) -> Result<Option<Filter>> {
    if spec.user.uid() != 0 {
        return Ok(None);
    }
    Profile::parse(NO_USER_NAMESPACES.as_bytes())?.compile().map(Some)
}

/// Becomes the program in between, which installs the worker's filter and becomes the workload; returns only with why it could not.
pub(super) fn become_step(step: &OwnedFd, program: &CString, workload: &Workload) -> Error {
    match execute(step, program, workload) {
        Err(error) => error,
        Ok(error) => super::executor::refused(program, "execveat(squall-step)", error),
    }
}

fn execute(step: &OwnedFd, program: &CString, workload: &Workload) -> Result<std::io::Error> {
    let filter = workload.filter.as_deref().map(filter_file).transpose()?;
    let report = workload.report.as_fd();
    // They have to outlive this exec; the program in between lets them end with the next.
    for descriptor in [Some(report), filter.as_ref().map(AsFd::as_fd)].into_iter().flatten() {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty()).at(
            Stage::Exec,
            STEP_NAME,
            "fcntl(F_SETFD)",
        )?;
    }
    let number = |fd: i32| CString::new(fd.to_string()).unwrap_or_default();
    let ours = [program.clone(), number(report.as_raw_fd()), number(filter.as_ref().map_or(0, AsRawFd::as_raw_fd))];
    let argv: Vec<CString> = ours.into_iter().chain(workload.argv.iter().cloned()).collect();
    Ok(sys::execveat(step.as_fd(), &argv, &workload.envp))
}

/// The filter as the program in between reads it: the flags in eight bytes, then the instructions.
fn filter_file(filter: &Filter) -> Result<OwnedFd> {
    const OBJECT: &str = "seccomp filter";
    let file = memfd_create("squall-filter", MemfdFlags::CLOEXEC).at(Stage::Exec, OBJECT, "memfd_create")?;
    let mut bytes = u64::from(filter.flags().bits()).to_le_bytes().to_vec();
    bytes.extend(filter.program().iter().flat_map(|instruction| instruction.to_bytes()));
    write_all(file.as_fd(), &bytes).at(Stage::Exec, OBJECT, "write")?;
    rustix::fs::seek(&file, SeekFrom::Start(0)).at(Stage::Exec, OBJECT, "lseek")?;
    Ok(file)
}
