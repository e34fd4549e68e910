//! Changing the limits of a cgroup that holds processes.
//!
//! Owns the order: everything that can be refused is refused first (`fits`), then the values that
//! are there are read, then the new ones are written; should the kernel refuse one of these all the
//! same, the earlier values are put back. Used by whoever updates a container.

use std::os::fd::BorrowedFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::apply::Target;
use super::{Cgroup, cpuset, fits, subtree, supported};
use crate::cgroup::file;
use crate::cgroup::limits::adjustment::Adjustment;
use crate::cgroup::limits::changes::LimitChanges;
use crate::cgroup::limits::kernel_values::{Setting, Step};
use crate::cgroup::limits::live_values::{Inherited, plan};
use crate::cgroup::limits::{Field, Limits};
use crate::cgroup::machine::layout::Hierarchy;
use crate::cgroup::path::CgroupPath;
use crate::error::{Error, Problem, Result};
use crate::stage::Stage;

/// Limits that were changed, and how to undo it.
pub struct Changed<'c> {
    /// The limits that are in force.
    pub limits: Limits,
    /// What the kernel took otherwise of those that changed.
    pub adjustments: Vec<Adjustment>,
    before: Before<'c>,
}

impl Changed<'_> {
    /// Puts the earlier values back, after this error. It says so, or what could not be put back.
    pub fn take_back(self, error: Error) -> Error {
        self.before.put_back(error)
    }
}

impl Cgroup {
    /// Changes limits of a cgroup that may hold processes; `before` are those that it was given.
    /// Nothing is changed where something is refused, and after a failure the earlier values are in
    /// force again. Needs what [`Cgroup::create`] needs.
    ///
    /// # Errors
    /// - `Invalid`: what [`LimitChanges::problems`] and [`Limits::problems`] name; a memory limit
    ///   that is below what the kernel could not reclaim; processors and memory nodes that the
    ///   parent cgroup does not have; on v1 more CPU time than a parent has.
    /// - `Unsupported`, `Privilege`, `System`: as [`Cgroup::create`].
    pub fn change(&self, changes: &LimitChanges, before: &Limits) -> Result<Changed<'_>> {
        let (limits, changed) = (changes.applied_to(before), changes.fields());
        self.refuse(changes.problems())?;
        let needed = supported(&self.layout, &self.path, &limits)?;
        let (problems, inherited) = fits::problems(self, &limits, &changed);
        self.refuse(problems)?;
        for hierarchy in self.layout.hierarchies() {
            if cpuset::needs_values(hierarchy) {
                cpuset::widen_parents(hierarchy, &self.path, &changed)?;
            }
            if hierarchy.is_v2() {
                subtree::enable(hierarchy, &self.path, &needed)?;
            }
        }
        if changed.contains(&Field::MemoryBytes) {
            self.refuse(fits::make_room(self, &limits).into_iter().collect())?;
        }
        self.write(limits, &changed, &inherited)
    }

    fn refuse(&self, problems: Vec<Problem>) -> Result<()> {
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Error::invalid(format!("cgroup '{}'", self.path), problems)),
        }
    }

    fn write(&self, limits: Limits, changed: &[Field], inherited: &Inherited) -> Result<Changed<'_>> {
        let plans: Vec<_> = self
            .directories()
            .map(|(hierarchy, directory)| (hierarchy, directory, plan(&limits, changed, inherited, hierarchy)))
            .collect();
        let mut before = Before { path: &self.path, saved: Vec::new() };
        plans.iter().for_each(|(_, directory, steps)| before.save(*directory, steps));
        let mut adjustments = Vec::new();
        for (hierarchy, directory, steps) in plans {
            let target = Target { path: &self.path, directory, procfs: self.layout.procfs() };
            if let Err(error) = target.apply(&steps, &mut adjustments) {
                return Err(before.put_back(error));
            }
            self.mark(hierarchy, &limits, changed);
        }
        Ok(Changed { limits, adjustments, before })
    }

    /// What is inherited on v1 is ours to widen, what was asked for is not.
    fn mark(&self, hierarchy: &Hierarchy, limits: &Limits, changed: &[Field]) {
        if cpuset::needs_values(hierarchy) {
            cpuset::mark(hierarchy, &self.path, limits, changed);
        }
    }
}

/// The values of files before they were changed.
struct Before<'c> {
    path: &'c CgroupPath,
    saved: Vec<Saved<'c>>,
}

struct Saved<'c> {
    directory: BorrowedFd<'c>,
    file: &'static str,
    value: String,
}

impl<'c> Before<'c> {
    fn save(&mut self, directory: BorrowedFd<'c>, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Set(setting) => self.save_one(directory, setting),
                Step::Pair(first, second) => [first, second].iter().for_each(|one| self.save_one(directory, one)),
                Step::Devices(_) => {}
            }
        }
    }

    /// The first choice that exists is the one that is written.
    fn save_one(&mut self, directory: BorrowedFd<'c>, setting: &Setting) {
        let read = |file: &'static str| Some((file, file::read_short(directory, file).ok()?));
        if let Some((file, text)) = setting.choices.iter().find_map(|(file, _)| read(file)) {
            // Weights for single devices stand in further lines, and are not written.
            let value = text.as_str().lines().next().unwrap_or_default().to_owned();
            self.saved.push(Saved { directory, file, value });
        }
    }

    /// Two values may bound each other, so that only the second round takes one of them.
    fn put_back(&self, error: Error) -> Error {
        let attempt = || self.saved.iter().rev().filter_map(|saved| Some((saved, saved.put_back().err()?)));
        let _ = attempt().count();
        let left: Vec<_> = attempt().collect();
        if left.is_empty() {
            return error.adding("the earlier limits are in force again");
        }
        left.into_iter().fold(error, |error, (saved, errno)| {
            let object = format!("cgroup '{}' {}", self.path, saved.file);
            error.leaving(Error::system(Stage::Cgroup, object, format!("write({})", saved.value), errno))
        })
    }
}

impl Saved<'_> {
    fn put_back(&self) -> std::result::Result<(), Errno> {
        let open = file::open(self.directory, self.file, OFlags::RDWR)?;
        if file::show(&open)?.as_str().lines().next().unwrap_or_default() == self.value {
            return Ok(());
        }
        // An empty write would not reach the kernel.
        file::write(&open, if self.value.is_empty() { "\n" } else { &self.value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::SwapLimit;
    use crate::cgroup::fake::FakeTree;
    use crate::error::ErrorKind;

    fn path() -> CgroupPath {
        CgroupPath::new("/a/b").unwrap()
    }

    fn limits() -> Limits {
        Limits {
            cpu_quota_us: Some(20_000),
            cpu_period_us: Some(100_000),
            memory_bytes: Some(4096),
            memory_swap_bytes: Some(SwapLimit::Total(8192)),
            pids: Some(10),
            ..Limits::none()
        }
    }

    fn set(set: Limits) -> LimitChanges {
        LimitChanges { set, lift: Vec::new() }
    }

    #[test]
    fn values_reach_the_files_of_each_version_and_the_others_stay() {
        for (tree, memory, quota, pids) in [
            (FakeTree::v1(), "memory/a/b/memory.limit_in_bytes", "cpu/a/b/cpu.cfs_quota_us", "pids/a/b/pids.max"),
            (FakeTree::v2("cpu memory pids"), "a/b/memory.max", "a/b/cpu.max", "a/b/pids.max"),
        ] {
            let (cgroup, _) = Cgroup::create(tree.layout(), &path(), &limits()).unwrap();
            let read = |name: &str| {
                let (group, file) = name.rsplit_once('/').unwrap();
                tree.read(group, file)
            };
            let quota_before = read(quota);
            let changes = set(Limits { memory_bytes: Some(8192), pids: Some(77), ..Limits::none() });
            let changed = cgroup.change(&changes, &limits()).unwrap();
            assert_eq!((changed.limits.pids, changed.limits.cpu_quota_us), (Some(77), Some(20_000)));
            assert_eq!((read(memory).as_str(), read(pids).as_str()), ("8192", "77"));
            assert_eq!(read(quota), quota_before);
            let error = changed.take_back(Error::system(Stage::Record, "record.json", "write", Errno::NOSPC));
            assert_eq!((read(memory).as_str(), read(pids).as_str()), ("4096", "10"));
            assert!(error.to_string().ends_with("the earlier limits are in force again"), "{error}");
        }
    }

    #[test]
    fn a_sum_of_memory_and_swap_is_changed_alone() {
        for (tree, group, file, value) in [
            (FakeTree::v1(), "memory/a/b", "memory.memsw.limit_in_bytes", "9192"),
            (FakeTree::v2("cpu memory pids"), "a/b", "memory.swap.max", "5096"),
        ] {
            let (cgroup, _) = Cgroup::create(tree.layout(), &path(), &limits()).unwrap();
            let sum = Limits { memory_swap_bytes: Some(SwapLimit::Total(9192)), ..Limits::none() };
            let changed = cgroup.change(&set(sum), &limits()).unwrap();
            assert_eq!((changed.limits.memory_bytes, tree.read(group, file).as_str()), (Some(4096), value));
        }
    }

    #[test]
    fn after_a_failure_half_way_the_earlier_values_are_back() {
        for (tree, group) in [(FakeTree::v1(), "pids/a/b"), (FakeTree::v2("cpu memory pids"), "a/b")] {
            let (cgroup, _) = Cgroup::create(tree.layout(), &path(), &limits()).unwrap();
            tree.break_file(group, "pids.max");
            let memory = |tree: &FakeTree| {
                let layout = tree.layout().clone();
                let file = if layout.hierarchies().len() == 1 { "memory.max" } else { "memory.limit_in_bytes" };
                tree.read(if layout.hierarchies().len() == 1 { "a/b" } else { "memory/a/b" }, file)
            };
            let changes = set(Limits { memory_bytes: Some(8192), pids: Some(20), ..Limits::none() });
            let error = cgroup.change(&changes, &limits()).err().unwrap();
            assert_eq!(error.object(), "cgroup '/a/b' pids.max");
            assert!(error.to_string().contains("the earlier limits are in force again"), "{error}");
            assert_eq!(memory(&tree), "4096");
        }
    }

    #[test]
    fn what_cannot_be_put_back_is_named() {
        let tree = FakeTree::v2("cpu memory pids");
        let (cgroup, _) = Cgroup::create(tree.layout(), &path(), &limits()).unwrap();
        let changed = cgroup.change(&set(Limits { pids: Some(20), ..Limits::none() }), &limits()).unwrap();
        tree.break_file("a/b", "pids.max");
        let error = changed.take_back(Error::system(Stage::Record, "record.json", "write", Errno::NOSPC));
        assert!(error.to_string().contains("left behind: cgroup: cgroup '/a/b' pids.max: write(10)"), "{error}");
    }

    #[test]
    fn nothing_is_written_of_what_is_refused() {
        let tree = FakeTree::v1();
        let (cgroup, _) = Cgroup::create(tree.layout(), &path(), &limits()).unwrap();
        let more = Limits { memory_bytes: Some(16384), pids: Some(3), ..Limits::none() };
        let error = cgroup.change(&set(more), &limits()).err().unwrap();
        assert_eq!((error.kind(), error.problems()[0].field.as_str()), (ErrorKind::Invalid, "memory_swap_bytes"));
        assert_eq!(tree.read("pids/a/b", "pids.max"), "10");
        let error = cgroup.change(&LimitChanges::default(), &limits()).err().unwrap();
        assert!(error.to_string().contains("nothing to change"), "{error}");
    }
}
