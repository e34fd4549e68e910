//! `worker-launcher`: see the library of that name.

// `cargo build --workspace` gives every package the features of all: then the tests' crash points
// are in the library.
#[cfg(not(debug_assertions))]
const _: () = assert!(!squall::CRASH_POINTS, "build the setuid program by itself: cargo build -p worker-launcher");

fn main() {
    std::process::exit(worker_launcher::main())
}
