//! The program between init and the workload (`main.rs`), in a sealed file without a name.
//!
//! Until it executes something, init *is* the program that launched it, whoever's that is: `/proc/self/exe` leads to it, and who may write to
//! it may be decided by its owner, its mode, an access control list, or a copy of it that somebody made. Nobody has to ask: every worker
//! comes out of this program, in which nothing of the host's is left. What it costs a launch is less than 300 pairs of launches could show.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, SeekFrom, fcntl_add_seals, memfd_create};

use super::executor::Workload;
use super::handoff::write_all;
use crate::error::{Context, Error, Result};
use crate::seccomp::Filter;
use crate::stage::Stage;
use crate::sys;

/// What errors call the program in between.
const STEP_NAME: &str = "squall-step";

/// The program in between.
const STEP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/squall-step"));

/// The program in a sealed file. Made by the launch process.
pub(super) fn file() -> Result<OwnedFd> {
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
    Ok(file)
}

/// Becomes the program in between, which installs the worker's filter and becomes the workload; returns only with why it could not.
pub(super) fn become_it(step: &OwnedFd, program: &CString, workload: &Workload) -> Error {
    match execute(step, program, workload) {
        Err(error) => error,
        Ok(error) => crate::launch::executor::refused(program, "execveat(squall-step)", error),
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
