//! Limits of the system and of this process that launches can run into.

use rustix::process::{Resource, Rlimit, getrlimit};

use super::finding::Finding;
use super::machine::Machine;

/// Descriptors of a launch of 500 layers, and some.
const DESCRIPTORS: u64 = 1024;

/// A sysctl, how much a launch should find, what it is for, and whether nothing goes without it.
struct Sysctl {
    path: &'static str,
    least: u64,
    purpose: &'static str,
    /// A 0 forbids what every launch does.
    forbids: bool,
}

const SYSCTLS: [Sysctl; 9] = [
    sysctl("/proc/sys/fs/mount-max", 1024, "mounts of one namespace: a layer and a pin each, and about 40", false),
    sysctl("/proc/sys/fs/file-max", 8192, "descriptors of the machine", false),
    sysctl("/proc/sys/kernel/pid_max", 4096, "processes and threads of the machine", false),
    sysctl("/proc/sys/kernel/threads-max", 4096, "threads of the machine", false),
    sysctl("/proc/sys/fs/inotify/max_user_instances", 64, "for workers of one user together", false),
    sysctl("/proc/sys/user/max_pid_namespaces", 64, "one for each container", true),
    sysctl("/proc/sys/user/max_mnt_namespaces", 64, "one for each container", true),
    sysctl("/proc/sys/user/max_net_namespaces", 64, "one for each container without the host's network", true),
    sysctl("/proc/sys/user/max_cgroup_namespaces", 64, "one for each container", true),
];

const fn sysctl(path: &'static str, least: u64, purpose: &'static str, forbids: bool) -> Sysctl {
    Sysctl { path, least, purpose, forbids }
}

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let sysctls = SYSCTLS.iter().map(|sysctl| of(machine, sysctl));
    std::iter::once(descriptors()).chain(sysctls).collect()
}

/// A launch raises its own soft limit; the hard one is what bounds it.
fn descriptors() -> Finding {
    const NAME: &str = "RLIMIT_NOFILE";
    // None: no limit.
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let number = |limit: Option<u64>| limit.map_or("no limit".to_owned(), |limit| limit.to_string());
    let seen = format!("{} soft, {} hard", number(current), number(maximum));
    match maximum.is_none_or(|hard| hard >= DESCRIPTORS) {
        true => Finding::ok(NAME, seen),
        false => {
            Finding::limited(NAME, format!("{seen}: images of many layers cannot be launched"), "ulimit -Hn 65536")
        }
    }
}

fn of(machine: &Machine, sysctl: &Sysctl) -> Finding {
    let name = sysctl.path.trim_start_matches("/proc/sys/").replace('/', ".");
    let seen = |number| format!("{number}; {}", sysctl.purpose);
    match machine.number(sysctl.path) {
        None => Finding::unknown(name, format!("{} cannot be read", sysctl.path)),
        Some(0) if sysctl.forbids => {
            let advice = format!("sysctl -w {name}=10000");
            Finding::missing(name, seen(0), advice)
        }
        Some(number) if number < sysctl.least => {
            let advice = format!("sysctl -w {name}={}", sysctl.least * 16);
            Finding::limited(name, seen(number), advice)
        }
        Some(number) => Finding::ok(name, seen(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::fixture::machine;
    use super::*;

    #[test]
    fn a_small_limit_is_told_and_one_of_nothing_keeps_launches_away() {
        let (_top, made) = machine(&[
            ("/proc/sys/fs/mount-max", "100\n"),
            ("/proc/sys/user/max_pid_namespaces", "0\n"),
            ("/proc/sys/kernel/pid_max", "4194304\n"),
        ]);
        let state = |path: &str| of(&made, SYSCTLS.iter().find(|sysctl| sysctl.path == path).unwrap()).state;
        assert_eq!(state("/proc/sys/fs/mount-max"), State::Limited);
        assert_eq!(state("/proc/sys/user/max_pid_namespaces"), State::Missing);
        assert_eq!(state("/proc/sys/kernel/pid_max"), State::Ok);
        assert_eq!(state("/proc/sys/fs/file-max"), State::Unknown);
    }
}
