//! What the builder puts together, and what it refuses.

use serde_json::Value;

use super::*;
use crate::error::ErrorKind;
use crate::request::selinux::SelinuxLabel;

fn complete() -> Builder {
    let user = Identity::new(1000, 1000, []).unwrap();
    Builder::new("one").layers(["/base.sqsh", "/top.sqsh"]).args(["sh", "-c", ""]).user(user).cgroup("/squall/one")
}

fn fields(result: Result<LaunchSpec>) -> Vec<String> {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    error.problems().iter().map(|problem| problem.field.clone()).collect()
}

#[test]
fn a_complete_request_is_built_with_safe_defaults() {
    let spec = complete().build().unwrap();
    assert_eq!(spec.id.as_str(), "one");
    assert_eq!(spec.layers[1].as_str(), "/top.sqsh");
    assert_eq!((spec.network, &spec.root, spec.cwd.as_str()), (Network::None, &RootMode::ReadOnly, "/"));
    assert_eq!(spec.user.groups(), [1000]);
    assert!(spec.mounts.is_empty() && spec.env.variables().is_empty() && spec.seccomp == Seccomp::Default);
}

#[test]
fn a_profile_and_a_label_together_are_refused_and_each_alone_is_read_back() {
    let profile = AppArmor::new("worker").unwrap();
    let label = Selinux::Label(SelinuxLabel::new("u:r:t:s0").unwrap());
    let builder = complete().apparmor(profile.clone());
    assert_eq!(fields(builder.clone().selinux(label.clone()).build()), ["selinux"]);
    assert!(builder.clone().selinux(Selinux::Disable).build().is_ok());
    assert!(complete().apparmor(AppArmor::Unconfined).selinux(label.clone()).build().is_ok());
    for spec in [builder.build().unwrap(), complete().selinux(label).build().unwrap()] {
        assert_eq!(LaunchSpec::from_json(&spec.to_json()).unwrap(), spec);
    }
    // As records have it that were written before there were such fields.
    let mut old = serde_json::to_value(complete().build().unwrap()).unwrap();
    for field in ["apparmor", "selinux"] {
        old.as_object_mut().unwrap().remove(field).unwrap();
    }
    assert_eq!(serde_json::from_value::<LaunchSpec>(old).unwrap(), complete().build().unwrap());
}

#[test]
fn everything_missing_is_named_at_once() {
    assert_eq!(fields(Builder::empty().build()), ["id", "layers", "args", "user", "cgroup"]);
}

#[test]
fn everything_wrong_is_named_at_once_and_nothing_twice() {
    let limits = Limits { pids: Some(0), ..Limits::default() };
    let builder = complete()
        .id("../x")
        .layers(["relative", "/fine"])
        .args(["", "a\0b"])
        .env(["GOOD=1", "bad"])
        .env(["=worse"])
        .cwd("..")
        .bind("/a", "/b", &["ro"])
        .bind("a", "/", &["rw", "nonsense"])
        .tmpfs("/proc/x", None, 0)
        .tmpfs("/t", Some(0), 0o1777)
        .hostname("-")
        .cgroup("../x")
        .pid_file("pid")
        .timeout(Duration::ZERO)
        .seccomp(Seccomp::Profile(Value::from(1).into()))
        .root(RootMode::Writable { size_bytes: Some(1) })
        .limits(limits);
    let expected = [
        "id",
        "layers[2]",
        "env[1]",
        "env[2]",
        "cwd",
        "mounts[1].source",
        "mounts[1].destination",
        "mounts[1].options[1]",
        "mounts[2].destination",
        "mounts[3].size_bytes",
        "hostname",
        "cgroup",
        "pid_file",
        "args[0]",
        "args[1]",
        "root.size_bytes",
        "limits.pids",
        "timeout",
        "seccomp",
    ];
    assert_eq!(fields(builder.build()), expected);
}

#[test]
fn a_layer_list_that_is_empty_or_wholly_refused_is_one_problem_each() {
    let none: [&str; 0] = [];
    let user = Identity::new(1, 1, []).unwrap();
    let builder = || Builder::new("x").args(["a"]).user(user.clone()).cgroup("/x");
    assert_eq!(fields(builder().layers(none).build()), ["layers"]);
    assert_eq!(fields(builder().layers(["a", "b"]).build()), ["layers[0]", "layers[1]"]);
    assert_eq!(fields(builder().build()), ["layers"]);
}

#[test]
fn a_door_gives_its_own_names() {
    let names = [("limits.pids", "--pids"), ("args", "COMMAND"), ("arg", "never")];
    let door = Door { object: "command line", names: &names };
    let limits = Limits { pids: Some(0), ..Limits::default() };
    let error = complete().args([""]).limits(limits).build_for(door).unwrap_err();
    let shown: Vec<_> = error.problems().iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(shown, ["COMMAND[0]", "--pids"]);
    assert_eq!(error.object(), "command line");
}

#[test]
fn a_spec_read_back_is_checked_again() {
    let spec = complete().env(["A=1", "A=2"]).build().unwrap();
    assert_eq!(LaunchSpec::from_json(&spec.to_json()).unwrap(), spec);
    let json = String::from_utf8(spec.to_json()).unwrap();
    let table = [
        (r#""/top.sqsh""#, r#""/../top.sqsh""#),
        (r#""sh","#, r#""","#),
        (r#""uid":1000"#, r#""uid":4294967295"#),
        (r#""id":"one""#, r#""id":"-one""#),
        (r#""limits":{"#, r#""limits":{"pids":0,"#),
        (r#""id":"one""#, r#""id":"one","more":1"#),
        (r#""cwd":"/","#, ""),
    ];
    for (from, to) in table {
        let changed = json.replacen(from, to, 1);
        assert_ne!(changed, json, "{from}");
        assert_eq!(LaunchSpec::from_json(changed.as_bytes()).unwrap_err().kind(), ErrorKind::Invalid, "{to}");
        assert!(serde_json::from_str::<LaunchSpec>(&changed).is_err(), "{to}");
    }
    let mut changed = spec.into_fields();
    changed.layers.clear();
    assert_eq!(fields(LaunchSpec::try_from(changed)), ["layers"]);
}
