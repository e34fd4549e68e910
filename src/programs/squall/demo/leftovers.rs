//! What is left on the machine after the demonstration, counted.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::worker::run_root;
use squall::Stage;
use squall::cgroup::Layout;
use squall::error::{Context, Result};
use squall::record::ProcessId;

/// Objects that carry the demonstration's name, or were its processes.
#[derive(Debug, Serialize)]
pub(super) struct Leftovers {
    pub(super) mounts: usize,
    pub(super) loop_devices: usize,
    pub(super) cgroups: usize,
    pub(super) processes: usize,
    pub(super) files: usize,
}

impl Leftovers {
    pub(super) fn count(tag: &str, processes: &[ProcessId]) -> Result<Leftovers> {
        let mounts = fs::read_to_string("/proc/self/mounts").at(Stage::Reap, "/proc/self/mounts", "read")?;
        let layout = Layout::detect()?;
        let cgroup = |mount_point: &str| Path::new(mount_point).join(tag).exists();
        Ok(Leftovers {
            mounts: mounts.lines().filter(|line| line.contains(tag)).count(),
            loop_devices: loop_devices(tag),
            cgroups: layout.hierarchies().iter().filter(|hierarchy| cgroup(&hierarchy.mount_point)).count(),
            processes: processes.iter().filter(|process| process.is_alive()).count(),
            files: usize::from(run_root(tag).exists()),
        })
    }

    pub(super) fn in_words(&self) -> String {
        format!(
            "mounts {}, loop devices {}, cgroups {}, processes {}, files {}",
            self.mounts, self.loop_devices, self.cgroups, self.processes, self.files
        )
    }

    pub(super) fn total(&self) -> usize {
        self.mounts + self.loop_devices + self.cgroups + self.processes + self.files
    }
}

/// The kernel shows the file behind each bound device.
fn loop_devices(tag: &str) -> usize {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let backing = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("loop/backing_file"));
    devices.filter_map(|entry| backing(entry).ok()).filter(|file| file.contains(tag)).count()
}
