//! Random profiles: our program against the rules themselves, and against seccompiler's whole
//! filters.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::seccomp::Profile;
use crate::seccomp::filter::cross_check::CrossCheck;
use crate::seccomp::profile::call;
use crate::sys::instruction::{Instruction, JUMP, RETURN};

const NAMES: [&str; 10] =
    ["read", "socket", "personality", "ioctl", "execve", "clone", "clone3", "close_range", "io_uring_enter", "mseal"];
const NUMBERS: [u64; 10] = [0, 1, 2, 16, 0x7fff_ffff, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 1 << 63, u64::MAX];

fn action() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => Just(json!({"action": "SCMP_ACT_ALLOW"})),
        2 => (0..40_u16).prop_map(|errno| json!({"action": "SCMP_ACT_ERRNO", "errnoRet": errno})),
        1 => select(vec!["LOG", "TRAP", "KILL", "KILL_PROCESS"]).prop_map(|name| json!({"action": format!("SCMP_ACT_{name}")})),
        1 => Just(json!({"action": "SCMP_ACT_TRACE", "errnoRet": 7})),
    ]
}

fn arg() -> impl Strategy<Value = Value> {
    let operator = select(vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
    (0..6_u8, select(&NUMBERS[..]), select(&NUMBERS[..]), operator).prop_map(|(index, value, value_two, operator)| {
        json!({"index": index, "value": value, "valueTwo": value_two, "op": format!("SCMP_CMP_{operator}")})
    })
}

fn args() -> impl Strategy<Value = Vec<Value>> {
    prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(arg(), 1..4)]
}

fn rule() -> impl Strategy<Value = Value> {
    let any_name = (0..460_u32).prop_map(|number| call::name_of(number).unwrap_or("read"));
    let name = prop_oneof![3 => select(&NAMES[..]), 1 => any_name];
    (prop::collection::vec(name, 1..6), action(), args()).prop_map(|(names, mut rule, args)| {
        rule["names"] = json!(names);
        rule["args"] = json!(args);
        rule
    })
}

fn document(rules: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Value> {
    (action(), prop::collection::vec(rule(), rules)).prop_map(|(default, rules)| {
        json!({"defaultAction": default["action"], "defaultErrnoRet": default["errnoRet"], "syscalls": rules})
    })
}

fn call() -> impl Strategy<Value = (u32, [u64; 6])> {
    let number = prop_oneof![3 => select(&NAMES[..]).prop_map(super::number), 1 => 0..480_u32];
    let arg = prop_oneof![4 => select(&NUMBERS[..]), 1 => any::<u64>()];
    (number, prop::array::uniform6(arg))
}

/// What the kernel checks before it takes a program.
fn is_well_formed(program: &[Instruction]) -> bool {
    let jumps_inside = |(at, instruction): (usize, &Instruction)| {
        let furthest = match instruction.code {
            JUMP => instruction.k as usize,
            _ => usize::from(instruction.jt.max(instruction.jf)),
        };
        at + furthest + 1 < program.len() || (furthest == 0 && at + 1 == program.len())
    };
    program.last().is_some_and(|last| last.code == RETURN) && program.iter().enumerate().all(jumps_inside)
}

fn check(document: &Value, calls: &[(u32, [u64; 6])]) -> Result<(), TestCaseError> {
    let profile = Profile::parse(document.to_string().as_bytes()).unwrap();
    let filter = profile.compile().unwrap();
    prop_assert!(is_well_formed(filter.program()));
    let cross_check = CrossCheck::of(&profile);
    for (number, args) in calls {
        let decided = filter.decide(*number, args).unwrap();
        prop_assert_eq!(decided, profile.explain(*number, args).action, "explain {} {:x?}", number, args);
        prop_assert_eq!(decided, cross_check.decide(*number, args), "seccompiler {} {:x?}", number, args);
    }
    Ok(())
}

proptest! {
    #[test]
    fn our_program_decides_as_the_rules_and_seccompiler_do(
        document in document(0..12),
        calls in prop::collection::vec(call(), 200),
    ) {
        check(&document, &calls)?;
    }

    /// Long programs: comparisons cannot jump over more than 255 instructions.
    #[test]
    fn a_long_program_decides_the_same(document in document(30..50), calls in prop::collection::vec(call(), 200)) {
        check(&document, &calls)?;
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Profile::parse(&bytes);
    }
}
