//! Whether new limits fit a cgroup that holds processes: what the kernel would refuse, or would
//! keep by killing.
//!
//! Reads the kernel's files and writes none, but for the one that asks it to reclaim memory on v2,
//! where a limit below the use kills. Files that are not there are no reason to refuse: the kernel
//! has its own say when the value is written.

use std::os::fd::BorrowedFd;

use rustix::fs::OFlags;

use super::apply::has_swap;
use super::{Cgroup, cpuset};
use crate::cgroup::file;
use crate::cgroup::file::value_of;
use crate::cgroup::limits::live_values::Inherited;
use crate::cgroup::limits::{Field, Limits, SwapLimit, problem};
use crate::cgroup::machine::controller::Controller;
use crate::cgroup::machine::layout::Hierarchy;
use crate::error::Problem;

/// What keeps the `changed` fields of `limits` from being in force, and what the cgroup has where
/// it has no lists of its own.
pub(super) fn problems(cgroup: &Cgroup, limits: &Limits, changed: &[Field]) -> (Vec<Problem>, Inherited) {
    let mut problems = memory(cgroup, limits, changed);
    problems.extend(quota(cgroup, limits, changed));
    let (inherited, lists) = lists(cgroup, limits, changed);
    problems.extend(lists);
    (problems, inherited)
}

/// The cgroup's directory where a controller works, and whether that is v2.
fn place(cgroup: &Cgroup, controller: Controller) -> Option<(&Hierarchy, BorrowedFd<'_>)> {
    cgroup.directories().find(|(hierarchy, _)| hierarchy.has(controller))
}

/// What `memory.stat` says: bytes on the lists that only swap could empty, of file pages and other
/// memory that is given back on demand, and in swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    anonymous: u64,
    reclaimable: u64,
    swapped: u64,
}

/// v1 tells those below a cgroup only in the lines that begin with `total_`.
fn held(text: &str, v2: bool) -> Held {
    let prefix = if v2 { "" } else { "total_" };
    let sum = |keys: &[&str]| {
        let values = keys.iter().filter_map(|key| value_of(text, &format!("{prefix}{key}")));
        values.fold(0_u64, u64::saturating_add)
    };
    Held {
        anonymous: sum(&["inactive_anon", "active_anon", "unevictable"]),
        reclaimable: sum(&["inactive_file", "active_file", "slab_reclaimable"]),
        swapped: sum(&["swap"]),
    }
}

fn read_held(directory: BorrowedFd<'_>, v2: bool) -> Option<Held> {
    let text = file::read_whole(directory, "memory.stat").ok()?;
    Some(held(&String::from_utf8_lossy(&text), v2))
}

/// Memory that cannot be reclaimed does not fit into less.
fn memory(cgroup: &Cgroup, limits: &Limits, changed: &[Field]) -> Vec<Problem> {
    let Some((hierarchy, directory)) = place(cgroup, Controller::Memory) else { return Vec::new() };
    let Some(held) = read_held(directory, hierarchy.is_v2()) else { return Vec::new() };
    let changes = |field| changed.contains(&field);
    let mut problems = Vec::new();
    let swaps = has_swap(cgroup.layout.procfs());
    if let Some(limit) = limits.memory_bytes.filter(|_| changes(Field::MemoryBytes) && !swaps) {
        problems.extend(too_little(Field::MemoryBytes, limit, held.anonymous, "memory that it holds"));
    }
    let total = match limits.memory_swap_bytes {
        Some(SwapLimit::Total(total)) if changes(Field::MemorySwapBytes) && !hierarchy.is_v2() => Some(total),
        _ => None,
    };
    if let Some(total) = total {
        let both = held.anonymous.saturating_add(held.swapped);
        problems.extend(too_little(Field::MemorySwapBytes, total, both, "memory and swap that it holds"));
    }
    problems
}

fn too_little(field: Field, limit: u64, held: u64, what: &str) -> Option<Problem> {
    let reason = format!("{limit} bytes is less than the {what}, and that cannot be reclaimed: {held} bytes");
    (held > limit).then(|| problem(field, &reason))
}

/// On v2 the kernel sets a limit first, reclaims then, and kills where that is not enough. So it is
/// asked to reclaim before (`memory.reclaim`, since Linux 5.19), and what then stands above the
/// limit has to be what it gives back on demand. v1 refuses by itself.
pub(super) fn make_room(cgroup: &Cgroup, limits: &Limits) -> Option<Problem> {
    let (hierarchy, directory) = place(cgroup, Controller::Memory)?;
    let limit = limits.memory_bytes.filter(|_| hierarchy.is_v2())?;
    let current = || file::read_short(directory, "memory.current").ok()?.as_str().trim_end().parse::<u64>().ok();
    let above = current()?.checked_sub(limit).filter(|above| *above > 0)?;
    if let Ok(reclaim) = file::open(directory, "memory.reclaim", OFlags::WRONLY) {
        // It fails where it reclaims less; what counts is what there is afterwards.
        let _ = file::write(reclaim, &above.to_string());
    }
    let held = read_held(directory, true)?;
    let rest = current()?.saturating_sub(held.reclaimable);
    too_little(Field::MemoryBytes, limit, rest, "memory that it uses")
}

/// v1 refuses a larger share than a parent has; on v2 the parent's is simply in force as well.
fn quota(cgroup: &Cgroup, limits: &Limits, changed: &[Field]) -> Option<Problem> {
    let (hierarchy, directory) = place(cgroup, Controller::Cpu)?;
    if hierarchy.is_v2() || ![Field::CpuQuotaUs, Field::CpuPeriodUs].iter().any(|field| changed.contains(field)) {
        return None;
    }
    let quota = u64::try_from(limits.cpu_quota_us?).ok()?;
    let period = limits.cpu_period_us.or_else(|| number(directory, "cpu.cfs_period_us"))?;
    let above = cgroup.path.ancestors().collect::<Vec<_>>().into_iter().rev();
    let limited = |path: &str| {
        let directory = file::open_directory(&hierarchy.below(path)).ok()?;
        let directory = std::os::fd::AsFd::as_fd(&directory);
        Some((number(directory, "cpu.cfs_quota_us")?, number(directory, "cpu.cfs_period_us")?))
    };
    let (parent, (parent_quota, parent_period)) = above.filter_map(|path| Some((path, limited(path)?))).next()?;
    let more = u128::from(quota) * u128::from(parent_period) > u128::from(parent_quota) * u128::from(period);
    let reason = format!(
        "{quota} us in {period} us is more than cgroup '{parent}' has: {parent_quota} us in {parent_period} us"
    );
    more.then(|| problem(Field::CpuQuotaUs, &reason))
}

/// A number of a file; `None` for no limit.
fn number(directory: BorrowedFd<'_>, name: &str) -> Option<u64> {
    file::read_short(directory, name).ok()?.as_str().trim_end().parse().ok()
}

/// A cgroup has the processors and memory nodes of its parent, at most. v2 would take others and
/// leave them out.
fn lists(cgroup: &Cgroup, limits: &Limits, changed: &[Field]) -> (Inherited, Vec<Problem>) {
    let asked = [(Field::CpusetCpus, &limits.cpuset_cpus), (Field::CpusetMems, &limits.cpuset_mems)];
    let hierarchy = cgroup.layout.holder(Controller::Cpuset);
    let Some(hierarchy) = hierarchy.filter(|_| asked.iter().any(|(field, _)| changed.contains(field))) else {
        return (Inherited::default(), Vec::new());
    };
    let (cpus, mems) = match cpuset::available(hierarchy, &cgroup.path) {
        Ok(available) => available,
        Err(obstacle) => return (Inherited::default(), vec![problem(Field::CpusetCpus, &obstacle)]),
    };
    let inherited = Inherited { cpus, mems };
    let beyond = asked.iter().zip([&inherited.cpus, &inherited.mems]).filter_map(|((field, list), available)| {
        let (list, available) = (list.as_ref().filter(|_| changed.contains(field))?, available.as_ref()?);
        let missing = list.without(available)?;
        Some(problem(*field, &format!("of {list} there is no {missing} for it: the parent cgroup gives {available}")))
    });
    let problems = beyond.collect();
    (inherited, problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::FakeTree;
    use crate::cgroup::{CgroupPath, LimitChanges};
    use crate::error::ErrorKind;

    /// As kernel 6.18 shows it for a worker with 40 MiB of its own, 12 MiB of page cache and 3 MiB
    /// in swap.
    const STAT_V1: &str = "cache 12582912\nrss 41943040\nmapped_file 4096\nswap 3145728\ninactive_anon 41943040\n\
        active_anon 0\ninactive_file 8388608\nactive_file 4194304\nunevictable 0\n\
        hierarchical_memory_limit 67108864\ntotal_cache 12582912\ntotal_rss 41943040\ntotal_swap 3145728\n\
        total_inactive_anon 41943040\ntotal_active_anon 0\ntotal_inactive_file 8388608\n\
        total_active_file 4194304\ntotal_unevictable 0\n";

    /// As kernel 6.1 shows it.
    const STAT_V2: &str = "anon 41943040\nfile 12582912\nkernel 1400000\nkernel_stack 16384\npagetables 200704\n\
        sock 0\nshmem 0\ninactive_anon 41943040\nactive_anon 0\ninactive_file 8388608\nactive_file 4194304\n\
        unevictable 0\nslab_reclaimable 600000\nslab_unreclaimable 500000\nslab 1100000\n";

    fn path() -> CgroupPath {
        CgroupPath::new("/a/b").unwrap()
    }

    fn refused(cgroup: &Cgroup, set: Limits, before: &Limits) -> Option<String> {
        let changes = LimitChanges { set, lift: Vec::new() };
        let error = cgroup.change(&changes, before).err()?;
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        Some(error.to_string())
    }

    #[test]
    fn both_versions_say_what_cannot_be_reclaimed() {
        let v1 = Held { anonymous: 41943040, reclaimable: 12582912, swapped: 3145728 };
        assert_eq!(held(STAT_V1, false), v1);
        assert_eq!(held(STAT_V2, true), Held { reclaimable: 13182912, swapped: 0, ..v1 });
    }

    #[test]
    fn memory_that_is_held_does_not_fit_into_less_without_swap() {
        let memory = |bytes| Limits { memory_bytes: Some(bytes), ..Limits::none() };
        let (v1, v2) = (FakeTree::v1(), FakeTree::v2("memory"));
        for (tree, group, stat) in [(&v1, "memory/a/b", STAT_V1), (&v2, "a/b", STAT_V2)] {
            let before = memory(64 << 20);
            let (cgroup, _) = Cgroup::create(tree.layout(), &path(), &before).unwrap();
            tree.put(group, "memory.stat", stat);
            let said = refused(&cgroup, memory(32 << 20), &before).unwrap();
            assert!(said.contains("33554432 bytes is less than") && said.contains("41943040 bytes"), "{said}");
            assert_eq!(refused(&cgroup, memory(48 << 20), &before), None);
            tree.set_swap("/dev/sda2 partition 1 0 -2\n");
            assert_eq!(refused(&cgroup, memory(32 << 20), &before), None);
            tree.set_swap("");
        }
    }

    #[test]
    fn on_v2_nothing_is_left_to_the_kernels_killing() {
        let tree = FakeTree::v2("memory");
        let before = Limits { memory_bytes: Some(64 << 20), ..Limits::none() };
        let (cgroup, _) = Cgroup::create(tree.layout(), &path(), &before).unwrap();
        tree.put("a/b", "memory.stat", STAT_V2);
        // Kernel memory is on no list: 1.3 MiB of it do not fit beside the 40.
        tree.put("a/b", "memory.current", "55900000\n");
        tree.put("a/b", "memory.reclaim", "");
        let said = refused(&cgroup, Limits { memory_bytes: Some(42_000_000), ..Limits::none() }, &before).unwrap();
        assert!(said.contains("memory that it uses") && said.contains("42717088 bytes"), "{said}");
        assert_eq!(tree.read("a/b", "memory.reclaim"), "13900000");
        assert_eq!(tree.read("a/b", "memory.max"), "67108864");
        assert_eq!(refused(&cgroup, Limits { memory_bytes: Some(43_000_000), ..Limits::none() }, &before), None);
    }

    #[test]
    fn memory_and_swap_together_are_held_on_v1() {
        let tree = FakeTree::v1();
        let both = |total| Limits {
            memory_bytes: Some(41943040),
            memory_swap_bytes: Some(SwapLimit::Total(total)),
            ..Limits::none()
        };
        let before = both(64 << 20);
        let (cgroup, _) = Cgroup::create(tree.layout(), &path(), &before).unwrap();
        tree.put("memory/a/b", "memory.stat", STAT_V1);
        let said = refused(&cgroup, both(42 << 20), &before).unwrap();
        assert!(said.contains("memory_swap_bytes: 44040192") && said.contains("45088768"), "{said}");
        assert_eq!(refused(&cgroup, both(43 << 20), &before), None);
    }

    #[test]
    fn a_share_above_the_parents_is_refused_on_v1() {
        let tree = FakeTree::v1();
        let before = Limits { cpu_quota_us: Some(10_000), cpu_period_us: Some(100_000), ..Limits::none() };
        let (cgroup, _) = Cgroup::create(tree.layout(), &path(), &before).unwrap();
        tree.put("cpu/a", "cpu.cfs_quota_us", "25000\n");
        tree.put("cpu/a", "cpu.cfs_period_us", "50000\n");
        let quota = |us| Limits { cpu_quota_us: Some(us), ..Limits::none() };
        let said = refused(&cgroup, quota(50_001), &before).unwrap();
        assert!(said.contains("more than cgroup '/a' has: 25000 us in 50000 us"), "{said}");
        assert_eq!(refused(&cgroup, quota(50_000), &before), None);
        tree.put("cpu/a", "cpu.cfs_quota_us", "-1\n");
        assert_eq!(refused(&cgroup, quota(90_000), &before), None);
    }

    #[test]
    fn processors_that_the_parent_does_not_have_are_refused() {
        let (v1, v2) = (FakeTree::v1(), FakeTree::v2("cpuset"));
        for tree in [&v1, &v2] {
            let cpus = |list: &str| Limits { cpuset_cpus: list.parse().ok(), ..Limits::none() };
            let (cgroup, _) = Cgroup::create(tree.layout(), &path(), &cpus("0")).unwrap();
            if tree.layout().hierarchies().len() == 1 {
                tree.put("a", "cpuset.cpus.effective", "0-1\n");
            }
            let said = refused(&cgroup, cpus("1-2"), &cpus("0")).unwrap();
            assert!(said.contains("of 1-2 there is no 2 for it"), "{said}");
            assert_eq!(refused(&cgroup, cpus("1"), &cpus("0")), None);
        }
        assert_eq!(v1.read("cpuset/a/b", "cpuset.cpus"), "1");
        assert_eq!(v2.read("a/b", "cpuset.cpus"), "1");
    }
}
