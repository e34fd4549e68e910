//! `worker-launcher` against the kernel: installed setuid root, called by a supervisor's user for a
//! worker's user, as Storm does it. Users, groups and configuration are of the tests' own, in mount
//! namespaces of their own.

mod attacks;
mod cluster;
mod commands;
mod containers;
mod doctor;
mod setup;

fn main() {
    if std::env::var_os(runtime_tests::harness::CASE).is_none() && std::env::var_os(cluster::PROGRAM).is_none() {
        let program = runtime_tests::harness::build("worker-launcher", "worker-launcher");
        let program = program.unwrap_or_else(|error| panic!("cannot build worker-launcher: {error}"));
        // SAFETY: this process has one thread.
        unsafe { std::env::set_var(cluster::PROGRAM, program) };
    }
    runtime_tests::harness::main(&[&every_case()])
}

fn every_case() -> Vec<runtime_tests::Case> {
    [setup::CASES, commands::CASES, containers::CASES, attacks::CASES, doctor::CASES].concat()
}
