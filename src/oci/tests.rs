use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::cgroup::{DeviceRules, Limits, SwapLimit};
use crate::error::ErrorKind;
use crate::request::{AppArmor, Builder, Identity, Seccomp, Selinux, SelinuxLabel};

fn minimal() -> Builder {
    let user = Identity::new(1000, 1001, [27, 1001]).unwrap();
    LaunchSpec::builder("c1").layers(["/l.sqsh"]).args(["/probe", "report"]).user(user).cgroup("/squall/c1")
}

fn json_of(builder: Builder) -> Value {
    let document = document(&builder.build().unwrap(), Path::new("/bundle/root")).unwrap();
    serde_json::to_value(document).unwrap()
}

fn destinations(document: &Value) -> Vec<&str> {
    document["mounts"].as_array().unwrap().iter().map(|mount| mount["destination"].as_str().unwrap()).collect()
}

fn options<'a>(document: &'a Value, destination: &str) -> Vec<&'a str> {
    let mounts = document["mounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["destination"] == destination).unwrap();
    mount["options"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

#[test]
fn the_process_has_nothing_but_what_was_asked_for() {
    let document = json_of(minimal().env(["B=2", "A=1"]).cwd("/work").hostname("node"));
    let process = &document["process"];
    assert_eq!(process["user"], json!({ "uid": 1000, "gid": 1001, "umask": 0o022, "additionalGids": [1001, 27] }));
    assert_eq!(process["args"], json!(["/probe", "report"]));
    assert_eq!(process["env"], json!(["B=2", "A=1"]));
    assert_eq!(process["cwd"], "/work");
    assert_eq!(process["noNewPrivileges"], true);
    assert_eq!(process["oomScoreAdj"], 0);
    for set in ["bounding", "effective", "inheritable", "permitted", "ambient"] {
        assert_eq!(process["capabilities"][set], json!([]), "{set}: an absent set drops nothing");
    }
    assert_eq!(document["hostname"], "node");
    assert_eq!(json_of(minimal())["hostname"], Value::Null);
}

#[test]
fn every_namespace_is_a_new_one_and_the_network_is_the_one_asked_for() {
    let kinds = |network| {
        let document = json_of(minimal().network(network));
        let namespaces = document["linux"]["namespaces"].as_array().unwrap().clone();
        assert!(namespaces.iter().all(|namespace| namespace.get("path").is_none()));
        namespaces.iter().map(|namespace| namespace["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(Network::Host), ["pid", "mount", "ipc", "uts", "cgroup"]);
    assert_eq!(kinds(Network::None), ["pid", "mount", "ipc", "uts", "cgroup", "network"]);
}

#[test]
fn the_root_is_read_only_where_asked_and_only_then_has_scratch_directories() {
    let standard = ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"];
    let read_only = json_of(minimal());
    assert_eq!(read_only["root"], json!({ "path": "/bundle/root", "readonly": true }));
    assert_eq!(destinations(&read_only)[..7], standard);
    assert_eq!(destinations(&read_only)[7..], ["/run", "/tmp", "/var/tmp"]);
    let writable = json_of(minimal().root(RootMode::Writable { size_bytes: None }));
    assert_eq!(writable["root"]["readonly"], false);
    assert_eq!(destinations(&writable), standard);
}

#[test]
fn the_callers_mounts_come_last_in_order_and_take_the_place_of_ours() {
    let document = json_of(minimal().tmpfs("/tmp", Some(8192), 0o700).bind("/h", "/tmp/h", &["ro"]).bind(
        "/c",
        "/sys/fs/cgroup",
        &[],
    ));
    assert_eq!(destinations(&document)[6..], ["/run", "/var/tmp", "/tmp", "/tmp/h", "/sys/fs/cgroup"]);
    assert_eq!(options(&document, "/tmp"), ["nosuid", "nodev", "mode=700", "size=8k", "nr_inodes=16"]);
}

#[test]
fn standard_mounts_have_the_options_of_the_fast_way() {
    let document = json_of(minimal());
    for (destination, expected) in [
        ("/proc", "nosuid nodev noexec"),
        ("/dev", "nosuid strictatime mode=755 size=65536k nr_inodes=65536"),
        ("/dev/pts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5 max=256"),
        ("/dev/shm", "nosuid nodev noexec mode=1777 size=65536k nr_inodes=65536"),
        ("/sys", "ro nosuid nodev noexec"),
        ("/sys/fs/cgroup", "ro nosuid nodev noexec"),
        ("/tmp", "nosuid nodev mode=1777 size=65536k nr_inodes=65536"),
    ] {
        assert_eq!(options(&document, destination), expected.split(' ').collect::<Vec<_>>(), "{destination}");
    }
}

#[test]
fn binds_say_what_the_fast_way_does_below_them_too() {
    for (asked, expected) in [
        ("", "rbind rprivate nosuid rnosuid nodev rnodev"),
        ("ro", "rbind rprivate ro rro nosuid rnosuid nodev rnodev"),
        ("ro bind slave", "bind slave ro nosuid nodev"),
        ("rro rslave", "rbind rslave ro rro nosuid rnosuid nodev rnodev"),
        ("dev suid noexec", "rbind rprivate suid rsuid dev rdev noexec rnoexec"),
        ("bind noatime nodiratime", "bind rprivate nosuid nodev nodiratime noatime"),
    ] {
        let words: Vec<&str> = asked.split_whitespace().collect();
        let document = json_of(minimal().bind("/h", "/m", &words));
        assert_eq!(options(&document, "/m").join(" "), expected, "{asked}");
    }
}

#[test]
fn limits_and_device_rules_become_resources() {
    let limits = Limits {
        cpu_quota_us: Some(50_000),
        cpu_period_us: Some(100_000),
        cpu_shares: Some(512),
        cpuset_cpus: Some("0,1".parse().unwrap()),
        cpuset_mems: Some("0".parse().unwrap()),
        memory_bytes: Some(64 << 20),
        memory_swap_bytes: Some(SwapLimit::Unlimited),
        memory_reservation_bytes: Some(32 << 20),
        memory_oom_group: false,
        pids: Some(10),
        blkio_weight: Some(100),
        devices: DeviceRules::Standard { allow: vec!["b 7:* r".parse().unwrap()] },
    };
    let resources = json_of(minimal().limits(limits))["linux"]["resources"].take();
    assert_eq!(
        resources["cpu"],
        json!({ "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0-1", "mems": "0" })
    );
    assert_eq!(resources["memory"], json!({ "limit": 64 << 20, "reservation": 32 << 20, "swap": -1 }));
    assert_eq!(resources["pids"], json!({ "limit": 10 }));
    assert_eq!(resources["blockIO"], json!({ "weight": 100 }));
    let devices = resources["devices"].as_array().unwrap();
    assert_eq!(devices[0], json!({ "allow": false, "type": "a", "access": "rwm" }), "first everything is denied");
    assert_eq!(devices[1], json!({ "allow": true, "type": "c", "access": "m" }));
    assert_eq!(devices[3], json!({ "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" }));
    assert_eq!(devices.last().unwrap(), &json!({ "allow": true, "type": "b", "major": 7, "access": "r" }));
}

#[test]
fn what_is_not_limited_is_absent() {
    let linux = json_of(minimal().limits(Limits::none()).seccomp(Seccomp::Unconfined))["linux"].take();
    assert_eq!(linux["resources"], json!({}));
    assert_eq!(linux["cgroupsPath"], "/squall/c1");
    assert_eq!(linux.get("seccomp"), None);
}

#[test]
fn what_confines_the_worker_is_in_the_complete_document_and_not_in_inits() {
    let profile = minimal().apparmor(AppArmor::new("worker").unwrap());
    let label = minimal().selinux(Selinux::Label(SelinuxLabel::new("u:r:t").unwrap()));
    for (builder, key, name) in [(profile, "apparmorProfile", "worker"), (label, "selinuxLabel", "u:r:t")] {
        assert_eq!(json_of(builder.clone())["process"][key], name);
        let init = serde_json::to_value(init_document(&builder.build().unwrap()).unwrap()).unwrap();
        assert_eq!(init["process"][key], Value::Null, "libcontainer would apply it too early");
    }
    let plain = json_of(minimal());
    assert_eq!((&plain["process"]["apparmorProfile"], &plain["process"]["selinuxLabel"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_seccomp_profile_is_part_of_the_document_and_the_default_one_is_too() {
    let profile =
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["mount"], "action": "SCMP_ACT_ERRNO" }] });
    let seccomp = json_of(minimal().seccomp(Seccomp::Profile(profile.into())))["linux"]["seccomp"].take();
    assert_eq!(seccomp["defaultAction"], "SCMP_ACT_ALLOW");
    assert_eq!(seccomp["syscalls"][0]["names"], json!(["mount"]));
    let seccomp = json_of(minimal())["linux"]["seccomp"].take();
    assert_eq!(seccomp["defaultAction"], "SCMP_ACT_ERRNO");
    let odd = minimal().seccomp(Seccomp::Profile(json!({ "defaultAction": "SCMP_ACT_MAYBE" }).into()));
    let error = odd.build().unwrap_err();
    assert_eq!((error.kind(), error.problems()[0].field.as_str()), (ErrorKind::Invalid, "seccomp.defaultAction"));
}

#[test]
fn the_inits_document_agrees_with_the_complete_one_on_all_that_it_holds() {
    let spec = minimal().hostname("node").build().unwrap();
    let init = serde_json::to_value(init_document(&spec).unwrap()).unwrap();
    let complete = serde_json::to_value(document(&spec, Path::new(ROOT)).unwrap()).unwrap();
    for field in ["root", "hostname", "ociVersion"] {
        assert_eq!(init[field], complete[field], "{field}");
    }
    for field in ["args", "capabilities", "noNewPrivileges"] {
        assert_eq!(init["process"][field], complete["process"][field], "{field}");
    }
    for field in ["uid", "gid", "umask"] {
        assert_eq!(init["process"]["user"][field], complete["process"]["user"][field], "{field}");
    }
}

#[test]
fn the_inits_document_has_nothing_of_what_is_done_before() {
    let init = serde_json::to_value(init_document(&minimal().build().unwrap()).unwrap()).unwrap();
    assert_eq!(init["mounts"], json!([]));
    for field in ["maskedPaths", "readonlyPaths"] {
        assert_eq!(init["linux"][field], json!([]), "{field}");
    }
    assert_eq!(init["process"]["user"]["additionalGids"], json!([]));
    assert_eq!(init["process"]["cwd"], "", "libcontainer enters none");
    assert_eq!(init["linux"]["namespaces"], json!([{ "type": "uts" }]));
}

#[test]
fn the_complete_document_masks_and_protects() {
    let linux = json_of(minimal())["linux"].take();
    let masked = linux["maskedPaths"].as_array().unwrap();
    assert!(MASKED_PATHS.iter().all(|path| masked.contains(&json!(path))), "{masked:?}");
    assert_eq!(linux["readonlyPaths"], json!(READ_ONLY_PATHS));
    assert_eq!(linux["rootfsPropagation"], "slave");
}

#[test]
fn the_heat_of_every_processor_that_shows_it_is_masked() {
    let cpus = tempfile::tempdir().unwrap();
    for name in ["cpu0/thermal_throttle", "cpu1/thermal_throttle", "cpu2", "cpufreq"] {
        std::fs::create_dir_all(cpus.path().join(name)).unwrap();
    }
    let expected = ["cpu0", "cpu1"].map(|cpu| cpus.path().join(cpu).join("thermal_throttle").display().to_string());
    assert_eq!(super::thermal_throttles(cpus.path()), expected);
}
