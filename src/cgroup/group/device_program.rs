//! Device rules on cgroup v2: a program that the kernel runs when a device node is made or opened.
//!
//! Owns the translation of rules into instructions, and having them in force at a cgroup. What is
//! allowed is what the same rules allow in v1's `devices.allow` after a `devices.deny` of
//! everything: an access that one rule covers as a whole. Programs that are in force further up
//! have their say as well. Needs `CONFIG_CGROUP_BPF` (Linux 4.15).

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;

use crate::cgroup::file;
use crate::sys;

/// `struct bpf_insn` of <linux/bpf.h>: 8 bits code, 4 destination, 4 source, 16 offset, 32
/// immediate.
pub(crate) type Instruction = u64;

/// Opcodes of <linux/bpf.h> and <linux/bpf_common.h>.
mod op {
    /// `BPF_LDX | BPF_MEM | BPF_W`.
    pub const LOAD: u64 = 0x61;
    /// `BPF_ALU64 | BPF_MOV | BPF_X`.
    pub const COPY: u64 = 0xbf;
    /// `BPF_ALU64 | BPF_MOV | BPF_K`.
    pub const SET: u64 = 0xb7;
    /// `BPF_ALU64 | BPF_AND | BPF_K`.
    pub const AND: u64 = 0x57;
    /// `BPF_ALU64 | BPF_RSH | BPF_K`.
    pub const SHIFT_RIGHT: u64 = 0x77;
    /// `BPF_JMP | BPF_JNE | BPF_K`.
    pub const JUMP_UNLESS: u64 = 0x55;
    /// `BPF_JMP | BPF_EXIT`.
    pub const EXIT: u64 = 0x95;
}

/// Registers: the answer, the context that the kernel gives, and ours.
const ANSWER: u64 = 0;
const CONTEXT: u64 = 1;
const KIND: u64 = 2;
const ACCESS: u64 = 3;
const MAJOR: u64 = 4;
const MINOR: u64 = 5;
const EXCESS: u64 = 6;

/// `BPF_DEVCG_DEV_*` and `BPF_DEVCG_ACC_*`.
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;
const ACCESSES: [(char, u32); 3] = [('m', 1), ('r', 2), ('w', 4)];
const EVERY_ACCESS: u32 = 7;

fn instruction(code: u64, destination: u64, source: u64, offset: u16, immediate: u32) -> Instruction {
    code | destination << 8 | source << 12 | u64::from(offset) << 16 | u64::from(immediate) << 32
}

/// A rule in numbers; nothing is any number.
struct Numbers {
    kind: u32,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

/// Of a text in the kernel's form. Nothing else gets here: rules are checked when they are made.
fn numbers(rule: &str) -> Option<Numbers> {
    let mut words = rule.split(' ');
    let kind = match words.next()? {
        "b" => BLOCK,
        "c" => CHARACTER,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let access = words.next()?;
    let bit = |letter: char| ACCESSES.iter().find(|(known, _)| *known == letter).map_or(0, |(_, bit)| *bit);
    Some(Numbers {
        kind,
        major: major.parse().ok(),
        minor: minor.parse().ok(),
        access: access.chars().fold(0, |bits, letter| bits | bit(letter)),
    })
}

/// The program for these rules: it answers 1 where one of them covers the access, 0 otherwise.
pub(in crate::cgroup) fn program(rules: &[String]) -> Vec<Instruction> {
    let mut program = vec![
        // `struct bpf_cgroup_dev_ctx`: access and kind in one word, major, minor.
        instruction(op::LOAD, KIND, CONTEXT, 0, 0),
        instruction(op::LOAD, MAJOR, CONTEXT, 4, 0),
        instruction(op::LOAD, MINOR, CONTEXT, 8, 0),
        instruction(op::COPY, ACCESS, KIND, 0, 0),
        instruction(op::SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(op::AND, KIND, 0, 0, 0xffff),
    ];
    for rule in rules.iter().filter_map(|rule| numbers(rule)) {
        let mut checks = vec![(KIND, rule.kind)];
        checks.extend(rule.major.map(|major| (MAJOR, major)));
        checks.extend(rule.minor.map(|minor| (MINOR, minor)));
        let mut block = Vec::new();
        if rule.access != EVERY_ACCESS {
            block.push(instruction(op::COPY, EXCESS, ACCESS, 0, 0));
            block.push(instruction(op::AND, EXCESS, 0, 0, EVERY_ACCESS & !rule.access));
            checks.push((EXCESS, 0));
        }
        // Each check skips the rest of this rule; two instructions answer.
        let jumps = checks.len();
        for (index, (register, wanted)) in checks.into_iter().enumerate() {
            let over = (jumps - index - 1 + 2) as u16;
            block.push(instruction(op::JUMP_UNLESS, register, 0, over, wanted));
        }
        program.extend(block);
        program.extend(answer(1));
    }
    program.extend(answer(0));
    program
}

fn answer(value: u32) -> [Instruction; 2] {
    [instruction(op::SET, ANSWER, 0, 0, value), instruction(op::EXIT, 0, 0, 0, 0)]
}

/// Has the rules in force at a cgroup of v2 and below it, in place of those that it had from us.
/// They end with the cgroup.
///
/// Needs CAP_SYS_ADMIN, or CAP_BPF and CAP_NET_ADMIN.
pub(in crate::cgroup) fn enforce(directory: BorrowedFd<'_>, rules: &[String]) -> std::io::Result<()> {
    let program = sys::load_device_program(&program(rules))?;
    // The kernel takes no descriptor that was opened for its path alone.
    let cgroup = file::open(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    sys::attach_device_program(cgroup.as_fd(), program.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::STANDARD;
    use proptest::prelude::*;

    /// What an access asks for.
    #[derive(Debug, Clone, Copy)]
    struct Asked {
        kind: u32,
        major: u32,
        minor: u32,
        access: u32,
    }

    /// Runs the program as the kernel would.
    fn run(program: &[Instruction], asked: Asked) -> u64 {
        let context = [asked.access << 16 | asked.kind, asked.major, asked.minor];
        let mut registers = [0_u64; 11];
        let mut at = 0;
        for _ in 0..=program.len() {
            let word = program[at];
            let (code, destination, source) = (word & 0xff, (word >> 8 & 0xf) as usize, (word >> 12 & 0xf) as usize);
            let (offset, immediate) = ((word >> 16 & 0xffff) as usize, word >> 32);
            at += 1;
            match code {
                op::LOAD => registers[destination] = context[offset / 4].into(),
                op::COPY => registers[destination] = registers[source],
                op::SET => registers[destination] = immediate,
                op::AND => registers[destination] &= immediate,
                op::SHIFT_RIGHT => registers[destination] >>= immediate,
                op::JUMP_UNLESS if registers[destination] != immediate => at += offset,
                op::JUMP_UNLESS => {}
                op::EXIT => return registers[0],
                _ => panic!("{word:#x}"),
            }
        }
        panic!("it does not end")
    }

    /// The rules by their meaning.
    fn allowed(rules: &[String], asked: Asked) -> bool {
        rules.iter().any(|rule| {
            let words: Vec<&str> = rule.split([' ', ':']).collect();
            let fits = |word: &str, number: u32| word == "*" || word == number.to_string();
            let kind = if asked.kind == BLOCK { "b" } else { "c" };
            words[0] == kind
                && fits(words[1], asked.major)
                && fits(words[2], asked.minor)
                && ACCESSES.iter().all(|(letter, bit)| asked.access & bit == 0 || words[3].contains(*letter))
        })
    }

    proptest! {
        #[test]
        fn the_program_answers_as_the_rules_do(
            rules in proptest::collection::vec("[bc] (\\*|[0-3]):(\\*|[0-3]) (r|w|m|rw|rwm|wm)", 0..6),
            kind in BLOCK..=CHARACTER, major in 0u32..4, minor in 0u32..4, access in 1u32..8,
        ) {
            let asked = Asked { kind, major, minor, access };
            prop_assert_eq!(run(&program(&rules), asked) == 1, allowed(&rules, asked));
        }
    }

    #[test]
    fn the_standard_rules_let_null_and_not_a_disk() {
        let standard: Vec<String> = STANDARD.iter().map(|rule| rule.to_string()).collect();
        let program = program(&standard);
        assert_eq!(run(&program, Asked { kind: CHARACTER, major: 1, minor: 3, access: 6 }), 1);
        assert_eq!(run(&program, Asked { kind: BLOCK, major: 8, minor: 0, access: 2 }), 0);
        assert_eq!(run(&program, Asked { kind: BLOCK, major: 8, minor: 0, access: 1 }), 1, "made, but not opened");
    }
}
