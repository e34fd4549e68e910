//! What the two doors take, refuse and warn of.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::{Action, Flags, Profile, Warning};
use super::{NO_ARGS, denying, number, profile};
use crate::error::ErrorKind;
use crate::seccomp::profile::docker::Surroundings;

fn refused(text: &str) -> Vec<String> {
    let error = Profile::parse(text.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    error.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn each_mistake_is_named_with_its_field() {
    let table = [
        (json!(1), "profile: expected an object, found a number"),
        (json!({}), "defaultAction: is missing"),
        (json!({"defaultAction": 1}), "defaultAction: expected a string, found a number"),
        (json!({"defaultAction": "ALLOW"}), "defaultAction: 'ALLOW' is no action"),
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "defaultAction: SCMP_ACT_NOTIFY needs an agent"),
        (json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}), "defaultErrnoRet: '4096' does not fit"),
        (json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": -1}), "defaultErrnoRet: '-1' does not fit"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            "defaultErrnoRet: SCMP_ACT_ALLOW gives no errno",
        ),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}), "flags[0]: 'X' is no flag"),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": "X"}), "flags: expected an array, found a string"),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "rules": []}), "rules: is no field here"),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"]}), "architectures: SCMP_ARCH_"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x"]}),
            "architectures[0]: 'x' is no architecture",
        ),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}), "syscalls: expected an array, found an object"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [1]}),
            "syscalls[0]: expected an object, found a number",
        ),
    ];
    for (document, expected) in table {
        let problems = refused(&document.to_string());
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{document}: {problems:?}");
    }
}

#[test]
fn each_mistake_in_a_rule_is_named_with_its_field() {
    let rule = |changed: Value| {
        let mut rule = json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]});
        changed.as_object().unwrap().iter().for_each(|(key, value)| rule[key] = value.clone());
        rule
    };
    let arg = |changed: Value| {
        let mut arg = json!({"index": 0, "value": 1, "op": "SCMP_CMP_EQ"});
        changed.as_object().unwrap().iter().for_each(|(key, value)| arg[key] = value.clone());
        rule(json!({ "args": [arg] }))
    };
    let table = [
        (rule(json!({"names": []})), "syscalls[0].names: names no system call"),
        (rule(json!({"names": [1]})), "syscalls[0].names[0]: expected a string"),
        (rule(json!({"names": [""]})), "syscalls[0].names[0]: is empty"),
        (rule(json!({"names": null})), "syscalls[0].names: expected an array, found null"),
        (rule(json!({"action": "SCMP_ACT_NOTIFY"})), "syscalls[0].action: SCMP_ACT_NOTIFY needs an agent"),
        (rule(json!({"errnoRet": 1})), "syscalls[0].errnoRet: SCMP_ACT_ALLOW gives no errno"),
        (rule(json!({"action": "SCMP_ACT_TRACE", "errnoRet": 65536})), "syscalls[0].errnoRet: '65536' does not fit"),
        (rule(json!({"arg": []})), "syscalls[0].arg: is no field here"),
        (rule(json!({"args": [[]]})), "syscalls[0].args[0]: expected an object, found an array"),
        (arg(json!({"index": 6})), "syscalls[0].args[0].index: '6' does not fit"),
        (arg(json!({"index": 0.5})), "syscalls[0].args[0].index: '0.5' does not fit"),
        (arg(json!({"value": -1})), "syscalls[0].args[0].value: '-1' does not fit"),
        (arg(json!({"value": "1"})), "syscalls[0].args[0].value: expected a number, found a string"),
        (arg(json!({"valueTwo": -1})), "syscalls[0].args[0].valueTwo: '-1' does not fit"),
        (arg(json!({"op": "EQ"})), "syscalls[0].args[0].op: 'EQ' is no operator"),
        (arg(json!({"op": null})), "syscalls[0].args[0].op: expected a string, found null"),
        (arg(json!({"x": 1})), "syscalls[0].args[0].x: is no field here"),
    ];
    for (rule, expected) in table {
        let document = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule] });
        let problems = refused(&document.to_string());
        assert!(problems.len() == 1 && problems[0].starts_with(expected), "{document}: {problems:?}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_with_line_and_column() {
    let text = "{\n  \"defaultAction\": \"SCMP_ACT_NONE\",\n  \"x\": 1,\n  \"syscalls\": [\n    {\"names\": [\"read\"], \"names\": [], \"action\": 3}\n  ]\n}";
    let problems = refused(text);
    let places = ["line 3 column 3", "line 2 column 20", "line 5 column 25", "line 5 column 48"];
    assert_eq!(problems.len(), 4, "{problems:?}");
    for place in places {
        assert!(problems.iter().any(|problem| problem.ends_with(place)), "{place}: {problems:?}");
    }
    assert!(problems.iter().any(|problem| problem.starts_with("syscalls[0].names: is given twice")));
}

#[test]
fn of_many_mistakes_the_first_hundred_are_kept() {
    let text = format!("{{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{}1]}}", "1,".repeat(10_000));
    let problems = refused(&text);
    assert_eq!((problems.len(), problems[100].as_str()), (101, "profile: 9901 more problems are not shown"));
}

#[test]
fn a_long_file_full_of_mistakes_is_answered_quickly() {
    let text = format!("{{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{}1]}}", "1,".repeat(500_000));
    let started = Instant::now();
    assert_eq!(refused(&text).len(), 101);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn an_unknown_field_refuses_a_file_and_warns_in_a_document() {
    let document = json!({"defaultAction": "SCMP_ACT_ALLOW", "x y": 1, "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG", "z": {}}]});
    assert_eq!(refused(&document.to_string()).len(), 2);
    let unknown = |field: &str| Warning::UnknownField { field: field.to_owned() };
    assert_eq!(Profile::from_value(&document).unwrap().warnings(), [unknown("'x y'"), unknown("syscalls[0].z")]);
    let wrong = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "LOG"}]});
    let error = Profile::from_value(&wrong).unwrap_err();
    assert_eq!(error.problems()[0].field, "syscalls[0].action");
}

#[test]
fn names_unknown_here_are_skipped_with_a_warning() {
    let profile = denying(json!([{"names": ["read", "chown32"], "action": "SCMP_ACT_ALLOW"}]));
    let expected = Warning::UnknownCall { name: "chown32".into(), field: "syscalls[0].names[1]".into() };
    assert_eq!(profile.warnings(), [expected]);
    assert_eq!(profile.compile().unwrap().decide(number("read"), &NO_ARGS), Ok(Action::Allow));
}

#[test]
fn null_is_the_same_as_nothing() {
    let document = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": null, "architectures": null, "flags": null, "listenerPath": "",
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null, "errnoRet": null}]});
    let filter = profile(&document).compile().unwrap();
    assert_eq!(filter.decide(0, &NO_ARGS), Ok(Action::Allow));
    assert_eq!(filter.flags(), Flags::default());
}

#[test]
fn flags_reach_the_filter() {
    let flags = [
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ];
    let profile = profile(&json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": flags }));
    assert_eq!(profile.compile().unwrap().flags().bits(), 7);
    assert_eq!(profile.warnings(), [Warning::WithoutListener { field: "flags[3]".into() }]);
}

#[test]
fn foreign_tables_are_warned_of() {
    let own = crate::seccomp::profile::architecture::NATIVE.oci_name;
    let profile = profile(&json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": [own, "SCMP_ARCH_X86"] }));
    assert_eq!(
        profile.warnings(),
        [Warning::ForeignArchitecture { name: "SCMP_ARCH_X86".into(), field: "architectures[1]".into() }]
    );
}

/// Rules of docker's form, resolved for kernel 5.10.
fn docker(rules: Value) -> Profile {
    let document = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS", "syscalls": rules,
        "archMap": [{"architecture": crate::seccomp::profile::architecture::NATIVE.oci_name, "subArchitectures": ["SCMP_ARCH_X86"]}]});
    Profile::parse_in("file", document.to_string().as_bytes(), Surroundings { kernel: (5, 10) }).unwrap()
}

#[test]
fn dockers_conditions_are_resolved_for_a_process_without_capabilities() {
    let own = crate::seccomp::profile::architecture::NATIVE.go_name;
    let table = [
        (json!({"includes": {"caps": ["CAP_SYS_ADMIN"]}}), false),
        (json!({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}), true),
        (json!({"includes": {"arches": ["s390x"]}}), false),
        (json!({"includes": {"arches": ["s390x", own]}}), true),
        (json!({"excludes": {"arches": [own]}}), false),
        (json!({"includes": {"minKernel": "4.8"}}), true),
        (json!({"includes": {"minKernel": "5.11"}}), false),
        (json!({"includes": {"arches": [own], "caps": ["CAP_SYS_ADMIN"]}}), false),
        (json!({"includes": {"caps": []}, "excludes": {}}), true),
        (json!({"includes": null}), true),
    ];
    for (conditions, applies) in table {
        let mut rule = conditions.clone();
        rule["names"] = json!(["read"]);
        rule["action"] = json!("SCMP_ACT_ALLOW");
        let profile = docker(json!([rule, {"names": ["write"], "action": "SCMP_ACT_ERRNO", "errno": "EPERM"}]));
        let filter = profile.compile().unwrap();
        let expected = if applies { Action::Allow } else { Action::Errno(libc::ENOSYS as u16) };
        assert_eq!(filter.decide(0, &NO_ARGS), Ok(expected), "{conditions}");
        assert_eq!(filter.decide(1, &NO_ARGS), Ok(Action::Errno(1)));
        let Warning::DockerFormat { dropped, .. } = &profile.warnings()[0] else { panic!("{:?}", profile.warnings()) };
        assert_eq!(dropped.len(), usize::from(!applies));
    }
}

#[test]
fn dockers_conditions_count_in_a_document_too() {
    let rule = json!({"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}});
    let profile = Profile::from_value(&json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})).unwrap();
    assert_eq!(profile.compile().unwrap().decide(number("bpf"), &NO_ARGS), Ok(Action::Errno(1)));
}

#[test]
fn an_errno_that_contradicts_itself_is_refused() {
    let rule = json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "errno": "ENOSYS"});
    let document = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    assert!(refused(&document.to_string())[0].starts_with("syscalls[0].errno: ENOSYS is 38, and errnoRet says 1"));
}
