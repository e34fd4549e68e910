//! The oracle: libcontainer's own `ContainerBuilder`, as its users call it.
//!
//! It runs as a program of its own with one thread and a mount namespace of its own: what the crate
//! does to its caller ends with it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use runtime_tests::Bed;
use runtime_tests::roles::{self, Role};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::caller;

pub const ROLES: &[Role] = &[("container-builder", build)];

/// A container of the oracle's.
pub struct Built {
    program: Child,
    /// Its init, on the host.
    pub pid: u32,
    directory: PathBuf,
}

/// Where the bundle's root is mounted.
pub fn root(bed: &Bed) -> PathBuf {
    bed.work().join("bundle/root")
}

/// Makes a container from the document, with the probe as its image. It goes on when the input that
/// it is given ends.
pub fn launch(bed: &Bed, document: &Spec) -> Built {
    let directory = bed.work().join("bundle");
    for part in ["root", "lower/bin", "above"] {
        fs::create_dir_all(directory.join(part)).unwrap();
    }
    let probe = directory.join("lower/bin/probe");
    fs::write(&probe, squall_cli::demo::PROBE).unwrap();
    fs::set_permissions(&probe, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(directory.join("config.json"), serde_json::to_vec(document).unwrap()).unwrap();
    let mut program = roles::command("container-builder");
    program.arg(&directory).env_remove("LISTEN_FDS").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut program = program.spawn().unwrap();
    let mut pid = [0; 4];
    let answer = program.stdout.as_mut().expect("it is a pipe").read_exact(&mut pid);
    answer.unwrap_or_else(|error| panic!("the oracle failed, see above: {error}"));
    Built { program, pid: u32::from_le_bytes(pid), directory }
}

impl Built {
    /// Waits for its end; what it wrote.
    pub fn output(mut self) -> String {
        drop(self.program.stdin.take());
        let status = self.program.wait().unwrap();
        assert!(status.success(), "the oracle failed: {status}");
        let output = fs::read_to_string(self.directory.join("output")).unwrap();
        fs::remove_dir_all(&self.directory).unwrap();
        output
    }
}

/// The program's part.
fn build(args: &[String]) {
    let directory = Path::new(&args[0]);
    mount_root(directory);
    caller::be_unclean();
    let output = File::create(directory.join("output")).unwrap();
    let errors = std::io::stderr().as_fd().try_clone_to_owned().unwrap();
    let input = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let builder = ContainerBuilder::new("oracle".to_owned(), SyscallType::default())
        .with_root_path(directory.join("state"))
        .unwrap();
    let builder = builder.with_stdin(input).with_stdout(output).with_stderr(errors);
    let mut container = builder.as_init(directory).with_systemd(false).with_detach(true).build().unwrap();
    container.start().unwrap();
    let pid = container.pid().expect("it was started").as_raw();
    std::io::stdout().write_all(&pid.to_le_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
    waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap();
    container.delete(true).unwrap();
}

/// What a launch does with its layers: an overlay that gives neither devices nor setuid.
fn mount_root(directory: &Path) {
    runtime_tests::namespace::own().unwrap();
    std::env::set_current_dir(directory).unwrap();
    mount("tmpfs", "above", "tmpfs", MountFlags::empty(), c"mode=755").unwrap();
    fs::create_dir("above/upper").unwrap();
    fs::create_dir("above/work").unwrap();
    let options =
        c"lowerdir=lower,upperdir=above/upper,workdir=above/work,redirect_dir=nofollow,metacopy=off,index=off";
    mount("overlay", "root", "overlay", MountFlags::NODEV | MountFlags::NOSUID, options).unwrap();
}
