//! The command line, as it is typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::seccomp::Seccomp;

/// Runs workers in containers whose root is an overlay of mounted squashfs layers.
#[derive(Debug, Parser)]
#[command(name = "squall", version, about, max_term_width = 110)]
pub struct Cli {
    /// The run root: records, control sockets and mounted layers
    #[arg(long, global = true, value_name = "DIR", default_value = squall::DEFAULT_RUN_ROOT)]
    pub root: PathBuf,

    /// The cgroup in which monitors live; those of containers in scopes of systemd are there [default: /squall/monitors]
    #[arg(long, global = true, value_name = "PATH")]
    pub monitor_cgroup: Option<String>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a worker
    Run(Box<Run>),
    /// Tell what `run` would do, and do nothing of it; needs no privilege
    Plan(Box<Plan>),
    /// List containers
    Ps(Ps),
    /// Show what is recorded of a container
    Inspect(Inspect),
    /// Wait for a container to end, and print its exit code
    Wait(Ids),
    /// End a container: a signal, a grace, then the whole tree
    Stop(Stop),
    /// Send a container's init a signal
    Kill(Kill),
    /// Remove what is kept of an ended container
    Rm(Rm),
    /// Show what a container uses
    Stats(Stats),
    /// List the layers that are mounted or in use
    Layers(Layers),
    /// Clear away what a crash left, and unmount idle layers
    Reap(Reap),
    /// Run a worker in a container before your eyes, and measure every claim
    Demo(Demo),
    /// Tell what this machine can do, what is missing, and what to do about it
    Doctor(Doctor),
    /// Check and explain seccomp profiles
    Seccomp(Seccomp),
    /// Serve launches for another program (used by the library)
    #[command(hide = true)]
    Spawner,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Without --layer and --spec the first argument is the one layer file, and the program is /bin/sh unless another \
                        one follows. Options stand before it: what follows belongs to the program."
)]
pub struct Run {
    /// A layer file, squashfs or EROFS; base first, as often as there are layers
    #[arg(long = "layer", value_name = "FILE")]
    pub layers: Vec<PathBuf>,
    /// Refuse layers outside this directory, and those that anybody but root and the owners could change. Repeatable
    #[arg(long = "image-root", value_name = "DIR")]
    pub image_roots: Vec<PathBuf>,
    /// A user whom layers below image roots may belong to, besides root. Repeatable
    #[arg(long = "image-owner", value_name = "UID", requires = "image_roots")]
    pub image_owners: Vec<u32>,
    /// Storm's command file, oci-config.json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["layers", "rest", "name", "env", "workdir", "user", "own_users", "volumes", "tmpfs",
        "mounts", "writable", "memory", "memory_swap", "oom_group", "cpus", "cpuset_cpus", "cpuset_mems", "pids_limit", "cgroup_parent", "cgroup_manager", "hostname", "network",
        "pidfile"])]
    pub spec: Option<PathBuf>,
    /// Keep standard input open; a worker in the foreground has the caller's in any case
    #[arg(short, long, conflicts_with = "detach")]
    pub interactive: bool,
    /// A terminal of its own: not supported yet
    #[arg(short, long, hide = true)]
    pub tty: bool,
    /// Do not wait: print the id and leave the worker running
    #[arg(short, long)]
    pub detach: bool,
    /// The container's id
    #[arg(long, value_name = "ID")]
    pub name: Option<String>,
    /// Keep no record of it after its end
    #[arg(long)]
    pub rm: bool,
    /// A variable of the worker's environment; without a value it is the caller's, where the caller has it
    #[arg(short, long, value_name = "K[=V]")]
    pub env: Vec<String>,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Who the worker is; auto: a user that no other container has, of --own-users [default: the caller; for root auto]
    #[arg(short, long, value_name = "NAME|UID[:GID]|auto")]
    pub user: Option<String>,
    /// The uids of which --user auto takes one, held as long as the container or a host path that it can write to is there
    /// [default: 2100000000-2100065535]
    #[arg(long, value_name = "FIRST-LAST")]
    pub own_users: Option<String>,
    /// A host path in the container; one that begins with '.' is relative to the working directory
    #[arg(short, long = "volume", value_name = "SRC:DST[:OPTIONS]")]
    pub volumes: Vec<String>,
    /// A file system in memory
    #[arg(long, value_name = "DST[:size=SIZE,OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// A mount by keys, for paths with ':': type=bind,src=PATH,dst=PATH[,ro] or type=tmpfs,dst=PATH[,tmpfs-size=SIZE]
    #[arg(long = "mount", value_name = "KEY=VALUE,…")]
    pub mounts: Vec<String>,
    /// A root that can be written to: in memory, of this size (half of the machine's without one), or in a directory of the host. A size for
    /// that takes a file system with project quotas (ext4, xfs or f2fs mounted with prjquota) and an empty directory
    #[arg(long, value_name = "SIZE|DIR[,size=SIZE]", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub writable: Option<String>,
    /// Memory limit; 0 for none
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Limit of memory and swap together, -1 for any amount of swap, 0 for none of its own
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Where the memory limit ends one process, end all of the container's (cgroup v2)
    #[arg(long)]
    pub oom_group: bool,
    /// CPU quota, in CPUs; 0 for none
    #[arg(long, value_name = "CPUS")]
    pub cpus: Option<String>,
    /// CPUs to run on
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Most processes and threads; 0 or -1 for no limit [default: 2048, where the machine counts them]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<String>,
    /// What the container's cgroup is made in: a cgroup's path, or for systemd a slice [default: /squall, or system.slice]
    #[arg(long, value_name = "PATH|SLICE")]
    pub cgroup_parent: Option<String>,
    /// Who makes the container's cgroup [default: systemd where it runs with cgroup v2 alone, unless --cgroup-parent or --monitor-cgroup
    /// is a path]
    #[arg(long, value_name = "cgroupfs|systemd")]
    pub cgroup_manager: Option<String>,
    /// The container's host name [default: its id, with the host's network the host's]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// The network: the host's, or one of its own with only a loopback device [default: none]
    #[arg(long, visible_alias = "net", value_name = "host|none")]
    pub network: Option<String>,
    /// What confines the worker. Its system calls: seccomp=FILE (an OCI or Docker profile),
    /// seccomp=unconfined or seccomp=default. A profile that is loaded on the host:
    /// apparmor=PROFILE, or apparmor=unconfined. A whole SELinux label:
    /// label=context:USER:ROLE:TYPE[:LEVEL], or label=disable. With --spec for a document that does
    /// not say. Repeatable
    #[arg(long = "security-opt", value_name = "OPTION")]
    pub security_options: Vec<String>,
    /// Let a worker of uid 0 give files setuid and setgid bits, also in directories of the host: otherwise the calls fail with EPERM
    #[arg(long)]
    pub allow_setuid_bits: bool,
    /// Where init's pid is written
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// A file for the worker's standard output, or /dev/null
    #[arg(long, value_name = "FILE")]
    pub stdout: Option<PathBuf>,
    /// A file for the worker's standard error, or /dev/null
    #[arg(long, value_name = "FILE")]
    pub stderr: Option<PathBuf>,
    /// Stop the worker after this many seconds
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    pub timeout: Option<String>,
    /// IMAGE.sqsh (without --layer), program and arguments
    #[arg(value_name = "ARGV", trailing_var_arg = true)]
    pub rest: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Takes what `run` takes, refuses what `run` refuses, and ends with 0 also where the launch would fail as things are: \
                        then the obstacles are named."
)]
pub struct Plan {
    #[command(flatten)]
    pub run: Run,
    /// For a machine
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Ps {
    /// Those that have ended, too
    #[arg(short, long)]
    pub all: bool,
    /// For a machine
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// Which
    #[arg(value_name = "ID")]
    pub id: String,
    /// For a machine: the whole record
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Ids {
    /// Which
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// For a machine
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Stop {
    /// Seconds between the signal and the kill
    #[arg(short, long, value_name = "S", default_value = "10", allow_hyphen_values = true)]
    pub time: String,
    /// The signal
    #[arg(short, long, default_value = "TERM")]
    pub signal: String,
    /// Which
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Kill {
    /// The signal
    #[arg(short, long, default_value = "KILL")]
    pub signal: String,
    /// Which
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Rm {
    /// Kill it first if it runs
    #[arg(short, long)]
    pub force: bool,
    /// Which
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Stats {
    /// Once, not once a second
    #[arg(long)]
    pub no_stream: bool,
    /// For a machine
    #[arg(long)]
    pub json: bool,
    /// Which
    #[arg(value_name = "ID")]
    pub id: String,
}

#[derive(Debug, Args)]
pub struct Layers {
    /// For a machine
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Reap {
    /// How many idle layers may stay mounted
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep: usize,
    /// Only say what would go, and why
    #[arg(long)]
    pub dry_run: bool,
    /// For a machine
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Demo {
    /// For a machine
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 0 where everything can be launched, 1 where something is limited or the launch at the end could not be \
                        tried, 2 where nothing can be launched. Changes nothing on the machine but by that launch, which clears away after itself."
)]
pub struct Doctor {
    /// For a machine
    #[arg(long)]
    pub json: bool,
}
