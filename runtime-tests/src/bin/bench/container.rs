//! The container that everybody makes, as a request to the library and as flags.

use squall::Result;
use squall::cgroup::Limits;
use squall::request::{Identity, LaunchSpec};

use crate::ground::Ground;

/// The user, and its group.
pub const USER: u32 = 65534;
/// The limits.
pub const MEMORY_BYTES: u64 = 512 << 20;
pub const CPU_QUOTA_US: i64 = 150_000;
pub const CPU_PERIOD_US: u64 = 100_000;
pub const PIDS: u64 = 200;
/// The environment, which is the command line program's own default.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A worker that ends at once.
pub const EXIT: &[&str] = &["/bin/probe", "exit", "0"];
/// A worker that outlives every measure, unless it is told to end. The first process of a pid
/// namespace ignores what it has no handler for.
pub const STAY: &[&str] = &["/bin/probe", "exit-on-signal", "600000"];

/// The request.
pub fn spec(ground: &Ground, id: &str, layers: &[String], argv: &[&str]) -> Result<LaunchSpec> {
    let limits = Limits {
        memory_bytes: Some(MEMORY_BYTES),
        cpu_quota_us: Some(CPU_QUOTA_US),
        cpu_period_us: Some(CPU_PERIOD_US),
        pids: Some(PIDS),
        ..Limits::default()
    };
    let user = Identity::new(USER, USER, [USER]).expect("the numbers are in range");
    LaunchSpec::builder(id)
        .layers(layers)
        .args(argv.iter().copied())
        .env([PATH])
        .user(user)
        .limits(limits)
        .hostname(id)
        .bind(&ground.shared(), "/work", &["rbind"])
        .cgroup(format!("{}/{id}", ground.bed.cgroup()))
        .build()
}

/// The same for `squall run`.
pub fn flags(ground: &Ground, id: &str, layers: &[String], argv: &[&str]) -> Vec<String> {
    let bind = format!("{}:/work", ground.shared());
    let cgroup = ground.bed.cgroup();
    let fixed = ["--memory", "512m", "--cpus", "1.5", "--pids-limit", "200", "--volume", &bind];
    let named = ["--name", id, "--cgroup-parent", &cgroup];
    let layers = layers.iter().flat_map(|layer| ["--layer", layer]);
    let all = fixed.into_iter().chain(named).chain(layers).chain(["--"]).chain(argv.iter().copied());
    all.map(str::to_owned).collect()
}
