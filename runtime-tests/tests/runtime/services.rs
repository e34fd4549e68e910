//! Squall below a service manager: what a service launches outlives its restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime_tests::{Bed, cases, host, needs, until};

use crate::scopes::has_scopes;

cases![
    a_service_that_is_restarted_or_stopped_leaves_its_workers_and_their_monitors,
    so_does_one_that_says_nothing_of_cgroups,
    workers_below_a_delegated_service_end_with_it_and_are_known_to_have_been_stopped,
    apparmor_is_on_and_confines_no_worker,
];

/// The example of a supervisor's unit.
const EXAMPLE: &str = include_str!("../../../vagrant/supervisor.service");

/// A service of the example's unit, but for its program.
struct Service {
    unit: String,
    file: PathBuf,
}

impl Service {
    /// `script` has its cgroup in `$group`, launches something, and the main process stays.
    fn start(bed: &Bed, unit_text: &str, script: &str) -> Service {
        let unit = format!("squall-test-{}.service", bed.tag());
        // A file, because systemd expands what stands in a command line.
        let path = bed.file("service.sh");
        fs::write(&path, format!("set -e\ngroup=/system.slice/{unit}\n{script}exec sleep infinity\n")).unwrap();
        let file = Path::new("/run/systemd/system").join(&unit);
        let program = "ExecStart=/usr/local/bin/my-supervisor\n";
        assert!(unit_text.contains(program));
        fs::write(&file, unit_text.replace(program, &format!("ExecStart=/bin/sh {path}\n"))).unwrap();
        let service = Service { unit, file };
        systemd("systemd-analyze", &["verify", service.file.to_str().unwrap()]);
        systemd("systemctl", &["daemon-reload"]);
        service.control("start");
        service
    }

    fn control(&self, verb: &str) {
        systemd("systemctl", &[verb, &self.unit]);
    }

    fn group(&self) -> PathBuf {
        Path::new("/sys/fs/cgroup/system.slice").join(&self.unit)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = Command::new("systemctl").args(["stop", &self.unit]).output();
        let _ = fs::remove_file(&self.file);
        let _ = Command::new("systemctl").arg("daemon-reload").output();
    }
}

fn systemd(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether this machine has systemd.
fn has_systemd() -> bool {
    needs::has("systemd", Path::new("/run/systemd/system").exists())
}

/// A line of a shell: launches a worker that is named after the shell's own pid, so that every
/// start has one of its own.
fn launches(bed: &Bed, flags: &str) -> String {
    let (program, run_root) = (bed.program().display(), bed.run_root());
    let run = format!("run --detach --name w$$ --layer '{}' {flags}", bed.probe());
    format!("'{program}' --root '{}' {run} -- /bin/probe exit-on-signal 600000 >/dev/null\n", run_root.display())
}

/// Until so many workers run, which are then named, and take signals.
fn running(bed: &Bed, count: usize) -> Vec<String> {
    let ids = until("its workers run", || {
        let listed = bed.squall(&["ps", "--json"]).json();
        let listed = listed.as_array().unwrap().clone();
        let all = listed.len() == count && listed.iter().all(|container| container["phase"] == "running");
        all.then(|| listed.iter().map(|container| container["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
    });
    for id in &ids {
        let pid = bed.worker(id).pid();
        until("it takes signals", || host::catches(pid, libc::SIGTERM).then_some(()));
    }
    ids
}

/// Restarts and stops a service, whose workers are to be there after each.
fn outlives(bed: &Bed, flags: &str) {
    let service = Service::start(bed, EXAMPLE, &launches(bed, flags));
    running(bed, 1);
    service.control("restart");
    let ids = running(bed, 2);
    service.control("stop");
    for id in running(bed, 2) {
        let worker = bed.worker(&id);
        assert!(ids.contains(&id) && worker.inspect()["watched"] == true, "{id}");
        bed.squall(&["kill", "--signal", "TERM", &id]).ok();
        assert_eq!(worker.wait(), 15, "its end is known");
        bed.squall(&["rm", &id]).ok();
    }
    // The service's launches left their pins in the service manager's mount namespace, which is not
    // ours.
    bed.squall(&["reap"]).under(&["nsenter", "--target", "1", "--mount"]).ok();
}

fn a_service_that_is_restarted_or_stopped_leaves_its_workers_and_their_monitors(bed: &Bed) {
    if has_systemd() {
        outlives(bed, &format!("--cgroup-parent {0} --monitor-cgroup {0}/monitors", bed.cgroup()));
    }
}

/// Its workers are in scopes, which it did not ask for.
fn so_does_one_that_says_nothing_of_cgroups(bed: &Bed) {
    if has_scopes() {
        outlives(bed, "");
    }
}

fn workers_below_a_delegated_service_end_with_it_and_are_known_to_have_been_stopped(bed: &Bed) {
    // On a hybrid host systemd delegates one hierarchy out of many.
    if !has_scopes() {
        return;
    }
    let (alone, in_script) = (
        "#Delegate=yes\n",
        "mkdir /sys/fs/cgroup$group/supervisor; echo 0 >/sys/fs/cgroup$group/supervisor/cgroup.procs\n",
    );
    assert!(EXAMPLE.contains(alone));
    let unit = EXAMPLE.replace(alone, "Delegate=yes\n");
    let launch = launches(bed, "--cgroup-parent $group/workers --monitor-cgroup $group/monitors -m 64m");
    let service = Service::start(bed, &unit, &format!("{in_script}{launch}"));
    let first = running(bed, 1).remove(0);
    let cgroup = service.group().join("workers").join(&first);
    assert_eq!(fs::read_to_string(cgroup.join("memory.max")).unwrap().trim_end(), (64 << 20).to_string());
    assert!(fs::read_to_string(service.group().join("supervisor/cgroup.procs")).is_ok_and(|pids| !pids.is_empty()));
    let stopped = |id: &str| {
        let worker = bed.worker(id);
        worker.wait();
        let exit = worker.inspect()["exit"].clone();
        // systemd's own signal may have been the faster one.
        assert!(exit["exit"]["code"] == 15 && (exit["reason"] == "stopped" || exit["reason"] == "exited"), "{exit}");
        bed.squall(&["rm", id]).ok();
    };
    service.control("restart");
    stopped(&first);
    let second = running(bed, 1).remove(0);
    service.control("stop");
    stopped(&second);
    bed.squall(&["reap"]).under(&["nsenter", "--target", "1", "--mount"]).ok();
}

/// As Debian ships it: its profiles are for programs of the host, and no launch meets one.
fn apparmor_is_on_and_confines_no_worker(bed: &Bed) {
    let enabled = || fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|flag| flag.trim() == "Y");
    if !needs::has("apparmor", enabled()) {
        return;
    }
    let worker = bed.start(&[], &["sleep", "600000"]);
    let profile = fs::read_to_string(format!("/proc/{}/attr/current", worker.pid())).unwrap();
    assert_eq!(profile.trim_end(), "unconfined");
    let doctor = bed.squall(&["doctor", "--json"]).output();
    let findings = doctor.json();
    let said =
        findings["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == "AppArmor").unwrap().clone();
    assert_eq!(said["state"], "ok", "{said}");
    worker.kill();
}
