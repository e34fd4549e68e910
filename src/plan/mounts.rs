//! The mounts below the root: the launch's own steps, in words.

use rustix::mount::MountAttrFlags;
use serde::Serialize;

use crate::cgroup::Layout;
use crate::request::{Bind, LaunchSpec, Mount, Propagation, Recursion};
use crate::root::binds;
use crate::root::mount_steps::{self, MountStep, What};
use crate::root::target::Links;
use crate::sys::MountAttr;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedMount {
    /// Where, inside the container.
    pub destination: String,
    /// What.
    #[serde(flatten)]
    pub what: PlannedMountKind,
    /// Attributes that the mount gets.
    pub attributes: Vec<&'static str>,
    /// Whether links of the image may lead the destination elsewhere, inside the root.
    pub follows_links: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PlannedMountKind {
    /// A new file system.
    New {
        /// Its kind.
        kind: &'static str,
        /// Its name in the mount table.
        source: &'static str,
        /// Options of the file system, not of the mount.
        options: Vec<String>,
    },
    /// Something of the host.
    Bind {
        /// Its path there.
        source: String,
        /// Whether the mounts below it come along.
        recursive: bool,
        /// Attributes that are taken off, whatever the host has.
        cleared: Vec<&'static str>,
        /// What propagates.
        propagation: &'static str,
    },
    /// The container's own cgroup.
    Cgroup {
        /// Its directory on the host.
        source: String,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        to: String,
    },
    /// The mount turns read-only.
    MakeReadOnly,
}

/// Every step, in order.
pub(super) fn of(spec: &LaunchSpec, layout: &Layout) -> Vec<PlannedMount> {
    let binds: Vec<&Bind> = spec
        .mounts
        .iter()
        .filter_map(|mount| match mount {
            Mount::Bind(bind) => Some(bind),
            Mount::Tmpfs(_) => None,
        })
        .collect();
    mount_steps::all(spec, layout).into_iter().map(|step| in_words(step, spec, layout, &binds)).collect()
}

fn in_words(step: MountStep, spec: &LaunchSpec, layout: &Layout, binds: &[&Bind]) -> PlannedMount {
    let (what, attributes) = match step.what {
        What::New { kind, source, options, attributes } => {
            let word = |(key, value): (String, Option<String>)| match value {
                Some(value) => format!("{key}={value}"),
                None => key,
            };
            let options = options.into_iter().map(word).collect();
            (PlannedMountKind::New { kind, source, options }, mount_steps::words(attributes).collect())
        }
        What::Bind { index } => bind(binds[index]),
        What::Cgroup { index } => {
            let source = layout.hierarchies()[index].directory(&spec.cgroup);
            (PlannedMountKind::Cgroup { source }, set(binds::cgroup_attributes()))
        }
        What::Link { to } => (PlannedMountKind::Link { to }, Vec::new()),
        What::MakeReadOnly => (PlannedMountKind::MakeReadOnly, vec!["ro"]),
    };
    PlannedMount { destination: step.destination, what, attributes, follows_links: step.links == Links::Follow }
}

fn bind(bind: &Bind) -> (PlannedMountKind, Vec<&'static str>) {
    let attributes = binds::attributes(&bind.options);
    let what = PlannedMountKind::Bind {
        source: bind.source.as_str().to_owned(),
        recursive: bind.options.recursion == Recursion::Recursive,
        cleared: of_bits(attributes.clear & !u64::from(MountAttrFlags::MOUNT_ATTR__ATIME.bits())),
        propagation: match bind.options.propagation {
            Propagation::Slave | Propagation::RecursiveSlave => "slave",
            _ => "private",
        },
    };
    (what, set(attributes))
}

fn set(attributes: MountAttr) -> Vec<&'static str> {
    of_bits(attributes.set)
}

fn of_bits(bits: u64) -> Vec<&'static str> {
    mount_steps::words(MountAttrFlags::from_bits_truncate(bits as u32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Builder, Identity};

    fn planned(change: impl FnOnce(Builder) -> Builder) -> Vec<PlannedMount> {
        let user = Identity::new(1, 1, []).unwrap();
        let builder = LaunchSpec::builder("a").layers(["/l"]).args(["/p"]).user(user).cgroup("/a");
        of(&change(builder).build().unwrap(), &Layout::new(vec![], "/proc"))
    }

    #[test]
    fn a_bind_says_what_it_gets_and_what_it_loses() {
        let mounts = planned(|builder| builder.bind("/h", "/m", &["ro", "suid", "noatime"]));
        let bind = mounts.last().unwrap();
        assert_eq!(bind.attributes, ["ro", "nodev", "noatime"]);
        let PlannedMountKind::Bind { cleared, recursive, propagation, .. } = &bind.what else { panic!("{bind:?}") };
        assert_eq!((cleared.as_slice(), *recursive, *propagation), (["nosuid"].as_slice(), true, "private"));
    }

    #[test]
    fn the_steps_are_those_of_the_launch_in_its_order() {
        let destinations: Vec<_> = planned(|builder| builder).into_iter().map(|mount| mount.destination).collect();
        let expected = ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/run", "/tmp", "/var/tmp"];
        assert_eq!(destinations, expected);
    }
}
