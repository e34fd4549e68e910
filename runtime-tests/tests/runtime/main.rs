//! Squall against the kernel. Each module holds the tests of one part; the harness is the library
//! of this package.

mod asynchronous;
mod attacks;
mod binds;
mod confinement;
mod corrupt;
mod crashes;
mod created;
mod cross_check;
mod doctor;
mod embedder;
mod endings;
mod erofs;
mod events;
mod examples;
mod exhaustion;
mod foreground;
mod hanging;
mod identity;
mod inheritance;
mod layers;
mod leaking;
mod life_cycle;
mod limits;
mod mounts;
mod namespaces;
mod opened;
mod oracle;
mod packages;
mod pausing;
mod pid_file;
mod plan;
mod programs;
mod refusals;
mod removal;
mod restart;
mod scopes;
mod seccomp;
mod services;
mod spawner;
mod spellings;
mod storm;
mod streams;
mod terminal;
mod traps;
mod versions;
mod waiting;

/// Every test but those that leak on purpose.
fn every_case() -> Vec<runtime_tests::Case> {
    [
        namespaces::CASES,
        identity::CASES,
        mounts::CASES,
        binds::CASES,
        confinement::CASES,
        confinement::selinux::CASES,
        inheritance::CASES,
        streams::CASES,
        attacks::CASES,
        attacks::image::CASES,
        attacks::image_roots::CASES,
        attacks::worker::CASES,
        attacks::caller::CASES,
        attacks::opened::CASES,
        opened::CASES,
        life_cycle::CASES,
        endings::CASES,
        events::CASES,
        asynchronous::CASES,
        examples::CASES,
        foreground::CASES,
        pid_file::CASES,
        removal::CASES,
        limits::CASES,
        crashes::CASES,
        created::CASES,
        layers::CASES,
        restart::CASES,
        hanging::CASES,
        storm::CASES,
        refusals::CASES,
        spellings::CASES,
        packages::CASES,
        pausing::CASES,
        exhaustion::CASES,
        corrupt::CASES,
        erofs::CASES,
        plan::CASES,
        doctor::CASES,
        programs::CASES,
        seccomp::CASES,
        oracle::CASES,
        cross_check::CASES,
        services::CASES,
        scopes::CASES,
        spawner::CASES,
        terminal::CASES,
        traps::CASES,
        versions::CASES,
        waiting::CASES,
        leaking::CASES,
    ]
    .concat()
}

fn main() {
    runtime_tests::roles::become_one_of(&[
        namespaces::ROLES,
        oracle::ROLES,
        embedder::ROLES,
        examples::ROLES,
        exhaustion::ROLES,
        hanging::ROLES,
        scopes::ROLES,
        crashes::ROLES,
        versions::ROLES,
    ]);
    runtime_tests::harness::main(&[&every_case(), leaking::leaking()])
}
