//! Squall against the kernel. Each module holds the tests of one part; the harness is the library of this package.

mod binds;
mod crashes;
mod doctor;
mod embedder;
mod hostile;
mod identity;
mod inheritance;
mod leaking;
mod life_cycle;
mod limits;
mod mounts;
mod namespaces;
mod oracle;
mod packages;
mod plan;
mod refusals;
mod roles;
mod second_opinion;
mod spawner;
mod storm;
mod streams;
mod traps;

fn main() {
    roles::become_one_of(&[oracle::ROLES, embedder::ROLES]);
    runtime_tests::harness::main(&[
        namespaces::CASES,
        identity::CASES,
        mounts::CASES,
        binds::CASES,
        inheritance::CASES,
        streams::CASES,
        hostile::CASES,
        life_cycle::CASES,
        limits::CASES,
        crashes::CASES,
        storm::CASES,
        refusals::CASES,
        packages::CASES,
        plan::CASES,
        doctor::CASES,
        oracle::CASES,
        second_opinion::CASES,
        spawner::CASES,
        traps::CASES,
        leaking::CASES,
        leaking::leaking(),
    ])
}
