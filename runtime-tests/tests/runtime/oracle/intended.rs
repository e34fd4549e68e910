//! Where our containers differ from the oracle's on purpose: one table.

use std::fmt;

/// A fact that differs; what a side does not have is `None`.
#[derive(Debug)]
pub struct Difference<'a> {
    pub name: &'a str,
    pub ours: Option<String>,
    pub oracle: Option<String>,
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |value: &Option<String>| value.clone().unwrap_or_else(|| ABSENT.to_owned());
        write!(f, "{}:\n    ours:   {}\n    oracle: {}", self.name, side(&self.ours), side(&self.oracle))
    }
}

/// What an entry writes for a fact that a side does not have.
const ABSENT: &str = "(absent)";

/// An intended difference. `*` in its patterns stands for any text.
#[derive(Debug)]
struct Intended {
    name: &'static str,
    ours: &'static str,
    oracle: &'static str,
    reason: &'static str,
}

/// On a hybrid host each of them is to be met.
const TABLE: &[Intended] = &[
    Intended {
        name: "status/Seccomp",
        ours: "2",
        oracle: "0",
        reason: "without libseccomp libcontainer leaves the document's filter out, in silence",
    },
    Intended { name: "status/Seccomp_filters", ours: "1", oracle: "0", reason: "the same" },
    Intended {
        name: "cgroup/name=systemd",
        ours: "its own",
        oracle: "another",
        reason: "a restart of the caller's service would kill the worker that stayed in its cgroup there",
    },
    Intended {
        name: "cgroup/unified",
        ours: "its own",
        oracle: "another",
        reason: "cgroup.kill of the unified tree is the way to end all of a container at once",
    },
    Intended {
        name: "device rule/c 5:1 rwm",
        ours: ABSENT,
        oracle: "allowed",
        reason: "the host's console: libcontainer allows it to every container",
    },
    Intended {
        name: "device rule/c 10:200 rwm",
        ours: ABSENT,
        oracle: "allowed",
        reason: "tun: libcontainer allows it to every container, and a worker has no use for it",
    },
    Intended {
        name: "mount/sys/fs/cgroup",
        ours: "on /sys: tmpfs tmpfs[/] ro,* private *",
        oracle: "on /sys: tmpfs tmpfs[/] rw,* private *",
        reason: "libcontainer forgets 'ro' of a cgroup mount on v1, and the tmpfs could be filled without bound",
    },
    Intended {
        name: "mount/sys/fs/cgroup/unified",
        ours: "on /sys/fs/cgroup: cgroup2 cgroup2[/] ro,nosuid,nodev,noexec,relatime private *",
        oracle: ABSENT,
        reason: "libcontainer takes a hybrid machine for one with v1 alone",
    },
    Intended {
        name: "mount/sys/fs/cgroup/*",
        ours: "on /sys/fs/cgroup: cgroup cgroup[/] ro,nosuid,nodev,noexec,relatime private *",
        oracle: "on /sys/fs/cgroup: cgroup cgroup[/] rw,nosuid,nodev,noexec,relatime private *",
        reason: "libcontainer forgets 'ro' of a cgroup mount on v1: a worker that is root could raise its own limits",
    },
    Intended {
        name: "environment order",
        ours: "*",
        oracle: "*",
        reason: "libcontainer keeps the environment in a hash map",
    },
    Intended {
        name: "environment/HOME",
        ours: ABSENT,
        oracle: "*",
        reason: "libcontainer adds it; nothing is in our environment but what was asked for",
    },
    Intended {
        name: "network/loopback",
        ours: "up",
        oracle: "down",
        reason: "programs take it for granted that they can reach themselves",
    },
    Intended {
        name: "status/SigIgn",
        ours: "0000000000001000",
        oracle: "*",
        reason: "libcontainer hands the caller's ignored signals down; SIGPIPE is the probe's own doing",
    },
    Intended {
        name: "status/SigBlk",
        ours: "0000000000000000",
        oracle: "*",
        reason: "libcontainer hands the caller's blocked signals down",
    },
    Intended { name: "process/nice", ours: "0", oracle: "*", reason: "libcontainer hands the caller's priority down" },
    Intended {
        name: "rlimit/*",
        ours: "*",
        oracle: "*",
        reason: "a document can list limits and not what they are without it: the host's init has the nearest thing to defaults",
    },
];

/// Where cgroup v2 is alone, these come in addition.
const ON_V2: &[Intended] = &[
    Intended {
        name: "limit/cpuset.*",
        ours: ABSENT,
        oracle: "",
        reason: "a controller that has nothing to limit is not switched on",
    },
    Intended {
        name: "limit/memory.swap.max",
        ours: "0",
        oracle: "max",
        reason: "libcontainer does not write a limit of no swap at all",
    },
    Intended {
        name: "mount/sys/fs/cgroup",
        ours: "on /sys: cgroup2 cgroup2[/] ro,nosuid,nodev,noexec,relatime private rw,nsdelegate,memory_recursiveprot",
        oracle: "on /sys: cgroup2 cgroup[/] ro,nosuid,nodev,noexec,relatime private rw,nsdelegate,memory_recursiveprot",
        reason: "a source is only a name there, and as on other hosts it is the file system's",
    },
];

/// Why a difference is as it should be.
pub fn reason(difference: &Difference<'_>) -> Option<&'static str> {
    TABLE.iter().chain(ON_V2).find(|entry| entry.explains(difference)).map(|entry| entry.reason)
}

/// Entries that explain none of these.
pub fn stale(differences: &[Difference<'_>]) -> Vec<&'static str> {
    let entries = TABLE.iter().filter(|entry| !differences.iter().any(|difference| entry.explains(difference)));
    entries.map(|entry| entry.name).collect()
}

impl Intended {
    fn explains(&self, difference: &Difference<'_>) -> bool {
        let side = |pattern, value: &Option<String>| fits(pattern, value.as_deref().unwrap_or(ABSENT));
        fits(self.name, difference.name) && side(self.ours, &difference.ours) && side(self.oracle, &difference.oracle)
    }
}

/// Whether a text has the pattern's parts in order, the first at its beginning and the last at its
/// end.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => {
            let Some(tail) = text.strip_prefix(start) else { return false };
            (0..=tail.len()).any(|from| tail.is_char_boundary(from) && fits(rest, &tail[from..]))
        }
    }
}
