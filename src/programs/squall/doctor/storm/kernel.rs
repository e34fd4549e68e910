//! What Storm and the launcher need of the kernel, beyond what every launch does.

use std::path::{Path, PathBuf};

use super::super::finding::Finding;
use super::super::machine::Machine;
use super::{Node, give_to_root};
use worker_launcher::{settings, trusted};

const VIEW_KEY: &str = "worker.launcher.oci.cgroup.v1.view";

pub(in super::super) fn findings(machine: &Machine, node: &Node) -> Vec<Finding> {
    let view = node.config.as_ref().ok().and_then(|config| settings::v1_view(config).ok().flatten());
    vec![memory_use(machine, view), protected_hard_links(machine)]
}

/// Storm reads a worker's memory use from files of cgroup v1.
fn memory_use(machine: &Machine, view: Option<PathBuf>) -> Finding {
    const NAME: &str = "memory use";
    const V1: &str = "/sys/fs/cgroup/memory/memory.usage_in_bytes";
    if machine.exists(V1) {
        return Finding::ok(NAME, "cgroup v1: Storm reads it from the kernel's own files");
    }
    match view {
        None => Finding::limited(
            NAME,
            "cgroup v2: Storm looks for files of v1, and takes every worker's memory use for 0",
            format!("{VIEW_KEY}=/run/storm-cgroup, and storm.oci.cgroup.root: /run/storm-cgroup in storm.yaml"),
        ),
        Some(view) => match trusted::resolve(existing(&view), &[0]) {
            Ok(_) => Finding::ok(
                NAME,
                format!("shown in the shape of v1 in {}: make that storm.oci.cgroup.root", view.display()),
            ),
            Err(untrusted) => Finding::missing(NAME, format!("{VIEW_KEY}: {untrusted}"), give_to_root(&untrusted.part)),
        },
    }
}

/// The path, or what is there of the way to it.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|part| part.exists()).unwrap_or(Path::new("/"))
}

/// Without it a user can put another's file into a tree that is to be the user's. The program looks
/// at links itself; this is the second lock.
fn protected_hard_links(machine: &Machine) -> Finding {
    const NAME: &str = "protected_hardlinks";
    match machine.number("/proc/sys/fs/protected_hardlinks") {
        Some(0) => Finding::limited(
            NAME,
            "0: users can make hard links to files that they cannot write to",
            "sysctl -w fs.protected_hardlinks=1, and in /etc/sysctl.d",
        ),
        Some(value) => Finding::ok(NAME, value.to_string()),
        None => Finding::unknown(NAME, "/proc/sys/fs/protected_hardlinks cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::State;
    use super::super::super::machine::fixture::machine;
    use super::*;

    #[test]
    fn memory_use_is_read_on_v1_or_through_a_view_of_roots() {
        let v1 = [("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n")];
        let roots = Some(PathBuf::from("/squall-no-such-view"));
        for (files, view, expected) in
            [(&v1[..], None, State::Ok), (&[], None, State::Limited), (&[], roots, State::Ok)]
        {
            let (_top, made) = machine(files);
            assert_eq!(memory_use(&made, view.clone()).state, expected, "{files:?} {view:?}");
        }
    }

    #[test]
    fn hard_links_that_are_not_protected_are_named_with_the_setting() {
        for (text, expected) in [("1\n", State::Ok), ("0\n", State::Limited), ("", State::Unknown)] {
            let (_top, made) = machine(&[("/proc/sys/fs/protected_hardlinks", text)]);
            assert_eq!(protected_hard_links(&made).state, expected, "{text:?}");
        }
    }
}
