//! A node of a Storm cluster: users, the installed program, its configuration, a worker's files.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime_tests::{Bed, Call};
use rustix::fs::{XattrFlags, setxattr};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use serde_json::{Value, json};

/// The program under test, built by the test program before its tests.
pub const PROGRAM: &str = "SQUALL_TEST_LAUNCHER";

/// The supervisor's user, and its own group.
pub const SUPERVISOR: u32 = 21_900;
/// The worker's user.
pub const ALICE: u32 = 21_901;
/// Another worker's user.
pub const BOB: u32 = 21_902;
/// The launcher's group: the supervisor's, and that of all files that it shares with users.
pub const LAUNCHER: u32 = 21_903;
/// A further group of Alice's.
const STAFF: u32 = 21_904;

/// Mounted over directories and files of the machine, in the test's mount namespace.
const PLACES: [&str; 3] = ["/etc/storm", "/etc/passwd", "/etc/group"];

/// A node.
pub struct Node<'b> {
    pub bed: &'b Bed,
    /// Storm's local directory.
    pub local: PathBuf,
    installed: PathBuf,
}

/// The files of one worker.
pub struct Files {
    pub id: String,
    pub container: String,
    pub work: PathBuf,
    pub artifacts: PathBuf,
    pub command_file: PathBuf,
    pub pid_file: PathBuf,
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        for place in PLACES.iter().map(Path::new).chain([self.top().as_path()]) {
            let _ = unmount(place, UnmountFlags::DETACH);
        }
    }
}

impl<'b> Node<'b> {
    /// Makes it, with a configuration that has all that is needed.
    pub fn new(bed: &'b Bed) -> Node<'b> {
        let top = bed.directory().join("node");
        fs::create_dir(&top).unwrap();
        // One that setuid bits count on.
        mount("tmpfs", &top, "tmpfs", MountFlags::empty(), Some(c"mode=755")).unwrap();
        let local = top.join("local");
        let node = Node { bed, installed: top.join("worker-launcher"), local };
        node.make_users();
        node.make_directories();
        fs::create_dir_all("/etc/storm").unwrap();
        mount("tmpfs", "/etc/storm", "tmpfs", MountFlags::empty(), Some(c"mode=755")).unwrap();
        node.configure(&node.configuration());
        fs::copy(std::env::var_os(PROGRAM).expect("the test program has built it"), &node.installed).unwrap();
        node.install(0, LAUNCHER, 0o6550);
        node
    }

    /// Where the program is installed.
    pub fn program(&self) -> &Path {
        &self.installed
    }

    fn top(&self) -> PathBuf {
        self.bed.directory().join("node")
    }

    fn make_users(&self) {
        let users = [("sup", SUPERVISOR), ("alice", ALICE), ("bob", BOB)];
        let passwd = users.map(|(name, id)| format!("{name}:x:{id}:{id}::/nowhere:/bin/sh\n")).concat();
        let own = users.map(|(name, id)| format!("{name}:x:{id}:\n")).concat();
        let group = format!("{own}launch:x:{LAUNCHER}:sup\nstaff2:x:{STAFF}:alice\n");
        for (file, more) in [("passwd", passwd), ("group", group)] {
            let (own, machines) = (self.top().join(file), format!("/etc/{file}"));
            fs::write(&own, fs::read_to_string(&machines).unwrap() + &more).unwrap();
            mount_bind(&own, &machines).unwrap();
        }
    }

    fn make_directories(&self) {
        for (directory, owner) in
            [("", SUPERVISOR), ("workers", SUPERVISOR), ("images", SUPERVISOR), ("artifacts", SUPERVISOR)]
        {
            let path = self.local.join(directory);
            fs::create_dir_all(&path).unwrap();
            chown(&path, Some(owner), Some(LAUNCHER)).unwrap();
        }
        let image = self.image();
        fs::copy(self.bed.probe(), &image).unwrap();
        chown(&image, Some(SUPERVISOR), None).unwrap();
    }

    /// The one layer: the probe at `/bin/probe`.
    pub fn image(&self) -> PathBuf {
        self.local.join("images/probe.sqsh")
    }

    /// A configuration that has all that is needed.
    pub fn configuration(&self) -> String {
        let local = self.local.display();
        format!(
            "storm.worker-launcher.group=launch\n\
             worker.launcher.oci.run-root={}\n\
             worker.launcher.oci.image.roots={local}/images\n\
             worker.launcher.oci.allowed.mount.source.dirs=/etc/hosts,{local}/workers,{local}/artifacts\n\
             worker.launcher.oci.monitors.cgroup={}\n\
             worker.profiler.script.path=/bin/probe\n",
            self.bed.run_root().display(),
            self.bed.monitors()
        )
    }

    /// Writes the configuration file.
    pub fn configure(&self, text: &str) {
        fs::write("/etc/storm/worker-launcher.cfg", text).unwrap();
    }

    /// Gives the installed program owner, group and mode.
    pub fn install(&self, owner: u32, group: u32, mode: u32) {
        chown(&self.installed, Some(owner), Some(group)).unwrap();
        fs::set_permissions(&self.installed, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Gives the installed program these capabilities in place of the setuid bit: as setcap(8) does,
    /// permitted and effective.
    pub fn install_with_capabilities(&self, numbers: &[u32]) {
        self.install(0, LAUNCHER, 0o0550);
        let mask: u64 = numbers.iter().map(|number| 1 << number).sum();
        // struct vfs_cap_data of revision 2, with the effective bit (<linux/capability.h>).
        let words = [0x0200_0001, mask as u32, 0, (mask >> 32) as u32, 0];
        let value: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        setxattr(&self.installed, "security.capability", &value, XattrFlags::empty()).unwrap();
    }

    /// The installed program, called by the supervisor.
    pub fn launcher<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Call {
        self.launcher_as(SUPERVISOR, args)
    }

    /// The same, called by this user, who is in the launcher's group.
    pub fn launcher_as<S: AsRef<std::ffi::OsStr>>(&self, user: u32, args: &[S]) -> Call {
        let mut command = Command::new("setpriv");
        let (id, groups) = (user.to_string(), format!("{user},{LAUNCHER}"));
        command.args(["--reuid", &id, "--regid", &id, "--groups", &groups]).arg(&self.installed).args(args);
        Call::new(command)
    }

    /// The files of a new worker of Alice's, as the supervisor has made them.
    pub fn worker(&self) -> Files {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = format!("0a1b2c3d-0000-4000-8000-{number:012x}");
        let container = format!("6700-{id}");
        let (work, artifacts) = (self.local.join("workers").join(&id), self.local.join("artifacts").join(&id));
        for directory in [&work, &work.join("tmp"), &artifacts] {
            fs::create_dir(directory).unwrap();
            chown(directory, Some(SUPERVISOR), Some(LAUNCHER)).unwrap();
        }
        // As `artifacts-dir` has left it.
        chown(&artifacts, Some(ALICE), Some(LAUNCHER)).unwrap();
        fs::set_permissions(&artifacts, fs::Permissions::from_mode(0o2770)).unwrap();
        symlink(&artifacts, work.join("artifacts")).unwrap();
        let script = work.join("storm-worker-script.sh");
        File::create(&script).unwrap();
        chown(&script, Some(SUPERVISOR), None).unwrap();
        let pid_file = work.join(format!("artifacts/container-{id}.pid"));
        Files { container, command_file: work.join("oci-config.json"), pid_file, work, artifacts, id }
    }

    /// A command file as Storm writes it, of a worker that does what the probe is told to.
    pub fn document(&self, files: &Files, probe: &[&str]) -> Value {
        let work = files.work.to_str().unwrap();
        let bind = |path: &str, access: &str| json!({ "type": "bind", "source": path, "destination": path, "options": [access, "rbind", "rprivate"] });
        let args = [&["/bin/probe"], probe].concat();
        json!({
            "version": "0.1",
            "username": "alice",
            "containerId": files.container,
            "pidFile": files.pid_file,
            "containerScriptPath": files.work.join("storm-worker-script.sh"),
            "reapLayerKeepCount": 100,
            "layers": [{ "mediaType": "application/vnd.squashfs", "path": self.image() }],
            "ociRuntimeConfig": {
                "mounts": [bind("/etc/hosts", "ro"), bind(work, "rw")],
                "process": { "cwd": work, "env": ["PATH=/bin"], "args": args },
                "linux": {
                    "cgroupsPath": format!("{}/{}", self.bed.cgroup(), files.container),
                    "resources": { "memory": { "limit": 64 << 20 }, "cpu": { "quota": 100_000, "period": 100_000 } },
                },
            },
        })
    }

    /// Writes a worker's command file, as a new one: an earlier launch has given it to the user.
    pub fn write(&self, files: &Files, document: &Value) {
        let _ = fs::remove_file(&files.command_file);
        fs::write(&files.command_file, document.to_string()).unwrap();
        fs::set_permissions(&files.command_file, fs::Permissions::from_mode(0o644)).unwrap();
        chown(&files.command_file, Some(SUPERVISOR), Some(SUPERVISOR)).unwrap();
    }

    /// `run-oci-container` for Alice.
    pub fn run(&self, files: &Files) -> Call {
        let artifacts = files.work.join("artifacts");
        self.launcher(&[
            "alice".as_ref(),
            "run-oci-container".as_ref(),
            files.work.as_os_str(),
            files.command_file.as_os_str(),
            artifacts.as_os_str(),
        ])
    }

    /// Runs a worker that does what the probe is told to; it has to begin.
    pub fn start(&self, probe: &[&str]) -> Files {
        let files = self.worker();
        self.write(&files, &self.document(&files, probe));
        self.run(&files).ok();
        files
    }

    /// `reap-oci-container` for a user.
    pub fn reap(&self, user: &str, id: &str, keep: &str) -> Call {
        self.launcher(&[user, "reap-oci-container", id, keep])
    }
}

impl Files {
    /// What the pid file says.
    pub fn pid(&self) -> u32 {
        let text = fs::read_to_string(&self.pid_file).unwrap();
        text.lines().next().unwrap().parse().unwrap()
    }
}
