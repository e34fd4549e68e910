//! The container's first process, from its clone to the workload.
//!
//! Who we are: a copy of the launch process, root with all of its capabilities, pid 1 of a new pid
//! namespace, in new mount and ipc namespaces. One thread, so everything may be used. What we still
//! hold of the host: the descriptors in [`Init`], and its mount tree until the staging file system
//! is entered. Nothing here returns on success, and every failure goes up the report pipe.

pub(super) mod exec_stub;
pub(super) mod home;
pub(super) mod interpreter;
mod terminal;
pub(super) mod worker;
pub(super) mod workload;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcgroups::common::CgroupConfig;
use libcontainer::notify_socket::{NotifyListener, NotifySocket};
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::channel;
use libcontainer::process::init::container_init_process;
use libcontainer::syscall::syscall::SyscallType;
use rustix::fs::Mode;
use rustix::process::umask;

use super::report::Reporter;
use crate::cgroup::Layout;
use crate::error::{Cause, Context, Error, ErrorKind, Result};
use crate::layer::LayerMount;
use crate::oci;
use crate::request::Network;
use crate::root::binds::Sources;
use crate::root::upper::Above;
use crate::root::{masks, mount_steps, mounts, staging};
use crate::stage::Stage;
use crate::sys::{self, ParentDeath};
use worker::{Never, Worker};
use workload::Workload;

/// The notify socket of libcontainer, on the staging file system, where nothing else is.
const NOTIFY_SOCKET: &str = "/notify.sock";

/// Everything that init needs, made by the launch process before the clone.
pub(crate) struct Init<'a> {
    pub(crate) worker: Worker<'a>,
    pub(crate) layout: &'a Layout,
    pub(crate) layers: &'a [LayerMount],
    pub(crate) sources: &'a Sources,
    /// The detached mount that takes a writable root's writes.
    pub(crate) above: Option<&'a Above>,
    /// The paths of this machine that no worker sees.
    pub(crate) masked: &'a [String],
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

fn steps(init: &Init<'_>, report: &Rc<OwnedFd>) -> Result<Never> {
    let (reporter, spec) = (Reporter(report.as_fd()), init.worker.spec);
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
    let mounted = mounts::mount_all(root.as_fd(), &mount_steps::all(spec, init.layout), init.sources)?;
    let root = {
        let copy = staging::copy_tree(root.as_fd(), &spec.root)?;
        masks::protect(&mounted.in_copy(copy.as_fd())?, &oci::READ_ONLY_PATHS, init.masked)?;
        copy
    };
    let working_directory = worker::open_working_directory(root.as_fd(), spec)?;
    let home = home::variable(root.as_fd(), spec);
    let terminal = init.worker.make_terminal(root.as_fd())?;

    reporter.enter(Stage::Join);
    wait_for_cgroups(init)?;

    reporter.enter(Stage::Init);
    let workload = init.worker.workload(home, terminal, report)?;
    run_libcontainer(init, root, &working_directory, workload)
}

/// The launch process's own: its caller's socket, the claim, layer files, other cgroups. Nothing
/// that init does later could let them out.
fn close_what_is_not_needed(init: &Init<'_>, report: &OwnedFd) {
    let layers = init.layers.iter().map(|layer| layer.mount.as_fd());
    let sources = init.sources.binds.iter().chain(&init.sources.cgroups).map(|source| source.mount.as_fd());
    let above = init.above.map(|above| above.mount.as_fd());
    init.worker.close_all_but(report, layers.chain(sources).chain(above));
}

/// The launch process moves init while init builds its root, because the first move has to wait for
/// the kernel. The cgroup namespace comes after it: where a process is when it unshares becomes its
/// root.
fn wait_for_cgroups(init: &Init<'_>) -> Result<()> {
    worker::wait_for_admission(init.worker.admission)?;
    sys::unshare_cgroup_namespace().at(Stage::Join, "cgroup namespace", "unshare")
}

/// What cannot be made clean before the clone, or is the worker's alone.
fn start_clean(init: &Init<'_>) -> Result<()> {
    sys::join_new_session_keyring().at(Stage::Clone, "session keyring", "keyctl(JOIN_SESSION_KEYRING)")?;
    if init.worker.spec.network == Network::None {
        sys::bring_loopback_up().at(Stage::Clone, "lo", "ioctl(SIOCSIFFLAGS)")?;
    }
    // Directories and mount points get the modes they are made with; libcontainer sets the worker's
    // umask.
    umask(Mode::empty());
    init.worker.take_streams()
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
    let spec = init.worker.spec;
    worker::enter_working_directory(working_directory, spec)?;
    worker::reopen_null_streams()?;
    worker::set_groups(spec)?;
    let args = ContainerArgs {
        // The descriptor is for a caller that waits, and there is none.
        container_type: ContainerType::TenantContainer { exec_notify_fd: -1 },
        syscall: SyscallType::Linux,
        spec: Rc::new(oci::init_document(spec)?),
        rootfs: PathBuf::from("/"),
        console_socket: None,
        notify_listener: listener,
        preserve_fds: 0,
        container: None,
        user_ns_config: None,
        cgroup_config: CgroupConfig {
            cgroup_path: PathBuf::from(spec.cgroup.as_str()),
            systemd_cgroup: false,
            container_name: spec.id.to_string(),
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
