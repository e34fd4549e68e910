//! The container's namespaces.

use serde::Serialize;

use crate::launch;
use crate::request::{LaunchSpec, Network};

/// One namespace of the container's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedNamespace {
    /// Its kind, as OCI has it.
    pub kind: &'static str,
    /// Who makes it, and when.
    pub made: &'static str,
}

/// In the order of their making. The flags are those that init is cloned with.
pub(super) fn of(spec: &LaunchSpec) -> Vec<PlannedNamespace> {
    const CLONED: [(libc::c_int, &str); 4] = [
        (libc::CLONE_NEWPID, "pid"),
        (libc::CLONE_NEWNS, "mount"),
        (libc::CLONE_NEWIPC, "ipc"),
        (libc::CLONE_NEWNET, "network"),
    ];
    let flags = launch::namespaces(spec);
    let cloned = CLONED.iter().filter(|(flag, _)| flags & (*flag as u64) != 0);
    let mut namespaces: Vec<_> =
        cloned.map(|(_, kind)| PlannedNamespace { kind, made: "clone3, at init's birth" }).collect();
    namespaces.push(PlannedNamespace { kind: "cgroup", made: "unshare, when init is in its cgroups" });
    namespaces.push(PlannedNamespace { kind: "uts", made: "libcontainer, before it sets the host name" });
    namespaces
}

/// What the worker sees of networks.
pub(super) fn network(spec: &LaunchSpec) -> &'static str {
    match spec.network {
        Network::Host => "the host's",
        Network::None => "its own, with a loopback device that is up",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::request::Identity;

    #[test]
    fn they_are_those_of_the_document() {
        for network in [Network::Host, Network::None] {
            let user = Identity::new(1, 1, []).unwrap();
            let builder = LaunchSpec::builder("a").layers(["/l"]).args(["/p"]).user(user).cgroup("/a");
            let spec = builder.network(network).build().unwrap();
            let document = serde_json::to_value(crate::oci::document(&spec, Path::new("r")).unwrap()).unwrap();
            let listed = document["linux"]["namespaces"].as_array().unwrap();
            let mut listed: Vec<&str> = listed.iter().map(|one| one["type"].as_str().unwrap()).collect();
            let mut planned: Vec<&str> = of(&spec).iter().map(|one| one.kind).collect();
            listed.sort_unstable();
            planned.sort_unstable();
            assert_eq!(planned, listed);
        }
    }
}
