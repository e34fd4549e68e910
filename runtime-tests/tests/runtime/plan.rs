//! Dry run of a launch: true, for anybody, and without touching anything.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use runtime_tests::{Bed, Call, cases, host};
use serde_json::Value;

use crate::layers::unmount_pins;

cases![
    an_ordinary_user_gets_a_plan_and_nothing_is_touched,
    the_plan_is_what_the_launch_then_does,
    the_plan_says_how_each_layer_will_be_mounted,
    what_run_refuses_plan_refuses_in_the_same_words,
    obstacles_are_named_and_no_error,
    a_person_gets_every_part,
];

/// A caller that owns nothing.
const NOBODY: [&str; 6] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

/// `squall plan` of the probe.
fn plan(bed: &Bed, flags: &[&str]) -> Call {
    let layer = bed.probe().to_owned();
    let parent = bed.cgroup();
    bed.squall(&["plan", "--cgroup-parent", &parent, "--layer", &layer]).args(flags).args([
        "--",
        "/bin/probe",
        "report",
    ])
}

/// Everything that a launch leaves traces of.
fn traces(bed: &Bed) -> (String, Vec<std::path::PathBuf>, Vec<String>, bool) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut bound: Vec<String> = devices
        .filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok())
        .filter(|file| file.contains(bed.tag()))
        .collect();
    bound.sort();
    // Other tests mount at the same time: only what has to do with this one counts.
    let mounts = mounts.lines().filter(|line| line.contains(bed.tag())).collect::<Vec<_>>().join("\n");
    (mounts, host::cgroup_directories(&bed.cgroup()), bound, bed.run_root().exists())
}

fn an_ordinary_user_gets_a_plan_and_nothing_is_touched(bed: &Bed) {
    bed.probe();
    // The program where the user may execute it.
    let before = traces(bed);
    let flags = ["--json", "--name", "a", "-m", "64m", "--cpus", "0.5", "--pids-limit", "9", "-u", "1000:1000"];
    let plan = plan(bed, &flags).under(&NOBODY).json();
    assert_eq!(traces(bed), before);
    assert_eq!(before, (String::new(), vec![], vec![], false), "the run root must not exist");
    assert_eq!(plan["user"]["uid"], 1000);
    assert_eq!(plan["document"]["process"]["args"], serde_json::json!(["/bin/probe", "report"]));
    let obstacles = plan["obstacles"].to_string();
    assert!(obstacles.contains("CAP_SYS_ADMIN"), "{obstacles}");
    assert_eq!(plan["layers"][0]["way"], "attached");
}

/// The mounts, the cgroup values and the layers' ways, compared with what there is.
fn the_plan_is_what_the_launch_then_does(bed: &Bed) {
    let flags = ["--name", "w", "-m", "64m", "--memory-swap", "64m", "--cpus", "0.5", "--pids-limit", "9"];
    let plan = plan(bed, &[&["--json"], flags.as_slice()].concat()).json();
    assert_eq!(plan["obstacles"], serde_json::json!([]), "{plan}");
    let worker = bed.start(&flags, &["sleep", "600000"]);
    let acts = plan["cgroups"]["acts"].as_array().unwrap();
    let of = |kind: &'static str| acts.iter().filter(move |act| act["act"] == kind);
    assert!(of("make").count() > 0 && of("write").count() > 0);
    for act in of("make") {
        assert!(Path::new(act["directory"].as_str().unwrap()).is_dir(), "{act}");
    }
    for act in of("write") {
        let (file, value) = (act["file"].as_str().unwrap(), act["value"].as_str().unwrap());
        let right = match fs::read_to_string(file) {
            Ok(shown) if file.contains("subtree_control") => shown.contains(value.trim_start_matches('+')),
            Ok(shown) => shown.trim_end() == value,
            // Can only be written.
            Err(_) => file.ends_with("devices.allow") || file.ends_with("devices.deny"),
        };
        assert!(right, "{act}");
    }
    let pid = worker.pid();
    for act in of("join") {
        assert_eq!(fs::read_to_string(act["file"].as_str().unwrap()).unwrap().trim_end(), pid.to_string(), "{act}");
    }
    let mountinfo = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let mounted: Vec<&str> = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    for mount in plan["mounts"].as_array().unwrap().iter().filter(|mount| mount["what"] != "link") {
        let destination = mount["destination"].as_str().unwrap();
        assert!(mounted.contains(&destination), "{destination} is planned and not mounted: {mountinfo}");
    }
    let inspected = worker.inspect();
    assert_eq!(plan["adjustments"], inspected["adjustments"]);
    assert_eq!(plan["layers"][0]["way"], inspected["layers"][0]["source"], "{inspected}");
    worker.kill();
}

fn the_plan_says_how_each_layer_will_be_mounted(bed: &Bed) {
    let way = || plan(bed, &["--json"]).json()["layers"][0]["way"].clone();
    assert_eq!(way(), "attached");
    let worker = bed.start(&["--name", "w"], &["sleep", "600000"]);
    assert_eq!(way(), "pin");
    unmount_pins(bed);
    assert_eq!(way(), "loop-device");
    // The run root is root's alone: others cannot know, and are told so.
    let unprivileged = plan(bed, &["--json"]).under(&NOBODY).json();
    assert_eq!(unprivileged["layers"][0]["way"], Value::Null, "{unprivileged}");
    worker.kill();
}

fn what_run_refuses_plan_refuses_in_the_same_words(bed: &Bed) {
    let layer = bed.probe().to_owned();
    let link = bed.file("nowhere");
    symlink("/no/such/file", &link).unwrap();
    let table: [&[&str]; 6] = [
        &["--memory", "much", "--cpus", "0"],
        &["--layer", &link],
        &["--layer", "/dev/null"],
        &["--name", "a/b"],
        &["--volume", "relative:/x"],
        &["--volume", "/tmp:/dev"],
    ];
    for flags in table {
        let call = |command: &str| {
            let flags = [&["--layer", layer.as_str()], flags].concat();
            bed.squall(&[command]).args(flags).args(["--", "/bin/probe"]).output()
        };
        let (run, plan) = (call("run"), call("plan"));
        assert_eq!((plan.code(), run.code()), (125, 125), "{plan}");
        assert_eq!(plan.stderr, run.stderr, "{flags:?}");
    }
    assert!(!bed.run_root().exists());
}

fn obstacles_are_named_and_no_error(bed: &Bed) {
    let pid_file = bed.file("pid");
    std::os::unix::fs::symlink("nowhere", &pid_file).unwrap();
    let worker = bed.start(&["--name", "w"], &["sleep", "600000"]);
    let flags = ["--json", "--name", "w", "--pidfile", &pid_file, "--volume", "/no/such/source:/mnt"];
    let obstacles = plan(bed, &flags).json()["obstacles"].to_string();
    for expected in ["container 'w' already", &pid_file, "/no/such/source", "holds processes"] {
        assert!(obstacles.contains(expected), "{expected}: {obstacles}");
    }
    worker.kill();
}

fn a_person_gets_every_part(bed: &Bed) {
    let flags = ["--volume", "/etc:/mnt:ro", "-m", "64m", "--security-opt", "apparmor=squall-test"];
    let page = plan(bed, &flags).under(&NOBODY).ok().text();
    for part in [
        "user        uid 65534",
        "namespaces",
        "layers, base first",
        "lowerdir=0",
        "rbind of /etc",
        "seccomp filter\n  allow (",
        "by arguments: socket",
        "security module\n  AppArmor squall-test: write  /proc/self/attr/apparmor/exec  exec squall-test",
        "kernel features",
        "forced fallbacks",
        "memory",
        "obstacles",
        "\"ociVersion\"",
    ] {
        assert!(page.contains(part), "{part} is missing in:\n{page}");
    }
}
