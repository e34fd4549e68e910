//! What one test has to itself.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use squall::squashfs::{Attributes, Options, Writer};

use crate::call::Call;
use crate::host;

/// The cgroup below which the tests make theirs, where the machine's init has delegated one.
const CGROUP: &str = "SQUALL_TEST_CGROUP";

/// A writer of an image file.
pub type ImageWriter = Writer<File>;

/// A test's run root, images, working directory and cgroups, all named by its tag.
#[derive(Debug)]
pub struct Bed {
    tag: String,
    directory: PathBuf,
    program: PathBuf,
    probe: OnceLock<String>,
}

impl Bed {
    /// The bed of this tag; nothing is made.
    pub fn new(tag: &str, program: &Path) -> Bed {
        Bed {
            tag: tag.to_owned(),
            directory: memory_base().join(format!("squall-test-{tag}")),
            program: program.to_owned(),
            probe: OnceLock::new(),
        }
    }

    /// Makes its directories. The run root is Squall's to make.
    pub fn make(&self) -> io::Result<()> {
        for (path, mode) in [(self.directory.clone(), 0o755), (self.images(), 0o755), (self.work(), 0o777)] {
            fs::create_dir(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// What all its objects carry in their names.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Above all its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The run root.
    pub fn run_root(&self) -> PathBuf {
        self.directory.join("run")
    }

    /// Where its images are.
    pub fn images(&self) -> PathBuf {
        self.directory.join("images")
    }

    /// Where the test may do as it likes; so may every user.
    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// A path in the working directory, as text.
    pub fn file(&self, name: &str) -> String {
        text(&self.work().join(name))
    }

    /// The parent of its containers' cgroups: at the top, or below the cgroup that is for tests
    /// (`SQUALL_TEST_CGROUP`).
    pub fn cgroup(&self) -> String {
        let base = std::env::var(CGROUP).unwrap_or_default();
        format!("{base}/squall-test-{}", self.tag)
    }

    /// The cgroup of its monitors.
    pub fn monitors(&self) -> String {
        format!("{}/monitors", self.cgroup())
    }

    /// The program under test.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The same bed, with another file as the program under test.
    pub fn with_program(&self, program: &Path) -> Bed {
        let probe = OnceLock::from(self.probe().to_owned());
        Bed { tag: self.tag.clone(), directory: self.directory.clone(), program: program.to_owned(), probe }
    }

    /// The library's way in, with this bed's run root and monitors.
    pub fn library(&self) -> squall::SquallBuilder {
        squall::Squall::builder().run_root(self.run_root()).monitors(self.monitors())
    }

    /// An image file with what `write` puts into it. The name has no ending.
    pub fn image(&self, name: &str, write: impl FnOnce(&mut ImageWriter)) -> String {
        self.image_with(Options::default(), name, write)
    }

    /// The same, with other options than those by default, which compress nothing.
    pub fn image_with(&self, options: Options, name: &str, write: impl FnOnce(&mut ImageWriter)) -> String {
        let path = self.images().join(format!("{name}.sqsh"));
        let file = File::create_new(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut writer = Writer::new(file, options).expect("the options are right");
        write(&mut writer);
        let (file, summary) = writer.finish().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        file.set_len(summary.bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text(&path)
    }

    /// An image of the probe alone, at `/bin/probe`.
    pub fn probe(&self) -> &str {
        self.probe.get_or_init(|| self.image("probe", |writer| add_probe(writer, "bin/probe", 0o755)))
    }

    /// `squall` with this bed's run root and monitors.
    pub fn squall(&self, args: &[&str]) -> Call {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.run_root()).args(["--monitor-cgroup", &self.monitors()]).args(args);
        Call::new(command)
    }

    /// `squall run` of the probe from its own image.
    pub fn run(&self, flags: &[&str], probe: &[&str]) -> Call {
        self.run_layers(&[self.probe()], flags, &[&["/bin/probe"], probe].concat())
    }

    /// `squall run` of these layers, base first.
    pub fn run_layers<S: AsRef<str>>(&self, layers: &[S], flags: &[&str], argv: &[&str]) -> Call {
        let layers = layers.iter().flat_map(|layer| ["--layer", layer.as_ref()]);
        self.squall(&["run", "--cgroup-parent", &self.cgroup()]).args(layers).args(flags).args(["--"]).args(argv)
    }

    /// What the probe reports from inside.
    pub fn report(&self, flags: &[&str]) -> Value {
        self.run(flags, &["report"]).json()
    }

    /// What the probe answers to one attempt: `{"ok": …}` or `{"errno": …}`.
    pub fn attempt(&self, flags: &[&str], what: &[&str]) -> Value {
        self.run(flags, &[&["try"], what].concat()).json()
    }

    /// Starts the probe detached.
    pub fn start(&self, flags: &[&str], probe: &[&str]) -> Worker<'_> {
        let id = self.run(&[&["--detach"], flags].concat(), probe).ok().text();
        Worker { bed: self, id }
    }

    /// The worker of this id.
    pub fn worker(&self, id: &str) -> Worker<'_> {
        Worker { bed: self, id: id.to_owned() }
    }
}

/// A detached worker.
#[derive(Debug)]
pub struct Worker<'a> {
    bed: &'a Bed,
    /// Its id.
    pub id: String,
}

impl Worker<'_> {
    /// The record.
    pub fn inspect(&self) -> Value {
        self.bed.squall(&["inspect", "--json", &self.id]).json()
    }

    /// Init's pid on the host.
    pub fn pid(&self) -> u32 {
        number(&self.inspect()["init"]["pid"])
    }

    /// The monitor's pid.
    pub fn monitor(&self) -> u32 {
        number(&self.inspect()["monitor"]["pid"])
    }

    /// Its phase.
    pub fn phase(&self) -> String {
        self.inspect()["phase"].as_str().unwrap_or_default().to_owned()
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> String {
        format!("{}/{}", self.bed.cgroup(), self.id)
    }

    /// A file of its cgroup, from the hierarchy that has it.
    pub fn cgroup_file(&self, name: &str) -> Option<String> {
        let files = host::cgroup_directories(&self.cgroup()).into_iter().map(|directory| directory.join(name));
        files.filter_map(|file| fs::read_to_string(file).ok()).map(|text| text.trim_end().to_owned()).next()
    }

    /// Waits for its end; the code that `wait` prints.
    pub fn wait(&self) -> i32 {
        let output = self.bed.squall(&["wait", &self.id]).ok();
        output.text().parse().unwrap_or_else(|_| panic!("{output}"))
    }

    /// Kills it and waits for its end.
    pub fn kill(&self) {
        self.bed.squall(&["stop", "--time", "0", "--signal", "KILL", &self.id]).ok();
    }
}

/// Adds the probe to an image.
pub fn add_probe(writer: &mut ImageWriter, path: &str, mode: u32) {
    writer
        .file(path, &Attributes::new(mode), squall_cli::demo::PROBE)
        .unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// A path of ours as text.
pub fn text(path: &Path) -> String {
    path.to_str().expect("the harness's paths are text").to_owned()
}

fn number(value: &Value) -> u32 {
    value.as_u64().and_then(|number| number.try_into().ok()).unwrap_or_else(|| panic!("not a number: {value}"))
}

/// A directory in memory: `/run`, and where that is on a disk `/dev/shm`.
fn memory_base() -> &'static Path {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    let in_memory = |path: &str| rustix::fs::statfs(path).is_ok_and(|kind| kind.f_type == TMPFS_MAGIC);
    Path::new(if in_memory("/run") { "/run" } else { "/dev/shm" })
}
