//! Memory accounting: what of memory and swap can be limited and counted.

use super::finding::Finding;
use super::machine::Machine;
use squall::cgroup::{Controller, Layout};

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let layout = Layout::detect().unwrap_or_else(|_| Layout::new(Vec::new(), "/proc"));
    vec![controller(machine), swap(machine, &layout), overcommit(machine), memfd(machine)]
}

/// v1's own table says whether the controller was turned off at boot; a v2 machine may not have it
/// any more.
fn controller(machine: &Machine) -> Finding {
    let Ok(table) = machine.text("/proc/cgroups") else {
        return Finding::unknown("controller", "there is no /proc/cgroups: see cgroups");
    };
    match table.lines().find(|line| line.starts_with("memory\t")).map(|line| line.ends_with("\t1")) {
        Some(true) => Finding::ok("controller", "on"),
        Some(false) => {
            Finding::limited("controller", "turned off: --memory is refused", "boot with cgroup_enable=memory")
        }
        None => Finding::unknown("controller", "/proc/cgroups does not list it: see cgroups"),
    }
}

fn swap(machine: &Machine, layout: &Layout) -> Finding {
    const NAME: &str = "swap accounting";
    let areas = machine.text("/proc/swaps").map(|text| text.lines().skip(1).count());
    let has_swap = match areas {
        Ok(0) => "the machine has no swap",
        Ok(_) => "the machine has swap",
        Err(_) => "whether the machine has swap cannot be seen",
    };
    let Some(holder) = layout.holder(Controller::Memory) else {
        return Finding::unknown(NAME, format!("there is no memory controller; {has_swap}"));
    };
    let counted = match holder.is_v2() {
        false => Some(machine.exists(format!("{}/memory.memsw.limit_in_bytes", holder.mount_point))),
        // The top has no such file, the groups below it have.
        true => {
            let groups = machine.names(&holder.mount_point);
            let with = |file: &str| {
                groups.iter().any(|group| machine.exists(format!("{}/{group}/{file}", holder.mount_point)))
            };
            with("memory.max").then(|| with("memory.swap.max"))
        }
    };
    match (counted, areas) {
        (Some(true), _) => Finding::ok(NAME, format!("on; {has_swap}")),
        (Some(false), Ok(0)) => Finding::ok(NAME, format!("off; {has_swap}, so nothing is lost")),
        (Some(false), _) => {
            Finding::limited(NAME, format!("off; {has_swap}: --memory-swap is refused"), "boot with swapaccount=1")
        }
        (None, _) => Finding::unknown(NAME, format!("no group shows it; {has_swap}")),
    }
}

fn overcommit(machine: &Machine) -> Finding {
    match machine.number("/proc/sys/vm/overcommit_memory") {
        Some(2) => Finding::limited(
            "overcommit",
            "strict (vm.overcommit_memory 2): allocations fail for want of address space before a limit is reached",
            "set vm.overcommit_memory to 0 or 1, or leave room (vm.overcommit_ratio)",
        ),
        Some(mode) => Finding::ok("overcommit", format!("vm.overcommit_memory {mode}")),
        None => Finding::unknown("overcommit", "vm.overcommit_memory cannot be read"),
    }
}

/// The monitor and the program in between are executed from memory.
fn memfd(machine: &Machine) -> Finding {
    const NAME: &str = "programs in memory";
    match machine.number("/proc/sys/vm/memfd_noexec") {
        Some(2) => Finding::missing(
            NAME,
            "vm.memfd_noexec 2: no file in memory can be executed, and so no monitor",
            "set vm.memfd_noexec to 1 or 0",
        ),
        Some(mode) => Finding::ok(NAME, format!("vm.memfd_noexec {mode}")),
        None => Finding::ok(NAME, "allowed: this kernel has no vm.memfd_noexec, or does not show it"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::fixture::machine;
    use super::*;
    use squall::cgroup::{Hierarchy, Kind};

    fn layout(kind: Kind) -> Layout {
        Layout::new(vec![Hierarchy { mount_point: "/m".into(), root: "/".into(), kind }], "/proc")
    }

    #[test]
    fn swap_that_is_not_counted_is_a_limit_only_where_there_is_swap() {
        let v1 = layout(Kind::V1 { controllers: vec!["memory".into()], name: None });
        let v2 = layout(Kind::V2 { controllers: vec!["memory".into()] });
        let (none, some) = (("/proc/swaps", "Filename\n"), ("/proc/swaps", "Filename\n/dev/sda2 partition\n"));
        for (layout, files, expected) in [
            (&v1, vec![none], State::Ok),
            (&v1, vec![some], State::Limited),
            (&v1, vec![some, ("/m/memory.memsw.limit_in_bytes", "")], State::Ok),
            (&v2, vec![some, ("/m/a/memory.max", "")], State::Limited),
            (&v2, vec![some, ("/m/a/memory.max", ""), ("/m/a/memory.swap.max", "")], State::Ok),
            (&v2, vec![some], State::Unknown),
        ] {
            let (_top, made) = machine(&files);
            assert_eq!(swap(&made, layout).state, expected, "{files:?}");
        }
    }

    #[test]
    fn a_controller_turned_off_at_boot_and_files_that_cannot_be_executed_are_told() {
        let table =
            |enabled| format!("#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t2\t1\nmemory\t4\t9\t{enabled}\n");
        for (enabled, expected) in [(1, State::Ok), (0, State::Limited)] {
            let (_top, made) = machine(&[("/proc/cgroups", &table(enabled))]);
            assert_eq!(controller(&made).state, expected);
        }
        for (mode, expected) in [("0", State::Ok), ("1", State::Ok), ("2", State::Missing)] {
            let (_top, made) = machine(&[("/proc/sys/vm/memfd_noexec", mode)]);
            assert_eq!(memfd(&made).state, expected);
        }
    }
}
