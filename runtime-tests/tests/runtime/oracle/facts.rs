//! What the kernel says of a container, one line for each thing, so that two containers can be
//! compared.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::Value;

use super::mount_table;

/// Each thing by its name: `status/CapBnd`, `mount/proc/kcore`, `limit/pids.max`.
pub type Facts = BTreeMap<String, String>;

/// What of `/proc/<pid>/status` is a measurement, or names this one process.
const MEASURED: [&str; 8] = ["Vm", "Rss", "Hugetlb", "voluntary", "nonvoluntary", "SigQ", "FDSize", "untag_mask"];

/// Files of a cgroup, v1 and v2, that hold what was asked for.
const LIMIT_FILES: [&str; 19] = [
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpu.shares",
    "cpuset.cpus",
    "cpuset.mems",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.swappiness",
    "memory.oom_control",
    "pids.max",
    "blkio.weight",
    "blkio.bfq.weight",
    "freezer.state",
    "cpu.max",
    "cpu.weight",
    "memory.max",
    "memory.swap.max",
    "memory.low",
];

/// What does not change between two containers: the caller's namespaces, by which a container's own
/// are told.
pub struct Caller {
    namespaces: BTreeMap<String, String>,
}

impl Caller {
    /// This process.
    pub fn of_this_process() -> Caller {
        Caller { namespaces: links(Path::new("/proc/self/ns")) }
    }

    /// What a worker reports of itself.
    pub fn seen_inside(&self, report: &Value) -> Facts {
        let mut facts = Facts::new();
        const SIMPLE: [&str; 11] = [
            "pid",
            "session",
            "process_group",
            "nice",
            "personality",
            "cwd",
            "args",
            "hostname",
            "oom_score_adj",
            "timerslack_ns",
            "processes",
        ];
        for key in SIMPLE.into_iter().chain(["dev", "root"]) {
            facts.insert(format!("process/{key}"), report[key].to_string());
        }
        let descriptors = report["fds"].as_object().expect("the probe reports its descriptors");
        facts.insert("process/fds".to_owned(), descriptors.keys().cloned().collect::<Vec<_>>().join(" "));
        let status = report["status"].as_object().expect("the probe reports its status");
        for (key, value) in status.iter().filter(|(key, _)| !MEASURED.iter().any(|measured| key.starts_with(measured)))
        {
            facts.insert(format!("status/{key}"), text(value));
        }
        for (kind, link) in report["namespaces"].as_object().expect("the probe reports its namespaces") {
            let whose = if self.namespaces.get(kind) == Some(&text(link)) { "the caller's" } else { "its own" };
            facts.insert(format!("namespace/{kind}"), whose.to_owned());
        }
        let variables: Vec<String> = lines(&report["env"]);
        let names: Vec<&str> = variables.iter().filter_map(|variable| variable.split('=').next()).collect();
        facts.insert("environment order".to_owned(), names.join(" "));
        facts.extend(
            variables
                .iter()
                .filter_map(|variable| variable.split_once('='))
                .map(|(name, value)| (format!("environment/{name}"), value.to_owned())),
        );
        for limit in lines(&report["limits"]).iter().skip(1) {
            let (name, values) = limit.split_at(26.min(limit.len()));
            facts.insert(format!("rlimit/{}", name.trim()), values.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        for interface in text(&report["net_dev"]).lines().skip(2).filter_map(|line| line.split(':').next()) {
            facts.insert(format!("network/{}", interface.trim()), "there".to_owned());
        }
        facts.extend(mount_table::facts(&lines(&report["mountinfo"])));
        facts
    }
}

/// What the host sees of a worker that runs: its devices, cgroups and limits. `cgroup` is the
/// worker's own path.
pub fn seen_from_outside(pid: u32, cgroup: &str) -> Facts {
    let mut facts = devices(pid);
    // An interface that is down has no routes, and nothing else in /proc tells.
    let routes = fs::read_to_string(format!("/proc/{pid}/net/fib_trie")).unwrap_or_default();
    let loopback = if routes.contains("127.0.0.1") { "up" } else { "down" };
    facts.insert("network/loopback".to_owned(), loopback.to_owned());
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the worker runs");
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let whose = if path == cgroup { "its own" } else { "another" };
        facts.insert(
            format!("cgroup/{}", if controllers.is_empty() { "unified" } else { controllers }),
            whose.to_owned(),
        );
    }
    for directory in runtime_tests::host::cgroup_directories(cgroup) {
        for file in LIMIT_FILES {
            if let Ok(value) = fs::read_to_string(directory.join(file)) {
                facts.insert(format!("limit/{file}"), value.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
        let rules = fs::read_to_string(directory.join("devices.list")).unwrap_or_default();
        facts.extend(rules.lines().map(|rule| (format!("device rule/{rule}"), "allowed".to_owned())));
    }
    facts
}

/// The nodes and links of a container's `/dev`, with their modes and owners.
fn devices(pid: u32) -> Facts {
    let mut facts = Facts::new();
    let directory = format!("/proc/{pid}/root/dev");
    for entry in fs::read_dir(&directory).unwrap_or_else(|error| panic!("{directory}: {error}")).flatten() {
        let path = entry.path();
        let metadata = fs::symlink_metadata(&path).expect("it was listed");
        let kind = metadata.file_type();
        let what = if kind.is_symlink() {
            format!("link to {}", fs::read_link(&path).expect("a link").display())
        } else {
            let node = if kind.is_char_device() || kind.is_block_device() {
                format!(" device {:x}", metadata.rdev())
            } else {
                String::new()
            };
            format!("mode {:o} of {}:{}{node}", metadata.mode(), metadata.uid(), metadata.gid())
        };
        facts.insert(format!("device/{}", entry.file_name().to_string_lossy()), what);
    }
    facts
}

fn links(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| {
        let link = fs::read_link(entry.path()).ok()?;
        Some((entry.file_name().to_string_lossy().into_owned(), link.to_string_lossy().into_owned()))
    });
    links.collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

fn lines(value: &Value) -> Vec<String> {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}")).iter().map(text).collect()
}
