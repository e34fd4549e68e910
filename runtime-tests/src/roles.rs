//! Programs that a test starts, kills and watches: this same file, told by its environment which of
//! them it is.
//!
//! A test that needs a process of its own kind (one that embeds the library, one that calls
//! libcontainer) cannot be it itself: it would end with it, or keep its traces.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Which program this process is.
pub const ROLE: &str = "SQUALL_TEST_ROLE";

/// A program: its name, and what it does with its arguments.
pub type Role = (&'static str, fn(&[String]));

/// This file. Asked for once, at the beginning: in a chroot a thread with a mount namespace of its
/// own is told a path outside of it.
static THIS: LazyLock<PathBuf> = LazyLock::new(|| std::env::current_exe().expect("this program has a path"));

/// The path of this file.
pub fn this_program() -> &'static Path {
    THIS.as_path()
}

/// Becomes the program that this process was started as, if any; then this does not return.
pub fn become_one_of(roles: &[&[Role]]) {
    LazyLock::force(&THIS);
    let Ok(name) = std::env::var(ROLE) else { return };
    let role = roles.concat().into_iter().find(|(role, _)| *role == name);
    let (_, run) = role.unwrap_or_else(|| panic!("there is no role '{name}'"));
    let args: Vec<String> = std::env::args().skip(1).collect();
    run(&args);
    std::process::exit(0);
}

/// A call of one of these programs.
pub fn command(role: &str) -> Command {
    let mut command = Command::new(this_program());
    command.env(ROLE, role);
    command
}
