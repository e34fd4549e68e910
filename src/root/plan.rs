//! What is mounted below the root, where, and in which order: a pure function of the launch spec and the machine's cgroup layout.

use rustix::mount::MountAttrFlags;

use super::target::Links;
use crate::cgroup::{Hierarchy, Kind, Layout};
use crate::request::{LaunchSpec, Mount, RootMode};

/// One mount to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountStep {
    pub(crate) destination: String,
    pub(crate) what: What,
    pub(crate) links: Links,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A new file system; the source is only its name in the mount table.
    New { kind: &'static str, source: &'static str, options: Vec<(String, Option<String>)>, attributes: MountAttrFlags },
    /// The host path of the spec's bind with this index among the binds.
    Bind { index: usize },
    /// A relative symbolic link, for controllers that share a hierarchy.
    Link { to: String },
    /// The mount at the destination turns read-only, now that what belongs below it is there.
    MakeReadOnly,
}

const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
const STRICTATIME: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_STRICTATIME;

/// Where a container sees its cgroups.
pub(crate) const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// The directories that programs expect to write to, and the room they get when the root is read-only. The memory counts against the
/// container's own limit.
const SCRATCH: [(&str, &str, &str); 3] = [("/run", "755", "16m"), ("/tmp", "1777", "64m"), ("/var/tmp", "1777", "64m")];

/// Every mount below the root, in order: the standard ones, small writable directories for a read-only root, then the caller's own in the
/// caller's order, so that a later one may lie below an earlier one.
pub(crate) fn mount_plan(spec: &LaunchSpec, layout: &Layout) -> Vec<MountStep> {
    let mut steps = standard();
    if !asks_for(spec, CGROUP_ROOT) {
        steps.extend(cgroups(layout));
    }
    steps.extend(scratch(spec));
    steps.extend(asked(spec));
    steps
}

/// The writable directories of a read-only root, but for those that the caller mounts otherwise.
pub(crate) fn scratch(spec: &LaunchSpec) -> Vec<MountStep> {
    if spec.root != RootMode::ReadOnly {
        return Vec::new();
    }
    let free = SCRATCH.iter().filter(|(path, _, _)| !asks_for(spec, path));
    let steps = free.map(|(path, mode, size)| {
        let options = [("mode", *mode), ("size", *size)];
        MountStep { links: Links::Follow, ..new("tmpfs", path, &options, NOSUID | NODEV) }
    });
    steps.collect()
}

/// The mounts that every container has (OCI runtime specification, "Default Filesystems", and what Storm asks of runc).
pub(crate) fn standard() -> Vec<MountStep> {
    vec![
        new("proc", "/proc", &[], NOSUID | NODEV | NOEXEC),
        new("tmpfs", "/dev", &[("mode", "755"), ("size", "65536k")], NOSUID | STRICTATIME),
        new(
            "devpts",
            "/dev/pts",
            &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")],
            NOSUID | NOEXEC,
        ),
        new("tmpfs", "/dev/shm", &[("mode", "1777"), ("size", "65536k")], NOSUID | NODEV | NOEXEC),
        new("mqueue", "/dev/mqueue", &[], NOSUID | NODEV | NOEXEC),
        new("sysfs", "/sys", &[], NOSUID | NODEV | NOEXEC | RDONLY),
    ]
}

fn new(kind: &'static str, destination: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> MountStep {
    let value = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let options = options.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect();
    let source = if destination == "/dev/shm" { "shm" } else { kind };
    MountStep {
        destination: destination.to_owned(),
        what: What::New { kind, source, options, attributes },
        links: Links::Refuse,
    }
}

/// The container's own view of its cgroups, read-only: what its cgroup namespace makes the root of each hierarchy.
fn cgroups(layout: &Layout) -> Vec<MountStep> {
    const ROOT: &str = CGROUP_ROOT;
    let attributes = NOSUID | NODEV | NOEXEC | RDONLY;
    if let [Hierarchy { kind: Kind::V2 { .. }, .. }] = layout.hierarchies() {
        return vec![new("cgroup2", ROOT, &[], attributes)];
    }
    let mut steps = vec![new("tmpfs", ROOT, &[("mode", "755"), ("size", "64k")], NOSUID | NODEV | NOEXEC)];
    for hierarchy in layout.hierarchies() {
        match &hierarchy.kind {
            Kind::V2 { .. } => steps.push(new("cgroup2", &format!("{ROOT}/unified"), &[], attributes)),
            Kind::V1 { controllers, name } => {
                steps.extend(cgroup_v1(ROOT, controllers, name.as_deref(), attributes));
            }
        }
    }
    let make_read_only = MountStep { destination: ROOT.to_owned(), what: What::MakeReadOnly, links: Links::Refuse };
    steps.push(make_read_only);
    steps
}

fn cgroup_v1(root: &str, controllers: &[String], name: Option<&str>, attributes: MountAttrFlags) -> Vec<MountStep> {
    let Some(directory) = name.map(str::to_owned).or_else(|| (!controllers.is_empty()).then(|| controllers.join(",")))
    else {
        return Vec::new();
    };
    let mut options: Vec<(&str, &str)> = controllers.iter().map(|controller| (controller.as_str(), "")).collect();
    if let Some(name) = name {
        options.push(("name", name));
        if controllers.is_empty() {
            options.push(("none", ""));
        }
    }
    let mut steps = vec![new("cgroup", &format!("{root}/{directory}"), &options, attributes)];
    if controllers.len() > 1 {
        steps.extend(controllers.iter().map(|controller| MountStep {
            destination: format!("{root}/{controller}"),
            what: What::Link { to: directory.clone() },
            links: Links::Refuse,
        }));
    }
    steps
}

/// The caller's own mounts.
pub(crate) fn asked(spec: &LaunchSpec) -> Vec<MountStep> {
    let mut binds = 0;
    let mut steps = Vec::new();
    for mount in &spec.mounts {
        let what = match mount {
            Mount::Bind(_) => {
                binds += 1;
                What::Bind { index: binds - 1 }
            }
            Mount::Tmpfs(tmpfs) => {
                let mut options = vec![("mode".to_owned(), Some(format!("{:o}", tmpfs.mode)))];
                options.extend(tmpfs.size_bytes.map(|bytes| ("size".to_owned(), Some(bytes.to_string()))));
                What::New { kind: "tmpfs", source: "tmpfs", options, attributes: NOSUID | NODEV }
            }
        };
        steps.push(MountStep { destination: mount.destination().as_str().to_owned(), what, links: Links::Follow });
    }
    steps
}

/// Whether the caller mounts something there.
pub(crate) fn asks_for(spec: &LaunchSpec, destination: &str) -> bool {
    spec.mounts.iter().any(|mount| mount.destination().as_str() == destination)
}
