//! Images: the store as the commands change it and as its readers see it, and workers of images.

mod archive;
mod killed;
mod place;
mod registry;
mod running;
mod script;
mod store;

fn main() {
    if std::env::var_os(runtime_tests::harness::CASE).is_none() && std::env::var_os(script::PROGRAM).is_none() {
        let program = runtime_tests::harness::build("docker-to-squash", "docker-to-squash");
        let program = program.unwrap_or_else(|error| panic!("cannot build docker-to-squash: {error}"));
        // SAFETY: this process has one thread.
        unsafe { std::env::set_var(script::PROGRAM, program) };
    }
    runtime_tests::harness::main(&[store::CASES, running::CASES, registry::CASES, killed::CASES, script::CASES])
}
