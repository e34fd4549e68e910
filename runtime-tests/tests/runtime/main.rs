//! Squall against the kernel. Each module holds the tests of one part; the harness is the library of this package.

mod embedder;
mod leaking;
mod life_cycle;
mod oracle;
mod roles;
mod second_opinion;
mod spawner;

fn main() {
    roles::become_one_of(&[oracle::ROLES, embedder::ROLES]);
    runtime_tests::harness::main(&[
        life_cycle::CASES,
        leaking::CASES,
        leaking::leaking(),
        oracle::CASES,
        second_opinion::CASES,
        spawner::CASES,
    ])
}
