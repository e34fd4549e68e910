//! A cgroup tree of plain files, for unit tests of layouts that the machine does not have.
//!
//! The kernel fills a new cgroup with files and forgets them at rmdir. Here each mount point has a
//! folder `.template` whose files are copied into every directory made below, and rmdir refuses
//! what the kernel would refuse. Plain files keep the tail of a longer earlier value, so files that
//! get values start empty. A file that refuses writes is a link to `/dev/full`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tempfile::TempDir;

use super::machine::layout::{Hierarchy, Kind, Layout};

const TEMPLATE: &str = ".template";

const CORE_V1: &[(&str, &str)] = &[("cgroup.procs", ""), ("tasks", "")];
const CORE_V2: &[(&str, &str)] = &[
    ("cgroup.procs", ""),
    ("cgroup.controllers", ""),
    ("cgroup.subtree_control", ""),
    ("cgroup.events", "populated 0\nfrozen 0\n"),
    ("cgroup.kill", ""),
    ("cgroup.freeze", ""),
    ("cpu.stat", "usage_usec 0\n"),
];

fn files_of(controller: &str, v2: bool) -> &'static [(&'static str, &'static str)] {
    match (controller, v2) {
        ("cpu", false) => &[
            ("cpu.cfs_quota_us", ""),
            ("cpu.cfs_period_us", ""),
            ("cpu.shares", ""),
            ("cpu.stat", "nr_throttled 0\nthrottled_time 0\n"),
        ],
        ("cpu", true) => &[("cpu.max", ""), ("cpu.weight", "")],
        ("cpuacct", _) => &[("cpuacct.usage", "0\n")],
        ("cpuset", false) => &[
            ("cpuset.cpus", ""),
            ("cpuset.mems", ""),
            ("cpuset.cpu_exclusive", "0\n"),
            ("cpuset.mem_exclusive", "0\n"),
        ],
        ("cpuset", true) => &[
            ("cpuset.cpus", ""),
            ("cpuset.mems", ""),
            ("cpuset.cpus.effective", "0\n"),
            ("cpuset.mems.effective", "0\n"),
        ],
        ("memory", false) => &[
            ("memory.limit_in_bytes", ""),
            ("memory.memsw.limit_in_bytes", ""),
            ("memory.soft_limit_in_bytes", ""),
            ("memory.usage_in_bytes", "0\n"),
            ("memory.max_usage_in_bytes", "0\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"),
        ],
        ("memory", true) => &[
            ("memory.max", ""),
            ("memory.swap.max", ""),
            ("memory.low", ""),
            ("memory.current", "0\n"),
            ("memory.peak", "0\n"),
            ("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n"),
        ],
        ("pids", _) => &[("pids.max", ""), ("pids.current", "0\n"), ("pids.events", "max 0\n")],
        ("devices", _) => &[("devices.allow", ""), ("devices.deny", "")],
        ("freezer", _) => &[("freezer.state", "THAWED\n"), ("freezer.self_freezing", "0\n")],
        ("blkio", _) => &[("blkio.bfq.weight", "")],
        ("io", _) => &[("io.weight", "")],
        _ => &[],
    }
}

/// The tree; removed when dropped.
pub(super) struct FakeTree {
    directory: TempDir,
    layout: Layout,
}

impl FakeTree {
    /// A hybrid machine with each controller mounted alone.
    pub fn v1() -> FakeTree {
        let alone = ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "name=systemd"];
        let tree = FakeTree::of(&alone, Some(("unified", "hugetlb")));
        tree.put("cpuset", "cpuset.cpus", "0-1\n");
        tree.put("cpuset", "cpuset.mems", "0\n");
        tree
    }

    /// A v1 machine with controllers mounted together, without v2.
    pub fn v1_together() -> FakeTree {
        let tree = FakeTree::of(
            &["cpu,cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "name=systemd"],
            None,
        );
        tree.put("cpuset", "cpuset.cpus", "0-1\n");
        tree.put("cpuset", "cpuset.mems", "0\n");
        tree
    }

    /// A pure v2 machine with these controllers.
    pub fn v2(controllers: &str) -> FakeTree {
        FakeTree::of(&[], Some(("", controllers)))
    }

    fn of(v1: &[&str], v2: Option<(&str, &str)>) -> FakeTree {
        let directory = TempDir::new().unwrap();
        let root = directory.path().join("cgroup");
        let mut hierarchies = Vec::new();
        for names in v1 {
            let (controllers, name) = match names.strip_prefix("name=") {
                Some(name) => (Vec::new(), Some(name.to_owned())),
                None => (names.split(',').map(str::to_owned).collect(), None),
            };
            let mount_point = root.join(name.as_deref().unwrap_or(names));
            hierarchies.push(mount(&mount_point, Kind::V1 { controllers, name }));
        }
        if let Some((place, controllers)) = v2 {
            let controllers = controllers.split_ascii_whitespace().map(str::to_owned).collect();
            hierarchies.push(mount(&root.join(place), Kind::V2 { controllers }));
        }
        let procfs = directory.path().join("proc");
        fs::create_dir_all(procfs.join("self")).unwrap();
        let tree = FakeTree { layout: Layout::new(hierarchies, procfs), directory };
        tree.set_swap("");
        tree
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes a directory below the tree, filled as the kernel would.
    pub fn add(&self, group: &str) {
        let directory = self.place(group);
        fs::create_dir(&directory).unwrap();
        populate(directory.to_str().unwrap());
    }

    pub fn read(&self, group: &str, file: &str) -> String {
        fs::read_to_string(self.place(group).join(file)).unwrap()
    }

    pub fn put(&self, group: &str, file: &str, text: &str) {
        fs::write(self.place(group).join(file), text).unwrap();
    }

    pub fn remove_file(&self, group: &str, file: &str) {
        fs::remove_file(self.place(group).join(file)).unwrap();
    }

    /// From now on writes to the file fail with ENOSPC.
    pub fn break_file(&self, group: &str, file: &str) {
        self.remove_file(group, file);
        symlink("/dev/full", self.place(group).join(file)).unwrap();
    }

    /// The same for every group made from now on below the mount point.
    pub fn break_template(&self, mount: &str, file: &str) {
        self.break_file(&format!("{mount}/{TEMPLATE}"), file);
    }

    pub fn set_swap(&self, line: &str) {
        fs::write(self.layout.procfs().join("swaps"), format!("Filename Type Size Used Priority\n{line}")).unwrap();
    }

    pub fn set_membership(&self, text: &str) {
        fs::write(self.layout.procfs().join("self/cgroup"), text).unwrap();
    }

    /// Every group that is there, without the mount points.
    pub fn groups(&self) -> Vec<String> {
        let mut found = Vec::new();
        for hierarchy in self.layout.hierarchies() {
            list(Path::new(&hierarchy.mount_point), &mut found);
        }
        let root = self.place("");
        let mut names: Vec<String> = found
            .into_iter()
            .map(|path| {
                let below = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                if self.layout.hierarchies().len() == 1 { format!("/{below}") } else { below }
            })
            .collect();
        names.sort();
        names
    }

    fn place(&self, group: &str) -> PathBuf {
        self.directory.path().join("cgroup").join(group.trim_start_matches('/'))
    }
}

fn mount(mount_point: &Path, kind: Kind) -> Hierarchy {
    let template = mount_point.join(TEMPLATE);
    fs::create_dir_all(&template).unwrap();
    let (v2, controllers) = match &kind {
        Kind::V1 { controllers, .. } => (false, controllers),
        Kind::V2 { controllers } => (true, controllers),
    };
    let core = if v2 { CORE_V2 } else { CORE_V1 };
    let files = controllers.iter().flat_map(|controller| files_of(controller, v2)).chain(core);
    for (file, text) in files {
        fs::write(template.join(file), text).unwrap();
    }
    let mount_point = mount_point.to_str().unwrap().to_owned();
    populate(&mount_point);
    Hierarchy { mount_point, root: "/".into(), kind }
}

fn list(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() && entry.file_name() != TEMPLATE && !path.join(TEMPLATE).exists() {
            list(&path, found);
            found.push(path);
        }
    }
}

/// Fills a new directory as the kernel would, where it is below a fake mount point.
pub(super) fn populate(directory: &str) {
    let Some(template) = template_of(directory) else { return };
    for entry in fs::read_dir(template).unwrap().map(Result::unwrap) {
        let file = Path::new(directory).join(entry.file_name());
        if entry.file_type().unwrap().is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), file).unwrap();
        } else {
            fs::copy(entry.path(), file).unwrap();
        }
    }
}

/// Empties a directory before its rmdir, or refuses as the kernel would.
pub(super) fn depopulate(directory: &str) -> Result<(), Errno> {
    if template_of(directory).is_none() || !Path::new(directory).exists() {
        return Ok(());
    }
    let entries: Vec<_> = fs::read_dir(directory).unwrap().map(Result::unwrap).collect();
    let processes = fs::read_to_string(Path::new(directory).join("cgroup.procs")).unwrap_or_default();
    if !processes.is_empty() || entries.iter().any(|entry| entry.file_type().unwrap().is_dir()) {
        return Err(Errno::BUSY);
    }
    for entry in entries {
        fs::remove_file(entry.path()).unwrap();
    }
    Ok(())
}

fn template_of(directory: &str) -> Option<PathBuf> {
    Path::new(directory).ancestors().map(|ancestor| ancestor.join(TEMPLATE)).find(|template| template.is_dir())
}
