//! The machine was restarted: of what is on record nothing runs, and what has its pids, its
//! cgroup's name and inode now is somebody else's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use runtime_tests::{Bed, Call, cases, host, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

cases![
    a_run_root_in_memory_is_empty_and_everything_begins_anew,
    a_run_root_on_disk_tells_what_was_lost_and_is_cleared,
    whoever_has_the_recorded_pids_and_cgroup_now_is_left_alone,
    a_launch_that_the_restart_cut_off_is_cleared_and_its_name_is_free,
];

/// What the kernel calls the next boot.
const NEXT_BOOT: &str = "11111111-2222-3333-4444-555555555555";

/// A call in the next boot: it sees another boot id.
fn after_restart(bed: &Bed, call: Call) -> Call {
    let id = bed.file("boot_id");
    fs::write(&id, format!("{NEXT_BOOT}\n")).unwrap();
    let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
    call.under(&["unshare", "--mount", "--propagation", "private", "sh", "-c", script, &id])
}

fn kill(pid: u32) {
    let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
    until("it is dead", || (!host::is_alive(pid)).then_some(()));
}

/// As far as a restart goes for one container: no process, no mount, no cgroup.
fn cut_power(bed: &Bed, id: &str) {
    let worker = bed.worker(id);
    let (monitor, init) = (worker.monitor(), worker.pid());
    kill(monitor);
    kill(init);
    for pin in fs::read_dir(bed.run_root().join("layers")).unwrap().flatten() {
        let _ = rustix::mount::unmount(pin.path().join("mnt"), rustix::mount::UnmountFlags::DETACH);
    }
    let directories = || host::cgroup_directories(&bed.cgroup());
    until("no cgroup is left", || {
        directories()
            .iter()
            .flat_map(|directory| host::tree(directory))
            .for_each(|directory| drop(fs::remove_dir(directory)));
        directories().is_empty().then_some(())
    });
}

fn containers(bed: &Bed) -> Value {
    after_restart(bed, bed.squall(&["ps", "--all", "--json"])).json()
}

fn a_run_root_in_memory_is_empty_and_everything_begins_anew(bed: &Bed) {
    bed.start(&["--name", "worker"], &["sleep", "600000"]);
    cut_power(bed, "worker");
    fs::remove_dir_all(bed.run_root()).unwrap();
    assert_eq!(containers(bed), Value::Array(Vec::new()));
    let again = after_restart(bed, bed.run(&["--name", "worker", "--rm"], &["exit", "7"])).output();
    assert_eq!(again.code(), 7, "{again}");
}

fn a_run_root_on_disk_tells_what_was_lost_and_is_cleared(bed: &Bed) {
    bed.start(&["--name", "worker"], &["sleep", "600000"]);
    bed.start(&["--name", "ended"], &["exit", "3"]).wait();
    cut_power(bed, "worker");
    let listed = containers(bed);
    let phase = |id: &str| {
        let found = listed.as_array().unwrap().iter().find(|container| container["id"] == id).unwrap();
        found["phase"].as_str().unwrap().to_owned()
    };
    assert_eq!((phase("worker").as_str(), phase("ended").as_str()), ("lost", "exited"));
    let waited = after_restart(bed, bed.squall(&["wait", "worker"])).output();
    assert!(waited.code() == 125 && waited.stderr.contains("lost"), "{waited}");
    after_restart(bed, bed.squall(&["reap"])).ok();
    assert_eq!(fs::read_dir(bed.run_root().join("layers")).unwrap().count(), 0);
    assert_eq!(containers(bed).as_array().unwrap().len(), 1, "the one whose end is on record");
    let again = after_restart(bed, bed.run(&["--name", "worker", "--rm"], &["exit", "7"])).output();
    assert_eq!(again.code(), 7, "{again}");
}

/// Somebody else's process in a cgroup of the container's old name.
struct Bystander {
    process: Child,
    cgroup: PathBuf,
}

impl Bystander {
    fn start(bed: &Bed, id: &str) -> Bystander {
        let process = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        // The hierarchy by which a container's cgroup is known is the first one.
        let root = host::hierarchies().into_iter().next().unwrap();
        let cgroup = root.join(&bed.cgroup()[1..]).join(id);
        fs::create_dir_all(&cgroup).unwrap();
        fs::write(cgroup.join("cgroup.procs"), process.id().to_string()).unwrap();
        Bystander { process, cgroup }
    }

    fn identity(&self) -> Value {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let start: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
        serde_json::json!({ "pid": self.process.id(), "start_time": start })
    }

    /// It was left alone, and goes.
    fn end(mut self) {
        assert!(host::is_alive(self.process.id()), "it was killed");
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        until("its cgroup goes", || fs::remove_dir(&self.cgroup).ok());
    }
}

fn whoever_has_the_recorded_pids_and_cgroup_now_is_left_alone(bed: &Bed) {
    bed.start(&["--name", "worker"], &["sleep", "600000"]);
    cut_power(bed, "worker");
    let bystander = Bystander::start(bed, "worker");
    let path = bed.run_root().join("containers/worker/record.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["init"] = bystander.identity();
    record["monitor"] = bystander.identity();
    record["cgroup_inode"] = fs::metadata(&bystander.cgroup).unwrap().ino().into();
    fs::write(&path, record.to_string()).unwrap();
    assert_eq!(containers(bed)[0]["phase"], "lost");
    after_restart(bed, bed.squall(&["reap"])).ok();
    assert_eq!(containers(bed), Value::Array(Vec::new()));
    bystander.end();
}

fn a_launch_that_the_restart_cut_off_is_cleared_and_its_name_is_free(bed: &Bed) {
    bed.start(&["--name", "worker"], &["sleep", "600000"]);
    cut_power(bed, "worker");
    let directory = bed.run_root().join("containers/worker");
    fs::remove_file(directory.join("record.json")).unwrap();
    let bystander = Bystander::start(bed, "worker");
    let inode = fs::metadata(&bystander.cgroup).unwrap().ino();
    let notes = fs::read_to_string(directory.join("claim")).unwrap();
    fs::write(directory.join("claim"), format!("{notes}{{\"cgroup_inode\":{inode}}}\n")).unwrap();
    assert_eq!(containers(bed)[0]["phase"], "launching");
    after_restart(bed, bed.squall(&["reap"])).ok();
    assert_eq!(containers(bed), Value::Array(Vec::new()));
    bystander.end();
    let again = after_restart(bed, bed.run(&["--name", "worker", "--rm"], &["exit", "7"])).output();
    assert_eq!(again.code(), 7, "{again}");
}
