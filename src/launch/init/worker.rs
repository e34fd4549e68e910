//! What a container's first process and a program that is executed in it later have alike.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::unistd::{Gid, setgroups};
use rustix::fs::{OFlags, ResolveFlags};
use rustix::process::fchdir;

use super::terminal;
use super::workload::Workload;
use crate::crash;
use crate::error::{Context, Error, Result};
use crate::lsm::Confinement;
use crate::request::LaunchSpec;
use crate::root::devices;
use crate::root::target::open_in_root;
use crate::seccomp::Filter;
use crate::stage::Stage;
use crate::stdio::Console;
use crate::sys;

/// What nothing returns that ends by becoming another program.
pub(in crate::launch) enum Never {}

/// What it is to become, and by what.
pub(in crate::launch) struct Worker<'a> {
    pub(in crate::launch) spec: &'a LaunchSpec,
    /// A byte comes from it when it is in its cgroups, and one when it may become the workload.
    pub(in crate::launch) admission: &'a OwnedFd,
    /// The program in between.
    pub(in crate::launch) step: &'a OwnedFd,
    /// Its standard streams.
    pub(in crate::launch) stdio: [BorrowedFd<'a>; 3],
    /// In their place, a terminal.
    pub(in crate::launch) console: Option<&'a Console>,
    /// The system calls that it may make, and what it may not in any case.
    pub(in crate::launch) filter: Option<&'a Filter>,
    pub(in crate::launch) root_filter: Option<&'a Filter>,
}

impl Worker<'_> {
    /// Closes what this process has from its parent, but for its own and for `others`.
    pub(in crate::launch) fn close_all_but<'f>(
        &'f self,
        report: &'f OwnedFd,
        others: impl IntoIterator<Item = BorrowedFd<'f>>,
    ) {
        let own = [self.step.as_fd(), self.admission.as_fd(), report.as_fd()];
        let others = others.into_iter().chain(self.console.map(|console| console.socket.as_fd()));
        sys::close_all_but(own.into_iter().chain(self.stdio).chain(others).chain(crash::descriptors()));
    }

    /// Gives the streams their numbers.
    pub(in crate::launch) fn take_streams(&self) -> Result<()> {
        // Copies first: the streams may have the very numbers that they are moved over.
        let copies = self.stdio.map(|stream| rustix::io::fcntl_dupfd_cloexec(stream, 3));
        for (target, stream) in copies.into_iter().enumerate() {
            let object = || format!("standard stream {target}");
            let stream = stream.at(Stage::Clone, object(), "fcntl(F_DUPFD)")?;
            sys::move_to(stream.as_fd(), target as i32).at(Stage::Clone, object(), "dup2")?;
        }
        Ok(())
    }

    /// Its terminal, where it is to have one, made below this root.
    pub(in crate::launch) fn make_terminal(&self, root: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
        self.console.map(|console| terminal::make(root, console, &self.spec.user)).transpose()
    }

    /// What is executed in the end.
    pub(in crate::launch) fn workload(
        &self,
        home: Option<String>,
        terminal: Option<OwnedFd>,
        report: &Rc<OwnedFd>,
    ) -> Result<Workload> {
        let spec = self.spec;
        let step = self.step.try_clone().at(Stage::Init, "squall-step", "fcntl(F_DUPFD)")?;
        let strings = |strings: Vec<String>| -> Result<Vec<CString>> {
            let texts: std::result::Result<_, _> = strings.into_iter().map(CString::new).collect();
            texts.map_err(|_| Error::invalid_field("workload", "argument", "it holds a NUL byte"))
        };
        let environment =
            spec.env.variables().iter().map(|variable| variable.as_str().to_owned()).chain(home).collect();
        let confinement = Confinement::of(spec)
            .map(|confinement| strings(vec![confinement.attribute(), confinement.text()]))
            .transpose()?
            .and_then(|words| <[CString; 2]>::try_from(words).ok());
        Ok(Workload {
            admission: Rc::new(self.admission.try_clone().at(Stage::Init, "admission", "fcntl(F_DUPFD)")?),
            argv: strings(spec.args.clone())?,
            envp: strings(environment)?,
            report: Rc::clone(report),
            step: Rc::new(step),
            root_filter: self.root_filter.cloned().map(Rc::new),
            filter: self.filter.cloned().map(Rc::new),
            confinement,
            terminal: terminal.map(Rc::new),
        })
    }
}

/// Waits for the launch process.
pub(in crate::launch) fn wait_for_admission(admission: &OwnedFd) -> Result<()> {
    let mut byte = [0];
    match rustix::io::retry_on_intr(|| rustix::io::read(admission, &mut byte)).at(Stage::Join, "admission", "read")? {
        0 => Err(Error::process_ended(Stage::Join, "admission", "read", None, "the launch process has ended")),
        _ => Ok(()),
    }
}

/// What is opened here is what is entered: libcontainer would go by the path, and only say that
/// chdir failed. No link leads out by a descriptor that this process holds.
pub(in crate::launch) fn open_working_directory(root: BorrowedFd<'_>, spec: &LaunchSpec) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_MAGICLINKS;
    open_in_root(root, spec.cwd.as_str(), flags, resolve).map_err(|errno| {
        Error::system(Stage::Mounts, working_directory(spec), "openat2(RESOLVE_IN_ROOT)", errno)
            .explain("the image and its mounts have no such directory")
    })
}

/// As root: the user need not be able to search what is above it.
pub(in crate::launch) fn enter_working_directory(directory: &OwnedFd, spec: &LaunchSpec) -> Result<()> {
    fchdir(directory).at(Stage::Init, working_directory(spec), "fchdir")
}

fn working_directory(spec: &LaunchSpec) -> String {
    format!("working directory '{}'", spec.cwd.as_str())
}

/// The user's groups and no others. libcontainer leaves the caller's where a list is empty; these
/// are never.
pub(in crate::launch) fn set_groups(spec: &LaunchSpec) -> Result<()> {
    let groups: Vec<Gid> = spec.user.groups().iter().map(|group| Gid::from_raw(*group)).collect();
    setgroups(&groups).map_err(|errno| rustix::io::Errno::from_raw_os_error(errno as i32)).at(
        Stage::Init,
        "groups",
        "setgroups",
    )
}

/// The container's own null device takes the place of the host's, which nothing could be done with
/// from within but to hold it.
pub(in crate::launch) fn reopen_null_streams() -> Result<()> {
    let null = devices::open_null_of_root()?;
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for (number, stream) in streams.into_iter().enumerate() {
        let object = || format!("standard stream {number}");
        if devices::is_null(stream).at(Stage::Init, object(), "fstat")? {
            sys::move_to(null.as_fd(), number as i32).at(Stage::Init, object(), "dup2")?;
        }
    }
    Ok(())
}
