//! A cgroup for one test.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use squall::cgroup::*;
use squall::error::Error;
use squall::testing::cgroup::*;

pub const PATIENCE: Duration = Duration::from_secs(10);
pub const ROLE: &str = "SQUALL_CGTEST_ROLE";
pub const GROUP: &str = "SQUALL_CGTEST_GROUP";
pub const LAYOUT: &str = "SQUALL_CGTEST_LAYOUT";

/// A cgroup for one test.
pub struct Ground {
    pub layout: Layout,
    pub top: CgroupPath,
}

impl Ground {
    pub fn new(name: &str) -> Ground {
        Ground::with_layout(name, Layout::detect().unwrap())
    }

    pub fn with_layout(name: &str, layout: Layout) -> Ground {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        let top = CgroupPath::new(format!("/squall-cgtest-{}-{name}", std::process::id())).unwrap();
        Ground { layout, top }
    }

    pub fn path(&self) -> CgroupPath {
        self.top.child("a").unwrap()
    }

    pub fn create(&self, limits: &Limits) -> Result<(Cgroup, Vec<Adjustment>), Error> {
        Cgroup::create(&self.layout, &self.path(), limits)
    }

    /// This program in another role, with the path of a cgroup.
    pub fn command(&self, role: &str, path: &CgroupPath) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "inside::the_program_inside", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role).env(GROUP, path.as_str()).env(LAYOUT, serde_json::to_string(&self.layout).unwrap());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    pub fn run(&self, role: &str) -> Output {
        self.command(role, &self.path()).output().unwrap()
    }

    pub fn left(&self) -> Vec<String> {
        let directories = self.layout.hierarchies().iter().map(|hierarchy| hierarchy.directory(&self.top));
        directories.filter(|directory| Path::new(directory).exists()).collect()
    }

    pub fn read(&self, controller: Controller, file: &str) -> String {
        let directory = self.layout.holder(controller).unwrap().directory(&self.path());
        fs::read_to_string(format!("{directory}/{file}")).unwrap().trim_end().to_owned()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for hierarchy in self.layout.hierarchies() {
            let directory = hierarchy.directory(&self.top);
            let deadline = Instant::now() + PATIENCE;
            while Path::new(&directory).exists() && Instant::now() < deadline {
                clear(Path::new(&directory));
            }
        }
        if !std::thread::panicking() {
            assert_eq!(self.left(), Vec::<String>::new());
        }
    }
}

/// Kills and removes a tree of cgroups without the code under test.
pub fn clear(directory: &Path) {
    for pid in fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default().lines() {
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap_or(0));
        let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            clear(&entry.path());
        }
    }
    let _ = fs::remove_dir(directory);
}

pub fn everything() -> Limits {
    Limits {
        cpu_quota_us: Some(20_000),
        cpu_period_us: Some(50_000),
        cpu_shares: Some(512),
        cpuset_cpus: Some("0".parse().unwrap()),
        cpuset_mems: Some("0".parse().unwrap()),
        memory_bytes: Some(64 << 20),
        memory_swap_bytes: Some(SwapLimit::Total(96 << 20)),
        memory_reservation_bytes: Some(32 << 20),
        memory_oom_group: false,
        pids: Some(50),
        blkio_weight: Some(200),
        devices: DeviceRules::default(),
    }
}
