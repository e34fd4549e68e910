//! `squall::seccomp` beside libseccomp: both make a program of the same profile, and the programs
//! must decide alike.
//!
//! Needs Debian's python3-seccomp, no privilege. Documented differences are left out: calls newer
//! than the profile, clone3, and rules with overlapping conditions and different actions, where
//! libseccomp's answer depends on how its tree is laid out.

mod oracle;

use std::fs;

use oracle::compare;
use serde_json::{Value, json};
use squall::seccomp::{Profile, Warning};

const VALUES: [u64; 5] = [0, 1, 0xffff_ffff, 0x1_0000_0001, u64::MAX];
const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

fn arg(index: u8, operator: &str, value: u64, value_two: u64) -> Value {
    json!({"index": index, "op": format!("SCMP_CMP_{operator}"), "value": value, "valueTwo": value_two})
}

fn rule(name: &str, action: &str, args: &[Value]) -> Value {
    json!({"names": [name], "action": format!("SCMP_ACT_{action}"), "args": args})
}

fn document(default: &str, rules: &[Value]) -> String {
    json!({"defaultAction": format!("SCMP_ACT_{default}"), "syscalls": rules}).to_string()
}

#[test]
fn every_operator_means_what_libseccomp_takes_it_for() {
    for operator in OPERATORS {
        let names = ["read", "write", "open", "close", "socket"];
        let rules =
            VALUES.iter().zip(names).map(|(value, name)| rule(name, "ALLOW", &[arg(2, operator, *value, 0x11)]));
        compare(&document("ERRNO", &rules.collect::<Vec<_>>()));
    }
}

#[test]
fn conditions_on_several_arguments_are_met_together() {
    let rules: Vec<Value> = OPERATORS
        .iter()
        .zip(OPERATORS.iter().cycle().skip(3))
        .zip(["read", "write", "open", "close", "stat", "fstat", "lstat"])
        .map(|((one, other), name)| rule(name, "ERRNO", &[arg(0, one, 7, 3), arg(1, other, 0x1_0000_0000, 1)]))
        .collect();
    compare(&document("ALLOW", &rules));
}

#[test]
fn two_conditions_on_one_argument_are_two_rules_as_with_runc() {
    let args = [arg(0, "EQ", 1, 0), arg(0, "EQ", 9, 0), arg(1, "EQ", 5, 0)];
    compare(&document("ERRNO", &[rule("socket", "ALLOW", &args)]));
}

#[test]
fn several_rules_for_one_call_are_alternatives() {
    let rules =
        [0, 8, 0x20000, 0x20008, 0xffff_ffff].map(|value| rule("personality", "ALLOW", &[arg(0, "EQ", value, 0)]));
    compare(&document("ERRNO", &rules));
}

#[test]
fn a_rule_without_conditions_outweighs_all_others() {
    let eq = [arg(0, "EQ", 1, 0)];
    for rules in [
        [rule("socket", "ALLOW", &[]), rule("socket", "TRAP", &[])],
        [rule("socket", "TRAP", &[]), rule("socket", "ALLOW", &[])],
        [rule("socket", "TRAP", &eq), rule("socket", "ALLOW", &[])],
        [rule("socket", "ALLOW", &[]), rule("socket", "KILL_PROCESS", &eq)],
        [rule("socket", "ALLOW", &eq), rule("socket", "TRAP", &[])],
        // What the default says adds nothing.
        [rule("socket", "ERRNO", &[]), rule("socket", "ALLOW", &eq)],
        [rule("socket", "ERRNO", &eq), rule("socket", "ALLOW", &[])],
    ] {
        compare(&document("ERRNO", &rules));
    }
}

#[test]
fn every_action_and_default_is_the_same() {
    let names = ["read", "write", "open", "close", "stat", "fstat", "lstat"];
    let actions = ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP", "TRACE", "LOG", "ALLOW"];
    let mut rules: Vec<Value> = names.iter().zip(actions).map(|(name, action)| rule(name, action, &[])).collect();
    // The greatest that libseccomp takes; the kernel takes 4095.
    rules.push(json!({"names": ["poll"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4094}));
    rules.push(json!({"names": ["lseek"], "action": "SCMP_ACT_TRACE", "errnoRet": 99}));
    for default in ["ERRNO", "ALLOW", "LOG", "TRAP", "KILL", "KILL_PROCESS", "TRACE"] {
        compare(&document(default, &rules));
    }
}

#[test]
fn podmans_profile_is_the_same_for_every_call() {
    let text = fs::read_to_string("/usr/share/containers/seccomp.json")
        .expect("this test needs podman's profile: install golang-github-containers-common, as runtime-tests/run does");
    let profile = Profile::parse(text.as_bytes()).unwrap();
    assert!(profile.warnings().iter().any(|warning| matches!(warning, Warning::DockerFormat { .. })));
    assert!(profile.lets_execute().is_ok());
    assert!(profile.compile().unwrap().program().len() < 210);
    assert!(compare(&text) > 100_000);
}
