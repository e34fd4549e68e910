//! Trying features, one function each. None leaves anything behind; those that
//! [act](super::Effort::Act) expect a process of their own.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, ResolveFlags, memfd_create, open};
use rustix::io::Errno;
use rustix::mount::{MountFlags, OpenTreeFlags, mount};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::Presence;
use crate::cgroup::Layout;
use crate::root::staging;
use crate::sys::{self, Fork, MountAttr};

/// A kernel without a call says ENOSYS. A refusal comes from a kernel that has it, or from a filter
/// in between: then it is as good as absent to root, and nothing is known to others.
fn presence(answer: Result<(), Errno>) -> Presence {
    match answer {
        Ok(()) => Presence::Present,
        Err(Errno::PERM | Errno::ACCESS) if !rustix::process::geteuid().is_root() => {
            Presence::Untried("this user may not try it".to_owned())
        }
        Err(errno) => Presence::Absent(text_of(errno)),
    }
}

fn text_of(errno: Errno) -> String {
    match errno {
        Errno::NOSYS => "this kernel has no such call, or a filter hides it".to_owned(),
        errno => errno.to_string(),
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

fn top() -> Result<std::os::fd::OwnedFd, Errno> {
    open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Without cloning it is an open with O_PATH, which everybody may do.
pub(super) fn open_tree() -> Presence {
    presence(rustix::mount::open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC).map(drop))
}

/// Resolves `/` inside `/`.
pub(super) fn openat2() -> Presence {
    let inside = || {
        rustix::fs::openat2(top()?, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT).map(drop)
    };
    presence(inside())
}

/// Marks the last possible number, which nobody has open.
pub(super) fn close_range() -> Presence {
    presence(sys::close_on_exec_from(u32::MAX).map_err(|error| errno_of(&error)))
}

/// Asks for no change at all.
pub(super) fn mount_setattr() -> Presence {
    let nothing = || {
        let attr = MountAttr::default();
        sys::mount_setattr(top()?.as_fd(), false, attr).map_err(|error| errno_of(&error))
    };
    presence(nothing())
}

/// A child that ends at once.
pub(super) fn clone3() -> Presence {
    match sys::clone3(0, None) {
        Ok(Fork::Child) => sys::exit_now(0),
        Ok(Fork::Parent(child)) => {
            reap(child.pid);
            Presence::Present
        }
        Err(error) => presence(Err(errno_of(&error))),
    }
}

/// A child that ends at once, and is asked after only when it has been reaped.
pub(super) fn pidfd_exit() -> Presence {
    match sys::clone3(0, None) {
        Ok(Fork::Child) => sys::exit_now(7),
        Ok(Fork::Parent(child)) => {
            reap(child.pid);
            match sys::pidfd_wait_status(child.pidfd.as_fd()) {
                Some(status) if status == 7 << 8 => Presence::Present,
                Some(status) => Presence::Absent(format!("it tells of status {status} instead of {}", 7 << 8)),
                None => Presence::Absent("the kernel has forgotten the exit of a child that was reaped".to_owned()),
            }
        }
        Err(error) => presence(Err(errno_of(&error))),
    }
}

fn reap(pid: i32) {
    let pid = Pid::from_raw(pid);
    let _ = rustix::io::retry_on_intr(|| waitpid(pid, WaitOptions::empty()));
}

/// With a descriptor that is none: a kernel that knows the request says so before it looks at the
/// device.
pub(super) fn loop_configure() -> Presence {
    let devices = (0..256).map(|number| format!("/dev/loop{number}"));
    let Some(device) = devices.into_iter().find(|path| Path::new(path).exists()) else {
        return Presence::Untried("there is no loop device to ask".to_owned());
    };
    let device = match open(device, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(device) => device,
        Err(errno) => return Presence::Untried(format!("a loop device cannot be opened: {errno}")),
    };
    match sys::loop_configure_nothing(device.as_fd()).map_err(|error| errno_of(&error)) {
        Err(Errno::BADF) | Ok(()) => Presence::Present,
        Err(errno) => Presence::Absent(errno.to_string()),
    }
}

/// A memfd that may be executed, whatever `vm.memfd_noexec` is; 2 forbids it.
pub(super) fn memfd_exec() -> Presence {
    match memfd_create("squall-doctor", MemfdFlags::CLOEXEC | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => Presence::Absent("the flag is unknown to this kernel".to_owned()),
        other => presence(other.map(drop)),
    }
}

/// As many layers as a spec may have, in a mount namespace that ends with this process.
pub(super) fn overlay_of_many() -> Presence {
    const LAYERS: usize = 500;
    if let Err(error) = sys::unshare_mount_namespace() {
        return Presence::Untried(format!("a mount namespace of its own: {error}"));
    }
    if let Err(error) = staging::enter() {
        return Presence::Untried(error.to_string());
    }
    let names = (0..LAYERS).map(|index| index.to_string());
    for name in names.chain(["upper", "work", "root"].map(str::to_owned)) {
        if let Err(errno) = rustix::fs::mkdir(&name, Mode::from_raw_mode(0o700)) {
            return Presence::Untried(format!("mkdir: {errno}"));
        }
    }
    let options = std::ffi::CString::new(staging::overlay_options(LAYERS, "upper", "work")).unwrap_or_default();
    presence(mount("overlay", "root", "overlay", MountFlags::NODEV | MountFlags::NOSUID, options.as_c_str()))
}

pub(super) fn cgroup_kill() -> Presence {
    file_of_v2("cgroup.kill")
}

pub(super) fn memory_peak() -> Presence {
    file_of_v2("memory.peak")
}

pub(super) fn pids_peak() -> Presence {
    file_of_v2("pids.peak")
}

/// Whether a cgroup of v2 has the file. The root has few, so one below it is looked at; for a
/// controller's file one that has the controller.
fn file_of_v2(file: &str) -> Presence {
    let Some(unified) = Layout::detect().ok().and_then(|layout| layout.unified().map(|one| one.mount_point.clone()))
    else {
        return Presence::Untried("there is no cgroup v2 hierarchy".to_owned());
    };
    let controller = file.split('.').next().filter(|controller| *controller != "cgroup");
    let offers = |directory: &Path, controller: &str| {
        let listed = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
        listed.split_whitespace().any(|word| word == controller)
    };
    if let Some(controller) = controller.filter(|controller| !offers(Path::new(&unified), controller)) {
        return Presence::Absent(format!("the controller {controller} is not in the v2 hierarchy"));
    }
    let has_controller = |directory: &Path| controller.is_none_or(|controller| offers(directory, controller));
    let mut seen =
        groups_below(Path::new(&unified)).into_iter().filter(|directory| has_controller(directory)).peekable();
    if seen.peek().is_none() {
        return Presence::Untried("there is no v2 cgroup to look into".to_owned());
    }
    match seen.any(|directory| directory.join(file).exists()) {
        true => Presence::Present,
        false => Presence::Absent(format!("no v2 cgroup has a file {file}")),
    }
}

/// The mount point itself (which is no root inside a container) and the groups right below it.
fn groups_below(top: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(top).into_iter().flatten().flatten();
    let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
    let own = Some(top.to_owned()).filter(|top| top.join("cgroup.type").exists());
    own.into_iter().chain(below).collect()
}
