//! The floor: the kernel's share of a launch, and next to nothing else.
//!
//! A static program for the benchmark, compiled by the build script of `runtime-tests`. It reads a
//! list of steps (`bin/bench/floor_steps.rs` writes it, and says there what it has in common with a
//! launch of Squall and what not), makes one system call for each, or the few that belong together,
//! and checks nothing but their success.
//!
//! ```text
//! floor STEPS          runs the container to its end, and ends with its code
//! floor STEPS detach   leaves it running; prints its pid
//! ```
//!
//! To standard error, when there is a third argument: when it started, when each part began, and
//! when the workload was executed, in nanoseconds.

#![no_main]

mod steps;
mod sys;

use std::ffi::{CStr, c_char, c_int};

use steps::Steps;

/// Who we are: the parent of the container's first process, root, on the host.
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let began = sys::monotonic_ns();
    // SAFETY: the kernel hands `argc` C strings to a program; they live as long as it does.
    let argument = |index: c_int| (index < argc).then(|| unsafe { CStr::from_ptr(*argv.add(index as usize)) });
    let text = argument(1).and_then(|path| std::fs::read_to_string(path.to_str().ok()?).ok()).expect("floor STEPS");
    let [launch, init, admit, end] = sections(&text);

    let mut steps = Steps::default();
    steps.run(launch);
    let (report, report_writing) = sys::pipe();
    let (gate, gate_writing) = sys::pipe();
    let child = sys::clone3(steps.namespaces, steps.into_cgroup);
    if child == 0 {
        // Who we are now: the container's first process, root, in its new namespaces. Never
        // returns.
        sys::close(gate_writing);
        sys::close(report);
        steps.gate = gate;
        steps.report = Some(report_writing);
        steps.run(init);
        steps::fail("the steps of init do not end with exec");
    }
    sys::close(report_writing);
    steps.child = child;
    steps.run(admit);
    sys::write(gate_writing, b"1");

    // Exec closes the last end of the pipe.
    steps.marks.push_str(&sys::read_to_end(report));
    let executed = sys::monotonic_ns();
    if argument(3).is_some() {
        eprintln!("start {began}\n{}end {executed}", steps.marks);
    }
    if argument(2) == Some(c"detach") {
        println!("{child}");
        return 0;
    }
    let code = sys::wait(child);
    steps.run(end);
    code
}

/// The four parts of the list, each headed by its name: before the clone, in the container's first
/// process, beside it, and after its end.
fn sections(text: &str) -> [&str; 4] {
    let from = |name: &str| text.split_once(name).expect("the steps have four parts").1;
    let part = |name: &str, next: &str| from(name).split_once(next).expect("the steps have four parts").0;
    [part("[launch]\n", "[init]\n"), part("[init]\n", "[admit]\n"), part("[admit]\n", "[end]\n"), from("[end]\n")]
}
