//! What becomes of calls.

use serde_json::{Value, json};

use super::super::filter::interpreter::{CallData, interpret};
use super::super::{Action, Profile, Reason, Warning};
use super::{NO_ARGS, denying, number, profile};
use crate::seccomp::profile::architecture::NATIVE;
use crate::seccomp::profile::call::CLONE3;

const EPERM: Action = Action::Errno(1);
const ENOSYS: Action = Action::Errno(libc::ENOSYS as u16);

fn decide(profile: &Profile, number: u32, args: [u64; 6]) -> Action {
    profile.compile().unwrap().decide(number, &args).unwrap()
}

fn rule(action: &str, args: Value) -> Value {
    json!({ "names": ["socket", "close_range"], "action": action, "args": args })
}

fn is(index: u8, value: u64) -> Value {
    json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" })
}

/// Operator, value and second value; arguments that meet it, and that do not.
type Comparison = (&'static str, u64, u64, &'static [u64], &'static [u64]);

#[test]
fn every_operator_compares_64_bits_without_sign() {
    const BIG: u64 = 0x1_0000_0001;
    let table: [Comparison; 7] = [
        ("NE", BIG, 0, &[0, 1, BIG - 1, u64::MAX], &[BIG]),
        ("EQ", BIG, 0, &[BIG], &[0, 1, BIG + 1, u64::MAX]),
        ("LT", BIG, 0, &[0, 1, BIG - 1], &[BIG, BIG + 1, u64::MAX]),
        ("LE", BIG, 0, &[0, 1, BIG], &[BIG + 1, 2 << 32, u64::MAX]),
        ("GE", BIG, 0, &[BIG, 2 << 32, u64::MAX], &[0, 1, BIG - 1]),
        ("GT", BIG, 0, &[BIG + 1, 2 << 32, u64::MAX], &[0, 1, BIG]),
        ("MASKED_EQ", 0xf0_0000_00f0, 0x10_0000_0010, &[0x10_0000_0010, 0x1f_1111_111f], &[0x10, 0x10_0000_0020]),
    ];
    for (operator, value, value_two, met, not_met) in table {
        let arg = json!({"index": 5, "value": value, "valueTwo": value_two, "op": format!("SCMP_CMP_{operator}")});
        let profile = denying(json!([rule("SCMP_ACT_ALLOW", json!([arg]))]));
        for (values, expected) in [(met, Action::Allow), (not_met, EPERM)] {
            for value in values {
                assert_eq!(
                    decide(&profile, number("socket"), [7, 7, 7, 7, 7, *value]),
                    expected,
                    "{operator} {value:#x}"
                );
            }
        }
    }
}

#[test]
fn conditions_on_several_arguments_must_all_be_met() {
    let profile = denying(json!([rule("SCMP_ACT_ALLOW", json!([is(0, 1), is(2, 3)]))]));
    assert_eq!(decide(&profile, 41, [1, 0, 3, 0, 0, 0]), Action::Allow);
    assert_eq!(decide(&profile, 41, [1, 0, 4, 0, 0, 0]), EPERM);
    assert_eq!(decide(&profile, 41, [0, 0, 3, 0, 0, 0]), EPERM);
}

#[test]
fn with_two_conditions_on_one_argument_any_condition_is_enough() {
    let profile = denying(json!([rule("SCMP_ACT_ALLOW", json!([is(0, 1), is(0, 2), is(1, 3)]))]));
    assert!(matches!(profile.warnings(), [Warning::RepeatedArgument { field }] if field == "syscalls[0].args"));
    for args in [[1, 0], [2, 0], [0, 3]] {
        assert_eq!(decide(&profile, number("socket"), [args[0], args[1], 0, 0, 0, 0]), Action::Allow);
    }
    assert_eq!(decide(&profile, number("socket"), NO_ARGS), EPERM);
}

#[test]
fn a_rule_without_conditions_decides_wherever_it_stands_and_the_first_of_two() {
    let (allow, trap) = (rule("SCMP_ACT_ALLOW", json!([])), rule("SCMP_ACT_TRAP", json!([])));
    let kill = rule("SCMP_ACT_KILL_PROCESS", json!([is(0, 1)]));
    let one = [1, 0, 0, 0, 0, 0];
    for (rules, expected) in [
        (json!([kill, allow, trap]), Action::Allow),
        (json!([allow, kill, trap]), Action::Allow),
        (json!([trap, allow, kill]), Action::Trap),
    ] {
        assert_eq!(decide(&denying(rules.clone()), number("socket"), one), expected, "{rules}");
    }
}

#[test]
fn of_rules_whose_conditions_are_met_the_strictest_counts() {
    let rules = [
        rule("SCMP_ACT_ALLOW", json!([is(0, 1)])),
        rule("SCMP_ACT_KILL_PROCESS", json!([is(1, 1)])),
        rule("SCMP_ACT_LOG", json!([is(2, 1)])),
    ];
    let profile = denying(json!(rules));
    let table =
        [([1, 1, 1], Action::KillProcess), ([1, 0, 1], Action::Log), ([1, 0, 0], Action::Allow), ([0, 0, 0], EPERM)];
    for ([a, b, c], expected) in table {
        assert_eq!(decide(&profile, number("socket"), [a, b, c, 0, 0, 0]), expected);
    }
}

#[test]
fn a_rule_that_says_what_the_default_says_does_nothing_and_is_warned_of() {
    let rules = json!([rule("SCMP_ACT_ERRNO", json!([])), rule("SCMP_ACT_ALLOW", json!([is(0, 1)]))]);
    let profile = denying(rules);
    assert_eq!(profile.warnings(), [Warning::SameAsDefault { field: "syscalls[0]".into(), name: "socket".into() }]);
    assert_eq!(decide(&profile, number("socket"), [1, 0, 0, 0, 0, 0]), Action::Allow);
}

#[test]
fn calls_newer_than_a_denying_profile_do_not_exist() {
    let profile = denying(json!([rule("SCMP_ACT_ALLOW", json!([]))]));
    let highest = number("close_range");
    assert_eq!(decide(&profile, highest - 2, NO_ARGS), EPERM);
    assert_eq!(decide(&profile, highest + 1, NO_ARGS), ENOSYS);
    assert_eq!(decide(&profile, 0x3fff_ffff, NO_ARGS), ENOSYS);
    assert_eq!(decide(&profile, CLONE3, NO_ARGS), ENOSYS);
    assert_eq!(profile.explain(CLONE3, &NO_ARGS).reason, Reason::Clone3);
    let named = denying(json!([{"names": ["clone3", "close_range"], "action": "SCMP_ACT_ERRNO"}]));
    assert_eq!(decide(&named, CLONE3, NO_ARGS), EPERM);
}

#[test]
fn other_defaults_count_for_new_calls_too() {
    for (default, action) in [
        ("SCMP_ACT_ALLOW", Action::Allow),
        ("SCMP_ACT_KILL_PROCESS", Action::KillProcess),
        ("SCMP_ACT_LOG", Action::Log),
    ] {
        let profile =
            profile(&json!({"defaultAction": default, "syscalls": [{"names": ["read"], "action": "SCMP_ACT_TRAP"}]}));
        assert_eq!(decide(&profile, 400, NO_ARGS), action);
        assert_eq!(decide(&profile, CLONE3, NO_ARGS), action);
    }
}

#[test]
fn other_call_tables_are_closed_whatever_the_profile_says() {
    let filter = profile(&json!({"defaultAction": "SCMP_ACT_ALLOW"})).compile().unwrap();
    let foreign = CallData { number: 0, architecture: 0x4000_0003, ..CallData::default() };
    assert_eq!(interpret(filter.program(), &foreign).map(Action::from_kernel), Ok(Action::KillProcess));
    if let Some(first) = NATIVE.second_table {
        for number in [first, first + 59, u32::MAX] {
            assert_eq!(filter.decide(number, &NO_ARGS), Ok(ENOSYS));
        }
        assert_eq!(filter.decide(first - 1, &NO_ARGS), Ok(Action::Allow));
        let killing = profile(&json!({"defaultAction": "SCMP_ACT_KILL"}));
        assert_eq!(decide(&killing, first, NO_ARGS), Action::KillThread);
        assert_eq!(killing.explain(first, &NO_ARGS).reason, Reason::SecondTable);
    }
}

#[test]
fn a_profile_under_which_nothing_can_be_executed_is_told_apart() {
    let execve = |action: &str, args: Value| json!([{"names": ["execve"], "action": action, "args": args}]);
    assert!(denying(execve("SCMP_ACT_ALLOW", json!([]))).lets_execute().is_ok());
    assert!(denying(execve("SCMP_ACT_ALLOW", json!([is(2, 1)]))).lets_execute().is_ok());
    assert_eq!(denying(execve("SCMP_ACT_TRAP", json!([]))).lets_execute().unwrap_err().field, "syscalls[0]");
    assert_eq!(denying(json!([])).lets_execute().unwrap_err().field, "defaultAction");
    let allowing =
        profile(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": execve("SCMP_ACT_KILL", json!([is(2, 1)]))}));
    assert!(allowing.lets_execute().is_ok());
}

#[test]
fn a_program_that_the_kernel_would_not_take_is_refused() {
    let many: Vec<Value> = (0..1000).map(|value| rule("SCMP_ACT_ALLOW", json!([is(0, value)]))).collect();
    let error = denying(json!(many)).compile().unwrap_err();
    assert!(error.to_string().contains("needs more than 4096 instructions"), "{error}");
    let fewer = denying(json!(many[..700]));
    let filter = fewer.compile().unwrap();
    assert!(filter.program().len() > 3000);
    for (value, expected) in [(0, Action::Allow), (699, Action::Allow), (700, EPERM)] {
        assert_eq!(filter.decide(number("socket"), &[value, 0, 0, 0, 0, 0]), Ok(expected));
    }
}

#[test]
fn an_explanation_names_the_rule_and_a_listing_says_it_all() {
    let profile = denying(json!([
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [is(0, 1), is(2, 3)]},
        {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
    ]));
    let text = |name, args| profile.explain(number(name), &args).to_string();
    assert!(text("read", NO_ARGS).ends_with(": allow: syscalls[0], whatever the arguments"));
    assert!(text("socket", [1, 0, 3, 0, 0, 0]).ends_with("allow: syscalls[1], since arg0 == 0x1 and arg2 == 0x3"));
    assert!(
        text("socket", NO_ARGS).contains("deny with EPERM: defaultAction, since these are not met: syscalls[1]: arg0")
    );
    assert!(text("mount", NO_ARGS).contains("deny with EPERM: defaultAction, since no rule names it"));
    let listing = profile.listing().to_string();
    for line in [
        "allow (2):\n  read write",
        "deny with EACCES (1):\n  bpf",
        "by arguments: socket\n  if arg0 == 0x1 and arg2 == 0x3: allow\n  else: deny with EPERM",
        "everything else: deny with EPERM",
    ] {
        assert!(listing.contains(line), "{line:?} in\n{listing}");
    }
}

#[test]
fn an_installed_filter_is_in_force_for_its_thread() {
    let rules = json!([{"names": ["memfd_create"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV}]);
    let filter = profile(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})).compile().unwrap();
    let memfd = || rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).map(drop);
    let answer = std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        filter.install().unwrap();
        memfd()
    });
    assert_eq!(answer.join().unwrap(), Err(rustix::io::Errno::XDEV));
    assert_eq!(memfd(), Ok(()));
}
