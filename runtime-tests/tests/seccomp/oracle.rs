//! libseccomp, asked through Debian's python3-seccomp.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;
use squall::seccomp::{Action, Instruction, Profile, Reason};
use squall::testing::seccomp::{CallData, interpret};

/// Debian's interpreter: another one on the PATH does not see Debian's modules.
const PYTHON: &str = "/usr/bin/python3";

const SCRIPT: &str = include_str!("libseccomp.py");

#[cfg(target_arch = "x86_64")]
const AUDIT: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const AUDIT: u32 = 0xC000_00B7;

/// libseccomp's program of a profile.
pub struct Libseccomp(Vec<Instruction>);

impl Libseccomp {
    /// Has it made.
    pub fn of(profile: &str) -> Libseccomp {
        let mut python = Command::new(PYTHON)
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("these tests need /usr/bin/python3: install python3, as runtime-tests/run does");
        python.stdin.take().unwrap().write_all(profile.as_bytes()).unwrap();
        let output = python.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "these tests need libseccomp for python: install python3-seccomp, as runtime-tests/run does (or it refused the profile)"
        );
        Libseccomp(output.stdout.chunks_exact(8).map(instruction).collect())
    }

    fn decide(&self, number: u32, args: &[u64; 6]) -> Action {
        let call = CallData { number, architecture: AUDIT, instruction_pointer: 0, args: *args };
        interpret(&self.0, &call).map(Action::from_kernel).expect("a program that the kernel takes")
    }
}

fn instruction(bytes: &[u8]) -> Instruction {
    Instruction {
        code: u16::from_le_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    }
}

/// Compares the two over all numbers and many arguments; the answer says how many calls were
/// compared.
pub fn compare(text: &str) -> usize {
    let document: Value = serde_json::from_str(text).unwrap();
    let profile = Profile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let (ours, theirs) = (profile.compile().unwrap(), Libseccomp::of(text));
    let samples = samples(&document);
    let mut compared = 0;
    for number in 0..600 {
        // libseccomp has no such rules.
        let ours_alone = matches!(profile.explain(number, &[0; 6]).reason, Reason::Newer { .. } | Reason::Clone3);
        for args in &samples {
            let decided = ours.decide(number, args).unwrap();
            let expected = if ours_alone { Action::Errno(38) } else { theirs.decide(number, args) };
            assert_eq!(decided, expected, "{} {args:x?}\n{text}", profile.explain(number, args));
            compared += 1;
        }
    }
    compared
}

/// Arguments around every number of the profile, each alone and in pairs.
fn samples(document: &Value) -> Vec<[u64; 6]> {
    let mut values = vec![0, u64::MAX, 0xffff_ffff, 1 << 32];
    let rules = document["syscalls"].as_array().into_iter().flatten();
    let args = rules.flat_map(|rule| rule["args"].as_array().into_iter().flatten());
    for value in args.flat_map(|arg| [arg["value"].as_u64(), arg["valueTwo"].as_u64()]).flatten() {
        values.extend([value.wrapping_sub(1), value, value.wrapping_add(1), value ^ (1 << 40)]);
    }
    values.sort_unstable();
    values.dedup();
    let mut samples: Vec<[u64; 6]> = values.iter().map(|value| [*value; 6]).collect();
    for (at, one) in values.iter().enumerate() {
        for other in &values[at + 1..] {
            samples.extend([[*one, *other, *one, *other, *one, *other], [*other, *one, *other, *one, *other, *one]]);
            samples.push([*one, *one, *other, *other, *one, *other]);
        }
    }
    samples
}
