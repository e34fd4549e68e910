//! Runs each test as a process of its own, and looks for leaks after it.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::bed::Bed;
use crate::call::{memory_file, wait_for_end};
use crate::{host, leaks, needs, roles};

/// Which test this process is; without it, the harness.
pub const CASE: &str = "SQUALL_TEST_CASE";
/// The tag of this test's bed. It is also what tells a test's processes from others.
const TAG: &str = "SQUALL_TEST_TAG";
/// The program `squall` under test.
const PROGRAM: &str = "SQUALL_TEST_PROGRAM";

/// How long a test may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// One test.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The module it stands in, as `module_path!` has it.
    pub module: &'static str,
    /// Its function's name, a sentence.
    pub name: &'static str,
    /// Its function.
    pub run: fn(&Bed),
}

impl Case {
    fn full_name(&self) -> String {
        let module = self.module.split_once("::").map_or("", |(_, module)| module);
        format!("{module}::{}", self.name)
    }
}

/// The tests of a module. A function that is not listed is dead code, which the compiler reports.
#[macro_export]
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub const CASES: &[$crate::Case] = &[$($crate::Case { module: module_path!(), name: stringify!($name), run: $name }),*];
    };
}

/// The test program's `main`.
pub fn main(groups: &[&[Case]]) -> ! {
    let cases: Vec<Case> = groups.concat();
    if let Ok(name) = std::env::var(CASE) {
        let case =
            cases.iter().find(|case| case.full_name() == name).unwrap_or_else(|| panic!("there is no test '{name}'"));
        run_here(case);
        std::process::exit(0);
    }
    let trials = cases.iter().map(|case| {
        let name = case.full_name();
        Trial::test(name.clone(), move || run_apart(&name))
    });
    let before = leaks::shared_cgroups();
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials.collect());
    let after = leaks::shared_cgroups();
    assert!(after.len() <= before.len(), "leak: cgroups outside of every test's own: {after:?}");
    conclusion.exit()
}

/// In the test's own process.
fn run_here(case: &Case) {
    take_every_signal();
    if let Err(missing) = needs::check() {
        panic!("{missing}");
    }
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let bed = Bed::new(&variable(TAG), Path::new(&variable(PROGRAM)));
    let before = host::open_fds("self");
    (case.run)(&bed);
    let after = host::open_fds("self");
    assert_eq!(after, before, "leak: descriptors of the test's own process (left: after, right: before)");
}

/// Lets no signal be ignored but SIGPIPE, which Rust's runtime ignores: `nohup` and a shell's `&`
/// start programs that ignore HUP, INT and QUIT, and `squall` would have that from the test.
fn take_every_signal() {
    for signal in (1..=libc::SIGRTMAX()).filter(|signal| *signal != libc::SIGPIPE) {
        // SAFETY: the structure is plain data, read only where the call has filled it, and SIG_DFL
        // is a valid disposition; where something else than SIG_IGN stands, nothing is changed.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let known = libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0;
            if known && action.sa_sigaction == libc::SIG_IGN {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}

/// In the harness: starts the test's process, waits for it, and looks for what it left.
fn run_apart(name: &str) -> Result<(), Failed> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let program = program()?;
    // Of this thread alone: a neighbour with a mount namespace of its own would hold a copy of each
    // of our mounts.
    crate::namespace::leave_the_machines()
        .map_err(|error| format!("cannot have a mount namespace of its own: {error}"))?;
    // Of one length, so that no tag is the beginning of another.
    let tag = format!("{:07}-{:04}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let bed = Bed::new(&tag, program);
    let made = bed.make().map_err(|error| format!("cannot make the test's directories: {error}").into());
    let ran = made.and_then(|()| run_process(name, &tag, program));
    // Whatever came of it: a test that could not be run to its end has left the most.
    let left = leaks::look_and_clear(&bed);
    let (status, output) = ran?;
    let mut problems = Vec::new();
    match status {
        None => problems.push(format!("it did not end within {PATIENCE:?}")),
        Some(status) if !status.success() => problems.push(format!("{status}")),
        Some(_) => {}
    }
    problems.extend(left);
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!("{}\n{output}", problems.join("\n")).into())
}

fn run_process(name: &str, tag: &str, program: &Path) -> Result<(Option<ExitStatus>, String), Failed> {
    // A file, not a pipe: something that the test leaves behind must not keep us from reading to
    // the end.
    let mut output = memory_file("output")?;
    let copy = || output.try_clone().map(Stdio::from);
    let mut command = Command::new(roles::this_program());
    command.env(CASE, name).env(TAG, tag).env(PROGRAM, program);
    let mut child = command.stdin(Stdio::null()).stdout(copy()?).stderr(copy()?).spawn()?;
    let status = wait_for_end(&mut child, PATIENCE)?;
    Ok((status, text_of(&mut output)?))
}

fn text_of(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The program under test: built once, in this test program's profile.
fn program() -> Result<&'static Path, Failed> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || match std::env::var_os(PROGRAM) {
        Some(path) => Ok(path.into()),
        None => build("squall-cli", "squall"),
    };
    match BUILT.get_or_init(|| build().map_err(|error| format!("cannot build squall: {error}"))) {
        Ok(path) => Ok(path),
        Err(text) => Err(text.into()),
    }
}

/// Builds a program of this workspace by itself, in this test program's profile.
pub fn build(package: &str, name: &str) -> std::io::Result<PathBuf> {
    // <target>/<profile>/deps/<this program>
    let this = std::env::current_exe()?;
    let [_, profile, target] =
        std::array::from_fn(|level| this.ancestors().nth(level + 1).map(Path::to_owned).unwrap_or_default());
    let release = profile.file_name().is_some_and(|name| name == "release");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", package, "--bin", name, "--target-dir"]).arg(target);
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if release {
        cargo.arg("--release");
    }
    match cargo.stdin(Stdio::null()).status()? {
        status if status.success() => Ok(profile.join(name)),
        status => Err(std::io::Error::other(format!("{cargo:?}: {status}"))),
    }
}
