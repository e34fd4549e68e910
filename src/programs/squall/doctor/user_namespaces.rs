//! User namespaces: whether this process is in one, and whether others can be made. Squall makes
//! none.

use super::finding::Finding;
use super::machine::Machine;
use nix::sched::{CloneFlags, unshare};
use squall::child_task;

/// The map of the first user namespace: every id to itself.
const WHOLE: [&str; 3] = ["0", "0", "4294967295"];

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    vec![own(machine), of_others(machine)]
}

/// Capabilities in a user namespace of its own do not reach loop devices, nor mounts of squashfs.
fn own(machine: &Machine) -> Finding {
    let Ok(map) = machine.text("/proc/self/uid_map") else {
        return Finding::ok("own", "this kernel has none, or /proc is not there");
    };
    if map.split_whitespace().eq(WHOLE) {
        return Finding::ok("own", "this process is in the host's");
    }
    let map = map.split_whitespace().collect::<Vec<_>>().join(" ");
    let seen = format!("this process is in one (ids {map}): its root may bind no loop device and mount no squashfs");
    Finding::missing("own", seen, "run it as root of the host, outside of unshare -U, rootless podman and the like")
}

fn of_others(machine: &Machine) -> Finding {
    let limit = machine.number("/proc/sys/user/max_user_namespaces");
    let switch = machine.number("/proc/sys/kernel/unprivileged_userns_clone");
    let apparmor = machine.number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    let told: Vec<String> = [
        limit.map(|limit| format!("max_user_namespaces {limit}")),
        switch.map(|switch| format!("unprivileged_userns_clone {switch}")),
        apparmor.map(|switch| format!("apparmor_restrict_unprivileged_userns {switch}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let tried =
        child_task::apart(super::PATIENCE, || unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| error.to_string()));
    let tried = match tried {
        Ok(Ok(())) => "this process could make one".to_owned(),
        Ok(Err(error)) => format!("this process can make none: {error}"),
        Err(failure) => failure.to_string(),
    };
    let told = if told.is_empty() { "no switch is shown".to_owned() } else { told.join(", ") };
    Finding::ok("for workers", format!("{told}; {tried}; a worker that is root gets none, a launch needs none"))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::fixture::machine;
    use super::*;

    #[test]
    fn only_the_map_of_every_id_to_itself_is_the_hosts() {
        for (map, expected) in [
            ("         0          0 4294967295\n", State::Ok),
            ("         0       1000          1\n", State::Missing),
            ("", State::Missing),
        ] {
            let (_top, mapped) = machine(&[("/proc/self/uid_map", map)]);
            assert_eq!(own(&mapped).state, expected, "{map}");
        }
    }
}
