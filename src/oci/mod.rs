//! From a launch spec to an OCI runtime document: pure.
//!
//! Two documents come from here. [`document`] is complete: it is what any OCI runtime needs to make the same container, what `plan` shows
//! and what the oracle in `runtime-tests` gives to libcontainer's own builder. `init_document` is the part of it that libcontainer's
//! init carries out on the fast way, where the namespaces exist and everything is mounted already. What both say (process, masked and
//! read-only paths, host name) comes from the same functions.
//!
//! What a container of Squall has and no document can say, so that a runtime given [`document`] makes it otherwise:
//!
//! | of Squall's container | of a runtime that is given the document |
//! |---|---|
//! | member of every hierarchy, `name=systemd` and the unified tree included | libcontainer: only of those with a controller |
//! | the view of its cgroups is read-only, whatever the hierarchies, and shows the unified tree | libcontainer, v1: writable, without it |
//! | signals reset, session keyring of its own, limits, scheduling and I/O priority as the host's init has them | the caller's |
//! | exactly the environment asked for, in its order | libcontainer: hashed, and with `HOME` |
//! | `/proc`, `/dev` and `/sys` are refused where the image has links in their place | resolved inside the root |
//! | the loopback interface of an own network is up | down |
//!
//! And what the document has to say in other words than the request: `ro` of a recursive bind reaches the mounts below it, and devices and
//! setuid are off unless asked for. In OCI that is `rro`, `rnodev` and `rnosuid`, which are given beside the plain words.

mod mounts;
mod resources;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, LinuxSeccomp, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use crate::error::{Error, ErrorKind, Problem, Result};
use crate::request::{LaunchSpec, Network, RootMode};
use crate::root::staging::ROOT;
use crate::stage::Stage;

type Built<T> = std::result::Result<T, OciSpecError>;

/// The version of the runtime specification that the documents keep to: the first with recursive mount options (`rro`).
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

/// What may be read but not written.
pub(crate) const READ_ONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The worker's umask, whatever the caller's was.
const UMASK: u32 = 0o022;

/// The complete document, for a root that is mounted at `root`: an overlay of the spec's layers, `nodev` and `nosuid`, and writable as yet,
/// because the runtime makes the mount points that the image lacks before it turns a read-only root read-only.
///
/// # Errors
/// [`ErrorKind::Invalid`] when the seccomp profile is not one of OCI's form.
pub fn document(spec: &LaunchSpec, root: &Path) -> Result<Spec> {
    let seccomp = seccomp(spec)?;
    let build = || -> Built<Spec> {
        let mut process =
            process(spec, spec.env.variables().iter().map(|variable| variable.as_str().to_owned()).collect())?;
        process.set_oom_score_adj(Some(0));
        let mut linux = linux(&namespaces(spec))?;
        linux
            .set_cgroups_path(Some(PathBuf::from(spec.cgroup.as_str())))
            .set_resources(Some(resources::of(&spec.limits)?));
        linux.set_seccomp(seccomp);
        let mut document = container(spec, root, process, linux)?;
        document.set_mounts(Some(mounts::of(spec)?));
        Ok(document)
    };
    build().map_err(|error| impossible(&error))
}

/// The document for libcontainer's init.
///
/// The mount namespace is listed *with* a path: without the entry libcontainer would use chroot, and without the path it would unshare once
/// more. The environment is a dummy: init looks HOME up through the image's own NSS modules, as root's child, if it is not there.
pub(crate) fn init_document(spec: &LaunchSpec) -> Result<Spec> {
    let namespaces = [(LinuxNamespaceType::Mount, Some("/proc/self/ns/mnt")), (LinuxNamespaceType::Uts, None)];
    let build = || -> Built<Spec> {
        let process = process(spec, vec!["HOME=/".to_owned()])?;
        let mut document = container(spec, Path::new(ROOT), process, linux(&namespaces)?)?;
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

/// Every namespace of a container, in the order in which they are entered. Without a host name of its own the uts namespace keeps the
/// host's name, but nobody can change the host's from within.
fn namespaces(spec: &LaunchSpec) -> Vec<(LinuxNamespaceType, Option<&'static str>)> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network as Net, Pid, Uts};
    let mut kinds = vec![Pid, Mount, Ipc, Uts, Cgroup];
    match spec.network {
        Network::Host => {}
        Network::None => kinds.push(Net),
    }
    kinds.into_iter().map(|kind| (kind, None)).collect()
}

/// The profile as OCI has it.
fn seccomp(spec: &LaunchSpec) -> Result<Option<LinuxSeccomp>> {
    let Some(profile) = spec.seccomp.profile()? else { return Ok(None) };
    serde_json::from_value(profile.to_value()).map(Some).map_err(|error| {
        let problem = Problem { field: "seccomp".to_owned(), reason: format!("is no OCI seccomp profile: {error}") };
        Error::invalid(format!("container '{}'", spec.id), vec![problem])
    })
}

fn process(spec: &LaunchSpec, env: Vec<String>) -> Built<Process> {
    let user = UserBuilder::default()
        .uid(spec.user.uid())
        .gid(spec.user.gid())
        .additional_gids(spec.user.groups().to_vec())
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

/// How often each processor was throttled for its heat, which tells a worker what its neighbours do; Docker masks it too. The one thing here
/// that depends on the machine: a virtual one shows none.
fn thermal_throttles(cpus: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(cpus).into_iter().flatten().flatten();
    let mut paths: Vec<String> = entries
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.is_dir())
        .filter_map(|path| path.into_os_string().into_string().ok())
        .collect();
    paths.sort();
    paths
}

fn linux(namespaces: &[(LinuxNamespaceType, Option<&str>)]) -> Built<Linux> {
    let namespaces: Built<Vec<_>> = namespaces.iter().map(|(kind, path)| namespace(*kind, *path)).collect();
    let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    LinuxBuilder::default()
        .namespaces(namespaces?)
        .masked_paths([paths(&MASKED_PATHS), thermal_throttles(Path::new(CPUS))].concat())
        .readonly_paths(paths(&READ_ONLY_PATHS))
        .rootfs_propagation("slave")
        .build()
}

fn namespace(kind: LinuxNamespaceType, path: Option<&str>) -> Built<LinuxNamespace> {
    let builder = LinuxNamespaceBuilder::default().typ(kind);
    match path {
        Some(path) => builder.path(PathBuf::from(path)).build(),
        None => builder.build(),
    }
}

/// The builders refuse what is missing or out of range, and a validated launch spec is neither.
fn impossible(error: &OciSpecError) -> Error {
    Error::found(ErrorKind::System, Stage::Request, "OCI document", "build", error.to_string())
}

#[cfg(test)]
mod tests;
