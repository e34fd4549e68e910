//! What the tests of commands that never come back have in common: a process of their own, a user
//! that nobody else is, and a program that writes down what it was executed with.

use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use squall::request::Identity;

use crate::config::Config;
use crate::user::User;
use crate::{Launcher, Outcome};

/// Nobody else's on any machine of the tests.
pub const UID: u32 = 60_731;
pub const GID: u32 = 60_732;
pub const GROUP: u32 = 60_733;
pub const LAUNCHER_GROUP: u32 = 60_734;

/// Where a test finds its directory once it is a process of its own.
const DIRECTORY: &str = "WORKER_LAUNCHER_TEST";

/// A directory that everybody can enter, with `work` in it, which is the user's.
pub fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let work = directory.path().join("work");
    std::fs::create_dir(&work).unwrap();
    chown(&work, Some(UID), Some(LAUNCHER_GROUP)).unwrap();
    directory
}

/// Runs an ignored test in a process of its own, which may become anything.
pub fn in_own_process(test: &str, directory: &Path) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env_clear();
    command.env(DIRECTORY, directory).env("LD_LIBRARY_PATH", "/topology").env("PATH", "/usr/bin:/bin");
    command.output().unwrap()
}

/// In that process: begins as the program does, runs the command, and ends with its exit code.
pub fn as_launcher(config: &str, run: fn(&Launcher, &[OsString]) -> Outcome, arguments: &[&str]) {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let at = |text: &str| text.replace("DIR", directory.to_str().unwrap());
    let caller = squall::setuid::begin().unwrap();
    let launcher = Launcher {
        config: Config::of_text(&at(config), LAUNCHER_GROUP),
        supervisor: Identity::new(caller.uid, LAUNCHER_GROUP, []).unwrap(),
        caller,
        user: User { name: "somebody".to_owned(), identity: Identity::new(UID, GID, [GROUP]).unwrap() },
    };
    let arguments: Vec<OsString> = arguments.iter().map(|text| at(text).into()).collect();
    let code = run(&launcher, &arguments).unwrap_or_else(|failure| {
        tell!("{}", failure.text);
        failure.code as i32
    });
    std::process::exit(code);
}

/// Compiles the program that writes into `record`, in its working directory, what it was executed
/// with.
pub fn recorder(program: &Path) {
    let source = program.with_extension("c");
    std::fs::write(&source, include_str!("testing/recorder.c")).unwrap();
    let compiled = Command::new("cc").arg("-o").arg(program).arg(&source).status().unwrap();
    assert!(compiled.success());
}

/// What it wrote.
pub fn record(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("work/record")).unwrap()
}

/// What a process of a test said, for when it fails.
pub fn said(output: &Output) -> String {
    format!(
        "{:?} {} {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
