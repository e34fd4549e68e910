//! Cgroup hierarchies: which there are, what they control, and whether groups can be made in them.

use rustix::fs::{Access, access};

use super::config::KernelConfig;
use super::finding::Finding;
use super::machine::Machine;
use squall::DEFAULT_MONITORS;
use squall::cgroup::{CgroupPath, Controller, Layout, Manager, cpuset_findings};

/// What each controller is for, and whether limits are lost without it.
const CONTROLLERS: [(Controller, &str); 5] = [
    (Controller::Cpu, "--cpus"),
    (Controller::Cpuset, "--cpuset-cpus, --cpuset-mems"),
    (Controller::Memory, "--memory"),
    (Controller::Pids, "--pids-limit"),
    (Controller::Devices, "which device nodes may be opened"),
];

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let layout = match Layout::detect() {
        Ok(layout) => layout,
        Err(error) => return vec![Finding::unknown("layout", error.to_string())],
    };
    let mut findings = vec![kind(&layout), manager(&layout)];
    if layout.hierarchies().is_empty() {
        return findings;
    }
    let config = KernelConfig::read(machine);
    findings.extend(
        CONTROLLERS.iter().map(|(controller, purpose)| controlled(&layout, config.as_ref(), *controller, purpose)),
    );
    findings.extend(cpusets(&layout));
    findings.push(writable(&layout));
    findings.extend(handed_down(&layout, machine));
    findings
}

fn kind(layout: &Layout) -> Finding {
    let mount_points: Vec<&str> = layout.hierarchies().iter().map(|one| one.mount_point.as_str()).collect();
    let kind = match (layout.unified(), mount_points.len()) {
        (_, 0) => {
            let advice = "mount cgroups at /sys/fs/cgroup (in a container: start it with them), or run without limits";
            return Finding::limited("layout", "no hierarchy is mounted: nothing can be limited or counted", advice);
        }
        (Some(_), 1) => "v2",
        (Some(_), _) => "hybrid: v1, with a v2 tree beside it",
        (None, _) => "v1",
    };
    Finding::ok("layout", format!("{kind}; {}", mount_points.join(" ")))
}

/// Who makes a container's cgroup when nobody says it.
fn manager(layout: &Layout) -> Finding {
    match Manager::no_scopes(layout) {
        None => Finding::ok("manager", "systemd: a scope for each container, unless a cgroup is named by its path"),
        Some(reason) => Finding::ok("manager", format!("cgroupfs ({reason})")),
    }
}

fn controlled(layout: &Layout, config: Option<&KernelConfig>, controller: Controller, purpose: &str) -> Finding {
    let name = format!("controller {}", controller.v1_name());
    match (layout.holder(controller), controller) {
        (Some(holder), _) => {
            let version = if holder.is_v2() { "v2" } else { "v1" };
            Finding::ok(name, format!("{version}, {}", holder.mount_point))
        }
        (None, Controller::Devices) if layout.unified().is_some() => {
            match config.map(|config| config.has("CONFIG_CGROUP_BPF")) {
                Some(true) => Finding::ok(name, "v2, by programs for each container (CONFIG_CGROUP_BPF)"),
                Some(false) => Finding::limited(
                    name,
                    format!("absent ({purpose}): v2 takes programs for it, and this kernel has no CONFIG_CGROUP_BPF"),
                    "nothing has to be done: /dev holds harmless nodes only, and every mount but it is nodev",
                ),
                None => Finding::unknown(
                    name,
                    "v2 takes programs for it: whether this kernel does cannot be read (CONFIG_CGROUP_BPF)",
                ),
            }
        }
        (None, _) => {
            let advice = format!(
                "boot without cgroup_disable={controller}, or have the parent cgroup hand it down (systemd: Delegate=yes)"
            );
            Finding::limited(name, format!("absent: {purpose} is refused"), advice)
        }
    }
}

/// Processors that workers will not have, although the machine has them.
fn cpusets(layout: &Layout) -> Vec<Finding> {
    let parent = CgroupPath::new(DEFAULT_MONITORS).ok().and_then(|monitors| monitors.parent());
    let (Some(holder), Some(parent)) = (layout.holder(Controller::Cpuset), parent) else { return Vec::new() };
    cpuset_findings(holder, &parent)
        .into_iter()
        .map(|(seen, advice)| Finding::limited("cpuset", seen, advice))
        .collect()
}

/// Whether this process may make a directory at the top of every hierarchy.
fn writable(layout: &Layout) -> Finding {
    let refusals = layout.hierarchies().iter().filter_map(|one| {
        let errno = access(one.mount_point.as_str(), Access::WRITE_OK | Access::EXEC_OK).err()?;
        Some(format!("{}: {errno}", one.mount_point))
    });
    let refusals: Vec<String> = refusals.collect();
    let Some(first) = refusals.first() else {
        return Finding::ok("writable", "groups can be made at the top of every hierarchy");
    };
    let seen =
        format!("no group can be made in {} of {} hierarchies; {first}", refusals.len(), layout.hierarchies().len());
    let advice = "run as root, with /sys/fs/cgroup mounted writable (docker: --privileged, or --cgroupns=host and a writable mount)";
    Finding::missing("writable", seen, advice)
}

/// What the top of a v2 hierarchy hands down; the launch adds what is needed, where it may.
fn handed_down(layout: &Layout, machine: &Machine) -> Option<Finding> {
    let unified = layout.unified()?;
    let read = |file: &str| machine.text(format!("{}/{file}", unified.mount_point));
    let (offered, handed) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    Some(match (offered, handed) {
        (Ok(offered), Ok(handed)) => Finding::ok("v2 tree", delegation(&offered, &handed)),
        (Err(error), _) | (_, Err(error)) => Finding::unknown("v2 tree", format!("{}: {error}", unified.mount_point)),
    })
}

fn delegation(offered: &str, handed: &str) -> String {
    let words = |text: &str| if text.trim().is_empty() { "none".to_owned() } else { text.trim().to_owned() };
    format!("controllers: {}; handed down: {} (a launch hands down what it needs)", words(offered), words(handed))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use squall::cgroup::{Hierarchy, Kind};

    fn layout(kinds: Vec<Kind>) -> Layout {
        let hierarchy = |kind| Hierarchy { mount_point: "/no/such/place".into(), root: "/".into(), kind };
        Layout::new(kinds.into_iter().map(hierarchy).collect(), "/proc")
    }

    fn v1(name: &str) -> Kind {
        Kind::V1 { controllers: vec![name.to_owned()], name: None }
    }

    fn v2(names: &[&str]) -> Kind {
        Kind::V2 { controllers: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn the_three_layouts_are_told_apart_and_none_is_a_limit() {
        for (kinds, expected) in
            [(vec![v1("cpu")], "v1;"), (vec![v1("cpu"), v2(&[])], "hybrid"), (vec![v2(&["cpu"])], "v2;")]
        {
            let found = kind(&layout(kinds));
            assert!(found.state == State::Ok && found.seen.starts_with(expected), "{found:?}");
        }
        assert_eq!(kind(&layout(vec![])).state, State::Limited);
    }

    #[test]
    fn a_controller_that_is_absent_names_what_is_lost() {
        let found = controlled(&layout(vec![v2(&["cpu"])]), None, Controller::Memory, "--memory");
        assert!(found.state == State::Limited && found.seen.contains("--memory"), "{found:?}");
        assert_eq!(controlled(&layout(vec![v1("memory")]), None, Controller::Memory, "").state, State::Ok);
    }

    #[test]
    fn a_hierarchy_that_takes_no_group_is_missing() {
        assert_eq!(writable(&layout(vec![v1("cpu")])).state, State::Missing);
    }
}
