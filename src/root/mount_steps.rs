//! What is mounted below the root, where, and in which order: a pure function of the launch spec
//! and the machine's cgroup layout.

use rustix::mount::MountAttrFlags;

use super::target::Links;
use crate::cgroup::{Kind, Layout};
use crate::request::{Access, LaunchSpec, Mount, MountFlag, RootMode, Tmpfs};

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
    /// The container's own cgroup in the layout's hierarchy with this index.
    Cgroup { index: usize },
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

/// The attributes in mount(8)'s words.
pub(crate) fn words(attributes: MountAttrFlags) -> impl Iterator<Item = &'static str> {
    const WORDS: [(MountAttrFlags, &str); 8] = [
        (RDONLY, "ro"),
        (NOSUID, "nosuid"),
        (NODEV, "nodev"),
        (NOEXEC, "noexec"),
        (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"),
        (MountAttrFlags::MOUNT_ATTR_NODIRATIME, "nodiratime"),
        (MountAttrFlags::MOUNT_ATTR_NOATIME, "noatime"),
        (STRICTATIME, "strictatime"),
    ];
    WORDS.into_iter().filter(move |(flag, _)| attributes.contains(*flag)).map(|(_, word)| word)
}

/// Where a container sees its cgroups.
pub(crate) const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// The directories that programs expect to write to, and the room they get when the root is
/// read-only. The memory counts against the container's own limit.
const SCRATCH: [(&str, u32, u64); 3] =
    [("/run", 0o755, 16 * MIB), ("/tmp", 0o1777, 64 * MIB), ("/var/tmp", 0o1777, 64 * MIB)];

const MIB: u64 = 1 << 20;

/// What Storm and Docker give `/dev` and `/dev/shm`.
const DEV_BYTES: u64 = 64 * MIB;

/// Most pseudo-terminals of a container. All of them share what the kernel does not reserve for the
/// host: `kernel.pty.max` less `kernel.pty.reserve`, 4096 - 1024 unless set otherwise
/// (Documentation/filesystems/devpts.rst). A twelfth of that is more than anybody has open.
const TERMINALS: &str = "256";

/// What an inode of tmpfs takes of the kernel's memory, with its directory entry, roughly: so a
/// file system full of empty files takes about as much again as one full of data.
const BYTES_PER_INODE: u64 = 1024;

/// Fewest inodes, so that a tiny file system still holds some files.
const MIN_INODES: u64 = 16;

/// Every mount below the root, in order: the standard ones, small writable directories for a
/// read-only root, then the caller's own in the caller's order, so that a later one may lie below
/// an earlier one.
pub(crate) fn all(spec: &LaunchSpec, layout: &Layout) -> Vec<MountStep> {
    let mut steps = standard();
    if shows_cgroups(spec) {
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
    let steps = free.map(|(path, mode, size)| MountStep {
        links: Links::Follow,
        ..new("tmpfs", path, tmpfs_options(*mode, Some(*size)), NOSUID | NODEV)
    });
    steps.collect()
}

/// The mounts that every container has (OCI runtime specification, "Default Filesystems", and what
/// Storm asks of runc).
pub(crate) fn standard() -> Vec<MountStep> {
    let devpts = [("newinstance", None), ("ptmxmode", Some("0666")), ("mode", Some("0620")), ("gid", Some("5"))];
    let devpts = devpts.into_iter().chain([("max", Some(TERMINALS))]);
    let devpts = devpts.map(|(key, value)| (key.to_owned(), value.map(str::to_owned))).collect();
    vec![
        new("proc", "/proc", Vec::new(), NOSUID | NODEV | NOEXEC),
        new("tmpfs", "/dev", tmpfs_options(0o755, Some(DEV_BYTES)), NOSUID | STRICTATIME),
        new("devpts", "/dev/pts", devpts, NOSUID | NOEXEC),
        new("tmpfs", "/dev/shm", tmpfs_options(0o1777, Some(DEV_BYTES)), NOSUID | NODEV | NOEXEC),
        new("mqueue", "/dev/mqueue", Vec::new(), NOSUID | NODEV | NOEXEC),
        new("sysfs", "/sys", Vec::new(), NOSUID | NODEV | NOEXEC | RDONLY),
    ]
}

/// The options of a tmpfs. One with a size has a bound for its inodes as well: they lie in the
/// kernel's memory, and the size does not count them.
pub(crate) fn tmpfs_options(mode: u32, size_bytes: Option<u64>) -> Vec<(String, Option<String>)> {
    let mut options = vec![("mode".to_owned(), Some(format!("{mode:o}")))];
    if let Some(bytes) = size_bytes {
        let size = if bytes % 1024 == 0 { format!("{}k", bytes / 1024) } else { bytes.to_string() };
        options.push(("size".to_owned(), Some(size)));
        options.push(("nr_inodes".to_owned(), Some((bytes / BYTES_PER_INODE).max(MIN_INODES).to_string())));
    }
    options
}

fn new(
    kind: &'static str,
    destination: &str,
    options: Vec<(String, Option<String>)>,
    attributes: MountAttrFlags,
) -> MountStep {
    let source = if destination == "/dev/shm" { "shm" } else { kind };
    MountStep {
        destination: destination.to_owned(),
        what: What::New { kind, source, options, attributes },
        links: Links::Refuse,
    }
}

/// Below `/dev` and `/sys` a caller says what it means, and no link of the image has anything to
/// say.
fn links_below(destination: &str) -> Links {
    let within = |top: &str| destination.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if within("/dev") || within("/sys") { Links::Refuse } else { Links::Follow }
}

/// Whether the container gets a view of its own cgroups: not where the caller mounts something
/// there.
pub(crate) fn shows_cgroups(spec: &LaunchSpec) -> bool {
    !asks_for(spec, CGROUP_ROOT)
}

/// The container's own view of its cgroups, read-only.
///
/// Its cgroup directories are bound, which its cgroup namespace shows as the root of each
/// hierarchy. Mounting the hierarchies anew would look the same, and make and destroy a superblock
/// for each: 0.8 ms of a launch with ten of them, and a wait for the kernel's grace period in the
/// next one (measured).
fn cgroups(layout: &Layout) -> Vec<MountStep> {
    match layout.hierarchies() {
        [] => return Vec::new(),
        [one] if one.is_v2() => return vec![cgroup(CGROUP_ROOT.to_owned(), 0)],
        _ => {}
    }
    let mut steps = vec![new("tmpfs", CGROUP_ROOT, tmpfs_options(0o755, Some(64 << 10)), NOSUID | NODEV | NOEXEC)];
    for (index, hierarchy) in layout.hierarchies().iter().enumerate() {
        match &hierarchy.kind {
            Kind::V2 { .. } => steps.push(cgroup(format!("{CGROUP_ROOT}/unified"), index)),
            Kind::V1 { controllers, name } => steps.extend(cgroup_v1(controllers, name.as_deref(), index)),
        }
    }
    steps.push(MountStep { destination: CGROUP_ROOT.to_owned(), what: What::MakeReadOnly, links: Links::Refuse });
    steps
}

fn cgroup(destination: String, index: usize) -> MountStep {
    MountStep { destination, what: What::Cgroup { index }, links: Links::Refuse }
}

fn cgroup_v1(controllers: &[String], name: Option<&str>, index: usize) -> Vec<MountStep> {
    let Some(directory) = name.map(str::to_owned).or_else(|| (!controllers.is_empty()).then(|| controllers.join(",")))
    else {
        return Vec::new();
    };
    let mut steps = vec![cgroup(format!("{CGROUP_ROOT}/{directory}"), index)];
    if controllers.len() > 1 {
        steps.extend(controllers.iter().map(|controller| MountStep {
            destination: format!("{CGROUP_ROOT}/{controller}"),
            what: What::Link { to: directory.clone() },
            links: Links::Refuse,
        }));
    }
    steps
}

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
                let (options, attributes) = (asked_options(tmpfs), asked_attributes(tmpfs));
                What::New { kind: "tmpfs", source: "tmpfs", options, attributes }
            }
        };
        let destination = mount.destination().as_str().to_owned();
        let links = links_below(&destination);
        steps.push(MountStep { destination, what, links });
    }
    steps
}

fn asked_options(tmpfs: &Tmpfs) -> Vec<(String, Option<String>)> {
    let mut options = tmpfs_options(tmpfs.mode, tmpfs.size_bytes);
    if let Some(inodes) = tmpfs.inodes {
        options.retain(|(key, _)| key != "nr_inodes");
        options.push(("nr_inodes".to_owned(), Some(inodes.to_string())));
    }
    let owners = [("uid", tmpfs.uid), ("gid", tmpfs.gid)];
    options.extend(owners.iter().filter_map(|(key, id)| Some(((*key).to_owned(), Some(id.as_ref()?.to_string())))));
    options
}

/// As a bind has it: devices and setuid stay off unless asked for by name.
fn asked_attributes(tmpfs: &Tmpfs) -> MountAttrFlags {
    let asks = |flag| tmpfs.flags.contains(flag);
    let table = [
        (tmpfs.access == Access::ReadOnly, RDONLY),
        (!asks(MountFlag::Suid), NOSUID),
        (!asks(MountFlag::Dev), NODEV),
        (asks(MountFlag::NoExec), NOEXEC),
        (asks(MountFlag::NoSymFollow), MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
        (asks(MountFlag::NoDirAtime), MountAttrFlags::MOUNT_ATTR_NODIRATIME),
        (asks(MountFlag::NoAtime), MountAttrFlags::MOUNT_ATTR_NOATIME),
        (asks(MountFlag::StrictAtime), STRICTATIME),
    ];
    table.into_iter().filter(|(on, _)| *on).map(|(_, attribute)| attribute).collect()
}

/// Whether the caller mounts something there.
fn asks_for(spec: &LaunchSpec, destination: &str) -> bool {
    spec.mounts.iter().any(|mount| mount.destination().as_str() == destination)
}
