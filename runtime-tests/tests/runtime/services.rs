//! Squall below a service manager: what a service launches outlives its restart.

use std::fs;
use std::path::Path;
use std::process::Command;

use runtime_tests::{Bed, cases, host, needs, until};

cases![
    a_service_that_is_restarted_or_stopped_leaves_its_workers_and_their_monitors,
    apparmor_is_on_and_confines_no_worker,
];

/// A transient service of systemd.
struct Service(String);

impl Service {
    /// Its main process launches a worker, named after its own pid, and stays.
    fn start(bed: &Bed) -> Service {
        let unit = format!("squall-test-{}.service", bed.tag());
        let launch = bed.run(&["--detach", "--name", "PLACE"], &["exit-on-signal", "600000"]).into_command();
        let words: Vec<String> = launch.get_args().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let words = words.join(" ").replace("'PLACE'", "w$$");
        // A file, because systemd expands what stands in a command line.
        let script = bed.file("service.sh");
        let text = format!("'{}' {words} >/dev/null && exec sleep infinity\n", bed.program().display());
        fs::write(&script, text).unwrap();
        // As a supervisor's unit has it, the whole of its cgroup is killed when it ends.
        let properties = ["-p", "KillMode=control-group", "-p", "TimeoutStopSec=5", "-p", "Type=exec"];
        systemd("systemd-run", &[&["--quiet", "--unit", &unit], &properties[..], &["sh", &script]].concat());
        Service(unit)
    }

    fn control(&self, verb: &str) {
        systemd("systemctl", &[verb, &self.0]);
    }
}

fn systemd(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn a_service_that_is_restarted_or_stopped_leaves_its_workers_and_their_monitors(bed: &Bed) {
    if !needs::has("systemd", Path::new("/run/systemd/system").exists()) {
        return;
    }
    bed.probe();
    let running = |count: usize| {
        until("its worker runs", || {
            let listed = bed.squall(&["ps", "--json"]).json();
            let listed = listed.as_array().unwrap().clone();
            let all = listed.len() == count && listed.iter().all(|container| container["phase"] == "running");
            all.then(|| listed.iter().map(|container| container["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
        })
    };
    let service = Service::start(bed);
    running(1);
    service.control("restart");
    let ids = running(2);
    service.control("stop");
    for id in running(2) {
        let worker = bed.worker(&id);
        assert!(ids.contains(&id) && worker.inspect()["watched"] == true, "{id}");
        let pid = worker.pid();
        until("it takes signals", || (host::status(pid, "SigCgt").as_str() > "0000000000000440").then_some(()));
        bed.squall(&["kill", "--signal", "TERM", &id]).ok();
        assert_eq!(worker.wait(), 15, "its end is known");
        bed.squall(&["rm", &id]).ok();
    }
    // The service's launches left their pins in the service manager's mount namespace, which is not ours.
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
