//! What there is to be given out: the machine's memory nodes, processors and memory.
//!
//! Reads sysfs and `/proc/meminfo`, and keeps nothing: processors come and go.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::choice::Node;
use crate::cgroup::CpuList;

/// Where the machine's files are.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    system: PathBuf,
    meminfo: PathBuf,
}

impl Machine {
    /// The one that this process runs on.
    pub(super) fn this() -> Machine {
        Machine { system: "/sys/devices/system".into(), meminfo: "/proc/meminfo".into() }
    }

    /// The processors that are online.
    pub(super) fn online(&self) -> BTreeSet<u16> {
        self.list(&self.system.join("cpu/online"))
    }

    /// Memory nodes that have processors, by their numbers. A kernel without NUMA has one.
    pub(super) fn nodes(&self) -> Vec<Node> {
        let entries = fs::read_dir(self.system.join("node")).into_iter().flatten().flatten();
        let node = |entry: fs::DirEntry| {
            let number = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
            Some(Node { number, cpus: self.list(&entry.path().join("cpulist")) })
        };
        let mut nodes: Vec<Node> = entries.filter_map(node).filter(|node| !node.cpus.is_empty()).collect();
        nodes.sort_by_key(|node| node.number);
        if nodes.is_empty() {
            nodes.push(Node { number: 0, cpus: self.online() });
        }
        nodes
    }

    /// All memory that the kernel manages, in bytes.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        let text = fs::read_to_string(&self.meminfo).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    }

    /// A file without numbers is that of a node without processors.
    fn list(&self, path: &Path) -> BTreeSet<u16> {
        let list = fs::read_to_string(path).ok().and_then(|text| text.trim_end().parse::<CpuList>().ok());
        list.map(|list| list.numbers().collect()).unwrap_or_default()
    }

    /// A machine of these nodes and this much memory, in a directory for tests.
    #[cfg(test)]
    pub(super) fn fake(directory: &Path, nodes: &[&str], memory_kib: u64) -> Machine {
        let machine = Machine { system: directory.join("system"), meminfo: directory.join("meminfo") };
        fs::create_dir_all(machine.system.join("cpu")).unwrap();
        fs::write(machine.system.join("cpu/online"), format!("{}\n", nodes.join(","))).unwrap();
        for (number, cpus) in nodes.iter().enumerate() {
            let node = machine.system.join(format!("node/node{number}"));
            fs::create_dir_all(&node).unwrap();
            fs::write(node.join("cpulist"), format!("{cpus}\n")).unwrap();
        }
        let text = format!("MemTotal:       {memory_kib} kB\nMemFree:          100000 kB\n");
        fs::write(&machine.meminfo, text).unwrap();
        machine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_processors_and_memory_are_read_and_a_node_without_processors_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let machine = Machine::fake(directory.path(), &["0-3,8-11", "4-7,12-15"], 16_384);
        let without = machine.system.join("node/node2");
        fs::create_dir(&without).unwrap();
        fs::write(without.join("cpulist"), "\n").unwrap();
        fs::create_dir(machine.system.join("node/power")).unwrap();
        let nodes = machine.nodes();
        assert_eq!(nodes.iter().map(|node| (node.number, node.cpus.len())).collect::<Vec<_>>(), [(0, 8), (1, 8)]);
        assert_eq!((machine.online().len(), machine.memory_bytes()), (16, Some(16 << 20)));
        fs::remove_dir_all(machine.system.join("node")).unwrap();
        assert_eq!(machine.nodes(), [Node { number: 0, cpus: (0..16).collect() }]);
    }
}
