//! The peers' command lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime_tests::host;

use crate::args::Args;
use crate::command::within;
use crate::container::{CPU_PERIOD_US, CPU_QUOTA_US, MEMORY_BYTES, PIDS, USER};
use crate::ground::Ground;
use crate::{Outcome, bundle};

/// Another way to the same container, or as near as it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Crun,
    Runc,
    Bwrap,
    Podman,
}

impl Kind {
    /// Those that were not left out.
    pub fn all(args: &Args) -> Vec<Kind> {
        let all = [Kind::Crun, Kind::Runc, Kind::Bwrap, Kind::Podman];
        all.into_iter().filter(|kind| !args.without(kind.name())).collect()
    }

    /// Those among them that take a bundle.
    pub fn runtimes(args: &Args) -> Vec<Kind> {
        Kind::all(args).into_iter().filter(|kind| matches!(kind, Kind::Crun | Kind::Runc)).collect()
    }

    /// The program.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Crun => "crun",
            Kind::Runc => "runc",
            Kind::Bwrap => "bwrap",
            Kind::Podman => "podman",
        }
    }

    /// How a row is called.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Crun => "crun run",
            Kind::Runc => "runc run",
            Kind::Bwrap => "bwrap",
            Kind::Podman => "podman run (runc)",
        }
    }

    /// What its container has not, or has otherwise.
    pub fn note(self) -> &'static str {
        match self {
            Kind::Crun => {
                "crun: overlay mounted beforehand; without the unified hierarchy, which Debian's 1.8 refuses; no monitor, no record"
            }
            Kind::Runc => "runc: overlay mounted beforehand; no monitor, no record",
            Kind::Bwrap => {
                "bwrap: overlay mounted beforehand; no cgroups, no limits, no masked paths; a user namespace instead of a change of user"
            }
            Kind::Podman => {
                "podman: overlay mounted beforehand (--rootfs); runc, cgroupfs, no network, no filter; masked paths and mounts of its own; leaves its cgroups"
            }
        }
    }
}

/// A peer and its container.
pub struct Peer<'g> {
    ground: &'g Ground,
    kind: Kind,
    id: String,
    bundle: PathBuf,
    argv: Vec<String>,
}

impl<'g> Peer<'g> {
    /// For a container of this id.
    pub fn new(ground: &'g Ground, kind: Kind, id: &str, argv: &[&str]) -> Outcome<Peer<'g>> {
        let bundle = bundle::write(ground, id, argv)?;
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        Ok(Peer { ground, kind, id: id.to_owned(), bundle, argv })
    }

    /// Runs the container from start to end.
    pub fn whole(&self) -> Outcome<Command> {
        self.at_home(self.whole_anywhere())
    }

    /// The same, for a caller that knows where.
    pub fn whole_anywhere(&self) -> Command {
        match self.kind {
            Kind::Crun | Kind::Runc => self.runtime(&["run", "--bundle"], true),
            Kind::Bwrap => self.bwrap(),
            Kind::Podman => self.podman_run(&["--rm"]),
        }
    }

    /// Starts the container and returns; nothing for a peer that cannot.
    pub fn detached(&self) -> Outcome<Option<Command>> {
        let command = match self.kind {
            Kind::Crun | Kind::Runc => {
                let pid_file = self.pid_file().display().to_string();
                self.runtime(&["run", "--detach", "--pid-file", &pid_file, "--bundle"], true)
            }
            Kind::Bwrap => return Ok(None),
            Kind::Podman => {
                let pid_file = self.pid_file().display().to_string();
                self.podman_run(&["--detach", "--pidfile", &pid_file])
            }
        };
        self.at_home(command).map(Some)
    }

    /// Executes a further program in a detached one.
    pub fn exec(&self, argv: &[&str]) -> Outcome<Command> {
        let mut command = match self.kind {
            Kind::Crun | Kind::Runc => self.runtime(&["exec"], false),
            Kind::Bwrap => return Err("bwrap executes nothing later".into()),
            Kind::Podman => {
                let mut podman = self.podman();
                podman.args(["exec", &self.id]);
                podman
            }
        };
        command.args(argv);
        self.at_home(command)
    }

    /// Kills and removes a detached one.
    pub fn delete(&self) -> Outcome<Command> {
        self.at_home(match self.kind {
            Kind::Crun | Kind::Runc => self.runtime(&["delete", "--force"], false),
            Kind::Bwrap => return Err("bwrap detaches nothing".into()),
            Kind::Podman => {
                let mut podman = self.podman();
                podman.args(["rm", "--force", "--time", "0", &self.id]);
                podman
            }
        })
    }

    /// Starts one that somebody else has had the runtime create.
    pub fn start(&self) -> Outcome<Command> {
        self.at_home(self.runtime(&["start"], false))
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The container's bundle.
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// Where the runtime keeps its containers.
    pub fn root(&self) -> PathBuf {
        self.ground.bed.work().join(self.kind.name())
    }

    /// The pid of a detached one.
    pub fn pid(&self) -> Outcome<i32> {
        Ok(fs::read_to_string(self.pid_file())?.trim().parse()?)
    }

    fn pid_file(&self) -> PathBuf {
        self.ground.bed.work().join(format!("{}.pid", self.id))
    }

    /// Has a program start where the peer can run.
    pub fn at_home(&self, command: Command) -> Outcome<Command> {
        let namespace = match self.kind {
            Kind::Crun => self.ground.without_unified.as_ref(),
            _ => None,
        };
        within(command, namespace)
    }

    fn runtime(&self, verb: &[&str], bundle: bool) -> Command {
        let mut command = Command::new(self.kind.name());
        command.arg("--root").arg(self.root()).args(verb);
        if bundle {
            command.arg(&self.bundle);
        }
        command.arg(&self.id);
        command
    }

    fn bwrap(&self) -> Command {
        let user = USER.to_string();
        let mut command = Command::new("bwrap");
        command.args(["--unshare-all", "--uid", &user, "--gid", &user, "--hostname", &self.id, "--new-session"]);
        command.args(["--cap-drop", "ALL", "--clearenv", "--ro-bind"]).arg(bundle::root(self.ground)).arg("/");
        command.args(["--proc", "/proc", "--dev", "/dev", "--ro-bind", "/sys", "/sys"]);
        command.args(["--tmpfs", "/run", "--tmpfs", "/tmp", "--tmpfs", "/var/tmp"]);
        command.args(["--bind", &self.ground.shared(), "/work", "--"]).args(&self.argv);
        command
    }

    /// Everything that podman keeps is in the bed: without `CONTAINERS_CONF` it would keep locks in
    /// /dev/shm.
    fn podman(&self) -> Command {
        let home = podman_home(self.ground);
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.ground.bed.work().join("containers.conf"));
        command.arg("--root").arg(home.join("root")).arg("--runroot").arg(home.join("runroot"));
        command.arg("--runtime-flag").arg(format!("root={}", home.join("runc").display()));
        command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--storage-driver", "vfs"]);
        command
    }

    /// The limits on open files and processes are podman's own defaults, which it could not raise
    /// without CAP_SYS_RESOURCE.
    fn podman_run(&self, flags: &[&str]) -> Command {
        let mut command = self.podman();
        command.arg("run").args(flags).args(["--name", &self.id, "--hostname", &self.id, "--network", "none"]);
        command.args(["--cgroups", "no-conmon", "--cgroup-parent", &self.ground.bed.cgroup(), "--log-driver", "none"]);
        command.args(["--memory", &MEMORY_BYTES.to_string(), "--pids-limit", &PIDS.to_string()]);
        command.args(["--cpu-quota", &CPU_QUOTA_US.to_string(), "--cpu-period", &CPU_PERIOD_US.to_string()]);
        command.args(["--user", &format!("{USER}:{USER}"), "--group-add", "0", "--cap-drop", "all", "--read-only"]);
        command.args(["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"]);
        command.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]);
        command.args(["--volume", &format!("{}:/work", self.ground.shared()), "--rootfs"]);
        command.arg(bundle::root(self.ground)).args(&self.argv);
        command
    }
}

/// Short, because podman takes no run root of more than 50 characters.
fn podman_home(ground: &Ground) -> PathBuf {
    ground.bed.directory().join("podman")
}

/// Removes the cgroups that podman leaves behind, some of them only after it has ended. What cannot
/// be removed is the keeper's to tell.
pub fn remove_podmans_cgroups(ground: &Ground) {
    let parents = host::cgroup_directories(&ground.bed.cgroup());
    let all = || parents.iter().flat_map(|parent| fs::read_dir(parent).into_iter().flatten().flatten());
    let is_podmans = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libpod-");
    for _ in 0..20 {
        let left: Vec<PathBuf> = all().filter(is_podmans).map(|entry| entry.path()).collect();
        if left.is_empty() {
            return;
        }
        left.iter().flat_map(|directory| host::tree(directory)).for_each(|directory| drop(fs::remove_dir(directory)));
        host::pause();
    }
}

/// Podman's configuration.
pub fn write_podman_configuration(ground: &Ground) -> Outcome<()> {
    let work = ground.bed.work();
    let text = format!(
        "[engine]\nlock_type = \"file\"\nevents_logger = \"none\"\ncgroup_manager = \"cgroupfs\"\ntmp_dir = \"{}\"\n",
        podman_home(ground).join("tmp").display()
    );
    Ok(fs::write(work.join("containers.conf"), text)?)
}
