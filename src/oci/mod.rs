//! From a launch spec to an OCI runtime document: pure.
//!
//! Two documents come from here. [`document`] is complete: it is what any OCI runtime needs to make
//! the same container, what `plan` shows and what the oracle in `runtime-tests` gives to
//! libcontainer's own builder. `init_document` is the part of it that libcontainer's init carries
//! out on the fast way, where root, mounts, devices, protected paths and groups are there already,
//! and all namespaces but one. What both say (process, host name) comes from the same functions,
//! and what only the complete one says is what the fast way works by.
//!
//! What a container of Squall has and no document can say, so that a runtime given [`document`]
//! makes it otherwise:
//!
//! | of Squall's container | of a runtime that is given the document |
//! |---|---|
//! | member of every hierarchy, `name=systemd` and the unified tree included | libcontainer: only of those with a controller |
//! | the view of its cgroups is read-only, whatever the hierarchies, and shows the unified tree | libcontainer, v1: writable, without it |
//! | signals reset, session keyring of its own, stated limits, scheduling and I/O priority as the host's init has them | the caller's |
//! | exactly the environment asked for, in its order | libcontainer: hashed, and with `HOME` |
//! | `/proc`, `/dev` and `/sys` are refused where the image has links in their place | resolved inside the root |
//! | the loopback interface of an own network is up | down |
//!
//! And what the document has to say in other words than the request: `ro` of a recursive bind
//! reaches the mounts below it, and devices and setuid are off unless asked for. In OCI that is
//! `rro`, `rnodev` and `rnosuid`, which are given beside the plain words.

mod mounts;
mod resources;

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, LinuxSeccomp, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use crate::error::{Error, Problem, Result};
use crate::lsm::Confinement;
use crate::request::{Identity, LaunchSpec, Network, RootMode};
use crate::root::staging::ROOT;
use crate::stage::Stage;

type Built<T> = std::result::Result<T, OciSpecError>;

/// The version of the runtime specification that the documents keep to: the first with recursive
/// mount options (`rro`).
const VERSION: &str = "1.1.0";

/// What Docker masks today, and Storm's list within it: each shows or changes the host.
pub(crate) const MASKED_PATHS: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/security",
];

/// What the kernel shows by the file's mode to root alone, and so to a worker of uid 0: physical
/// pages and who uses them, the kernel's memory and where it lies. Nobody else could read it, so
/// nobody else's launch pays for the mounts.
pub(crate) const ROOTS_MASKED_PATHS: [&str; 9] = [
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/pagetypeinfo",
    "/proc/slabinfo",
    "/proc/vmallocinfo",
    "/proc/vmcore",
    "/sys/kernel/slab",
];

/// What may be read but not written.
pub(crate) const READ_ONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The worker's umask, whatever the caller's was.
pub(crate) const UMASK: u32 = 0o022;

/// The complete document, for a root that is mounted at `root`: an overlay of the spec's layers,
/// `nodev` and `nosuid`, and writable as yet, because the runtime makes the mount points that the
/// image lacks before it turns a read-only root read-only.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid) when the seccomp profile is not one of OCI's form.
pub fn document(spec: &LaunchSpec, root: &Path) -> Result<Spec> {
    let seccomp = seccomp(spec)?;
    let build = || -> Built<Spec> {
        let env = spec.env.variables().iter().map(|variable| variable.as_str().to_owned()).collect();
        let mut process = process(spec, env, spec.user.groups().to_vec())?;
        process.set_oom_score_adj(Some(0));
        // Not in init's document: libcontainer would apply them a program too early (`lsm`).
        match Confinement::of(spec) {
            Some(Confinement::AppArmor(profile)) => process.set_apparmor_profile(Some(profile.into())),
            Some(Confinement::Selinux(label)) => process.set_selinux_label(Some(label.into())),
            None => &mut process,
        };
        let mut linux = linux(&namespaces(spec))?;
        linux
            .set_masked_paths(Some(masked_paths(&spec.user)))
            .set_readonly_paths(Some(READ_ONLY_PATHS.map(str::to_owned).to_vec()))
            .set_rootfs_propagation(Some("slave".to_owned()))
            .set_cgroups_path(Some(PathBuf::from(spec.cgroup.as_str())))
            .set_resources(Some(resources::of(&spec.limits)?));
        linux.set_seccomp(seccomp);
        let mut document = container(spec, root, process, linux)?;
        document.set_mounts(Some(mounts::of(spec)?));
        Ok(document)
    };
    build().map_err(|error| impossible(&error))
}

/// The document for libcontainer's init, which finds itself in the finished root.
///
/// The mount namespace is left out: libcontainer would enter it once more. So are the groups, which
/// it would set only after mounting a proc to ask whether it may. The environment is a dummy: init
/// looks HOME up through the image's own NSS modules, as root's child, if it is not there.
pub(crate) fn init_document(spec: &LaunchSpec) -> Result<Spec> {
    let build = || -> Built<Spec> {
        let mut process = process(spec, vec!["HOME=/".to_owned()], Vec::new())?;
        // It is entered by its descriptor before.
        process.set_cwd(PathBuf::new());
        let mut linux = linux(&[LinuxNamespaceType::Uts])?;
        linux.set_masked_paths(Some(Vec::new())).set_readonly_paths(Some(Vec::new()));
        let mut document = container(spec, Path::new(ROOT), process, linux)?;
        document.set_mounts(Some(Vec::new()));
        Ok(document)
    };
    build().map_err(|error| impossible(&error))
}

/// What both documents have.
fn container(spec: &LaunchSpec, root: &Path, process: Process, linux: Linux) -> Built<Spec> {
    let root = RootBuilder::default().path(root).readonly(spec.root == RootMode::ReadOnly).build()?;
    let mut document = SpecBuilder::default().version(VERSION).root(root).process(process).linux(linux).build()?;
    document.set_hostname(spec.hostname.as_ref().map(|name| name.as_str().to_owned()));
    Ok(document)
}

/// Every namespace of a container, in the order in which they are entered. Without a host name of
/// its own the uts namespace keeps the host's name, but nobody can change the host's from within.
fn namespaces(spec: &LaunchSpec) -> Vec<LinuxNamespaceType> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network as Net, Pid, Uts};
    let mut kinds = vec![Pid, Mount, Ipc, Uts, Cgroup];
    match spec.network {
        Network::Host => {}
        Network::None => kinds.push(Net),
    }
    kinds
}

/// The profile as OCI has it.
fn seccomp(spec: &LaunchSpec) -> Result<Option<LinuxSeccomp>> {
    let Some(profile) = spec.seccomp.profile()? else { return Ok(None) };
    serde_json::from_value(profile.to_value()).map(Some).map_err(|error| {
        let problem = Problem { field: "seccomp".to_owned(), reason: format!("is no OCI seccomp profile: {error}") };
        Error::invalid(format!("container '{}'", spec.id), vec![problem])
    })
}

fn process(spec: &LaunchSpec, env: Vec<String>, groups: Vec<u32>) -> Built<Process> {
    let user = UserBuilder::default()
        .uid(spec.user.uid())
        .gid(spec.user.gid())
        .additional_gids(groups)
        .umask(UMASK)
        .build()?;
    ProcessBuilder::default()
        .terminal(false)
        .user(user)
        .args(spec.args.clone())
        .env(env)
        .cwd(spec.cwd.as_str())
        .no_new_privileges(true)
        .capabilities(no_capabilities()?)
        .rlimits(Vec::new())
        .build()
}

/// Five empty sets. An absent object would drop nothing.
fn no_capabilities() -> Built<LinuxCapabilities> {
    LinuxCapabilitiesBuilder::default()
        .bounding(HashSet::new())
        .effective(HashSet::new())
        .inheritable(HashSet::new())
        .permitted(HashSet::new())
        .ambient(HashSet::new())
        .build()
}

/// Where the kernel shows the machine's processors.
const CPUS: &str = "/sys/devices/system/cpu";

/// How often each processor was throttled for its heat, which tells a worker what its neighbours
/// do; Docker masks it too. The one thing here that depends on the machine: a virtual one shows
/// none.
fn thermal_throttles(cpus: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(cpus).into_iter().flatten().flatten();
    let is_processor = |name: &std::ffi::OsStr| {
        let number = name.as_bytes().strip_prefix(b"cpu");
        number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
    };
    let mut paths: Vec<String> = entries
        .filter(|entry| is_processor(&entry.file_name()))
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.is_dir())
        .filter_map(|path| path.into_os_string().into_string().ok())
        .collect();
    paths.sort();
    paths
}

/// Every path of this machine that is masked for a user. Asked before the container has a root of
/// its own: the machine's processors are not to be seen from within a file system that is being put
/// together.
pub(crate) fn masked_paths(user: &Identity) -> Vec<String> {
    let roots = if user.uid() == 0 { &ROOTS_MASKED_PATHS[..] } else { &[] };
    let everywhere = MASKED_PATHS.iter().chain(roots).map(|path| (*path).to_owned());
    everywhere.chain(thermal_throttles(Path::new(CPUS))).collect()
}

fn linux(namespaces: &[LinuxNamespaceType]) -> Built<Linux> {
    let namespaces: Built<Vec<LinuxNamespace>> =
        namespaces.iter().map(|kind| LinuxNamespaceBuilder::default().typ(*kind).build()).collect();
    LinuxBuilder::default().namespaces(namespaces?).build()
}

/// The builders refuse what is missing or out of range, and a validated launch spec is neither.
fn impossible(error: &OciSpecError) -> Error {
    Error::malformed(Stage::Request, "OCI document", "build", error)
}

#[cfg(test)]
mod tests;
