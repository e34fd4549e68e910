//! The container's first process, from its clone to the workload.
//!
//! Who we are: a copy of the launch process, root with all of its capabilities, pid 1 of a new pid
//! namespace, in new mount and ipc namespaces. One thread, so everything may be used. What we still
//! hold of the host: the descriptors in [`Init`], and its mount tree until the staging file system
//! is entered. Nothing here returns on success, and every failure goes up the report pipe.

pub(super) mod exec_stub;
pub(super) mod home;
pub(super) mod interpreter;
pub(super) mod workload;

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcgroups::common::CgroupConfig;
use libcontainer::notify_socket::{NotifyListener, NotifySocket};
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::channel;
use libcontainer::process::init::container_init_process;
use libcontainer::syscall::syscall::SyscallType;
use nix::unistd::{Gid, setgroups};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::process::{fchdir, umask};

use super::report::Reporter;
use crate::cgroup::Layout;
use crate::crash;
use crate::error::{Cause, Context, Error, ErrorKind, Result};
use crate::layer::LayerMount;
use crate::lsm::Confinement;
use crate::oci;
use crate::request::{LaunchSpec, Network};
use crate::root::binds::Sources;
use crate::root::target::open_in_root;
use crate::root::upper::Above;
use crate::root::{devices, masks, mount_steps, mounts, staging};
use crate::seccomp::Filter;
use crate::stage::Stage;
use crate::sys::{self, ParentDeath};
use workload::Workload;

/// The notify socket of libcontainer, on the staging file system, where nothing else is.
const NOTIFY_SOCKET: &str = "/notify.sock";

/// Everything that init needs, made by the launch process before the clone.
pub(crate) struct Init<'a> {
    pub(crate) spec: &'a LaunchSpec,
    pub(crate) layout: &'a Layout,
    /// A byte comes from it when init is in its cgroups, and one when it may become the workload.
    pub(crate) admission: &'a OwnedFd,
    pub(crate) layers: &'a [LayerMount],
    pub(crate) sources: &'a Sources,
    /// The detached mount that takes a writable root's writes.
    pub(crate) above: Option<&'a Above>,
    /// The program between init and the workload.
    pub(crate) step: &'a OwnedFd,
    /// The worker's standard streams.
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// The paths of this machine that no worker sees.
    pub(crate) masked: &'a [String],
    /// The system calls that the worker may make, and what it may not in any case.
    pub(crate) filter: Option<&'a Filter>,
    pub(crate) root_filter: Option<&'a Filter>,
}

/// Becomes the workload, or reports why not and ends this process.
pub(crate) fn become_workload(init: &Init<'_>, report: OwnedFd) -> ! {
    let report = Rc::new(report);
    let error = match steps(init, &report) {
        Err(error) => error,
        Ok(never) => match never {},
    };
    Reporter(report.as_fd()).fail(&error);
    sys::exit_now(1)
}

enum Never {}

fn steps(init: &Init<'_>, report: &Rc<OwnedFd>) -> Result<Never> {
    let reporter = Reporter(report.as_fd());
    reporter.enter(Stage::Clone);
    close_what_is_not_needed(init, report);
    // Should the launch process be killed, nobody would ever watch this container. Changing ids
    // ends this; the report pipe takes over.
    sys::on_parent_death(ParentDeath::Kill).at(Stage::Clone, "init", "prctl(PR_SET_PDEATHSIG)")?;
    start_clean(init)?;

    reporter.enter(Stage::Root);
    staging::enter()?;
    let root = staging::mount_overlay(&staging::OverlayParts {
        layers: init.layers.iter().map(|layer| layer.mount.as_fd()).collect(),
        above: init.above.map(|above| above.mount.as_fd()),
    })?;

    reporter.enter(Stage::Mounts);
    let mounted = mounts::mount_all(root.as_fd(), &mount_steps::all(init.spec, init.layout), init.sources)?;
    let root = {
        let copy = staging::copy_tree(root.as_fd(), &init.spec.root)?;
        masks::protect(&mounted.in_copy(copy.as_fd())?, &oci::READ_ONLY_PATHS, init.masked)?;
        copy
    };
    let working_directory = open_working_directory(root.as_fd(), init.spec)?;
    let home = home::variable(root.as_fd(), init.spec);

    reporter.enter(Stage::Join);
    wait_for_cgroups(init)?;

    reporter.enter(Stage::Init);
    let workload = workload(init, home, report)?;
    run_libcontainer(init, root, &working_directory, workload)
}

/// The launch process's own: its caller's socket, the claim, layer files, other cgroups. Nothing
/// that init does later could let them out.
fn close_what_is_not_needed(init: &Init<'_>, report: &OwnedFd) {
    let layers = init.layers.iter().map(|layer| layer.mount.as_fd());
    let sources = init.sources.binds.iter().chain(&init.sources.cgroups).map(|source| source.mount.as_fd());
    let others = init.above.map(|above| above.mount.as_fd()).into_iter().chain([init.step.as_fd()]);
    let kept = layers.chain(sources).chain(others).chain(init.stdio).chain([init.admission.as_fd(), report.as_fd()]);
    sys::close_all_but(kept.chain(crash::descriptors()));
}

/// The launch process moves init while init builds its root, because the first move has to wait for
/// the kernel. The cgroup namespace comes after it: where a process is when it unshares becomes its
/// root.
fn wait_for_cgroups(init: &Init<'_>) -> Result<()> {
    wait_for_admission(init.admission)?;
    sys::unshare_cgroup_namespace().at(Stage::Join, "cgroup namespace", "unshare")
}

/// Waits for the launch process.
fn wait_for_admission(admission: &OwnedFd) -> Result<()> {
    let mut byte = [0];
    match rustix::io::retry_on_intr(|| rustix::io::read(admission, &mut byte)).at(Stage::Join, "admission", "read")? {
        0 => Err(Error::process_ended(Stage::Join, "admission", "read", None, "the launch process has ended")),
        _ => Ok(()),
    }
}

/// What cannot be made clean before the clone, or is the worker's alone.
fn start_clean(init: &Init<'_>) -> Result<()> {
    sys::join_new_session_keyring().at(Stage::Clone, "session keyring", "keyctl(JOIN_SESSION_KEYRING)")?;
    if init.spec.network == Network::None {
        sys::bring_loopback_up().at(Stage::Clone, "lo", "ioctl(SIOCSIFFLAGS)")?;
    }
    // Directories and mount points get the modes they are made with; libcontainer sets the worker's
    // umask.
    umask(Mode::empty());
    // Copies first: the streams may have the very numbers that they are moved over.
    let copies = init.stdio.map(|stream| rustix::io::fcntl_dupfd_cloexec(stream, 3));
    for (target, stream) in copies.into_iter().enumerate() {
        let stream = stream.at(Stage::Clone, format!("standard stream {target}"), "fcntl(F_DUPFD)")?;
        sys::move_to(stream.as_fd(), target as i32).at(Stage::Clone, format!("standard stream {target}"), "dup2")?;
    }
    Ok(())
}

/// What is opened here is what is entered: libcontainer would go by the path, and only say that
/// chdir failed.
fn open_working_directory(root: BorrowedFd<'_>, spec: &LaunchSpec) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_MAGICLINKS;
    let object = || format!("working directory '{}'", spec.cwd.as_str());
    open_in_root(root, spec.cwd.as_str(), flags, resolve).map_err(|errno| {
        Error::system(Stage::Mounts, object(), "openat2(RESOLVE_IN_ROOT)", errno)
            .explain("the image and its mounts have no such directory")
    })
}

fn workload(init: &Init<'_>, home: Option<String>, report: &Rc<OwnedFd>) -> Result<Workload> {
    let spec = init.spec;
    let step = init.step.try_clone().at(Stage::Init, "squall-step", "fcntl(F_DUPFD)")?;
    let strings = |strings: Vec<String>| -> Result<Vec<CString>> {
        let texts: std::result::Result<_, _> = strings.into_iter().map(CString::new).collect();
        texts.map_err(|_| Error::invalid_field("workload", "argument", "it holds a NUL byte"))
    };
    let environment = spec.env.variables().iter().map(|variable| variable.as_str().to_owned()).chain(home).collect();
    let confinement = Confinement::of(spec)
        .map(|confinement| strings(vec![confinement.attribute(), confinement.text()]))
        .transpose()?
        .and_then(|words| <[CString; 2]>::try_from(words).ok());
    Ok(Workload {
        admission: Rc::new(init.admission.try_clone().at(Stage::Init, "admission", "fcntl(F_DUPFD)")?),
        argv: strings(spec.args.clone())?,
        envp: strings(environment)?,
        report: Rc::clone(report),
        step: Rc::new(step),
        root_filter: init.root_filter.cloned().map(Rc::new),
        filter: init.filter.cloned().map(Rc::new),
        confinement,
    })
}

/// The user's groups and no others. libcontainer leaves the caller's where a list is empty; these
/// are never.
fn set_groups(spec: &LaunchSpec) -> Result<()> {
    let groups: Vec<Gid> = spec.user.groups().iter().map(|group| Gid::from_raw(*group)).collect();
    setgroups(&groups).map_err(|errno| rustix::io::Errno::from_raw_os_error(errno as i32)).at(
        Stage::Init,
        "groups",
        "setgroups",
    )
}

/// The container's own null device takes the place of the host's, which nothing could be done with
/// from within but to hold it.
fn reopen_null_streams() -> Result<()> {
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

/// Goes into the finished root and hands over to libcontainer: uts namespace and host name, working
/// directory, ids, capabilities, no_new_privs, descriptors; its last step is our executor.
///
/// It is told to make a process of a container that exists ("tenant"), which is true by now: the
/// other way it would make the root's mounts once more, and devices and masked paths that are made
/// (`root`).
fn run_libcontainer(init: &Init<'_>, root: OwnedFd, working_directory: &OwnedFd, workload: Workload) -> Result<Never> {
    const OBJECT: &str = "init";
    let failed = |call: &'static str| move |error: &dyn std::error::Error| Error::libcontainer(OBJECT, call, error);
    let (mut main_sender, _main_receiver) = channel::main_channel().map_err(|error| failed("main_channel")(&error))?;
    let (_init_sender, mut init_receiver) = channel::init_channel().map_err(|error| failed("init_channel")(&error))?;
    // libcontainer waits for somebody to connect before it executes the workload. We do,
    // beforehand: the word waits in the backlog.
    let listener =
        NotifyListener::new(Path::new(NOTIFY_SOCKET)).map_err(|error| failed("NotifyListener::new")(&error))?;
    NotifySocket::new(NOTIFY_SOCKET)
        .notify_container_start()
        .map_err(|error| failed("notify_container_start")(&error))?;
    // The socket stays behind on the staging file system, and is open.
    staging::leave(root.as_fd())?;
    drop(root);
    // As root: the user need not be able to search what is above it.
    fchdir(working_directory).at(Stage::Init, format!("working directory '{}'", init.spec.cwd.as_str()), "fchdir")?;
    reopen_null_streams()?;
    set_groups(init.spec)?;
    let args = ContainerArgs {
        // The descriptor is for a caller that waits, and there is none.
        container_type: ContainerType::TenantContainer { exec_notify_fd: -1 },
        syscall: SyscallType::Linux,
        spec: Rc::new(oci::init_document(init.spec)?),
        rootfs: PathBuf::from("/"),
        console_socket: None,
        notify_listener: listener,
        preserve_fds: 0,
        container: None,
        user_ns_config: None,
        cgroup_config: CgroupConfig {
            cgroup_path: PathBuf::from(init.spec.cgroup.as_str()),
            systemd_cgroup: false,
            container_name: init.spec.id.to_string(),
        },
        detached: true,
        executor: Box::new(workload),
        no_pivot: false,
        stdin: None,
        stdout: None,
        stderr: None,
        as_sibling: false,
        pid_file: None,
    };
    match container_init_process(&args, &mut main_sender, &mut init_receiver) {
        Err(error) => Err(failed("container_init_process")(&error)),
        Ok(()) => {
            let cause = Cause::Libcontainer("it returned".to_owned());
            Err(Error::new(ErrorKind::System, Stage::Init, OBJECT, "container_init_process", cause))
        }
    }
}
