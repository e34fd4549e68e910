//! A profile made of bytes, so that every input is one, and calls: three readings of the profile must agree.
#![no_main]

use std::fmt::Write;

use libfuzzer_sys::fuzz_target;
use squall::seccomp::{Profile, CrossCheck};

const NAMES: [&str; 8] = ["read", "socket", "personality", "execve", "clone3", "close_range", "ioctl", "mseal"];
const ACTIONS: [&str; 8] = ["ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "TRAP", "TRACE", "LOG", "ALLOW"];
const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
const VALUES: [u64; 8] = [0, 1, 2, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 1 << 63, u64::MAX];

/// Bytes taken one after the other; zero when there are none left.
struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.next() % all.len()]
    }

    fn value(&mut self) -> u64 {
        let value = self.one_of(&VALUES);
        value.wrapping_add(self.next() as u64 / 100)
    }

    fn arg(&mut self) -> String {
        let (index, operator, value, value_two) =
            (self.next() % 6, self.one_of(&OPERATORS), self.value(), self.value());
        format!(r#"{{"index":{index},"op":"SCMP_CMP_{operator}","value":{value},"valueTwo":{value_two}}}"#)
    }

    fn action(&mut self, key: &str, errno: &str) -> String {
        let action = self.one_of(&ACTIONS);
        let number = self.next();
        let errno = if matches!(action, "ERRNO" | "TRACE") { format!(r#","{errno}":{number}"#) } else { String::new() };
        format!(r#""{key}":"SCMP_ACT_{action}"{errno}"#)
    }

    fn rule(&mut self) -> String {
        let names: Vec<String> = (0..=self.next() % 3).map(|_| format!("{:?}", self.one_of(&NAMES))).collect();
        let args: Vec<String> = (0..self.next() % 4).map(|_| self.arg()).collect();
        format!(
            r#"{{"names":[{}],{},"args":[{}]}}"#,
            names.join(","),
            self.action("action", "errnoRet"),
            args.join(",")
        )
    }
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let mut text = format!("{{{},\"syscalls\":[", bytes.action("defaultAction", "defaultErrnoRet"));
    for index in 0..bytes.next() % 24 {
        let separator = if index == 0 { "" } else { "," };
        write!(text, "{separator}{}", bytes.rule()).expect("a string takes everything");
    }
    text.push_str("]}");
    let profile = Profile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let filter = profile.compile().expect("a short profile");
    let cross_check = CrossCheck::of(&profile);
    for _ in 0..16 {
        let number = Profile::call_number(bytes.one_of(&NAMES)).expect("a call of every architecture");
        let number = number + bytes.next() as u32 / 200;
        let args: [u64; 6] = std::array::from_fn(|_| bytes.value());
        let decided = filter.decide(number, &args).expect("a program that the kernel takes");
        assert_eq!(decided, profile.explain(number, &args).action, "{number} {args:x?}\n{text}");
        assert_eq!(decided, cross_check.decide(number, &args), "{number} {args:x?}\n{text}");
    }
});
