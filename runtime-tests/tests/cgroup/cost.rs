//! What a cgroup costs.

use std::fs;
use std::path::Path;
use std::time::Instant;

use squall::cgroup::*;
use squall::testing::cgroup::*;

use crate::ground::{Ground, PATIENCE, everything};
use crate::inside::enter;

/// `cargo test --release --test cgroup -- --ignored --nocapture cost`
#[test]
#[ignore = "a measurement, not a check"]
fn cost_of_a_cgroup() {
    let ground = Ground::new("cost");
    let output = ground.run("cost");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{output:?}");
}

pub fn measure(layout: &Layout, path: &CgroupPath) {
    const ROUNDS: usize = 200;
    let home = path.parent().unwrap().child("home").unwrap();
    let (home, _) = Cgroup::create(layout, &home, &Limits::none()).unwrap();
    let storm = Limits {
        cpu_quota_us: Some(100_000),
        cpu_period_us: Some(100_000),
        memory_bytes: Some(1 << 30),
        ..Limits::default()
    };
    println!(
        "\nbare mkdir, write and rmdir in {} hierarchies: {} us",
        layout.hierarchies().len(),
        bare(layout, path, &home)
    );
    let mountinfo = median((0..ROUNDS).map(|_| time(|| Layout::from_mountinfo().unwrap())).collect());
    println!("layout from mountinfo: {mountinfo} us");
    for (name, limits) in
        [("no limits", Limits::none()), ("quota, period, memory, devices", storm), ("every limit", everything())]
    {
        let mut spans: [Vec<u128>; 6] = Default::default();
        for _ in 0..ROUNDS {
            enter(&home);
            let mut last = Instant::now();
            let mut lap = |index: usize| {
                let now = Instant::now();
                spans[index].push((now - last).as_micros());
                last = now;
            };
            let layout = Layout::detect().unwrap();
            lap(0);
            let (cgroup, _) = Cgroup::create(&layout, path, &limits).unwrap();
            lap(1);
            enter(&cgroup);
            lap(2);
            std::hint::black_box(cgroup.usage());
            lap(3);
            enter(&home);
            lap(4);
            cgroup.remove(PATIENCE).unwrap();
            lap(5);
        }
        let [detect, create, enter, usage, _, remove] = spans.map(median);
        let whole = create + enter + remove;
        println!(
            "{name}: create {create} + join {enter} + remove {remove} = {whole} us (detect {detect}, usage {usage})"
        );
    }
}

/// The kernel's own share: nothing but one mkdir, one move and one rmdir for each hierarchy.
fn bare(layout: &Layout, path: &CgroupPath, home: &Cgroup) -> u128 {
    let directories: Vec<String> = layout.hierarchies().iter().map(|hierarchy| hierarchy.directory(path)).collect();
    let mut spans = Vec::new();
    for _ in 0..100 {
        enter(home);
        let made = time(|| directories.iter().for_each(|directory| fs::create_dir(directory).unwrap()));
        for cpuset in directories.iter().filter(|directory| Path::new(directory).join("cpuset.cpus").exists()) {
            fs::write(format!("{cpuset}/cpuset.cpus"), "0").unwrap();
            fs::write(format!("{cpuset}/cpuset.mems"), "0").unwrap();
        }
        let joined = time(|| {
            directories.iter().for_each(|directory| fs::write(format!("{directory}/cgroup.procs"), "0").unwrap())
        });
        enter(home);
        let removed = time(|| directories.iter().for_each(|directory| fs::remove_dir(directory).unwrap()));
        spans.push(made + joined + removed);
    }
    median(spans)
}

fn time<T>(call: impl FnOnce() -> T) -> u128 {
    let start = Instant::now();
    call();
    start.elapsed().as_micros()
}

fn median(mut spans: Vec<u128>) -> u128 {
    spans.sort_unstable();
    spans[spans.len() / 2]
}
