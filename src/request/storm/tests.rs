//! Good and bad documents: every row of Storm's schema, in both ways.

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use super::*;
use crate::cgroup::SwapLimit;
use crate::request::{Access, AppArmor, BindOptions, Mount, Network, RootMode, Selinux, SelinuxLabel, Variable};

const ID: &str = "6700-0b1d2c3e-4f50-6172-8394-a5b6c7d8e9f0";
const PROCESS: &str = "ociRuntimeConfig.process";
const LINUX: &str = "ociRuntimeConfig.linux";

/// The shape that Storm's Java writes.
fn document() -> Value {
    json!({
        "version": "0.1", "username": "root", "containerId": ID, "pidFile": "/L/workers/ID/artifacts/container-ID.pid",
        "containerScriptPath": "/L/workers/ID/storm-worker-script.sh", "reapLayerKeepCount": 100,
        "layers": [
            {"mediaType": "application/vnd.squashfs", "path": "/L/supervisor/oci-resources/layers/BASE.sqsh"},
            {"mediaType": "application/vnd.squashfs", "path": "/L//supervisor/oci-resources/layers/TOP.sqsh"}],
        "ociRuntimeConfig": {
            "mounts": [
                {"destination": "/etc/hosts", "type": "bind", "source": "/etc/hosts", "options": ["ro", "rbind", "rprivate"]},
                {"destination": "/tmp", "type": "bind", "source": "/L/workers/ID/tmp", "options": ["rw", "rbind", "rprivate"]}],
            "process": {"cwd": "/L/workers/ID", "env": ["PATH=/usr/bin:/bin", "A=1", "A=2"], "args": ["bash", "/L/script.sh"]},
            "linux": {
                "cgroupsPath": "/storm//6700-ID",
                "resources": {"memory": {"limit": 1073741824}, "cpu": {"quota": 100000, "period": 100000}}}}})
}

/// The document with the value at a JSON pointer set, or taken away.
fn with(pointer: &str, value: Option<Value>) -> Value {
    let mut document = document();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match (document.pointer_mut(parent).unwrap(), value) {
        (Value::Object(members), Some(value)) => drop(members.insert(key.into(), value)),
        (Value::Object(members), None) => drop(members.remove(key).unwrap()),
        (Value::Array(elements), Some(value)) => elements[key.parse::<usize>().unwrap()] = value,
        (other, _) => panic!("{other}"),
    }
    document
}

fn parsed(document: &Value) -> Result<StormCommand> {
    parse(document.to_string().as_bytes())
}

fn spec(document: &Value) -> LaunchSpec {
    parsed(document).unwrap().launch_spec(Identity::new(1000, 1000, []).unwrap()).unwrap()
}

/// Problems as `field: reason`, without line and column.
fn problems(document: &Value) -> Vec<String> {
    match parsed(document) {
        Ok(_) => panic!("accepted: {document}"),
        Err(error) => {
            assert_eq!((error.kind(), error.stage()), (ErrorKind::Invalid, Stage::Request));
            let without_position = |line: String| line.split(", at line 1 column ").next().unwrap().to_owned();
            error.problems().iter().map(ToString::to_string).map(without_position).collect()
        }
    }
}

#[test]
fn a_problem_has_its_line_and_column() {
    let text = serde_json::to_string_pretty(&with("/layers", Some(json!([1])))).unwrap();
    let error = parse(format!("\u{feff}{text}").as_bytes()).unwrap_err();
    let line = text.lines().position(|line| line == "    1").unwrap() + 1;
    let expected = format!("layers[0]: expected an object, found a number, at line {line} column 5");
    assert_eq!(error.problems()[0].to_string(), expected);
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    assert_eq!(parse(format!("\u{feff}{}", document()).as_bytes()).unwrap().username(), "root");
}

#[test]
fn what_java_writes_becomes_the_launch_spec() {
    let command = parsed(&document()).unwrap();
    assert_eq!(command.username(), "root");
    assert_eq!(command.container_script_path().as_str(), "/L/workers/ID/storm-worker-script.sh");
    assert_eq!(command.pid_file().as_str(), "/L/workers/ID/artifacts/container-ID.pid");
    assert_eq!(command.warnings(), [""; 0]);
    assert_eq!(command.resolve_user().unwrap().uid(), 0);
    let user = Identity::new(1000, 27, [4]).unwrap();
    let spec = command.launch_spec(user.clone()).unwrap();
    assert_eq!((spec.id.as_str(), &spec.user, spec.keep_layers), (ID, &user, Some(100)));
    assert_eq!(spec.layers[1].as_str(), "/L/supervisor/oci-resources/layers/TOP.sqsh");
    assert_eq!(spec.args, ["bash", "/L/script.sh"]);
    assert_eq!(spec.env.variables().iter().map(Variable::as_str).collect::<Vec<_>>(), ["PATH=/usr/bin:/bin", "A=2"]);
    assert_eq!(spec.cwd.as_str(), "/L/workers/ID");
    assert_eq!(spec.pid_file.as_ref(), Some(command.pid_file()));
    assert_eq!((spec.network, &spec.root, &spec.hostname), (Network::Host, &RootMode::ReadOnly, &None));
    assert_eq!(String::from(spec.cgroup.clone()), "/storm/6700-ID");
    assert_eq!((spec.limits.memory_bytes, spec.limits.cpu_quota_us), (Some(1 << 30), Some(100_000)));
    let Mount::Bind(hosts) = &spec.mounts[0] else { panic!("not a bind") };
    assert_eq!(hosts.options, BindOptions { access: Access::ReadOnly, ..BindOptions::default() });
    assert_eq!(spec.mounts[1].destination().as_str(), "/tmp");
    assert_eq!(LaunchSpec::from_json(&spec.to_json()).unwrap(), spec);
}

#[test]
fn what_may_be_absent_or_different_is_accepted() {
    let rooted = "/ociRuntimeConfig";
    let table = [
        ("/version".into(), None),
        ("/version".into(), Some(json!(7))),
        ("/unknown".into(), Some(json!({"anything": [1, null]}))),
        ("/reapLayerKeepCount".into(), None),
        ("/containerId".into(), Some(json!("0".repeat(36)))),
        ("/containerId".into(), Some(json!("aBcDeF-".repeat(6)))),
        ("/layers/0/other".into(), Some(json!(1))),
        (format!("{rooted}/mounts"), None),
        (format!("{rooted}/mounts"), Some(json!([]))),
        (format!("{rooted}/linux/resources"), None),
        (format!("{rooted}/linux/resources"), Some(json!({}))),
        (format!("{rooted}/linux/resources/blockIO"), Some(json!({}))),
        (format!("{rooted}/linux/seccomp"), Some(json!({"defaultAction": "SCMP_ACT_ALLOW"}))),
        (format!("{rooted}/linux/seccomp"), Some(json!(null))),
        (format!("{rooted}/process/env"), Some(json!([]))),
        (format!("{rooted}/mounts/0/options"), Some(json!(["rprivate", "rbind", "nosuid", "noexec"]))),
    ];
    for (pointer, value) in table {
        let document = with(&pointer, value);
        let command = parsed(&document).unwrap_or_else(|error| panic!("{pointer}: {error}"));
        assert_eq!(command.warnings(), [""; 0], "{pointer}");
    }
}

#[test]
fn a_wrong_type_anywhere_is_named_with_what_was_found() {
    let table = [
        ("/username", "username", "a string"),
        ("/containerId", "containerId", "a string"),
        ("/pidFile", "pidFile", "a string"),
        ("/containerScriptPath", "containerScriptPath", "a string"),
        ("/layers", "layers", "an array"),
        ("/layers/0", "layers[0]", "an object"),
        ("/layers/1/mediaType", "layers[1].mediaType", "a string"),
        ("/layers/1/path", "layers[1].path", "a string"),
        ("/reapLayerKeepCount", "reapLayerKeepCount", "a number"),
        ("/ociRuntimeConfig", "ociRuntimeConfig", "an object"),
        ("/ociRuntimeConfig/hostname", "ociRuntimeConfig.hostname", "a string"),
        ("/ociRuntimeConfig/mounts", "ociRuntimeConfig.mounts", "an array"),
        ("/ociRuntimeConfig/mounts/1", "ociRuntimeConfig.mounts[1]", "an object"),
        ("/ociRuntimeConfig/mounts/1/type", "ociRuntimeConfig.mounts[1].type", "a string"),
        ("/ociRuntimeConfig/mounts/1/source", "ociRuntimeConfig.mounts[1].source", "a string"),
        ("/ociRuntimeConfig/mounts/1/destination", "ociRuntimeConfig.mounts[1].destination", "a string"),
        ("/ociRuntimeConfig/mounts/1/options", "ociRuntimeConfig.mounts[1].options", "an array"),
        ("/ociRuntimeConfig/mounts/1/options/0", "ociRuntimeConfig.mounts[1].options[0]", "a string"),
        ("/ociRuntimeConfig/process", "ociRuntimeConfig.process", "an object"),
        ("/ociRuntimeConfig/process/args", "ociRuntimeConfig.process.args", "an array"),
        ("/ociRuntimeConfig/process/args/1", "ociRuntimeConfig.process.args[1]", "a string"),
        ("/ociRuntimeConfig/process/cwd", "ociRuntimeConfig.process.cwd", "a string"),
        ("/ociRuntimeConfig/process/env", "ociRuntimeConfig.process.env", "an array"),
        ("/ociRuntimeConfig/process/env/0", "ociRuntimeConfig.process.env[0]", "a string"),
        ("/ociRuntimeConfig/linux", "ociRuntimeConfig.linux", "an object"),
        ("/ociRuntimeConfig/linux/cgroupsPath", "ociRuntimeConfig.linux.cgroupsPath", "a string"),
        ("/ociRuntimeConfig/linux/resources", "ociRuntimeConfig.linux.resources", "an object"),
        ("/ociRuntimeConfig/linux/resources/cpu", "ociRuntimeConfig.linux.resources.cpu", "an object"),
        ("/ociRuntimeConfig/linux/resources/memory", "ociRuntimeConfig.linux.resources.memory", "an object"),
    ];
    let wrong = [(json!(true), "a boolean"), (json!(null), "null")];
    for (pointer, field, expected) in table {
        for (value, found) in &wrong {
            let expected = format!("{field}: expected {expected}, found {found}");
            assert_eq!(problems(&with(pointer, Some(value.clone()))), [expected], "{pointer}");
        }
    }
    assert_eq!(problems(&with("/username", Some(json!(1)))), ["username: expected a string, found a number"]);
    assert_eq!(problems(&with("/layers", Some(json!({})))), ["layers: expected an array, found an object"]);
    assert_eq!(problems(&json!([])), ["document: expected an object, found an array"]);
}

#[test]
fn everything_that_is_required_is_missed() {
    let table = [
        ("/username", "username"),
        ("/containerId", "containerId"),
        ("/pidFile", "pidFile"),
        ("/containerScriptPath", "containerScriptPath"),
        ("/layers", "layers"),
        ("/layers/0/mediaType", "layers[0].mediaType"),
        ("/layers/0/path", "layers[0].path"),
        ("/ociRuntimeConfig", "ociRuntimeConfig"),
        ("/ociRuntimeConfig/mounts/0/type", "ociRuntimeConfig.mounts[0].type"),
        ("/ociRuntimeConfig/mounts/0/source", "ociRuntimeConfig.mounts[0].source"),
        ("/ociRuntimeConfig/mounts/0/destination", "ociRuntimeConfig.mounts[0].destination"),
        ("/ociRuntimeConfig/mounts/0/options", "ociRuntimeConfig.mounts[0].options"),
        ("/ociRuntimeConfig/process", "ociRuntimeConfig.process"),
        ("/ociRuntimeConfig/process/args", "ociRuntimeConfig.process.args"),
        ("/ociRuntimeConfig/process/cwd", "ociRuntimeConfig.process.cwd"),
        ("/ociRuntimeConfig/process/env", "ociRuntimeConfig.process.env"),
        ("/ociRuntimeConfig/linux", "ociRuntimeConfig.linux"),
        ("/ociRuntimeConfig/linux/cgroupsPath", "ociRuntimeConfig.linux.cgroupsPath"),
    ];
    for (pointer, field) in table {
        assert_eq!(problems(&with(pointer, None)), [format!("{field}: is missing")], "{pointer}");
    }
    assert_eq!(problems(&json!({})).len(), 6);
}

#[test]
fn each_rule_of_a_value_is_kept() {
    let mounts = "/ociRuntimeConfig/mounts/0";
    let table = [
        ("/username".into(), json!(""), "username: '' is not a user name"),
        ("/username".into(), json!("a:b"), "username: 'a:b' is not a user name"),
        ("/username".into(), json!("a\nb"), "username: 'a\\nb' is not a user name"),
        ("/containerId".into(), json!("0".repeat(35)), "containerId: '"),
        ("/containerId".into(), json!("0".repeat(43)), "containerId: '"),
        ("/containerId".into(), json!(format!("-{}", "0".repeat(36))), "containerId: '"),
        ("/containerId".into(), json!("g".repeat(36)), "containerId: '"),
        ("/containerId".into(), json!(format!("../{}", "0".repeat(36))), "containerId: '"),
        ("/pidFile".into(), json!("relative"), "pidFile: 'relative' is not an absolute path"),
        ("/containerScriptPath".into(), json!("/a/../b"), "containerScriptPath: '/a/../b' contains '..'"),
        ("/reapLayerKeepCount".into(), json!(-1), "reapLayerKeepCount: -1 is negative"),
        ("/reapLayerKeepCount".into(), json!(-1e300), "reapLayerKeepCount: -9223372036854775808 is negative"),
        ("/layers".into(), json!([]), "layers: no layer is given"),
        (
            "/layers/1/mediaType".into(),
            json!("application/x"),
            "layers[1].mediaType: expected 'application/vnd.squashfs'",
        ),
        ("/layers/1/path".into(), json!("x.sqsh"), "layers[1].path: 'x.sqsh' is not an absolute path"),
        (format!("{mounts}/type"), json!("tmpfs"), "ociRuntimeConfig.mounts[0].type: expected 'bind', found 'tmpfs'"),
        (format!("{mounts}/flags"), json!(1), "ociRuntimeConfig.mounts[0].flags: is not allowed"),
        (format!("{mounts}/source"), json!("a"), "ociRuntimeConfig.mounts[0].source: 'a' is not an absolute path"),
        (
            format!("{mounts}/destination"),
            json!("/proc/x"),
            "ociRuntimeConfig.mounts[0].destination: '/proc/x' cannot be",
        ),
        (format!("{mounts}/options"), json!(["rbind"]), "ociRuntimeConfig.mounts[0].options: 'rprivate' is missing"),
        (
            format!("{mounts}/options"),
            json!(["rprivate", "bind"]),
            "ociRuntimeConfig.mounts[0].options: 'rbind' is missing",
        ),
        (
            format!("{mounts}/options"),
            json!(["rprivate", "rbind", "sneaky"]),
            "ociRuntimeConfig.mounts[0].options[2]: 'sneaky' is not a mount option",
        ),
        ("/ociRuntimeConfig/process/args".into(), json!([]), "ociRuntimeConfig.process.args: no program is given"),
        (
            "/ociRuntimeConfig/process/args/0".into(),
            json!(""),
            "ociRuntimeConfig.process.args[0]: the program's name is empty",
        ),
        (
            "/ociRuntimeConfig/process/cwd".into(),
            json!("."),
            "ociRuntimeConfig.process.cwd: '.' is not an absolute path",
        ),
        ("/ociRuntimeConfig/process/env/1".into(), json!("A"), "ociRuntimeConfig.process.env[1]: 'A' has no '='"),
        (
            "/ociRuntimeConfig/linux/cgroupsPath".into(),
            json!("/a/../b"),
            "ociRuntimeConfig.linux.cgroupsPath: '/a/../b'",
        ),
        ("/ociRuntimeConfig/linux/cgroupsPath".into(), json!("s:p:n"), "ociRuntimeConfig.linux.cgroupsPath: 's:p:n'"),
        ("/ociRuntimeConfig/linux/cgroupsPath".into(), json!("/"), "ociRuntimeConfig.linux.cgroupsPath: "),
        ("/ociRuntimeConfig/linux/devices".into(), json!([]), "ociRuntimeConfig.linux.devices: is not allowed"),
        ("/ociRuntimeConfig/linux/seccomp".into(), json!("x"), "ociRuntimeConfig.linux.seccomp: is not an object"),
        (
            "/ociRuntimeConfig/linux/resources/devices".into(),
            json!([]),
            "ociRuntimeConfig.linux.resources.devices: is not",
        ),
    ];
    for (pointer, value, expected) in table {
        let problems = problems(&with(&pointer, Some(value.clone())));
        assert_eq!(problems.len(), 1, "{pointer}: {problems:#?}");
        assert!(problems[0].starts_with(expected), "{pointer} {value}: {}", problems[0]);
    }
}

#[test]
fn the_keep_count_is_truncated_and_a_missing_one_is_zero() {
    let table = [
        (None, 0),
        (Some(json!(0)), 0),
        (Some(json!(7)), 7),
        (Some(json!(7.9)), 7),
        (Some(json!(-0.5)), 0),
        (Some(json!(1e2)), 100),
        (Some(json!(u64::MAX)), i32::MAX as u32),
        (Some(json!(1e300)), i32::MAX as u32),
    ];
    for (value, count) in table {
        assert_eq!(spec(&with("/reapLayerKeepCount", value.clone())).keep_layers, Some(count), "{value:?}");
    }
}

#[test]
fn what_is_dropped_leaves_a_warning_and_no_trace() {
    let mut document = document();
    document["ociRuntimeConfig"]["hooks"] = json!({"prestart": [{"path": "/bin/evil"}]});
    document["ociRuntimeConfig"]["root"] = json!({"path": "/"});
    document["ociRuntimeConfig"]["hostname"] = json!("other");
    document["ociRuntimeConfig"]["process"]["capabilities"] = json!({"effective": ["CAP_SYS_ADMIN"]});
    document["ociRuntimeConfig"]["process"]["user"] = json!({"uid": 0});
    let command = parsed(&document).unwrap();
    let expected = [
        "ociRuntimeConfig.hooks: is not used",
        "ociRuntimeConfig.root: is not used",
        "ociRuntimeConfig.hostname: is not used: the container has the host's name",
        "ociRuntimeConfig.process.capabilities: is not used",
        "ociRuntimeConfig.process.user: is not used",
    ];
    assert_eq!(command.warnings(), expected);
    assert_eq!(spec(&document), spec(&self::document()));
}

#[test]
fn resources_mean_what_they_mean_in_oci() {
    let limits = |resources: Value| spec(&with("/ociRuntimeConfig/linux/resources", Some(resources))).limits.clone();
    let none = limits(json!({}));
    assert_eq!(none, Default::default());
    let full = limits(json!({
        "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0-3,7", "mems": "0"},
        "memory": {"limit": 1048576, "reservation": 524288, "swap": 2097152},
        "blockIO": {"weight": 500}}));
    assert_eq!((full.cpu_shares, full.cpu_quota_us, full.cpu_period_us), (Some(512), Some(50_000), Some(100_000)));
    assert_eq!(full.cpuset_cpus.map(String::from).as_deref(), Some("0-3,7"));
    assert_eq!(full.cpuset_mems.map(String::from).as_deref(), Some("0"));
    assert_eq!((full.memory_bytes, full.memory_reservation_bytes), (Some(1 << 20), Some(1 << 19)));
    assert_eq!((full.memory_swap_bytes, full.blkio_weight), (Some(SwapLimit::Total(2 << 20)), Some(500)));
    let nothing = [
        json!({"cpu": {"quota": -1, "shares": 0, "period": 0, "cpus": "", "mems": null}}),
        json!({"cpu": {"quota": 0}, "memory": {"limit": -1, "reservation": 0}}),
        json!({"memory": {"limit": null, "swap": 0, "disableOOMKiller": false}, "blockIO": {"weight": 0, "weightDevice": []}}),
    ];
    for resources in nothing {
        assert_eq!(limits(resources.clone()), none, "{resources}");
    }
    assert_eq!(limits(json!({"memory": {"swap": -1}})).memory_swap_bytes, Some(SwapLimit::Unlimited));
    assert_eq!(limits(json!({"memory": {"limit": 1.0e9}})).memory_bytes, Some(1_000_000_000));
    assert_eq!(limits(json!({"cpu": {"shares": 1}})).cpu_shares, Some(2));
}

#[test]
fn resources_that_are_not_enforced_are_warnings() {
    let resources = json!({
        "cpu": {"realtimeRuntime": 1000, "idle": 1, "shares": 1, "invented": "x", "burst": null},
        "memory": {"kernel": 1, "swappiness": 0, "disableOOMKiller": true, "useHierarchy": false},
        "blockIO": {"weightDevice": [{}], "throttleReadBpsDevice": []}});
    let command = parsed(&with("/ociRuntimeConfig/linux/resources", Some(resources))).unwrap();
    let mut fields: Vec<_> = command.warnings().iter().map(|line| line.split(": ").next().unwrap()).collect();
    fields.sort_unstable();
    let at = |rest: &str| format!("{LINUX}.resources.{rest}");
    let expected = [
        at("blockIO.weightDevice"),
        at("cpu.idle"),
        at("cpu.invented"),
        at("cpu.realtimeRuntime"),
        at("cpu.shares"),
        at("memory.disableOOMKiller"),
        at("memory.kernel"),
        at("memory.swappiness"),
    ];
    assert_eq!(fields, expected);
}

#[test]
fn impossible_resources_are_problems_with_oci_names() {
    let table = [
        (json!({"memory": {"limit": "1g"}}), "memory.limit: expected a number, found a string"),
        (json!({"memory": {"limit": 1.5}}), "memory.limit: expected a whole number of 64 bits, found '1.5'"),
        (json!({"memory": {"limit": -2}}), "memory.limit: -2 is negative"),
        (json!({"memory": {"limit": 1000}}), "memory.limit: 1000 bytes of memory cannot be"),
        (json!({"memory": {"limit": u64::MAX}}), "memory.limit: 18446744073709551615 bytes"),
        (json!({"memory": {"limit": 1e30}}), "memory.limit: expected a whole number of 64 bits, found '1e"),
        (json!({"memory": {"limit": 2097152, "swap": 1048576}}), "memory.swap: 1048576 bytes of memory and swap"),
        (json!({"memory": {"swap": 1048576}}), "memory.swap: needs a memory limit"),
        (json!({"memory": {"reservation": 1}}), "memory.reservation: 1 bytes"),
        (json!({"memory": {"disableOOMKiller": 1}}), "memory.disableOOMKiller: expected a boolean, found a number"),
        (json!({"cpu": {"quota": 999}}), "cpu.quota: 999 us cannot be a quota"),
        (json!({"cpu": {"quota": u64::MAX}}), "cpu.quota: expected a signed number of 64 bits"),
        (json!({"cpu": {"period": 1}}), "cpu.period: 1 us cannot be a period"),
        (json!({"cpu": {"period": -1}}), "cpu.period: -1 is negative"),
        (json!({"cpu": {"shares": "1"}}), "cpu.shares: expected a number, found a string"),
        (json!({"cpu": {"cpus": "a"}}), "cpu.cpus: 'a': "),
        (json!({"cpu": {"mems": 0}}), "cpu.mems: expected a string, found a number"),
        (json!({"cpu": {"realtimeRuntime": "x"}}), "cpu.realtimeRuntime: expected a number, found a string"),
        (json!({"blockIO": {"weight": 5}}), "blockIO.weight: 5 cannot be a weight"),
        (json!({"blockIO": {"weight": 70000}}), "blockIO.weight: 65535 cannot be a weight"),
        (json!({"blockIO": {"weightDevice": 1}}), "blockIO.weightDevice: expected an array, found a number"),
    ];
    for (resources, expected) in table {
        let problems = problems(&with("/ociRuntimeConfig/linux/resources", Some(resources.clone())));
        assert_eq!(problems.len(), 1, "{resources}: {problems:#?}");
        assert!(problems[0].starts_with(&format!("{LINUX}.resources.{expected}")), "{resources}: {}", problems[0]);
    }
}

#[test]
fn all_problems_of_a_document_come_at_once() {
    let mut document = document();
    document["username"] = json!(1);
    document["layers"][1]["path"] = json!(null);
    document["ociRuntimeConfig"]["mounts"][0]["options"] = json!(["x"]);
    document["ociRuntimeConfig"]["mounts"][1]["more"] = json!(0);
    document["ociRuntimeConfig"]["process"]["args"] = json!([]);
    document["ociRuntimeConfig"]["process"]["env"] = json!(["bad"]);
    document["ociRuntimeConfig"]["linux"]["namespaces"] = json!([]);
    let lines = problems(&document);
    let mut fields: Vec<_> = lines.iter().map(|line| line.split(": ").next().unwrap().to_owned()).collect();
    fields.sort_unstable();
    let mounts = "ociRuntimeConfig.mounts";
    let expected = [
        "layers[1].path".to_owned(),
        format!("{LINUX}.namespaces"),
        format!("{mounts}[0].options"),
        format!("{mounts}[0].options"),
        format!("{mounts}[0].options[0]"),
        format!("{mounts}[1].more"),
        format!("{PROCESS}.args"),
        format!("{PROCESS}.env[0]"),
        "username".to_owned(),
    ];
    assert_eq!(fields, expected, "{lines:#?}");
}

#[test]
fn of_equal_keys_the_first_counts_for_security_too() {
    let text = document().to_string().replacen('{', r#"{"username":"first","#, 1);
    assert_eq!(parse(text.as_bytes()).unwrap().username(), "first");
}

#[test]
fn what_is_to_confine_the_worker_is_read_and_a_label_of_mounts_is_refused() {
    let confined = with("/ociRuntimeConfig/process/apparmorProfile", Some(json!("storm-worker")));
    assert_eq!(spec(&confined).apparmor, AppArmor::new("storm-worker").unwrap());
    assert_eq!(spec(&confined).selinux, Selinux::Default);
    let label = "system_u:system_r:container_t:s0";
    let labelled = with("/ociRuntimeConfig/process/selinuxLabel", Some(json!(label)));
    assert_eq!(spec(&labelled).selinux, Selinux::Label(SelinuxLabel::new(label).unwrap()));
    let unconfined = with("/ociRuntimeConfig/process/apparmorProfile", Some(json!("unconfined")));
    assert_eq!(spec(&unconfined).apparmor, AppArmor::Unconfined);
    for place in ["process/apparmorProfile", "process/selinuxLabel", "linux/mountLabel"] {
        let pointer = format!("/ociRuntimeConfig/{place}");
        for unset in [json!(null), json!("")] {
            let document = with(&pointer, Some(unset));
            assert_eq!(spec(&document), spec(&self::document()), "{place}");
            assert!(parsed(&document).unwrap().warnings().is_empty(), "{place}");
        }
        let field = format!("ociRuntimeConfig.{}: ", place.replace('/', "."));
        for (value, reason) in [(json!(1), "expected a string, found a number"), (json!(" a\n"), "")] {
            let problems = problems(&with(&pointer, Some(value)));
            assert!(problems.len() == 1 && problems[0].starts_with(&format!("{field}{reason}")), "{problems:?}");
        }
    }
    let problems = problems(&with("/ociRuntimeConfig/linux/mountLabel", Some(json!(label))));
    assert!(problems[0].contains("mounts are given no label"), "{problems:?}");
}

#[test]
fn a_key_from_the_document_cannot_forge_a_line() {
    let line = &problems(&with("/ociRuntimeConfig/linux/a\nb: fine\u{1b}[0m", Some(json!(1))))[0];
    assert!(line.starts_with("ociRuntimeConfig.linux.'a\\nb: fine\\u{1b}[0m': is not allowed"), "{line}");
}

#[test]
fn a_profile_nested_beyond_reason_is_refused_and_not_followed() {
    let nested = |levels: usize| {
        let profile = "[".repeat(levels) + &"]".repeat(levels);
        let text = document().to_string();
        let profile = format!(r#""seccomp":{{"defaultAction":"SCMP_ACT_ALLOW","a":{profile}}},"resources""#);
        text.replacen(r#""resources""#, &profile, 1)
    };
    assert!(parse(nested(20).as_bytes()).is_ok());
    for (levels, reason) in [(40, "nested more than 32"), (900, "nested too deeply"), (5000, "more than 1000 levels")] {
        let error = parse(nested(levels).as_bytes()).unwrap_err().to_string();
        assert!(error.contains(reason), "{levels}: {error}");
    }
}

#[test]
fn a_document_full_of_mistakes_is_answered_quickly_and_briefly() {
    let list = |element: &str| format!("[{}{element}]", format!("{element},").repeat(150_000));
    let places = ["args", "env"].map(|field| (format!("\"{field}\":"), PROCESS));
    let text = document().to_string();
    for (place, _) in &places {
        let start = text.find(place.as_str()).unwrap();
        let rest = &text[start..];
        let end = start + rest.find(']').unwrap() + 1;
        for element in ["\"\"", "1", "\"x\"", "\"A=1\"", "[]"] {
            let hostile = format!("{}{place}{}{}", &text[..start], list(element), &text[end..]);
            let started = Instant::now();
            let error = parse(hostile.as_bytes()).err();
            assert!(started.elapsed() < Duration::from_secs(20), "{place} {element}");
            // The same variable many times is one variable.
            let Some(error) = error else { continue };
            assert!(error.problems().len() <= 102, "{}", error.problems().len());
        }
    }
    let keys: Vec<_> = (0..100_000).map(|n| format!("\"k{n}\":0")).collect();
    let hostile = text.replacen("\"linux\":{", &format!("\"linux\":{{{},", keys.join(",")), 1);
    assert!(parse(hostile.as_bytes()).unwrap_err().problems().len() <= 102);
    let hostile = text.replacen("\"process\":{", &format!("\"process\":{{{},", keys.join(",")), 1);
    assert!(parse(hostile.as_bytes()).unwrap().warnings().len() <= 101);
}

#[test]
fn only_a_regular_file_is_read_and_nothing_makes_us_wait() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("good"), document().to_string()).unwrap();
    assert_eq!(read(&path("good")).unwrap().username(), "root");
    symlink(path("good"), path("link")).unwrap();
    mknodat(CWD, path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("bad"), "{").unwrap();
    let huge = File::create(path("huge")).unwrap();
    huge.set_len(50 << 20).unwrap();
    let table = [
        (path("link"), "symbolic link"),
        (path("fifo"), "is a FIFO: expected a regular file"),
        (dir.path().to_owned(), "is a directory"),
        ("/dev/zero".into(), "is a character device"),
        (path("empty"), "line 1 column 0"),
        (path("bad"), "line 1 column 1"),
        (path("huge"), "longer than 16777216 bytes"),
    ];
    for (path, reason) in table {
        let started = Instant::now();
        let error = read(&path).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(5));
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        let shown = error.to_string();
        assert!(shown.contains(reason) && shown.contains(path.to_str().unwrap()), "{shown}");
    }
    assert_eq!(read(&path("none")).unwrap_err().errno(), Some(libc::ENOENT));
}

#[test]
fn a_pid_file_must_not_be_there_not_even_as_a_dangling_link() {
    let dir = tempfile::tempdir().unwrap();
    let check = |path: &Path| parsed(&with("/pidFile", Some(json!(path)))).unwrap().check_pid_file();
    let (file, link) = (dir.path().join("pid"), dir.path().join("link"));
    check(&file).unwrap();
    symlink(dir.path().join("nowhere"), &link).unwrap();
    assert_eq!(check(&link).unwrap_err().kind(), ErrorKind::Exists);
    std::fs::write(&file, "1").unwrap();
    assert_eq!(check(&file).unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(check(&file.join("below")).unwrap_err().errno(), Some(libc::ENOTDIR));
}

#[test]
fn a_user_whom_nobody_knows_is_named_by_the_documents_field() {
    let command = parsed(&with("/username", Some(json!("no-such-user-7f3a")))).unwrap();
    let error = command.resolve_user().unwrap_err();
    assert_eq!((error.kind(), error.problems()[0].field.as_str()), (ErrorKind::Invalid, "username"));
}

/// Some small value of any type.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        "/[a-z./]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{0,4}", inner, 0..3).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Every place in a document, as JSON pointers.
fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| pointers(value, format!("{at}/{key}"), found)),
        Value::Array(elements) => {
            elements.iter().enumerate().for_each(|(index, value)| pointers(value, format!("{at}/{index}"), found));
        }
        _ => {}
    }
    found.push(at);
}

proptest! {
    #[test]
    fn whatever_a_value_is_replaced_by_the_answer_is_a_spec_or_problems(
        place in any::<prop::sample::Index>(),
        value in any_value(),
    ) {
        let mut document = document();
        let mut places = Vec::new();
        pointers(&document, String::new(), &mut places);
        *document.pointer_mut(place.get::<String>(&places)).unwrap() = value;
        match parsed(&document) {
            Ok(command) => {
                let spec = command.launch_spec(Identity::new(1, 1, []).unwrap()).unwrap();
                prop_assert_eq!(LaunchSpec::from_json(&spec.to_json()).unwrap(), spec);
            }
            Err(error) => prop_assert!(!error.problems().is_empty()),
        }
    }

    #[test]
    fn no_damage_to_the_text_makes_the_parser_panic(
        place in any::<prop::sample::Index>(),
        length in 0_usize..20,
        bytes in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut text = document().to_string().into_bytes();
        let start = place.index(text.len());
        let end = (start + length).min(text.len());
        text.splice(start..end, bytes);
        if let Err(error) = parse(&text) {
            prop_assert!(!error.problems().is_empty() && !error.to_string().contains('\n'));
        }
    }
}
