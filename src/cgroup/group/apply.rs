//! Carrying out a plan in one cgroup, and comparing what the kernel made of it.
//!
//! Owns the order of retries and the reading back. It decides no values. Used by the launch
//! process, and by whoever changes the limits of a running container.

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::cgroup::limits::Field;
use crate::cgroup::limits::adjustment::{Adjustment, Got};
use crate::cgroup::limits::kernel_values::{Absent, Check, Setting, Step, difference};
use crate::cgroup::path::CgroupPath;
use crate::cgroup::{explain, file};
use crate::error::{Error, ErrorKind, Result};
use crate::stage::Stage;

/// One cgroup in one hierarchy, about to get its limits.
pub(in crate::cgroup) struct Target<'a> {
    pub path: &'a CgroupPath,
    pub directory: BorrowedFd<'a>,
    pub procfs: &'a Path,
}

impl Target<'_> {
    /// Writes every value of `steps` and reports each that the kernel took differently.
    pub(in crate::cgroup) fn apply(&self, steps: &[Step], adjustments: &mut Vec<Adjustment>) -> Result<()> {
        for step in steps {
            match step {
                Step::Set(setting) => adjustments.extend(self.set(setting)?),
                Step::Pair(first, second) => self.set_pair(first, second, adjustments)?,
                Step::Devices(rules) => self.set_devices(rules)?,
            }
        }
        Ok(())
    }

    /// In a living cgroup the old second value may bound the new first one (memory above the old
    /// sum, a period that makes the old quota too much). Then the second goes first. If that fails
    /// too, the first failure is the one to tell.
    fn set_pair(&self, first: &Setting, second: &Setting, adjustments: &mut Vec<Adjustment>) -> Result<()> {
        match self.set(first) {
            Ok(adjustment) => {
                adjustments.extend(adjustment);
                adjustments.extend(self.set(second)?);
            }
            Err(error) if matches!(error.errno(), Some(libc::EINVAL | libc::EBUSY)) => {
                let Ok(adjustment) = self.set(second) else { return Err(error) };
                adjustments.extend(self.set(first)?);
                adjustments.extend(adjustment);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn set(&self, setting: &Setting) -> Result<Option<Adjustment>> {
        for (file, value) in &setting.choices {
            match file::open(self.directory, file, OFlags::RDWR) {
                Ok(open) => return self.write(setting, file, value, &open),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(self.refused(file, "open", value, errno)),
            }
        }
        self.absent(setting)
    }

    fn write(&self, setting: &Setting, file: &str, value: &str, open: &OwnedFd) -> Result<Option<Adjustment>> {
        let written = match (file::write(open, value), &setting.check) {
            // A kernel that lets no cpuset with processes lose its list (6.1) is given the same list
            // by its numbers.
            (Err(Errno::NOSPC), Check::Cpus(list, _)) if value == "\n" => file::write(open, &list.to_string()),
            (written, _) => written,
        };
        written.map_err(|errno| self.refused(file, &format!("write({})", value.trim_end()), value, errno))?;
        let shown = match &setting.check {
            Check::Cpus(_, other) if *other != file => file::read_short(self.directory, other),
            _ => file::show(open),
        };
        let shown = shown.map_err(|errno| self.refused(file, "read", value, errno))?;
        let got = difference(&setting.check, value, shown.as_str());
        Ok(got.map(|got| Adjustment { field: setting.field, asked: value.to_owned(), got: Got::Value(got) }))
    }

    fn absent(&self, setting: &Setting) -> Result<Option<Adjustment>> {
        let (file, asked) = &setting.choices[0];
        let report = |why: &str| {
            Ok(Some(Adjustment { field: setting.field, asked: asked.clone(), got: Got::NotAvailable(why.to_owned()) }))
        };
        let text = match setting.absent {
            Absent::Reported => return report(&format!("this kernel has no file {file}")),
            Absent::NeedsNoSwap if !has_swap(self.procfs) => {
                return report("swap accounting is off, and the machine has no swap");
            }
            Absent::NeedsNoSwap => {
                "swap accounting is off (kernel parameter swapaccount=1) and the machine has swap, so the limit cannot be kept"
            }
            Absent::Refused => "this kernel has no such file",
        };
        Err(Error::system(Stage::Cgroup, self.object(file), "open", Errno::NOENT)
            .with_kind(ErrorKind::Unsupported)
            .explain(format!("{text} ({})", setting.field)))
    }

    /// One write for each rule: the kernel takes no more at a time.
    fn set_devices(&self, rules: &[String]) -> Result<()> {
        self.write_all("devices.deny", std::iter::once("a"))?;
        self.write_all("devices.allow", rules.iter().map(String::as_str))
    }

    fn write_all<'v>(&self, file: &str, values: impl Iterator<Item = &'v str>) -> Result<()> {
        let open =
            file::open(self.directory, file, OFlags::WRONLY).map_err(|errno| self.refused(file, "open", "", errno))?;
        for value in values {
            file::write(&open, value).map_err(|errno| self.refused(file, &format!("write({value})"), value, errno))?;
        }
        Ok(())
    }

    fn refused(&self, file: &str, call: &str, value: &str, errno: Errno) -> Error {
        let error = Error::system(Stage::Cgroup, self.object(file), call, errno);
        match explain::of_value(file, value, errno.raw_os_error()) {
            Some(text) => error.explain(text),
            None => error,
        }
    }

    fn object(&self, file: &str) -> String {
        format!("cgroup '{}' {file}", self.path)
    }
}

/// The report that device rules are not in force.
pub(in crate::cgroup) fn devices_not_enforced(why: String) -> Adjustment {
    Adjustment { field: Field::Devices, asked: "standard".to_owned(), got: Got::NotEnforced(why) }
}

/// Whether the machine swaps now. Unreadable counts as yes: a limit must not be dropped on a guess.
pub(in crate::cgroup) fn has_swap(procfs: &Path) -> bool {
    // The first line is the heading.
    fs::read_to_string(procfs.join("swaps")).map_or(true, |text| text.lines().nth(1).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::FakeTree;
    use crate::cgroup::limits::kernel_values::plan;
    use crate::cgroup::{Controller, Limits, SwapLimit};

    fn apply(tree: &FakeTree, limits: &Limits) -> Result<Vec<Adjustment>> {
        let path = CgroupPath::new("/a").unwrap();
        let hierarchy = tree.layout().holder(Controller::Memory).unwrap();
        let directory = file::open_directory(&hierarchy.directory(&path)).unwrap();
        let target =
            Target { path: &path, directory: std::os::fd::AsFd::as_fd(&directory), procfs: tree.layout().procfs() };
        let mut adjustments = Vec::new();
        target.apply(&plan(limits, hierarchy), &mut adjustments).map(|()| adjustments)
    }

    fn swap_limits() -> Limits {
        Limits { memory_bytes: Some(4096), memory_swap_bytes: Some(SwapLimit::Total(8192)), ..Limits::none() }
    }

    #[test]
    fn a_swap_limit_without_accounting_is_reported_without_swap_and_refused_with_swap() {
        let tree = FakeTree::v2("memory");
        tree.add("/a");
        tree.remove_file("/a", "memory.swap.max");
        let adjustments = apply(&tree, &swap_limits()).unwrap();
        assert_eq!(adjustments.len(), 1);
        assert_eq!(adjustments[0].field, Field::MemorySwapBytes);
        assert!(matches!(&adjustments[0].got, Got::NotAvailable(why) if why.contains("no swap")), "{}", adjustments[0]);

        tree.set_swap("/dev/sda2 partition 1 0 -2\n");
        let error = apply(&tree, &swap_limits()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("swapaccount=1"), "{error}");
        // No limit of swap is no promise to break.
        let unlimited = Limits { memory_swap_bytes: Some(SwapLimit::Unlimited), ..swap_limits() };
        assert_eq!(apply(&tree, &unlimited).unwrap().len(), 1);
    }

    #[test]
    fn a_missing_file_of_a_limit_is_an_error_and_one_of_a_weight_a_report() {
        let tree = FakeTree::v2("memory io");
        tree.add("/a");
        let weight = Limits { blkio_weight: Some(100), ..Limits::none() };
        assert_eq!(apply(&tree, &weight).unwrap(), []);
        assert_eq!(tree.read("/a", "io.weight"), "910");
        tree.remove_file("/a", "io.weight");
        assert!(matches!(apply(&tree, &weight).unwrap()[0].got, Got::NotAvailable(_)));

        tree.remove_file("/a", "memory.max");
        let error = apply(&tree, &swap_limits()).unwrap_err();
        assert_eq!((error.kind(), error.object()), (ErrorKind::Unsupported, "cgroup '/a' memory.max"));
    }

    #[test]
    fn a_refused_value_names_cgroup_file_and_value() {
        let tree = FakeTree::v2("memory");
        tree.add("/a");
        tree.break_file("/a", "memory.max");
        let error = apply(&tree, &swap_limits()).unwrap_err();
        assert_eq!(
            (error.stage(), error.object(), error.call()),
            (Stage::Cgroup, "cgroup '/a' memory.max", "write(4096)")
        );
        assert_eq!(error.errno(), Some(libc::ENOSPC));
    }
}
