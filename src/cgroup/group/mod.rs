//! A container's cgroup: one directory in every hierarchy.
//!
//! Owns making it with its limits, all or nothing, and the directory fds through which everything
//! else reaches it. It never removes a parent, and never moves a process by itself. The launch
//! process creates it; the monitor opens it again after its exec.

pub(super) mod apply;
pub(super) mod change;
pub(super) mod cpuset;
pub(super) mod device_program;
pub(super) mod directory;
pub(super) mod fits;
pub(super) mod subtree;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::explain::explained;
use super::file;
use super::freeze;
use super::limits::adjustment::Adjustment;
use super::limits::kernel_values::{needed, plan};
use super::limits::{Field, Limits};
use super::machine::controller::Controller;
use super::machine::layout::{Hierarchy, Layout};
use super::occupancy::inode_of;
use super::path::CgroupPath;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::stage::Stage;
use apply::{Target, devices_not_enforced};
use directory::{Existing, Made};

/// A cgroup that exists. Dropping it closes its fds and leaves the cgroup alone.
#[derive(Debug)]
pub struct Cgroup {
    layout: Layout,
    path: CgroupPath,
    directories: Vec<Directory>,
}

/// The cgroup's directory in one hierarchy.
#[derive(Debug)]
struct Directory {
    /// Index into the hierarchies of the layout.
    hierarchy: usize,
    fd: OwnedFd,
}

impl Cgroup {
    /// Makes the cgroup in every hierarchy, with its parents, and writes the limits. Returns it
    /// with each limit that the kernel did not take as asked. An empty cgroup of that path is
    /// replaced, so that counters start at zero. After a failure exactly what was made is removed
    /// again, an empty one that was replaced included (controllers that were handed down to a v2
    /// parent stay on).
    ///
    /// Needs root, or a delegated cgroup on v2. A swap limit on a machine without swap accounting
    /// is reported where there is no swap, and refused where there is.
    ///
    /// # Errors
    /// - `Invalid`: [`Limits::problems`] is not empty.
    /// - `Unsupported`: a controller that a limit needs, or its file, is not there.
    /// - `Exists`: the cgroup holds processes or other cgroups.
    /// - `Phase`: it, or a cgroup above it, is frozen.
    /// - `Privilege`, `System`: the kernel refused a directory or a value; object and call name it.
    pub fn create(layout: &Layout, path: &CgroupPath, limits: &Limits) -> Result<(Cgroup, Vec<Adjustment>)> {
        let needed = supported(layout, path, limits)?;
        freeze::refuse(layout, path)?;
        let mut made = Made::default();
        create(layout, path, limits, &needed, &mut made).map_err(|error| made.take_back(error))
    }

    /// Takes up the cgroup whose directory has this inode ([`inode_of`]); `None`
    /// where the inode is not known, another cgroup has the path by now, or it is gone, perhaps just
    /// now: monitors remove theirs at any moment.
    pub(crate) fn open_made(layout: &Layout, path: &CgroupPath, inode: Option<u64>) -> Result<Option<Cgroup>> {
        if inode.is_none() || inode_of(layout, path) != inode {
            return Ok(None);
        }
        match Cgroup::open(layout, path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Takes up a cgroup that exists; hierarchies that lack it are left out.
    ///
    /// # Errors
    /// `NotFound` where no hierarchy has it.
    pub fn open(layout: &Layout, path: &CgroupPath) -> Result<Cgroup> {
        let mut cgroup = Cgroup { layout: layout.clone(), path: path.clone(), directories: Vec::new() };
        for index in 0..layout.hierarchies().len() {
            match cgroup.add(index) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    let object = directory::object(&layout.hierarchies()[index], path);
                    return Err(explained(Error::system(Stage::Cgroup, object, "open", errno)));
                }
            }
        }
        if cgroup.directories.is_empty() {
            let places = layout.hierarchies().iter().map(|hierarchy| hierarchy.directory(path)).collect();
            let object = format!("cgroup '{path}'");
            return Err(Error::new(ErrorKind::NotFound, Stage::Cgroup, object, "open", Cause::NotFoundIn { places }));
        }
        Ok(cgroup)
    }

    /// Changes the limits of a cgroup that may hold processes. Fields that are absent stay as they
    /// are; device rules are replaced unless they are
    /// [`DeviceRules::Inherit`](super::DeviceRules::Inherit).
    ///
    /// # Errors
    /// As [`Cgroup::create`]; values written before the refused one stay.
    #[cfg(feature = "testing")]
    pub fn set_limits(&self, limits: &Limits) -> Result<Vec<Adjustment>> {
        supported(&self.layout, &self.path, limits)?;
        let mut adjustments = Vec::new();
        self.apply(limits, &mut adjustments)?;
        Ok(adjustments)
    }

    /// Its path.
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// The layout it was made in.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The directory for `clone3` with `CLONE_INTO_CGROUP`, which puts a child into the v2 cgroup
    /// at its birth; also in the unified tree of a hybrid machine, where it leaves the hierarchies
    /// of v1 to [`place`](super::place()). `None` on a machine without v2.
    pub fn clone_into_fd(&self) -> Option<BorrowedFd<'_>> {
        self.directories().find(|(hierarchy, _)| hierarchy.is_v2()).map(|(_, fd)| fd)
    }

    /// Its directory in each hierarchy that has it.
    pub(super) fn directories(&self) -> impl Iterator<Item = (&Hierarchy, BorrowedFd<'_>)> {
        self.directories.iter().map(|directory| (&self.layout.hierarchies()[directory.hierarchy], directory.fd.as_fd()))
    }

    fn add(&mut self, hierarchy: usize) -> std::result::Result<(), Errno> {
        let fd = file::open_directory(&self.layout.hierarchies()[hierarchy].directory(&self.path))?;
        self.directories.push(Directory { hierarchy, fd });
        Ok(())
    }

    fn apply(&self, limits: &Limits, adjustments: &mut Vec<Adjustment>) -> Result<()> {
        for (hierarchy, directory) in self.directories() {
            let target = Target { path: &self.path, directory, procfs: self.layout.procfs() };
            target.apply(&plan(limits, hierarchy), adjustments)?;
        }
        if let Some(rules) = limits.devices.allowed().filter(|_| self.layout.holder(Controller::Devices).is_none()) {
            adjustments.extend(self.restrict_devices(&rules).err().map(devices_not_enforced));
        }
        Ok(())
    }

    /// By a program, where there is no controller for it. The error is why not, for a person.
    fn restrict_devices(&self, rules: &[String]) -> std::result::Result<(), String> {
        let unified = self.directories().find(|(hierarchy, _)| hierarchy.is_v2());
        let (_, directory) = unified.ok_or("no hierarchy of devices is mounted, and none of v2")?;
        device_program::enforce(directory, rules).map_err(|error| format!("no program for it: bpf: {error}"))
    }
}

fn create(
    layout: &Layout,
    path: &CgroupPath,
    limits: &Limits,
    needed: &[(Controller, Field)],
    made: &mut Made,
) -> Result<(Cgroup, Vec<Adjustment>)> {
    let mut cgroup = Cgroup { layout: layout.clone(), path: path.clone(), directories: Vec::new() };
    for (index, hierarchy) in layout.hierarchies().iter().enumerate() {
        directory::make(hierarchy, path, Existing::Replace, made)?;
        if cpuset::needs_values(hierarchy) {
            cpuset::inherit(hierarchy, path, limits)?;
        }
        if hierarchy.is_v2() {
            subtree::enable(hierarchy, path, needed)?;
        }
        cgroup.add(index).map_err(|errno| {
            explained(Error::system(Stage::Cgroup, directory::object(hierarchy, path), "open", errno))
        })?;
    }
    let mut adjustments = Vec::new();
    cgroup.apply(limits, &mut adjustments)?;
    Ok((cgroup, adjustments))
}

/// Checks the limits against themselves and against the machine, before anything is touched.
pub(super) fn supported(layout: &Layout, path: &CgroupPath, limits: &Limits) -> Result<Vec<(Controller, Field)>> {
    let problems = limits.problems();
    if !problems.is_empty() {
        return Err(Error::invalid(format!("cgroup '{path}'"), problems));
    }
    let needed: Vec<_> = needed(limits).collect();
    let lacking = |feature: String, text: String| {
        Err(Error::lacking(Stage::Cgroup, format!("cgroup '{path}'"), "create", feature, text))
    };
    for (controller, field) in &needed {
        if layout.holder(*controller).is_none() {
            let lack = match layout.hierarchies() {
                [] => "and no cgroup hierarchy is mounted: in a chroot mount the machine's /sys there (mount --rbind)",
                _ => "which this machine does not offer",
            };
            let feature = format!("cgroup controller {controller}");
            return lacking(feature, format!("{field} needs the cgroup controller '{controller}', {lack}"));
        }
    }
    if limits.memory_oom_group && layout.holder(Controller::Memory).is_some_and(|memory| !memory.is_v2()) {
        let field = Field::MemoryOomGroup;
        let text = format!("{field} is one of cgroup v2, and this machine has its memory controller on v1");
        return lacking("cgroup v2".to_owned(), text);
    }
    Ok(needed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::SwapLimit;
    use crate::cgroup::fake::FakeTree;

    fn path() -> CgroupPath {
        CgroupPath::new("/squall/a").unwrap()
    }

    fn limits() -> Limits {
        Limits {
            cpu_quota_us: Some(50_000),
            cpuset_cpus: Some("0".parse().unwrap()),
            memory_bytes: Some(4096),
            memory_swap_bytes: Some(SwapLimit::Total(8192)),
            pids: Some(10),
            ..Limits::default()
        }
    }

    #[test]
    fn limits_reach_the_files_of_each_layout() {
        let separate = FakeTree::v1();
        let (cgroup, adjustments) = Cgroup::create(separate.layout(), &path(), &limits()).unwrap();
        assert_eq!(adjustments, []);
        assert_eq!(cgroup.directories.len(), separate.layout().hierarchies().len());
        for (group, file, value) in [
            ("cpu/squall/a", "cpu.cfs_quota_us", "50000"),
            ("cpuset/squall/a", "cpuset.cpus", "0"),
            ("cpuset/squall/a", "cpuset.mems", "0"),
            ("cpuset/squall", "cpuset.cpus", "0-1"),
            ("memory/squall/a", "memory.limit_in_bytes", "4096"),
            ("memory/squall/a", "memory.memsw.limit_in_bytes", "8192"),
            ("pids/squall/a", "pids.max", "10"),
        ] {
            // A plain file keeps the tail of a longer earlier value.
            assert!(separate.read(group, file).starts_with(value), "{group}/{file}: {}", separate.read(group, file));
        }

        let together = FakeTree::v1_together();
        let (cgroup, _) = Cgroup::create(together.layout(), &path(), &limits()).unwrap();
        assert_eq!(together.read("cpu,cpuacct/squall/a", "cpu.cfs_quota_us"), "50000");
        assert!(cgroup.clone_into_fd().is_none());

        let pure = FakeTree::v2("cpuset cpu io memory pids");
        let (cgroup, adjustments) = Cgroup::create(pure.layout(), &path(), &limits()).unwrap();
        // Plain directories, so there is nothing that a program could be put in force at.
        assert_eq!((adjustments.len(), adjustments[0].field), (1, Field::Devices), "{adjustments:?}");
        assert!(cgroup.clone_into_fd().is_some());
        for (file, value) in [
            ("cpu.max", "50000"),
            ("cpuset.cpus", "0"),
            ("memory.max", "4096"),
            ("memory.swap.max", "4096"),
            ("pids.max", "10"),
        ] {
            assert_eq!(pure.read("/squall/a", file), value, "{file}");
        }
    }

    #[test]
    fn a_controller_that_is_not_there_is_named_with_the_limit_before_anything_is_made() {
        let tree = FakeTree::v2("cpu memory cpuset");
        let error = Cgroup::create(tree.layout(), &path(), &limits()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("pids needs the cgroup controller 'pids'"), "{error}");
        assert_eq!(tree.groups(), Vec::<String>::new());
    }

    #[test]
    fn a_failure_takes_back_what_was_made_in_every_hierarchy_and_no_more() {
        let tree = FakeTree::v1();
        tree.add("memory/squall");
        tree.break_template("pids", "pids.max");
        let error = Cgroup::create(tree.layout(), &path(), &limits()).unwrap_err();
        assert_eq!((error.object(), error.call()), ("cgroup '/squall/a' pids.max", "write(10)"));
        assert_eq!(tree.groups(), ["memory/squall"]);
    }

    #[test]
    fn a_wrong_limit_is_refused_with_its_field() {
        let tree = FakeTree::v1();
        let error = Cgroup::create(tree.layout(), &path(), &Limits { pids: Some(0), ..Limits::none() }).unwrap_err();
        assert_eq!((error.kind(), error.problems()[0].field.as_str()), (ErrorKind::Invalid, "pids"));
    }

    #[test]
    fn a_cgroup_that_is_nowhere_cannot_be_opened_and_one_that_is_somewhere_can() {
        let tree = FakeTree::v1();
        assert_eq!(Cgroup::open(tree.layout(), &path()).unwrap_err().kind(), ErrorKind::NotFound);
        tree.add("memory/squall");
        tree.add("memory/squall/a");
        assert_eq!(Cgroup::open(tree.layout(), &path()).unwrap().directories.len(), 1);
        let made = |inode| Cgroup::open_made(tree.layout(), &path(), inode).unwrap();
        let inode = inode_of(tree.layout(), &path()).unwrap();
        assert!(made(Some(inode)).is_some() && made(Some(inode + 1)).is_none() && made(None).is_none());
        let absent = CgroupPath::new("/absent").unwrap();
        assert!(Cgroup::open_made(tree.layout(), &absent, Some(inode)).unwrap().is_none());
        assert!(Cgroup::open_made(tree.layout(), &absent, None).unwrap().is_none());
    }
}
