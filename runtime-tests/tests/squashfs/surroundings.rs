//! A mount namespace and a directory for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs `body` as root with a mount namespace of its own and a directory that is removed
/// afterwards.
///
/// The test runs itself again, in another process; a test that dies half-way takes its mounts with
/// it.
pub fn isolated(test: &str, body: impl FnOnce(&Path)) {
    if let Some(directory) = std::env::var_os("SQUALL_ISOLATED") {
        runtime_tests::namespace::own().unwrap();
        return body(Path::new(&directory));
    }
    assert!(
        rustix::process::geteuid().is_root(),
        "mounting needs root: run the tests with sudo, or as runtime-tests/run does"
    );
    let directory = tempfile::tempdir().unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", test, "--nocapture", "--test-threads=1"]).env("SQUALL_ISOLATED", directory.path());
    let told = String::from_utf8_lossy(&run(&mut again)).into_owned();
    assert!(told.contains("1 passed"), "{test} did not run in its own mount namespace: {told}");
}

/// A mounted image, until it is dropped.
pub struct Mounted(pub PathBuf);

impl Mounted {
    pub fn new(image: &Path, at: &Path) -> Mounted {
        fs::create_dir_all(at).unwrap();
        run(Command::new("mount").args(["-t", "squashfs", "-o", "loop,ro"]).arg(image).arg(at));
        Mounted(at.to_owned())
    }
}

impl Drop for Mounted {
    /// A test that has failed goes on failing for its own reason; the end of the namespace unmounts
    /// what is left.
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.0).status();
        assert!(std::thread::panicking() || status.as_ref().is_ok_and(|status| status.success()), "umount: {status:?}");
    }
}

pub fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
