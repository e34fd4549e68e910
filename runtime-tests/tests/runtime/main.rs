//! Squall against the kernel. Each module holds the tests of one part; the harness is the library of this package.

mod leaking;
mod life_cycle;

fn main() {
    runtime_tests::harness::main(&[life_cycle::CASES, leaking::CASES, leaking::leaking()])
}
