//! From a launch spec to an OCI runtime document: pure.
//!
//! Two documents come from here. [`document`] is complete: it is what any OCI runtime needs to make the same container, what `plan` shows
//! and what the oracle in `runtime-tests` gives to libcontainer's own builder. [`init_document`] is the part of it that libcontainer's
//! init carries out on the fast way, where the namespaces exist and everything is mounted already.

use std::collections::HashSet;
use std::path::PathBuf;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType,
    Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use crate::error::{Error, ErrorKind, Result};
use crate::request::{LaunchSpec, RootMode};
use crate::root::staging::ROOT;
use crate::stage::Stage;

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
pub(crate) const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The worker's umask, whatever the caller's was.
const UMASK: u32 = 0o022;

/// The document for libcontainer's init.
///
/// The mount namespace is listed *with* a path: without the entry libcontainer would use chroot, and without the path it would unshare once
/// more. The environment is a dummy: init looks HOME up through the image's own NSS modules, as root's child, if it is not there.
pub(crate) fn init_document(spec: &LaunchSpec) -> Result<Spec> {
    let namespaces = [(LinuxNamespaceType::Mount, Some("/proc/self/ns/mnt")), (LinuxNamespaceType::Uts, None)];
    let process = process(spec, vec!["HOME=/".to_owned()]).map_err(|error| impossible(&error))?;
    let linux = linux(&namespaces).map_err(|error| impossible(&error))?;
    let root = RootBuilder::default().path(ROOT).readonly(spec.root == RootMode::ReadOnly);
    let mut builder = SpecBuilder::default()
        .version("1.0.0")
        .root(root.build().map_err(|error| impossible(&error))?)
        .process(process)
        .linux(linux)
        .mounts(Vec::new());
    if let Some(hostname) = &spec.hostname {
        builder = builder.hostname(hostname.as_str());
    }
    builder.build().map_err(|error| impossible(&error))
}

fn process(spec: &LaunchSpec, env: Vec<String>) -> std::result::Result<Process, OciSpecError> {
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
fn no_capabilities() -> std::result::Result<LinuxCapabilities, OciSpecError> {
    LinuxCapabilitiesBuilder::default()
        .bounding(HashSet::new())
        .effective(HashSet::new())
        .inheritable(HashSet::new())
        .permitted(HashSet::new())
        .ambient(HashSet::new())
        .build()
}

fn linux(namespaces: &[(LinuxNamespaceType, Option<&str>)]) -> std::result::Result<Linux, OciSpecError> {
    let namespaces: std::result::Result<Vec<_>, _> = namespaces.iter().map(|(kind, path)| namespace(*kind, *path)).collect();
    let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    LinuxBuilder::default()
        .namespaces(namespaces?)
        .masked_paths(paths(&MASKED_PATHS))
        .readonly_paths(paths(&READ_ONLY_PATHS))
        .rootfs_propagation("slave")
        .build()
}

fn namespace(kind: LinuxNamespaceType, path: Option<&str>) -> std::result::Result<LinuxNamespace, OciSpecError> {
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
