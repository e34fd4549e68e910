//! Dry run of creating a container's cgroup.
//!
//! Owns nothing of its own: directories, values and their order are those of
//! [`Cgroup::create`](crate::cgroup::Cgroup::create), from the same functions. It only reads, and
//! needs no privilege. Any process may use it.

use std::path::Path;

use rustix::fs::CWD;
use serde::Serialize;

use super::file;
use super::freeze::{frozen, words as frozen_words};
use super::group::apply::{devices_not_enforced, has_swap};
use super::group::{cpuset, subtree, supported};
use super::join::Joining;
use super::limits::adjustment::{Adjustment, Got};
use super::limits::device_rules::DeviceRules;
use super::limits::kernel_values::{Absent, Setting, Step, plan};
use super::limits::{Field, Limits};
use super::machine::controller::Controller;
use super::machine::layout::{Hierarchy, Layout};
use super::path::CgroupPath;

/// One thing done to the cgroup file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Act {
    /// A directory is made that is not there.
    Make {
        /// Its path.
        directory: String,
    },
    /// A directory that is there and empty is removed and made anew, so that its counters start at
    /// zero.
    Replace {
        /// Its path.
        directory: String,
    },
    /// A value is written.
    Write {
        /// The file.
        file: String,
        /// The value, as it is written.
        value: String,
        /// The limit that it carries; absent for what the kernel needs before a cgroup can be used.
        field: Option<Field>,
        /// What is written instead where the kernel has no such file.
        otherwise: Option<(String, String)>,
    },
    /// A program that decides about device nodes is put in force (cgroup v2,
    /// `bpf(BPF_PROG_ATTACH)`).
    Restrict {
        /// The cgroup's directory.
        directory: String,
        /// What it allows.
        rules: Vec<String>,
    },
    /// The container's first process is moved in, by its pid.
    Join {
        /// The file its pid is written to.
        file: String,
    },
    /// The container's first process is born in it (`CLONE_INTO_CGROUP`).
    Born {
        /// The cgroup's directory.
        directory: String,
    },
}

/// What can be known without creating it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Preview {
    /// Everything that is done, in order.
    pub acts: Vec<Act>,
    /// Limits that will not be applied as asked.
    pub adjustments: Vec<Adjustment>,
    /// Why it cannot succeed as things are.
    pub obstacles: Vec<String>,
}

impl Preview {
    /// Of the cgroup `path` with these limits.
    pub fn of(layout: &Layout, path: &CgroupPath, limits: &Limits) -> Preview {
        let mut obstacles = Vec::new();
        let needed = supported(layout, path, limits).unwrap_or_else(|error| {
            obstacles.push(error.to_string());
            Vec::new()
        });
        obstacles.extend(frozen(layout, path).map(|found| frozen_words(&found)));
        let mut acts = Vec::new();
        for hierarchy in layout.hierarchies() {
            acts.extend(directories(hierarchy, path));
            if cpuset::needs_values(hierarchy) {
                let (writes, missing) = cpuset::preview(hierarchy, path, limits);
                acts.extend(writes.into_iter().map(plain));
                obstacles.extend(missing);
            }
            if hierarchy.is_v2() {
                acts.extend(subtree::preview(hierarchy, path, &needed).into_iter().map(plain));
            }
            obstacles.extend(occupied(hierarchy, path));
        }
        acts.extend(layout.hierarchies().iter().flat_map(|hierarchy| limits_of(hierarchy, path, limits)));
        acts.extend(device_program(layout, path, limits));
        acts.extend(joining(layout, path));
        let (adjustments, lost) = adjustments(layout, limits);
        obstacles.extend(lost);
        Preview { acts, adjustments, obstacles }
    }
}

fn plain((file, value): (String, String)) -> Act {
    Act::Write { file, value, field: None, otherwise: None }
}

fn directories(hierarchy: &Hierarchy, path: &CgroupPath) -> Vec<Act> {
    let missing = |directory: &String| !Path::new(directory).exists();
    let parents = path.ancestors().map(|ancestor| hierarchy.below(ancestor)).filter(missing);
    let mut acts: Vec<Act> = parents.map(|directory| Act::Make { directory }).collect();
    let directory = hierarchy.directory(path);
    acts.push(if missing(&directory) { Act::Make { directory } } else { Act::Replace { directory } });
    acts
}

/// A cgroup with processes is somebody's.
fn occupied(hierarchy: &Hierarchy, path: &CgroupPath) -> Option<String> {
    let directory = hierarchy.directory(path);
    let procs = file::read_short(CWD, &format!("{directory}/cgroup.procs")).ok()?;
    (!procs.as_str().is_empty()).then(|| format!("cgroup {directory} is there already and holds processes"))
}

fn limits_of(hierarchy: &Hierarchy, path: &CgroupPath, limits: &Limits) -> Vec<Act> {
    let directory = hierarchy.directory(path);
    let write = |setting: &Setting| {
        let mut choices = setting.choices.iter().map(|(file, value)| (format!("{directory}/{file}"), value.clone()));
        let (file, value) = choices.next().unwrap_or_default();
        Act::Write { file, value, field: Some(setting.field), otherwise: choices.next() }
    };
    let device = |file: &str, value: &str| Act::Write {
        file: format!("{directory}/{file}"),
        value: value.to_owned(),
        field: Some(Field::Devices),
        otherwise: None,
    };
    let mut acts = Vec::new();
    for step in plan(limits, hierarchy) {
        match step {
            Step::Set(setting) => acts.push(write(&setting)),
            Step::Pair(first, second) => acts.extend([write(&first), write(&second)]),
            Step::Devices(rules) => {
                acts.push(device("devices.deny", "a"));
                acts.extend(rules.iter().map(|rule| device("devices.allow", rule)));
            }
        }
    }
    acts
}

/// Where no controller of v1 takes the rules.
fn device_program(layout: &Layout, path: &CgroupPath, limits: &Limits) -> Option<Act> {
    let unified = layout.unified().filter(|_| layout.holder(Controller::Devices).is_none())?;
    Some(Act::Restrict { directory: unified.directory(path), rules: limits.devices.allowed()? })
}

/// Born in the v2 tree where there is one, moved into the others.
fn joining(layout: &Layout, path: &CgroupPath) -> Vec<Act> {
    let joining = if layout.unified().is_some() { Joining::AfterCloneInto } else { Joining::Everywhere };
    let born = layout.unified().map(|unified| Act::Born { directory: unified.directory(path) });
    let moved = layout.hierarchies().iter().filter(|one| joining == Joining::Everywhere || !one.is_v2());
    let join = |hierarchy: &Hierarchy| Act::Join { file: format!("{}/cgroup.procs", hierarchy.directory(path)) };
    born.into_iter().chain(moved.map(join)).collect()
}

/// The range of v1's `cpu.shares`, into which the kernel forces every value (`MIN_SHARES`,
/// `MAX_SHARES`).
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

/// What the kernel is known to make of limits: whole pages, its own ranges, files that it lacks.
/// And what cannot be kept at all.
fn adjustments(layout: &Layout, limits: &Limits) -> (Vec<Adjustment>, Option<String>) {
    let mut adjustments = Vec::new();
    for step in layout.hierarchies().iter().flat_map(|hierarchy| plan(limits, hierarchy)) {
        let settings = match step {
            Step::Set(setting) => vec![setting],
            Step::Pair(first, second) => vec![first, second],
            Step::Devices(_) => Vec::new(),
        };
        adjustments.extend(settings.iter().filter_map(rounded));
    }
    let unenforced = layout.holder(Controller::Devices).is_none() && layout.unified().is_none();
    if limits.devices != DeviceRules::Inherit && unenforced {
        adjustments.push(devices_not_enforced("no hierarchy of devices is mounted, and none of v2".to_owned()));
    }
    let (unavailable, lost) = swap(layout, limits);
    adjustments.extend(unavailable);
    (adjustments, lost)
}

fn rounded(setting: &Setting) -> Option<Adjustment> {
    let (file, asked) = setting.choices.first()?;
    let number: u64 = asked.parse().ok()?;
    let got = match setting.field {
        Field::MemoryBytes | Field::MemorySwapBytes | Field::MemoryReservationBytes => {
            number - number % rustix::param::page_size() as u64
        }
        Field::CpuShares if *file == "cpu.shares" => number.clamp(*SHARES.start(), *SHARES.end()),
        _ => number,
    };
    let got = (got != number).then(|| Got::Value(got.to_string()))?;
    Some(Adjustment { field: setting.field, asked: asked.clone(), got })
}

/// Swap accounting can be seen from v1's root cgroup only: that of v2 has no such file.
fn swap(layout: &Layout, limits: &Limits) -> (Option<Adjustment>, Option<String>) {
    let Some(memory) = layout.holder(Controller::Memory).filter(|memory| !memory.is_v2()) else { return (None, None) };
    let steps = plan(limits, memory);
    let settings = steps.iter().flat_map(|step| match step {
        Step::Set(one) => vec![one],
        Step::Pair(one, two) => vec![one, two],
        Step::Devices(_) => Vec::new(),
    });
    let missing = |setting: &&Setting| {
        setting.field == Field::MemorySwapBytes && !Path::new(&memory.file_of_root(setting.choices[0].0)).exists()
    };
    let Some(setting) = settings.into_iter().find(missing) else { return (None, None) };
    if setting.absent == Absent::NeedsNoSwap && has_swap(layout.procfs()) {
        let text = format!(
            "{}: swap accounting is off (kernel parameter swapaccount=1) and the machine has swap",
            setting.field
        );
        return (None, Some(text));
    }
    let got = Got::NotAvailable("swap accounting is off".to_owned());
    (Some(Adjustment { field: setting.field, asked: setting.choices[0].1.clone(), got }), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::FakeTree;
    use crate::cgroup::{Cgroup, SwapLimit};

    fn limits() -> Limits {
        Limits {
            cpu_quota_us: Some(50_000),
            cpuset_cpus: Some("0".parse().unwrap()),
            memory_bytes: Some(8192),
            memory_swap_bytes: Some(SwapLimit::Total(16384)),
            pids: Some(10),
            ..Limits::default()
        }
    }

    fn path() -> CgroupPath {
        CgroupPath::new("/squall/a").unwrap()
    }

    #[test]
    fn what_is_foreseen_is_what_creating_does() {
        for tree in [FakeTree::v1(), FakeTree::v1_together(), FakeTree::v2("cpuset cpu io memory pids")] {
            let before = tree.groups();
            let preview = Preview::of(tree.layout(), &path(), &limits());
            assert_eq!(tree.groups(), before, "it touches nothing");
            let (_cgroup, mut adjustments) = Cgroup::create(tree.layout(), &path(), &limits()).unwrap();
            // Plain directories take no program, and that cannot be foreseen.
            adjustments.retain(|adjustment| adjustment.field != Field::Devices);
            assert_eq!((preview.adjustments, preview.obstacles), (adjustments, vec![]));
            for act in preview.acts {
                match act {
                    Act::Make { directory } | Act::Born { directory } | Act::Restrict { directory, .. } => {
                        assert!(Path::new(&directory).is_dir())
                    }
                    Act::Replace { directory } => panic!("{directory} was not there"),
                    Act::Join { file } => assert!(Path::new(&file).exists(), "{file}"),
                    // Each write to these replaces the one before, in a file that is none of the
                    // kernel's.
                    Act::Write { file, .. } if file.contains("devices.") || file.contains("subtree") => {}
                    Act::Write { file, value, .. } => {
                        let shown = std::fs::read_to_string(&file).unwrap();
                        assert!(shown.starts_with(&value), "{file}: {shown} instead of {value}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_preview_has_a_limit_as_the_kernel_rounds_it() {
        let tree = FakeTree::v1();
        let odd = Limits { memory_bytes: Some(8193), cpu_shares: Some(1), ..Limits::default() };
        let told: Vec<String> =
            Preview::of(tree.layout(), &path(), &odd).adjustments.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["cpu_shares: asked 1, got 2", "memory_bytes: asked 8193, got 8192"]);
    }

    #[test]
    fn a_missing_controller_and_a_group_in_use_are_obstacles_and_no_errors() {
        let tree = FakeTree::v2("cpuset cpu memory");
        tree.add("/squall");
        tree.add("/squall/a");
        tree.put("/squall/a", "cgroup.procs", "77\n");
        let preview = Preview::of(tree.layout(), &path(), &limits());
        assert_eq!(preview.obstacles.len(), 2, "{:?}", preview.obstacles);
        assert!(preview.obstacles[0].contains("pids"), "{:?}", preview.obstacles);
        assert!(preview.obstacles[1].contains("holds processes"), "{:?}", preview.obstacles);
        assert_eq!(Preview::of(&Layout::new(vec![], "/proc"), &path(), &Limits::default()).acts, []);
    }
}
