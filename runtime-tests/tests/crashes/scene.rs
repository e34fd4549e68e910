//! What a case has to itself: a bed whose run root is a small file system, and the means of the
//! faults.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use runtime_tests::call::wait_for_end;
use runtime_tests::{Bed, host, leaks, roles};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use squall::{Container, Squall};

/// How long a part may take: the longest bound of Squall's own is 35 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the kernel may take to let go of what has ended.
const LETTING_GO: Duration = Duration::from_secs(10);

/// Room for a few containers' records, and quickly filled.
const RUN_ROOT_SIZE: &std::ffi::CStr = c"size=512k,nr_inodes=200,mode=700";

/// Less than any of our processes needs to go on.
const MEMORY_LIMIT: &str = "4194304";

/// The surroundings of one case.
pub struct Scene {
    pub bed: Bed,
    /// The container.
    pub id: String,
    /// The layers' files; the first is the one that a fault truncates.
    pub layers: Vec<String>,
}

/// How a part ended.
#[derive(Debug)]
pub struct Ended {
    pub success: bool,
    pub text: String,
}

impl Scene {
    /// In a mount namespace that this thread has to itself: a launch of another case copies all
    /// mounts of its namespace, and an init that dies slowly would hold ours.
    pub fn new() -> Scene {
        runtime_tests::namespace::leave_the_machines().expect("root may have a mount namespace of its own");
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Of one length, so that no tag is the beginning of another.
        let tag = format!("{:07}-{:04}c", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let bed = Bed::new(&tag, Path::new("/nonexistent"));
        bed.make().expect("root may make directories");
        fs::create_dir(bed.run_root()).expect("root may make directories");
        mount("tmpfs", bed.run_root(), "tmpfs", MountFlags::NODEV, RUN_ROOT_SIZE).expect("root may mount");
        let scene = Scene { id: format!("c-{tag}"), layers: vec![bed.probe().to_owned(), empty_layer(&bed)], bed };
        fs::create_dir(scene.means()).expect("there is room");
        std::os::unix::fs::symlink(&scene.layers[0], scene.means().join("layer")).expect("there is room");
        let memory = scene.memory_cgroup();
        fs::create_dir_all(&memory).expect("root may make cgroups");
        // In v2 those above hand the controller down, from the top; in v1 there is no such file.
        for above in [memory.ancestors().nth(2), memory.parent()].into_iter().flatten() {
            let _ = fs::write(above.join("cgroup.subtree_control"), "+memory");
        }
        let limit = ["memory.limit_in_bytes", "memory.max"]
            .map(|file| memory.join(file))
            .into_iter()
            .find(|file| file.exists());
        fs::write(limit.expect("a memory controller"), MEMORY_LIMIT).expect("root may set limits");
        std::os::unix::fs::symlink(memory.join("cgroup.procs"), scene.means().join("memory")).expect("there is room");
        scene
    }

    /// Where the faults find what they need, on the run root's file system.
    pub fn means(&self) -> PathBuf {
        self.bed.run_root().join("means")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.bed.work().join("pid")
    }

    /// Its text, where there is one.
    pub fn exit_file(&self) -> Option<String> {
        fs::read_to_string(self.pid_file().with_extension("exit")).ok()
    }

    /// Files with the name that an exit file has before it is complete. Who writes it may outlive a
    /// monitor that was killed.
    pub fn half_exit_files(&self) -> Vec<String> {
        let look = || {
            let entries = fs::read_dir(self.bed.work()).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            names.filter(|name| name.starts_with(".exit.")).collect::<Vec<_>>()
        };
        let deadline = Instant::now() + LETTING_GO;
        while !look().is_empty() && Instant::now() < deadline {
            host::pause();
        }
        look()
    }

    fn memory_cgroup(&self) -> PathBuf {
        let with_memory =
            |root: &PathBuf| root.join("memory.limit_in_bytes").exists() || root.join("memory.stat").exists();
        let root = host::hierarchies().into_iter().find(with_memory).expect("a hierarchy with the memory controller");
        root.join(format!("{}/limited", &self.bed.cgroup()[1..]))
    }

    /// The library on this run root.
    pub fn squall(&self) -> Squall {
        self.bed.library().build().expect("the bed's names are right")
    }

    /// A part, to be started; with an order, the fault strikes in it.
    pub fn part(&self, name: &str, order: Option<&str>) -> Command {
        self.part_as(&self.id, name, order)
    }

    /// The same, of a container of another id.
    fn part_as(&self, id: &str, name: &str, order: Option<&str>) -> Command {
        let mut command = roles::command(name);
        command.arg(self.bed.run_root()).args([&self.bed.monitors(), &self.bed.cgroup(), id]);
        command
            .arg(if id == self.id { self.pid_file() } else { self.pid_file().with_extension(id) })
            .args(&self.layers);
        if let Some(order) = order {
            command.env("SQUALL_CRASH", order).env("SQUALL_CRASH_DIR", self.means());
        }
        command.stdin(Stdio::null()).stdout(self.log("log")).stderr(self.log("log"));
        command
    }

    fn log(&self, name: &str) -> fs::File {
        fs::File::options().append(true).create(true).open(self.bed.work().join(name)).expect("there is room")
    }

    /// Plays a part to its end.
    pub fn play(&self, name: &str, order: Option<&str>) -> Ended {
        self.end_of(self.part(name, order).spawn().expect("this program can be started"))
    }

    /// The same, of a container of another id.
    pub fn play_as(&self, id: &str, name: &str, order: Option<&str>) -> Ended {
        self.end_of(self.part_as(id, name, order).spawn().expect("this program can be started"))
    }

    pub fn end_of(&self, mut child: Child) -> Ended {
        match wait_for_end(&mut child, PATIENCE).expect("a child can be waited for") {
            None => Ended { success: false, text: format!("it did not end within {PATIENCE:?}") },
            Some(status) => Ended { success: status.success(), text: format!("{status}\n{}", self.said()) },
        }
    }

    /// What the parts said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.bed.work().join("log")).unwrap_or_default()
    }

    /// The points that were passed, in their order.
    pub fn passed(&self) -> Vec<String> {
        let text = fs::read_to_string(self.means().join("passed")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What is passed from now on counts.
    pub fn forget_passed(&self) {
        let _ = fs::remove_file(self.means().join("passed"));
    }

    /// Whether a point is passed; a launch process passes its last ones after it has answered.
    pub fn comes_to_pass(&self, point: &str) -> bool {
        let deadline = Instant::now() + LETTING_GO;
        let is_passed = || self.passed().iter().any(|passed| passed == point);
        while !is_passed() && Instant::now() < deadline {
            host::pause();
        }
        is_passed()
    }

    /// The container, if there is one.
    pub fn container(&self) -> squall::Result<Option<Container>> {
        match self.squall().attach(&self.id) {
            Ok(container) => Ok(Some(container)),
            Err(error) if error.kind() == squall::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for whoever is still at work: a launch goes on without its caller.
    pub fn wait_for_parts(&self) {
        let run_root = runtime_tests::bed::text(&self.bed.run_root());
        // The init of a container that is created has its launcher's words, and is no part.
        let waits = |pid: u32| matches!(self.container(), Ok(Some(Container::Created(created))) if created.record().init.pid as u32 == pid);
        let works = |pid: u32| {
            let words = fs::read(format!("/proc/{pid}/cmdline"));
            words.is_ok_and(|text| String::from_utf8_lossy(&text).contains(&run_root)) && !waits(pid)
        };
        let deadline = Instant::now() + PATIENCE;
        while host::processes().into_iter().any(works) && Instant::now() < deadline {
            host::pause();
        }
    }

    /// Waits until the worker takes the signal that tells it to end, or is dead: before, it is lost
    /// on the first process of a pid namespace.
    pub fn listens(&self, init: i32) {
        const SIGTERM_BIT: u64 = 1 << (15 - 1);
        let deadline = Instant::now() + LETTING_GO;
        let caught = || u64::from_str_radix(&host::status(init as u32, "SigCgt"), 16).unwrap_or_default();
        while caught() & SIGTERM_BIT == 0 && host::is_alive(init as u32) && Instant::now() < deadline {
            host::pause();
        }
    }

    /// Takes the means of the faults away: they are not the runtime's.
    pub fn end_faults(&self) {
        let _ = fs::remove_dir_all(self.means());
        let deadline = Instant::now() + LETTING_GO;
        while fs::remove_dir(self.memory_cgroup()).is_err()
            && self.memory_cgroup().exists()
            && Instant::now() < deadline
        {
            host::pause();
        }
    }

    /// What is left, after the kernel had the time to let go.
    pub fn left(&self) -> Vec<String> {
        let deadline = Instant::now() + LETTING_GO;
        loop {
            let left: Vec<String> = leaks::look(&self.bed).into_iter().filter(|object| !self.is_ours(object)).collect();
            if left.is_empty() || Instant::now() >= deadline {
                return left;
            }
            host::pause();
        }
    }

    /// The run root's own mount.
    fn is_ours(&self, object: &str) -> bool {
        object.starts_with("mount tmpfs ") && object.contains(&format!(" {} ", self.bed.run_root().display()))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = unmount(self.bed.run_root(), UnmountFlags::DETACH);
        leaks::clear(&self.bed);
    }
}

/// A layer beside the one with the program.
fn empty_layer(bed: &Bed) -> String {
    bed.image("other", |writer| {
        let attributes = squall::squashfs::Attributes::new(0o644);
        writer.file("other", &attributes, &b"other"[..]).expect("it can be written");
    })
}
