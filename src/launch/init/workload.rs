//! The last steps of init: find the program, and become it.
//!
//! libcontainer calls this when everything else is done: root, ids, groups, capabilities,
//! no_new_privs.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use rustix::fs::{Access, FileType, Mode, OFlags, access};
use rustix::io::Errno;

use super::exec_stub;
use super::interpreter;
use super::interpreter::Problem;
use super::terminal;
use crate::error::{Cause, Context, Error, ErrorKind, FileAspect};
use crate::host::kind_of_file;
use crate::launch::report::Reporter;
use crate::launch::rlimits;
use crate::seccomp::Filter;
use crate::stage::Stage;
use crate::sys::{self, ParentDeath};

/// Where a program is looked for when the environment has no PATH: what execvp of glibc uses.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The workload as it will be executed. Its environment goes to the kernel as the spec has it, in
/// order: libcontainer keeps it in a hash map and adds HOME.
#[derive(Clone)]
pub(crate) struct Workload {
    pub(crate) argv: Vec<CString>,
    pub(crate) envp: Vec<CString>,
    pub(crate) report: Rc<OwnedFd>,
    /// A byte comes from it when nothing is left that could be refused.
    pub(crate) admission: Rc<OwnedFd>,
    /// The program in between.
    pub(crate) step: Rc<OwnedFd>,
    /// What a worker of uid 0 is denied whatever its own filter says.
    pub(crate) root_filter: Option<Rc<Filter>>,
    /// The worker's filter, installed by the program in between, as the very last thing.
    pub(crate) filter: Option<Rc<Filter>>,
    /// The attribute that confines the worker from its exec on, below `/proc`, and what the program
    /// in between writes to it.
    pub(crate) confinement: Option<[CString; 2]>,
    /// Its end of a terminal of its own, which becomes its streams.
    pub(crate) terminal: Option<Rc<OwnedFd>>,
}

impl Executor for Workload {
    /// Returns only by ending the process: what went wrong is in the report, whole, where an error
    /// of this crate's would lose the errno.
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let reporter = Reporter(self.report.as_fd());
        let error = self.become_program(&reporter);
        reporter.fail(&error);
        sys::exit_now(1)
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

impl Workload {
    /// Returns only with why it could not.
    pub(in crate::launch) fn become_program(&self, reporter: &Reporter<'_>) -> Error {
        let program = match self.program() {
            Ok(program) => program,
            Err(error) => return error,
        };
        reporter.ready();
        if let Err(error) = super::worker::wait_for_admission(&self.admission) {
            return error;
        }
        reporter.enter(Stage::Become);
        if let Some(Err(error)) = self.terminal.as_deref().map(terminal::take) {
            return error;
        }
        // From here on the report pipe is what init dies by: the worker outlives its launch process
        // and its monitor.
        let _ = sys::on_parent_death(ParentDeath::Survive);
        rlimits::lower_files();
        sys::reset_dispositions();
        sys::unblock_signals();
        if let Some(Err(error)) = self.root_filter.as_deref().map(Filter::install) {
            return error;
        }
        exec_stub::become_it(&self.step, &program, self)
    }

    /// The path of the program, found the way execvp does; it has to be readable as well.
    fn program(&self) -> Result<CString, Error> {
        let name = &self.argv[0];
        if name.as_bytes().contains(&b'/') {
            return check(name.clone(), name);
        }
        let mut denied = None;
        for directory in self.search_path().split(|byte| *byte == b':') {
            let mut path = if directory.is_empty() { b".".to_vec() } else { directory.to_vec() };
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
            let Ok(path) = CString::new(path) else { continue };
            match check(path, name) {
                Ok(path) => return Ok(path),
                Err(error) if error.kind() == ErrorKind::ProgramNotFound => {}
                Err(error) => denied = denied.or(Some(error)),
            }
        }
        Err(denied.unwrap_or_else(|| {
            let path = String::from_utf8_lossy(self.search_path());
            let cause = Cause::NotFoundIn { places: path.split(':').map(str::to_owned).collect() };
            Error::new(ErrorKind::ProgramNotFound, Stage::Become, object(name), "search(PATH)", cause)
        }))
    }

    fn search_path(&self) -> &[u8] {
        let path = self.envp.iter().find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="));
        path.unwrap_or(DEFAULT_PATH.as_bytes())
    }
}

fn object(program: &CStr) -> String {
    format!("program '{}'", program.to_string_lossy())
}

/// The kernel gives the `/proc` entry of a process whose program its user cannot read to root, for
/// good: the supervisor would take it for a stranger's. Directories pass the check for execution,
/// so they are told apart here; and so are scripts, of which the kernel would not say what is
/// missing. `name` is what the caller called the program.
fn check(path: CString, name: &CStr) -> Result<CString, Error> {
    access(&path, Access::EXEC_OK).map_err(|errno| closed_to(&path, name, errno))?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::empty()).map_err(|errno| unreadable(&path, errno))?;
    let stat = rustix::fs::fstat(&file).at(Stage::Become, object(&path), "fstat")?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        other => {
            let (found, expected) = (kind_of_file(other), "a program");
            let error = Error::wrong_file(Stage::Become, object(&path), "stat", FileAspect::Type, found, expected);
            return Err(error.with_kind(ErrorKind::ProgramNotExecutable));
        }
    }
    match interpreter::problem(&file.into()) {
        None => Ok(path),
        Some(problem) => {
            let (kind, errno) = match problem {
                Problem::Missing(_) => (ErrorKind::ProgramNotFound, libc::ENOENT),
                Problem::Unreadable(_) => (ErrorKind::ProgramNotExecutable, libc::EACCES),
                Problem::TooLong => (ErrorKind::ProgramNotExecutable, libc::ENOEXEC),
                Problem::TooDeep => (ErrorKind::ProgramNotExecutable, libc::ELOOP),
            };
            let error = Error::system(Stage::Become, object(&path), "execve", crate::error::Errno(errno));
            Err(error.with_kind(kind).explain(problem.to_string()))
        }
    }
}

fn unreadable(path: &CStr, errno: Errno) -> Error {
    let error = refused(path, "open", errno.into());
    match errno {
        Errno::ACCESS => error.explain("the user may execute it but not read it, so its /proc entry would stay root's"),
        _ => error,
    }
}

/// A refusal. Where the user may not even search a directory on the way, that is the reason, and
/// nobody knows whether there is such a file: the program is then called what its caller called it.
fn closed_to(path: &CStr, name: &CStr, errno: Errno) -> Error {
    match closed_directory(path).filter(|_| errno == Errno::ACCESS) {
        Some(reason) => refused(name, "access(X_OK)", errno.into()).explain(reason),
        None => refused(path, "access(X_OK)", errno.into()),
    }
}

/// The first directory on the way that this process may not search. An image made of a private
/// directory has such a root: `mktemp -d` makes them with mode 0700.
fn closed_directory(path: &CStr) -> Option<String> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()));
    let above: Vec<&Path> = path.ancestors().skip(1).filter(|directory| !directory.as_os_str().is_empty()).collect();
    let closed = above.into_iter().rev().find(|directory| access(*directory, Access::EXEC_OK) == Err(Errno::ACCESS))?;
    let stat = rustix::fs::stat(closed).ok()?;
    let what = if closed == Path::new("/") { "the image's root directory" } else { "the directory" };
    let (mode, owner, group) = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
    Some(format!(
        "{what} '{}' has mode {mode:04o} and owner {owner}:{group}: the user may not search it",
        closed.display()
    ))
}

pub(in crate::launch) fn refused(program: &CStr, call: &str, error: std::io::Error) -> Error {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let error = Error::system(Stage::Become, object(program), call, crate::error::Errno(errno));
    match Errno::from_raw_os_error(errno) {
        Errno::NOENT if call == "execve" => {
            error.with_kind(ErrorKind::ProgramNotFound).explain("its interpreter does not exist in the image")
        }
        Errno::NOENT | Errno::NOTDIR => error.with_kind(ErrorKind::ProgramNotFound),
        Errno::NOEXEC => error
            .with_kind(ErrorKind::ProgramNotExecutable)
            .explain("not a program of this machine, nor a script with #!"),
        Errno::TOOBIG => error.explain("arguments and environment together exceed what the kernel takes"),
        _ => crate::layer::explain_unread(error).with_kind(ErrorKind::ProgramNotExecutable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(argv0: &str, path: &str) -> Workload {
        let (reading, writing) = rustix::pipe::pipe().unwrap();
        Workload {
            argv: vec![CString::new(argv0).unwrap()],
            envp: vec![CString::new(format!("PATH={path}")).unwrap()],
            report: Rc::new(writing),
            admission: Rc::new(reading.try_clone().unwrap()),
            step: Rc::new(reading),
            root_filter: None,
            filter: None,
            confinement: None,
            terminal: None,
        }
    }

    #[test]
    fn a_bare_name_is_searched_for_in_the_workloads_own_path() {
        assert_eq!(workload("sh", "/nowhere:/bin").program().unwrap().as_c_str(), c"/bin/sh");
        assert_eq!(workload("sh", "/nowhere").program().unwrap_err().kind(), ErrorKind::ProgramNotFound);
    }

    #[test]
    fn directories_and_plain_files_are_not_programs() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        for path in [directory.path().to_str().unwrap(), plain.to_str().unwrap()] {
            let error = workload(path, "/bin").program().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ProgramNotExecutable, "{error}");
        }
    }
}
