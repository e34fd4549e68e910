//! What there is of each resource, before a long run and after it.

use std::fs;
use std::process::id;
use std::time::{Duration, Instant};

use squall::record::ProcessId;

use crate::bed::Bed;
use crate::{host, leaks};

/// How long the kernel may take to let go of what has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// One kind of resource: how much of it there is, and of what can be named the names.
#[derive(Debug, Clone)]
pub struct Resource {
    name: String,
    count: i64,
    objects: Vec<String>,
    /// More of it afterwards is a leak; otherwise it is told, and is the kernel's or the
    /// allocator's to explain.
    counts: bool,
}

impl Resource {
    fn new(name: impl Into<String>, count: i64) -> Resource {
        Resource { name: name.into(), count, objects: Vec::new(), counts: true }
    }

    fn of(name: &str, objects: Vec<String>) -> Resource {
        Resource { objects: objects.clone(), ..Resource::new(name, objects.len() as i64) }
    }

    fn told(name: impl Into<String>, count: i64) -> Resource {
        Resource { counts: false, ..Resource::new(name, count) }
    }
}

/// All of a bed's now. `helpers` are processes of this program's own, `seen` every init and monitor
/// that was on record.
pub fn look(bed: &Bed, helpers: &[(&str, u32)], seen: &[ProcessId]) -> Vec<Resource> {
    let mut all: Vec<Resource> =
        leaks::by_kind(bed).into_iter().map(|(kind, objects)| Resource::of(kind, objects)).collect();
    all.extend([zombies(seen), survivors(seen)]);
    let pids: Vec<(&str, u32)> = helpers.iter().copied().chain([("this program", id())]).collect();
    for (name, pid) in &pids {
        let descriptors = host::open_fds(&pid.to_string());
        let sockets = descriptors.values().filter(|link| link.starts_with("socket:")).count();
        all.push(Resource::new(format!("descriptors, {name}"), descriptors.len() as i64));
        all.push(Resource::new(format!("sockets, {name}"), sockets as i64));
    }
    all.extend(pids.iter().map(|(name, pid)| Resource::told(format!("resident KiB, {name}"), resident(*pid))));
    all.extend(["SUnreclaim", "Slab", "MemAvailable"].map(|key| Resource::told(format!("{key} KiB"), memory(key))));
    all.extend(cgroups_of_the_kernel());
    all
}

/// What is there once the kernel has let go: loop devices are freed some time after their last
/// user. Without a `before`, what can be named is to go.
pub fn settled(before: &[Resource], look: impl Fn() -> Vec<Resource>) -> Vec<Resource> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = look();
        let wanted = if before.is_empty() { nothing_of(&now) } else { before.to_vec() };
        if has_settled(&wanted, &now) || Instant::now() >= deadline {
            return now;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// As much of each as there is, and nothing of what can be named: that was made, and is to go.
fn nothing_of(now: &[Resource]) -> Vec<Resource> {
    let nothing = |resource: &Resource| match resource.objects.is_empty() {
        true => resource.clone(),
        false => Resource { count: 0, ..resource.clone() },
    };
    now.iter().map(nothing).collect()
}

/// Prints what there was and is; the answer is how much has leaked.
pub fn compare(before: &[Resource], after: &[Resource]) -> u64 {
    println!("{:28}  {:>10}  {:>10}  {:>8}", "", "before", "after", "leaked");
    let mut leaks = 0;
    for (was, is) in before.iter().zip(after) {
        let more = is.count - was.count;
        let leaked = if is.counts { more.max(0).to_string() } else { format!("({more:+})") };
        println!("{:28}  {:>10}  {:>10}  {leaked:>8}", is.name, was.count, is.count);
        if is.counts && more > 0 {
            leaks += more.unsigned_abs();
            is.objects.iter().for_each(|object| println!("    {object}"));
        }
    }
    leaks
}

/// Whether there is not more of anything that counts.
fn has_settled(before: &[Resource], after: &[Resource]) -> bool {
    before.iter().zip(after).all(|(was, is)| !is.counts || is.count <= was.count)
}

/// Inits and monitors that have ended and that nobody has waited for.
fn zombies(seen: &[ProcessId]) -> Resource {
    let dead = seen.iter().filter(|process| process.open().is_some() && !process.is_alive());
    Resource::of("zombies", dead.map(|process| format!("zombie {}", process.pid)).collect())
}

/// Inits and monitors that live.
fn survivors(seen: &[ProcessId]) -> Resource {
    let alive = seen.iter().filter(|process| process.is_alive());
    Resource::of("inits and monitors", alive.map(|process| format!("process {}", process.pid)).collect())
}

fn resident(pid: u32) -> i64 {
    first_number(&host::status(pid, "VmRSS"))
}

fn memory(key: &str) -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    first_number(line.unwrap_or_default())
}

fn first_number(text: &str) -> i64 {
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Of the machine, others' included, and those that are removed and not yet freed.
fn cgroups_of_the_kernel() -> Vec<Resource> {
    let text = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, hierarchy, count) = (words.next()?, words.next()?, words.next()?.parse().ok()?);
        let told = matches!(name, "memory" | "cpu" | "pids") && hierarchy != "0";
        told.then(|| Resource::told(format!("kernel's cgroups, {name}"), count))
    };
    text.lines().filter_map(row).collect()
}
