//! What the floor does: a launch of Squall as bare system calls.
//!
//! The list comes from the container's OCI document and the machine's cgroups, in the order of
//! `strace -f squall run`; `bench --only work` counts both again. **The same** as in a launch of
//! Squall: a cgroup in every hierarchy with every limit, the move into each (into the unified one
//! by birth), all while init builds its root; pid, mount, ipc, network, uts and cgroup namespaces;
//! the loopback device up; a session keyring of its own; a clone of each pin, the staging tmpfs,
//! the overlay with the same options; every standard mount with its options, the bound cgroups, the
//! caller's bind; devices and links; both pivots; the read-only root; masked and read-only paths as
//! libcontainer makes them (a tmpfs for each directory); bounding set, no_new_privs, ids,
//! capabilities; the same filter, compiled beforehand; exec of the same program; the wait; the
//! removal of the cgroups.
//!
//! **Not in it**, because a container could be had without: the launch process of its own and the
//! spawner; claim, record, pid file; the monitor with its program, socket, OOM events and own move
//! into its cgroups; limits, priorities and signals put back; reading back what the kernel made of
//! a limit; opening each mount point inside the root (here the paths are ours); finding out layout
//! and layers; the second and third proc that libcontainer needs; its notify socket; the filter's
//! compilation.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;
use squall::cgroup::{CgroupPath, Hierarchy, Kind, Layout};
use squall::seccomp::Profile;

use crate::Outcome;
use crate::container::USER;

// mount_attr and mount(2) flags (linux/mount.h).
const RDONLY: u64 = 1;
const NOSUID: u64 = 2;
const NODEV: u64 = 4;
const NOEXEC: u64 = 8;
const STRICTATIME: u64 = 0x20;
const MS_REMOUNT: u64 = 0x20;
const MS_BIND: u64 = 0x1000;
const MS_REC: u64 = 0x4000;
const MS_PRIVATE: u64 = 1 << 18;

/// Descriptors, by the kind of what they are open on: see `Steps::held`.
const LAYERS: usize = 0;
const CGROUPS: usize = 64;
const PROCS: usize = 96;
const BINDS: usize = 128;
const SCRATCH: usize = 160;
const UNIFIED: usize = 161;

/// pid, mount, ipc and network, from birth (linux/sched.h).
const NEWPID: u64 = 0x2000_0000;
const NAMESPACES: u64 = NEWPID | 0x2_0000 | 0x800_0000 | 0x4000_0000;
const NEWCGROUP: u64 = 0x200_0000;
const NEWUTS: u64 = 0x400_0000;

/// The devices, with their numbers.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("tty", 5, 0), ("urandom", 1, 9), ("random", 1, 8)];

/// The links in /dev.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Adds a step.
macro_rules! step {
    ($steps:expr, $($words:tt)*) => { writeln!($steps.text, $($words)*).expect("a string takes everything") };
}

/// The list for a container of this document, from these pins.
pub fn write(document: &Value, layout: &Layout, pins: &[PathBuf]) -> Outcome<String> {
    let path = CgroupPath::new(text(&document["linux"]["cgroupsPath"]))?;
    let mut steps = Steps { text: String::new(), document, layout, path };
    steps.launch(pins)?;
    steps.init(pins.len())?;
    steps.admit();
    steps.end();
    Ok(steps.text)
}

/// The list for a further program in a running container of this document, whose first process this
/// is. **The same** as in an exec of Squall: its namespaces, the move into each of its cgroups while
/// the child enters them, a session and keyring of its own, bounding set, no_new_privs, ids,
/// capabilities, filter, exec, wait. **Not in it**: the process beside the program and what it
/// keeps: records, the monitor, its own move into its cgroups.
pub fn write_exec(document: &Value, layout: &Layout, init: i32, argv: &[&str]) -> Outcome<String> {
    let path = CgroupPath::new(text(&document["linux"]["cgroupsPath"]))?;
    let mut steps = Steps { text: String::new(), document, layout, path };
    step!(steps, "[launch]\nprocess {SCRATCH} {init}\nenter {SCRATCH} {NEWPID}");
    for (index, hierarchy, directory) in steps.hierarchies() {
        if hierarchy.is_v2() {
            step!(steps, "directory {UNIFIED} {directory}\nborn-into {UNIFIED}");
        } else {
            step!(steps, "writable {} {directory}/cgroup.procs", PROCS + index);
        }
    }
    let others = NAMESPACES & !NEWPID | NEWCGROUP | NEWUTS;
    step!(steps, "[init]\nkeyring\nsession\numask 22\nenter {SCRATCH} {others}\ngate");
    steps.become_worker(argv)?;
    steps.admit();
    step!(steps, "[end]");
    Ok(steps.text)
}

struct Steps<'a> {
    text: String,
    document: &'a Value,
    layout: &'a Layout,
    path: CgroupPath,
}

impl Steps<'_> {
    fn hierarchies(&self) -> Vec<(usize, Hierarchy, String)> {
        let all = self.layout.hierarchies().iter().enumerate();
        all.map(|(index, hierarchy)| (index, hierarchy.clone(), hierarchy.directory(&self.path))).collect()
    }

    fn binds(&self) -> Vec<(usize, String, String)> {
        let binds = list(&self.document["mounts"]).iter().filter(|mount| mount["type"] == "bind");
        binds.enumerate().map(|(index, bind)| (index, text(&bind["source"]), text(&bind["destination"]))).collect()
    }

    /// In the launch process: cgroups, limits, and everything of the host as descriptors.
    fn launch(&mut self, pins: &[PathBuf]) -> Outcome<()> {
        step!(self, "[launch]\npart cgroup");
        for (_, hierarchy, directory) in self.hierarchies() {
            step!(self, "mkdir {directory} 755");
            self.limits(&hierarchy, &directory)?;
        }
        step!(self, "part layers");
        for (index, pin) in pins.iter().enumerate() {
            step!(self, "clone-mount {} {}", LAYERS + index, pin.display());
        }
        step!(self, "part binds");
        for (index, hierarchy, directory) in self.hierarchies() {
            step!(self, "clone-mount {} {directory}", CGROUPS + index);
            step!(self, "attributes {} {} {MS_PRIVATE}", CGROUPS + index, RDONLY | NOSUID | NODEV | NOEXEC);
            if hierarchy.is_v2() {
                step!(self, "directory {UNIFIED} {directory}");
                step!(self, "born-into {UNIFIED}");
            } else {
                step!(self, "writable {} {directory}/cgroup.procs", PROCS + index);
            }
        }
        for (index, source, _) in self.binds() {
            step!(self, "clone-mounts {} {source}", BINDS + index);
            step!(self, "attributes-below {} {} {MS_PRIVATE}", BINDS + index, NOSUID | NODEV);
        }
        step!(self, "namespaces {NAMESPACES}\npart fork");
        Ok(())
    }

    /// The limits that a v1 hierarchy holds; a hybrid's unified tree holds none of them, and pure
    /// v2 is not written yet.
    fn limits(&mut self, hierarchy: &Hierarchy, directory: &str) -> Outcome<()> {
        let Kind::V1 { controllers, .. } = &hierarchy.kind else {
            let pure = self.layout.hierarchies().iter().all(Hierarchy::is_v2);
            return if pure { Err("the floor knows no pure cgroup v2 yet".into()) } else { Ok(()) };
        };
        for (file, value) in
            controllers.iter().map(|name| self.values(name, directory)).collect::<Outcome<Vec<_>>>()?.concat()
        {
            step!(self, "write {directory}/{file} {value}");
        }
        Ok(())
    }

    /// A v1 controller's files, in the order in which they are written.
    fn values(&self, controller: &str, directory: &str) -> Outcome<Vec<(&'static str, String)>> {
        let resources = &self.document["linux"]["resources"];
        let number = |file, value: &Value| (!value.is_null()).then(|| (file, value.to_string()));
        let devices =
            |rule: &Value| (if rule["allow"] == true { "devices.allow" } else { "devices.deny" }, device_rule(rule));
        Ok(match controller {
            "cpu" => [("cpu.cfs_period_us", "period"), ("cpu.cfs_quota_us", "quota")]
                .into_iter()
                .filter_map(|(file, key)| number(file, &resources["cpu"][key]))
                .collect(),
            "memory" => Vec::from_iter(number("memory.limit_in_bytes", &resources["memory"]["limit"])),
            "pids" => Vec::from_iter(number("pids.max", &resources["pids"]["limit"])),
            "cpuset" => inherited(directory)?,
            "devices" => list(&resources["devices"]).iter().map(devices).collect(),
            _ => Vec::new(),
        })
    }

    /// In the container's first process.
    fn init(&mut self, layers: usize) -> Outcome<()> {
        step!(self, "[init]\npart clone\nkeyring\nloopback\numask 0");
        self.root(layers);
        self.mounts();
        step!(self, "part join\ngate\nunshare {NEWCGROUP}\npart init\nsession\nunshare {NEWUTS}");
        step!(self, "hostname {}", text(&self.document["hostname"]));
        step!(self, "mount - / - {}", MS_REC | (1 << 19));
        for (target, name) in LINKS {
            step!(self, "symlink {target} /root/dev/{name}");
        }
        for (name, major, minor) in DEVICES {
            step!(self, "mknod /root/dev/{name} {major} {minor}");
        }
        step!(self, "pivot /root\numask 22");
        step!(self, "mount - / - {}", MS_REMOUNT | MS_BIND | RDONLY | NOSUID | NODEV);
        self.read_only_paths();
        self.masked_paths();
        let argv: Vec<String> = list(&self.document["process"]["args"]).iter().map(text).collect();
        self.become_worker(&argv.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn become_worker(&mut self, argv: &[&str]) -> Outcome<()> {
        step!(self, "drop-bounding-set\nno-new-privileges\nuser {USER}\ndrop-capabilities");
        step!(self, "part exec\nfilter {}\nexec {}", self.filter()?, argv.join(" "));
        Ok(())
    }

    /// The document's filter, compiled: the instructions as `struct sock_filter` has them, in
    /// hexadecimal.
    fn filter(&self) -> Outcome<String> {
        let filter = Profile::from_value(&self.document["linux"]["seccomp"])?.compile()?;
        let words = filter.program().iter().map(|one| {
            u64::from(one.code) | u64::from(one.jt) << 16 | u64::from(one.jf) << 24 | u64::from(one.k) << 32
        });
        Ok(words.map(|word| format!("{word:x}")).collect::<Vec<_>>().join(" "))
    }

    /// Staging file system and overlay (`src/root/staging.rs`).
    fn root(&mut self, layers: usize) {
        step!(self, "part root\nmount - / - {}", MS_REC | MS_PRIVATE);
        step!(self, "new-mount {SCRATCH} tmpfs {} size=4m mode=700\npivot-to-mount {SCRATCH}", NODEV | NOSUID);
        for index in 0..layers {
            step!(self, "mkdir {index} 700\nattach {} {index}", LAYERS + index);
        }
        let lower: Vec<String> = (0..layers).rev().map(|index| index.to_string()).collect();
        step!(self, "mkdir upper 755\nmkdir work 700\nmkdir /root 755");
        step!(
            self,
            "mount overlay /root overlay {} lowerdir={},upperdir=upper,workdir=work,redirect_dir=nofollow,metacopy=off,index=off",
            NODEV | NOSUID,
            lower.join(":")
        );
    }

    /// Everything below the root, in the document's order.
    fn mounts(&mut self) {
        step!(self, "part mounts");
        let mut binds = BINDS;
        for mount in list(&self.document["mounts"]) {
            let (kind, target) = (text(&mount["type"]), format!("/root{}", text(&mount["destination"])));
            match kind.as_str() {
                "cgroup" => self.cgroups(&target),
                "bind" => {
                    step!(self, "attach {binds} {target}");
                    binds += 1;
                }
                _ => {
                    let (attributes, options) = words(mount);
                    if target.starts_with("/root/dev/") {
                        step!(self, "mkdir {target} 755");
                    }
                    step!(self, "new-mount {SCRATCH} {kind} {attributes} source={} {options}", text(&mount["source"]));
                    step!(self, "attach {SCRATCH} {target}");
                }
            }
        }
    }

    /// The container's cgroups, bound (`src/root/mount_steps.rs`, `cgroups`).
    fn cgroups(&mut self, target: &str) {
        step!(self, "new-mount {SCRATCH} tmpfs {} source=tmpfs mode=755 size=64k", NOSUID | NODEV | NOEXEC);
        step!(self, "attach {SCRATCH} {target}");
        for (index, hierarchy, _) in self.hierarchies() {
            let name = match &hierarchy.kind {
                Kind::V2 { .. } => "unified".to_owned(),
                Kind::V1 { controllers, name } => name.clone().unwrap_or_else(|| controllers.join(",")),
            };
            step!(self, "mkdir {target}/{name} 755\nattach {} {target}/{name}", CGROUPS + index);
        }
        step!(self, "directory {SCRATCH} {target}\nattributes {SCRATCH} {RDONLY} 0");
    }

    fn read_only_paths(&mut self) {
        for path in self.existing("readonlyPaths") {
            step!(self, "mount {path} {path} - {}", MS_BIND | MS_REC);
            step!(self, "mount {path} {path} - {}", MS_BIND | MS_REMOUNT | RDONLY | NOSUID | NODEV | NOEXEC);
        }
    }

    fn masked_paths(&mut self) {
        for path in self.existing("maskedPaths") {
            if Path::new(&path).is_dir() {
                step!(self, "mount tmpfs {path} tmpfs {RDONLY}");
            } else {
                step!(self, "clone-mount {SCRATCH} /dev/null\nattach {SCRATCH} {path}");
            }
        }
    }

    /// The paths of a list that this kernel has.
    fn existing(&self, key: &str) -> Vec<String> {
        let paths = list(&self.document["linux"][key]).iter().map(text);
        paths.filter(|path| Path::new(path).exists()).collect()
    }

    /// In the launch process, while init builds its root.
    fn admit(&mut self) {
        step!(self, "[admit]");
        for (index, _, _) in self.hierarchies().iter().filter(|(_, hierarchy, _)| !hierarchy.is_v2()) {
            step!(self, "place {}", PROCS + index);
        }
    }

    fn end(&mut self) {
        step!(self, "[end]");
        for (_, _, directory) in self.hierarchies() {
            step!(self, "rmdir {directory}");
        }
    }
}

/// A cpuset without values takes no process: they are the parent's.
fn inherited(directory: &str) -> Outcome<Vec<(&'static str, String)>> {
    let parent = Path::new(directory).parent().ok_or("a container's cgroup has a parent")?;
    let value = |file| Ok((file, std::fs::read_to_string(parent.join(file))?.trim().to_owned()));
    ["cpuset.cpus", "cpuset.mems"].into_iter().map(value).collect()
}

/// As `devices.allow` takes it.
fn device_rule(rule: &Value) -> String {
    let number = |key: &str| rule[key].as_i64().map_or("*".to_owned(), |number| number.to_string());
    match text(&rule["type"]).as_str() {
        "a" => "a".to_owned(),
        kind => format!("{kind} {}:{} {}", number("major"), number("minor"), text(&rule["access"])),
    }
}

/// A mount's option words, as flags of fsmount and options of the file system.
fn words(mount: &Value) -> (u64, String) {
    let mut attributes = 0;
    let mut options = Vec::new();
    for word in list(&mount["options"]).iter().map(text) {
        match word.as_str() {
            "ro" => attributes |= RDONLY,
            "nosuid" => attributes |= NOSUID,
            "nodev" => attributes |= NODEV,
            "noexec" => attributes |= NOEXEC,
            "strictatime" => attributes |= STRICTATIME,
            _ => options.push(word),
        }
    }
    (attributes, options.join(" "))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
