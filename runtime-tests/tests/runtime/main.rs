//! Squall against the kernel. Each module holds the tests of one part; the harness is the library
//! of this package.

mod asynchronous;
mod attacks;
mod binds;
mod confinement;
mod corrupt;
mod courtesy;
mod crashes;
mod created;
mod cross_check;
mod doctor;
mod embedder;
mod endings;
mod erofs;
mod events;
mod examples;
mod exec;
mod exhaustion;
mod exit_file;
mod foreground;
mod hanging;
mod identity;
mod inheritance;
mod layers;
mod leaking;
mod ledger;
mod life_cycle;
mod limits;
mod logs;
mod metrics;
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
mod statistics;
mod storm;
mod streams;
mod terminal;
mod traps;
mod updating;
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
        exit_file::CASES,
        removal::CASES,
        limits::CASES,
        courtesy::CASES,
        crashes::CASES,
        created::CASES,
        exec::CASES,
        layers::CASES,
        restart::CASES,
        hanging::CASES,
        storm::CASES,
        refusals::CASES,
        spellings::CASES,
        packages::CASES,
        pausing::CASES,
        logs::CASES,
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
        ledger::CASES,
        updating::CASES,
        versions::CASES,
        waiting::CASES,
        leaking::CASES,
        statistics::CASES,
        metrics::CASES,
    ]
    .concat()
}

fn main() {
    runtime_tests::roles::become_one_of(&[
        namespaces::ROLES,
        oracle::ROLES,
        courtesy::ROLES,
        embedder::ROLES,
        examples::ROLES,
        exhaustion::ROLES,
        hanging::ROLES,
        logs::ROLES,
        scopes::ROLES,
        crashes::ROLES,
        versions::ROLES,
    ]);
    runtime_tests::harness::main(&[&every_case(), leaking::leaking()])
}
