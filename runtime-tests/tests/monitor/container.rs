//! A container for the monitor, made by hand, and a client.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with,
};
use squall::record::ExitRecord;
use squall::testing::monitor::protocol::{Answer, Request, Status};

/// The hierarchies that a container is in: those of v1 that count something and the tree of v2
/// beside them, or v2 alone.
pub fn hierarchies() -> &'static [&'static str] {
    if v2_alone() { &["unified"] } else { &["memory", "cpuacct", "cpu", "pids", "unified"] }
}

pub fn v2_alone() -> bool {
    let found = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    runtime_tests::needs::has("cgroup2", found)
}

/// A cgroup's directory. The controller of a limit is in its own hierarchy, or in the only one.
fn cgroup_directory(hierarchy: &str, cgroup: &str) -> String {
    let root = if v2_alone() { "/sys/fs/cgroup".to_owned() } else { format!("/sys/fs/cgroup/{hierarchy}") };
    format!("{root}/{cgroup}")
}

/// On a machine with v2 alone a cgroup has controllers only when each one above it hands them down.
fn hand_controllers_down(cgroup: &str) {
    for directory in ["/sys/fs/cgroup".to_owned(), cgroup_directory("", cgroup)] {
        fs::write(format!("{directory}/cgroup.subtree_control"), "+memory +pids +cpu").unwrap();
    }
}

/// A container in being: its directory, its cgroups, its monitor.
pub struct Container {
    pub directory: tempfile::TempDir,
    pub cgroup: String,
    pub hierarchies: Vec<&'static str>,
    pub monitor: Child,
}

/// What a container is launched with.
pub struct Launch {
    pub hierarchies: Vec<&'static str>,
    arguments: Vec<String>,
    limits: Vec<(&'static str, &'static str)>,
    pub directory: tempfile::TempDir,
    pub cgroup: String,
}

impl Launch {
    pub fn new() -> Launch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let launch = Launch {
            hierarchies: hierarchies().to_vec(),
            arguments: Vec::new(),
            limits: Vec::new(),
            directory: tempfile::tempdir_in("/dev/shm").unwrap(), // a tmpfs, as the run root is
            cgroup: format!("squall-montest-{}-{number}", std::process::id()),
        };
        mknodat(CWD, launch.path("ready"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        launch
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn with(mut self, arguments: &[&str]) -> Launch {
        self.arguments.extend(arguments.iter().map(|argument| argument.to_string()));
        self
    }

    pub fn without_unified(mut self) -> Launch {
        self.hierarchies.retain(|hierarchy| *hierarchy != "unified");
        self
    }

    /// A memory limit of a cgroup, by its path from the container's parent.
    pub fn memory_limit(mut self, cgroup: &'static str, value: &'static str) -> Launch {
        self.limits.push((cgroup, value));
        self
    }

    pub fn watching_oom(self) -> Launch {
        let parent = cgroup_directory("memory", &self.cgroup);
        let own = format!("{parent}/c");
        self.with(&["--oom", &own, "-", "--oom", &parent, "/parent"])
    }

    /// Runs the script in the cgroups. `$R` is where it says that it is ready.
    pub fn run(mut self, script: &str) -> Container {
        let mut joins = format!("R={};", self.path("ready").display());
        for hierarchy in &self.hierarchies {
            let leaf = format!("{}/c", cgroup_directory(hierarchy, &self.cgroup));
            fs::create_dir_all(&leaf).unwrap();
            if v2_alone() {
                hand_controllers_down(&self.cgroup);
            }
            joins += &format!("echo $$ > {leaf}/cgroup.procs;");
            self.arguments.extend(["--cgroup".to_owned(), hierarchy.to_string(), leaf]);
        }
        let file = if v2_alone() { "memory.max" } else { "memory.limit_in_bytes" };
        for (cgroup, value) in &self.limits {
            let directory = cgroup_directory("memory", &self.cgroup);
            fs::write(format!("{directory}/{cgroup}/{file}"), value).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_monitor-launch"));
        command.arg(self.directory.path()).args(&self.arguments).arg(joins + script);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let monitor = command.spawn().unwrap();
        Container { directory: self.directory, cgroup: self.cgroup, hierarchies: self.hierarchies, monitor }
    }
}

impl Container {
    /// Waits until the script opens `$R`; the socket listens by then.
    pub fn ready(self) -> Container {
        fs::File::open(self.directory.path().join("ready")).unwrap().read_to_end(&mut Vec::new()).unwrap();
        self
    }

    pub fn client(&self) -> Client {
        Client::connect(self.directory.path())
    }

    pub fn status(&self) -> Status {
        self.client().status()
    }

    pub fn leaf(&self, hierarchy: &str) -> PathBuf {
        format!("{}/c", cgroup_directory(hierarchy, &self.cgroup)).into()
    }

    /// Waits for the monitor, and checks that nothing is left.
    pub fn end(&mut self) -> (ExitStatus, Option<ExitRecord>) {
        let status = self.monitor.wait().unwrap();
        let record = fs::read(self.directory.path().join("exit.json"));
        let record = record.ok().map(|text| serde_json::from_slice(&text).expect("exit.json is a record"));
        for hierarchy in &self.hierarchies {
            assert!(!self.leaf(hierarchy).exists(), "{hierarchy} is left");
        }
        for name in ["monitor.sock", "exit.json.tmp"] {
            assert!(!self.directory.path().join(name).exists(), "{name} is left");
        }
        (status, record)
    }

    pub fn record(mut self) -> ExitRecord {
        let (status, record) = self.end();
        assert_eq!(status.code(), Some(0));
        record.expect("a record")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
        let _ = fs::write(self.leaf("unified").join("cgroup.kill"), "1");
        for hierarchy in &self.hierarchies {
            let leaf = self.leaf(hierarchy);
            let until = Instant::now() + Duration::from_secs(2);
            while leaf.exists() && fs::remove_dir(&leaf).is_err() && Instant::now() < until {
                std::thread::yield_now();
            }
            let _ = fs::remove_dir(leaf.parent().unwrap());
        }
    }
}

pub struct Client(pub OwnedFd);

impl Client {
    pub fn connect(directory: &Path) -> Client {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(20))).unwrap();
        connect(&socket, &SocketAddrUnix::new(directory.join("monitor.sock")).unwrap()).unwrap();
        Client(socket)
    }

    pub fn raw(&self, packet: &[u8]) -> Option<Answer> {
        send(&self.0, packet, SendFlags::NOSIGNAL).ok()?;
        self.hear()
    }

    pub fn hear(&self) -> Option<Answer> {
        let mut buffer = [0; 256];
        let (length, _) = recv(&self.0, &mut buffer, RecvFlags::empty()).ok()?;
        Answer::decode(&buffer[..length])
    }

    pub fn ask(&self, request: Request) -> Option<Answer> {
        self.raw(&request.encode())
    }

    pub fn status(&self) -> Status {
        match self.ask(Request::Status) {
            Some(Answer::Status(status)) => status,
            other => panic!("{other:?}"),
        }
    }
}

pub fn stop(grace_ms: u32) -> Request {
    Request::Stop { signal: None, grace_ms: Some(grace_ms) }
}
