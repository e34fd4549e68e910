//! The launch process's last act: to become the monitor.
//!
//! What the monitor needs is made while init works ([`Prepared`]), handed over as descriptors and
//! one text in a memfd ([`Watched`]), and then this process executes the monitor's program, which
//! keeps its pid and with it its child.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, fallocate, memfd_create, openat};
use rustix::io::Errno;
use rustix::process::pidfd_send_signal;
use rustix::thread::{Gid, set_thread_groups};

use super::job::Goal;
use super::place::Place;
use crate::cgroup::{Cgroup, CgroupPath, Controller, Kind, Layout, oom_eventfd};
use crate::crash::{self, Role};
use crate::error::{Context, Result};
use crate::host::{ClockId, nanoseconds};
use crate::monitor;
use crate::monitor::client::SOCKET;
use crate::monitor::handover::{
    CgroupKind, CgroupLeaf, ExitFile, HANDOVER_FD, Handover, NOT_STARTED_NAME, OomKind, OomWatch, RESERVED_BYTES,
    RESERVED_NAME,
};
use crate::monitor::list::List;
use crate::monitor::protocol::Signal;
use crate::monitor::step::Terms;
use crate::packet_socket;
use crate::request::OnExit;
use crate::stage::Stage;
use crate::state::claim::LockedDirectory;
use crate::sys::{self, Cloned};

/// What the monitor needs and does not depend on how init fares.
pub(super) struct Prepared {
    pub(super) directory: LockedDirectory,
    program: OwnedFd,
    socket: OwnedFd,
}

/// How a container that is created will be started.
pub(super) struct Gate {
    /// A byte lets init become the workload.
    pub(super) admission: OwnedFd,
    /// What init says of it.
    pub(super) report: OwnedFd,
}

impl Prepared {
    pub(super) fn make(directory: LockedDirectory, watched: &str, goal: Goal) -> Result<Prepared> {
        let object = format!("monitor of {watched}");
        reserve(&directory, &object, RESERVED_NAME)?;
        if goal == Goal::Create {
            reserve(&directory, &object, NOT_STARTED_NAME)?;
        }
        let socket = packet_socket::listen_in(directory.open.as_fd(), SOCKET).at(
            Stage::Monitor,
            &object,
            "bind(monitor.sock)",
        )?;
        let program =
            program_file().at(Stage::Monitor, &object, "memfd_create").map_err(|error| match error.errno() {
                Some(libc::EACCES) => error.explain("the sysctl vm.memfd_noexec is 2; the monitor needs 0 or 1"),
                _ => error,
            })?;
        Ok(Prepared { directory, program, socket })
    }
}

/// Takes the room for a file of the monitor's, while a launch can still fail for want of it.
fn reserve(directory: &LockedDirectory, object: &str, name: &CStr) -> Result<()> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let call = |call: &str| format!("{call}({})", name.to_string_lossy());
    let file =
        openat(&directory.open, name, flags, Mode::RUSR | Mode::WUSR).at(Stage::Monitor, object, &call("open"))?;
    match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, RESERVED_BYTES as u64) {
        // Not every file system can promise room.
        Err(Errno::OPNOTSUPP) => Ok(()),
        other => other.at(Stage::Monitor, object, &call("fallocate")),
    }
}

/// The monitor's program in a file of its own, without a name: there is nothing to install, and
/// nothing to find by a path.
fn program_file() -> std::io::Result<OwnedFd> {
    let name = "squall-monitor";
    // Before 6.3 every memfd can be executed, and the flag is unknown.
    let file = match memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => memfd_create(name, MemfdFlags::CLOEXEC),
        other => other,
    }?;
    write_all(file.as_fd(), monitor::PROGRAM)?;
    // Out of the way of the handover's own number.
    Ok(rustix::io::fcntl_dupfd_cloexec(file, HANDOVER_FD + 1)?)
}

/// Writes all of it.
pub(super) fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::write(file, bytes)?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// A process and everything its monitor is given.
pub(super) struct Watched {
    pub(super) id: String,
    pub(super) boot_id: String,
    pub(super) created_unix_ns: u64,
    /// 0: it has not been started.
    pub(super) started_boot_ns: u64,
    /// How long it may run.
    pub(super) timeout: Option<Duration>,
    pub(super) stop_signal: i32,
    pub(super) on_exit: OnExit,
    pub(super) prepared: Prepared,
    pub(super) child: Cloned,
    /// What ends with it; nothing but the process itself where it is not a container's first one.
    pub(super) container: Option<Whole>,
    /// `None`: it runs.
    pub(super) gate: Option<Gate>,
    /// The pipes of a log that is copied.
    pub(super) output: Vec<OwnedFd>,
}

/// A container as its monitor sees it.
pub(super) struct Whole {
    pub(super) cgroup: Cgroup,
    pub(super) upper: Option<OwnedFd>,
    pub(super) oom: Vec<Watch>,
    /// Where its exit record is written once more.
    pub(super) exit_file: Option<Place>,
}

impl Watched {
    /// Executes the monitor. Returns only if that fails, after ending what was to be watched: its
    /// end would never be known.
    pub(super) fn become_monitor(self) -> i32 {
        if self.execute().is_err() {
            match &self.container {
                Some(container) => drop(container.cgroup.kill_all()),
                None => drop(pidfd_send_signal(&self.child.pidfd, rustix::process::Signal::KILL)),
            }
        }
        1
    }

    fn execute(&self) -> Result<()> {
        crash::point(Role::Launch, Stage::Watch);
        let object = format!("monitor of '{}'", self.id);
        // Nothing crosses but what is made to, below.
        sys::close_on_exec_from(0).at(Stage::Monitor, &object, "close_range")?;
        let inherited = |fd: BorrowedFd<'_>| inherit(fd).at(Stage::Monitor, &object, "fcntl(F_DUPFD)");
        let pidfd = inherited(self.child.pidfd.as_fd())?;
        let directory = inherited(self.prepared.directory.open.as_fd())?;
        let socket = inherited(self.prepared.socket.as_fd())?;
        let inherited_if = |fd: Option<&OwnedFd>| fd.map(|fd| inherited(fd.as_fd())).transpose();
        let upper = inherited_if(self.container.as_ref().and_then(|container| container.upper.as_ref()))?;
        let gate = inherited_if(self.gate.as_ref().map(|gate| &gate.admission))?;
        let report = inherited_if(self.gate.as_ref().map(|gate| &gate.report))?;
        let exit_file = self.container.as_ref().and_then(|container| container.exit_file.as_ref());
        let exit_directory = exit_file.map(|place| inherited(place.directory.as_fd())).transpose()?;
        let exit_name = exit_file.map(|place| CString::new(place.name.as_str()).unwrap_or_default());
        let exit_user = exit_file.and_then(|place| place.user.as_ref());
        if let Some(user) = exit_user {
            // Its uid is root's, to whom groups give nothing; they are for the one who writes the
            // file, and too many for the handover.
            let groups: Vec<Gid> = user.groups().iter().map(|gid| Gid::from_raw(*gid)).collect();
            set_thread_groups(&groups).at(Stage::Monitor, &object, "setgroups")?;
        }
        let mut watches = List::new();
        let mut kept = Vec::new();
        for watch in self.container.iter().flat_map(|container| &container.oom) {
            let fd = inherited(watch.fd.as_fd())?;
            let entry = OomWatch {
                fd: fd.as_raw_fd(),
                kind: watch.kind,
                baseline: watch.baseline,
                ancestor: watch.ancestor.as_deref(),
            };
            // More ancestors than there is room for: those further up go unwatched.
            let _ = watches.push(entry);
            kept.push(fd);
        }
        let output: Vec<OwnedFd> = self.output.iter().map(|pipe| inherited(pipe.as_fd())).collect::<Result<_>>()?;
        let held: Vec<i32> = output.iter().map(AsRawFd::as_raw_fd).collect();
        let paths = self.container.as_ref().map(|container| leaf_paths(&container.cgroup)).unwrap_or_default();
        let mut cgroups = List::new();
        for (kind, path) in &paths {
            let _ = cgroups.push(CgroupLeaf { kind: *kind, path });
        }
        let removal = match self.on_exit {
            OnExit::Keep => None,
            OnExit::Remove => CString::new(self.prepared.directory.path.as_os_str().as_encoded_bytes()).ok(),
        };
        let handover = Handover {
            id: &self.id,
            boot_id: &self.boot_id,
            pid: self.child.pid.unsigned_abs(),
            pidfd: pidfd.as_raw_fd(),
            directory: directory.as_raw_fd(),
            socket: socket.as_raw_fd(),
            gate: gate.as_ref().map(AsRawFd::as_raw_fd),
            report: report.as_ref().map(AsRawFd::as_raw_fd),
            upper: upper.as_ref().map(AsRawFd::as_raw_fd),
            removal: removal.as_deref(),
            exit_file: exit_directory.as_ref().zip(exit_name.as_deref()).map(|(directory, name)| ExitFile {
                directory: directory.as_raw_fd(),
                user: exit_user.map(|user| (user.uid(), user.gid())),
                name,
            }),
            owner_uid: 0,
            terms: self.terms(),
            created_unix_ns: self.created_unix_ns,
            started_unix_ns: nanoseconds(ClockId::Realtime),
            started_boot_ns: self.started_boot_ns,
            watches,
            cgroups,
            held: List::of(&held),
        };
        let text = memfd_create("squall-handover", MemfdFlags::CLOEXEC).at(Stage::Monitor, &object, "memfd_create")?;
        write_all(text.as_fd(), &handover.encode()?).at(Stage::Monitor, &object, "write(handover)")?;
        sys::move_to(text.as_fd(), HANDOVER_FD).at(Stage::Monitor, &object, "dup2")?;
        let argv = [c"squall-monitor".to_owned(), CString::new(self.id.as_str()).unwrap_or_default()];
        Err(sys::execveat(self.prepared.program.as_fd(), &argv, &[])).at(Stage::Monitor, &object, "execveat")
    }
}

impl Watched {
    /// The time that it may run begins with its start.
    fn terms(&self) -> Terms {
        let limit = self.timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        let runs = self.gate.is_none();
        Terms {
            deadline: limit.filter(|_| runs).map(|limit| self.started_boot_ns.saturating_add(limit)),
            timeout: limit.filter(|_| !runs),
            stop_signal: u8::try_from(self.stop_signal).ok().and_then(Signal::new).unwrap_or(Signal::TERM),
            grace_ms: monitor::DEFAULT_GRACE_MS,
        }
    }
}

/// A copy with a number that is out of the way of the handover's own, and that stays open across
/// exec.
fn inherit(fd: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let copy = rustix::io::fcntl_dupfd_cloexec(fd, HANDOVER_FD + 1)?;
    rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty())?;
    Ok(copy)
}

/// The container's cgroup in each hierarchy, once for each thing that the monitor knows to do
/// there.
fn leaf_paths(cgroup: &Cgroup) -> Vec<(CgroupKind, CString)> {
    let mut leaves = Vec::new();
    for hierarchy in cgroup.layout().hierarchies() {
        let Ok(path) = CString::new(hierarchy.directory(cgroup.path())) else { continue };
        let kinds: Vec<CgroupKind> = match &hierarchy.kind {
            Kind::V2 { .. } => vec![CgroupKind::Unified],
            Kind::V1 { controllers, .. } => controllers.iter().filter_map(|name| kind_of(name)).collect(),
        };
        let kinds = if kinds.is_empty() { vec![CgroupKind::Other] } else { kinds };
        leaves.extend(kinds.into_iter().map(|kind| (kind, path.clone())));
    }
    leaves
}

fn kind_of(controller: &str) -> Option<CgroupKind> {
    match controller {
        "memory" => Some(CgroupKind::Memory),
        "cpuacct" => Some(CgroupKind::Cpuacct),
        "cpu" => Some(CgroupKind::Cpu),
        "pids" => Some(CgroupKind::Pids),
        "freezer" => Some(CgroupKind::Freezer),
        _ => None,
    }
}

/// An open counter of out-of-memory kills.
pub(super) struct Watch {
    fd: OwnedFd,
    kind: OomKind,
    baseline: u64,
    ancestor: Option<String>,
}

/// Watches the container's own memory limit and those above it, to tell whose was hit. Without a
/// memory controller there is nothing to watch, and an ancestor that cannot be watched is left out:
/// the counters in the exit record do not depend on this.
pub(super) fn watch_memory(layout: &Layout, path: &CgroupPath) -> Vec<Watch> {
    let own = watch_one(layout, path, None);
    let above = std::iter::successors(path.parent(), CgroupPath::parent);
    let above = above.filter_map(|ancestor| watch_one(layout, &ancestor, Some(ancestor.as_str().to_owned())));
    own.into_iter().chain(above).collect()
}

fn watch_one(layout: &Layout, path: &CgroupPath, ancestor: Option<String>) -> Option<Watch> {
    let hierarchy = layout.holder(Controller::Memory)?;
    if !hierarchy.is_v2() {
        let fd = oom_eventfd(layout, path).ok()?;
        return Some(Watch { fd, kind: OomKind::Eventfd, baseline: 0, ancestor });
    }
    let file = format!("{}/memory.events.local", hierarchy.directory(path));
    let fd = rustix::fs::open(file.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let text = std::fs::read_to_string(file).ok()?;
    let baseline = text.lines().find_map(|line| line.strip_prefix("oom ")?.parse().ok()).unwrap_or(0);
    Some(Watch { fd, kind: OomKind::MemoryEvents, baseline, ancestor })
}
