//! The program between init and the workload (`main.rs`), in a sealed file without a name.
//!
//! Until it executes something, init *is* the program that launched it, whoever's that is:
//! `/proc/self/exe` leads to it, and who may write to it may be decided by its owner, its mode, an
//! access control list, or a copy of it that somebody made. Nobody has to ask: every worker comes
//! out of this program, in which nothing of the host's is left. What it costs a launch is less than
//! 300 pairs of launches could show.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, SeekFrom, fcntl_add_seals, memfd_create};

use super::workload::Workload;
use crate::error::{Context, Error, Result};
use crate::launch::handoff::write_all;
use crate::seccomp::Filter;
use crate::stage::Stage;
use crate::sys;

/// What errors call the program in between.
const STEP_NAME: &str = "squall-step";

/// Nobody changes what has these.
const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// The program in between.
const STEP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/squall-step"));

/// The program in a sealed file. Made by the launch process.
pub(in crate::launch) fn file() -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Before 6.3 every memfd can be executed, and the flag is unknown.
    let file = match memfd_create(STEP_NAME, flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => memfd_create(STEP_NAME, flags),
        other => other,
    };
    let file = file.at(Stage::Clone, STEP_NAME, "memfd_create")?;
    write_all(file.as_fd(), STEP).at(Stage::Clone, STEP_NAME, "write")?;
    fcntl_add_seals(&file, SEALS).at(Stage::Clone, STEP_NAME, "fcntl(F_ADD_SEALS)")?;
    Ok(file)
}

/// Becomes the program in between, which installs the worker's filter and becomes the workload;
/// returns only with why it could not.
pub(in crate::launch) fn become_it(step: &OwnedFd, program: &CString, workload: &Workload) -> Error {
    match execute(step, program, workload) {
        Err(error) => error,
        Ok(error) => crate::launch::init::workload::refused(program, "execveat(squall-step)", error),
    }
}

fn execute(step: &OwnedFd, program: &CString, workload: &Workload) -> Result<std::io::Error> {
    let filter = workload.filter.as_deref().map(filter_file).transpose()?;
    let report = workload.report.as_fd();
    // They have to outlive this exec; the program in between lets them end with the next.
    for descriptor in [Some(report), filter.as_ref().map(AsFd::as_fd)].into_iter().flatten() {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty()).at(
            Stage::Become,
            STEP_NAME,
            "fcntl(F_SETFD)",
        )?;
    }
    let numbers = [report.as_raw_fd(), filter.as_ref().map_or(0, AsRawFd::as_raw_fd)];
    Ok(sys::execveat(step.as_fd(), &arguments(program, numbers, workload), &workload.envp))
}

/// What the program in between takes (`main.rs`): the numbers are those of the report and of the
/// filter.
fn arguments(program: &CString, [report, filter]: [i32; 2], workload: &Workload) -> Vec<CString> {
    let number = |number: usize| CString::new(number.to_string()).unwrap_or_default();
    let [attribute, label] = workload.confinement.clone().unwrap_or_default();
    let length = number(label.as_bytes().len());
    let ours = [program.clone(), number(report as usize), number(filter as usize), attribute, label, length];
    ours.into_iter().chain(workload.argv.iter().cloned()).collect()
}

/// The filter as the program in between reads it: the flags in eight bytes, then the instructions.
fn filter_file(filter: &Filter) -> Result<OwnedFd> {
    const OBJECT: &str = "seccomp filter";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("squall-filter", flags).at(Stage::Become, OBJECT, "memfd_create")?;
    let mut bytes = u64::from(filter.flags().bits()).to_le_bytes().to_vec();
    bytes.extend(filter.program().iter().flat_map(|instruction| instruction.to_bytes()));
    write_all(file.as_fd(), &bytes).at(Stage::Become, OBJECT, "write")?;
    fcntl_add_seals(&file, SEALS).at(Stage::Become, OBJECT, "fcntl(F_ADD_SEALS)")?;
    rustix::fs::seek(&file, SeekFrom::Start(0)).at(Stage::Become, OBJECT, "lseek")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;

    /// What `exec_stub/main.rs` writes before an errno.
    const PROC_MARK: u8 = 0xfc;
    const ATTRIBUTE_MARK: u8 = 0xfb;
    const LABEL_MARK: u8 = 0xfa;

    /// The program in between as a file, which executes itself once more: without arguments enough
    /// it then ends with 64.
    struct Step(tempfile::TempDir);

    impl Step {
        fn new() -> Step {
            let (directory, file) = (tempfile::tempdir().unwrap(), file().unwrap());
            // By another process: one that this one has open for writing while it forks elsewhere
            // could not be executed.
            let memory = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
            let copied = Command::new("cp").arg(memory).arg(directory.path().join("step")).status().unwrap();
            assert!(copied.success());
            Step(directory)
        }

        /// Runs it behind a shell's script in a mount namespace of its own, with its report on
        /// standard output.
        fn run(&self, script: &str, attribute: &str, label: &str) -> Output {
            let root = rustix::process::geteuid().is_root();
            let mut command = Command::new("unshare");
            command.args((!root).then_some("--map-root-user"));
            // Mounts are made at `/proc` and below it alone. It is a mount everywhere, which `/` is
            // not in every chroot.
            command.args(["--mount", "--propagation", "unchanged", "sh", "-ec"]);
            command
                .arg(format!("mount --make-rprivate /proc\n{script}\nexec \"$0\" \"$@\""))
                .arg(self.0.path().join("step"));
            command.args(["1", "0", attribute, label, &label.len().to_string(), "workload"]).output().unwrap()
        }
    }

    fn message(mark: u8, errno: i32) -> Vec<u8> {
        [&[mark], errno.to_le_bytes().as_slice()].concat()
    }

    #[test]
    fn the_workload_is_executed_when_the_attribute_is_written_and_only_then() {
        let step = Step::new();
        // An attribute that every kernel has, and every process may set for itself.
        let written = step.run("", "self/oom_score_adj", "500");
        assert_eq!((written.status.code(), written.stdout), (Some(64), Vec::new()), "executed once more");
        let bound = "mount --bind /dev/null /proc/$$/oom_score_adj";
        let table = [
            ("", "self/oom_score_adj", "x", message(LABEL_MARK, libc::EINVAL)),
            ("", "self/none", "500", message(ATTRIBUTE_MARK, libc::ENOENT)),
            ("", "self/root/dev/null", "500", message(ATTRIBUTE_MARK, libc::EXDEV)),
            ("", "../dev/null", "500", message(ATTRIBUTE_MARK, libc::EXDEV)),
            (bound, "self/oom_score_adj", "500", message(ATTRIBUTE_MARK, libc::EXDEV)),
        ];
        for (script, attribute, label, said) in table {
            let output = step.run(script, attribute, label);
            assert_eq!((output.status.code(), output.stdout), (Some(1), said), "{script} {attribute} {label}");
        }
    }

    #[test]
    fn nothing_is_written_to_a_proc_that_is_none() {
        let step = Step::new();
        let tmpfs = "mount -t tmpfs none /proc; mkdir /proc/self; : >/proc/self/oom_score_adj";
        let output = step.run(tmpfs, "self/oom_score_adj", "500");
        assert_eq!((output.status.code(), output.stdout), (Some(1), message(PROC_MARK, 0)));
    }
}
