//! The command line, as it is typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::attach::Attach;
use crate::events::Events;
use crate::exec::Exec;
use crate::image::{Image, Policy, StoreFlag};
use crate::metrics::Metrics;
use crate::seccomp::Seccomp;
use crate::stats::Stats;
use crate::top::Top;

/// Runs workers in containers whose root is an overlay of mounted squashfs layers.
#[derive(Debug, Parser)]
#[command(name = "squall", version, about, max_term_width = 110)]
pub struct Cli {
    /// Run root: records, control sockets and mounted layers
    #[arg(long, global = true, value_name = "DIR", default_value = squall::DEFAULT_RUN_ROOT)]
    pub root: PathBuf,

    /// Cgroup for the monitors of containers that are not in a systemd scope [default:
    /// /squall/monitors]
    #[arg(long, global = true, value_name = "PATH")]
    pub monitor_cgroup: Option<String>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a worker
    Run(Box<Run>),
    /// Create a container whose worker waits to be started
    Create(Box<Run>),
    /// Start containers that were created
    Start(Several),
    /// Show what `run` would do (dry run); needs no privilege
    Plan(Box<Plan>),
    /// List containers
    Ps(Ps),
    /// Display the record of a container
    Inspect(Inspect),
    /// Block until a container ends, then print its exit code
    Wait(Ids),
    /// Stop containers: send a signal, wait, then kill every process
    Stop(Stop),
    /// Send a signal to the first process of a container
    Kill(Kill),
    /// Execute a command in a running container
    Exec(Box<Exec>),
    /// Attach to the terminal of a container that runs in the background
    Attach(Attach),
    /// Make all processes of containers stand still
    Pause(Several),
    /// Let paused containers run again
    #[command(visible_alias = "unpause")]
    Resume(Several),
    /// Change the limits of containers while they run
    Update(Update),
    /// Remove ended containers
    Rm(Rm),
    /// Display what a worker wrote, of a container with a log (--log-file, --log-opt)
    Logs(Logs),
    /// Display resource usage of containers, live
    Stats(Stats),
    /// Show what happens to containers
    Events(Events),
    /// Display the processes of a container
    Top(Top),
    /// Print or serve the resource usage of all containers as OpenMetrics text
    Metrics(Metrics),
    /// Manage images
    Image(Box<Image>),
    /// List the layers that are mounted or in use
    Layers(Layers),
    /// Remove what a crash left behind, and unmount unused layers
    Reap(Reap),
    /// Run a worker in a container and check every claim, step by step
    Demo(Demo),
    /// Check this machine: what works, what is missing, how to mend it
    Doctor(Doctor),
    /// Check and explain seccomp profiles
    Seccomp(Seccomp),
    /// Write man pages and shell completions into a directory
    #[cfg(feature = "pages")]
    #[command(hide = true)]
    Pages {
        /// Made if it is not there
        directory: PathBuf,
    },
    /// Keep a terminal that its caller has left
    #[command(hide = true)]
    KeepTerminal,
    /// Serve launches for another program (used by the library)
    #[command(hide = true)]
    Spawner,
}

/// Podman's.
pub const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

#[derive(Debug, Args)]
#[command(
    after_help = "Without --layer and --spec the first argument is an image of the store, or a file of one layer (a path, or a name that \
                        ends with .sqsh). An image is pulled if the store does not have it; its entry point, command, environment, user, \
                        working directory and stop signal hold unless flags say otherwise, and each of its volumes is a tmpfs. The program of a \
                        single file is /bin/sh unless another one follows. Options stand before the image: what follows belongs to the program."
)]
pub struct Run {
    /// Layer file (squashfs or EROFS), base first. Repeatable
    #[arg(long = "layer", value_name = "FILE")]
    pub layers: Vec<PathBuf>,
    /// Only accept layers below this directory that nobody but root and the image owners can write.
    /// Repeatable
    #[arg(long = "image-root", value_name = "DIR")]
    pub image_roots: Vec<PathBuf>,
    /// User besides root that layers below image roots may belong to. Repeatable
    #[arg(long = "image-owner", value_name = "UID", requires = "image_roots")]
    pub image_owners: Vec<u32>,
    /// Storm's command file, oci-config.json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["layers", "rest", "name", "env", "workdir", "user", "own_users", "volumes", "tmpfs",
        "mounts", "writable", "memory", "memory_swap", "oom_group", "cpus", "cpuset_cpus", "cpuset_mems", "pids_limit", "cgroup_parent", "cgroup_manager", "hostname", "network",
        "pidfile"])]
    pub spec: Option<PathBuf>,
    #[command(flatten)]
    pub store: StoreFlag,
    /// When to pull the image
    #[arg(long, value_enum, value_name = "WHEN", default_value = "missing")]
    pub pull: Policy,
    /// Program in place of the image's entry point: a word, or a JSON array; '' for none
    #[arg(long, value_name = "COMMAND", conflicts_with = "spec")]
    pub entrypoint: Option<String>,
    /// Read environment variables from a file: one NAME=value a line, # begins a comment line.
    /// Repeatable
    #[arg(long, value_name = "FILE", conflicts_with = "spec")]
    pub env_file: Vec<PathBuf>,
    /// Keep standard input open (always so in the foreground)
    #[arg(short, long, conflicts_with = "detach")]
    pub interactive: bool,
    /// Allocate a terminal for the worker; the caller's is raw meanwhile
    #[arg(short, long, conflicts_with_all = ["stdout", "stderr", "log_file", "log_options"])]
    pub tty: bool,
    /// Keys to leave the terminal by while the worker runs on: characters and ctrl-X, separated by
    /// ','; empty for none
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS)]
    pub detach_keys: String,
    /// Run in the background and print the container id
    #[arg(short, long)]
    pub detach: bool,
    /// Assign a name to the container
    #[arg(long, value_name = "ID")]
    pub name: Option<String>,
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    /// Set an environment variable; without a value, pass on the caller's. Repeatable
    #[arg(short, long, value_name = "K[=V]")]
    pub env: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Username or UID (format: <name|uid>[:gid]), of an image its own, otherwise the host's; auto:
    /// a uid of its own, from --own-users [default: the image's, or the caller's, for root auto]
    #[arg(short, long, value_name = "NAME|UID[:GID]|auto")]
    pub user: Option<String>,
    /// Range of uids for --user auto; one is taken as long as its container or a host path that it
    /// can write to exists [default: 2100000000-2100065535]
    #[arg(long, value_name = "FIRST-LAST")]
    pub own_users: Option<String>,
    /// Bind mount a host path into the container. Repeatable
    #[arg(short, long = "volume", value_name = "SRC:DST[:OPTIONS]")]
    pub volumes: Vec<String>,
    /// Mount a file system in memory. Repeatable
    #[arg(long, value_name = "DST[:size=SIZE,OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Attach a mount: type=bind,src=PATH,dst=PATH[,ro] or type=tmpfs,dst=PATH[,tmpfs-size=SIZE].
    /// Repeatable
    #[arg(long = "mount", value_name = "KEY=VALUE,…")]
    pub mounts: Vec<String>,
    /// Writable root: in memory, of this size [default: half of the machine's memory], or in a
    /// directory of the host. A size for a directory needs project quotas (ext4, xfs or f2fs
    /// mounted with prjquota) and an empty directory
    #[arg(long, value_name = "SIZE|DIR[,size=SIZE]", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub writable: Option<String>,
    #[command(flatten)]
    pub limits: LimitFlags,
    /// Promise the container as much memory as --memory allows; refused where the promises of the
    /// run root's containers would exceed the machine's memory
    #[arg(long)]
    pub memory_promised: bool,
    /// Parent of the container's cgroup: a path, or a systemd slice [default: /squall, or
    /// system.slice]
    #[arg(long, value_name = "PATH|SLICE")]
    pub cgroup_parent: Option<String>,
    /// Cgroup manager [default: systemd where it runs with cgroup v2 alone, unless --cgroup-parent
    /// or --monitor-cgroup is a path]
    #[arg(long, value_name = "cgroupfs|systemd")]
    pub cgroup_manager: Option<String>,
    /// Container host name [default: its id; with the host's network the host's]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Network: host, or none (loopback device only) [default: none]
    #[arg(long, visible_alias = "net", value_name = "host|none")]
    pub network: Option<String>,
    /// Security options: seccomp=FILE|unconfined|default, apparmor=PROFILE|unconfined,
    /// label=context:USER:ROLE:TYPE[:LEVEL]|disable. With --spec, for a document that does not say.
    /// Repeatable
    #[arg(long = "security-opt", value_name = "OPTION")]
    pub security_options: Vec<String>,
    /// Let a worker of uid 0 set setuid and setgid bits; the calls fail with EPERM otherwise
    #[arg(long)]
    pub allow_setuid_bits: bool,
    /// Write the pid of the container's first process to the file
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Write the container's exit record to the file when it has ended, whoever else is gone by then
    #[arg(long, value_name = "FILE")]
    pub exit_file: Option<PathBuf>,
    /// Write the worker's standard output to the file, or /dev/null
    #[arg(long, value_name = "FILE")]
    pub stdout: Option<PathBuf>,
    /// Write the worker's standard error to the file, or /dev/null
    #[arg(long, value_name = "FILE")]
    pub stderr: Option<PathBuf>,
    /// Log file: the worker's standard output and error are added to it, by the worker itself
    /// unless --log-opt is given [default with --log-opt max-size: in the run root, until the
    /// container is removed]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stdout", "stderr"])]
    pub log_file: Option<PathBuf>,
    /// Log options: max-size=SIZE (rotate the file before it gets larger), max-file=N (number of
    /// files [default: 3]), timestamps (time and stream of each line, in podman's k8s-file format).
    /// Repeatable
    #[arg(long = "log-opt", value_name = "OPTION", conflicts_with_all = ["stdout", "stderr"])]
    pub log_options: Vec<String>,
    /// Maximum time in seconds the worker may run
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    pub timeout: Option<String>,
    /// Signal that asks the worker to end, for `squall stop` and --timeout [default: the image's,
    /// or TERM]
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Image (unless --layer is given), command and arguments
    #[arg(value_name = "ARGV", trailing_var_arg = true)]
    pub rest: Vec<OsString>,
}

/// What a container may use: of a new one, and of one that is there.
#[derive(Debug, Clone, Default, Args)]
pub struct LimitFlags {
    /// Memory limit; 0 for none
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Memory plus swap limit; -1 for unlimited swap, 0 for no limit of its own
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Kill all processes of the container when the memory limit kills one (cgroup v2)
    #[arg(long)]
    pub oom_group: bool,
    /// Number of CPUs; 0 for no limit
    #[arg(long, value_name = "CPUS")]
    pub cpus: Option<String>,
    /// CPUs in which to allow execution (0-3, 0,1), or auto:N[,numa]: N CPUs that no other
    /// container of the run root names, for itself (numa: of one memory node, and memory of that)
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes (MEMs) in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Limit of processes and threads; 0 or -1 for no limit [default: 2048, where the machine can
    /// count them]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    mut_arg("pids_limit", |flag| flag.help("Limit of processes and threads; 0 or -1 for no limit")),
    mut_arg("cpuset_cpus", |flag| flag.help("CPUs in which to allow execution (0-3, 0,1); '' for those of the parent")),
    mut_arg("cpuset_mems", |flag| flag.help("Memory nodes (MEMs) in which to allow execution (0-3, 0,1); '' for those of the parent")),
    mut_arg("oom_group", |flag| flag.help("Kill all processes of the container when the memory limit kills one (cgroup v2)")),
    after_help = "Limits that are not named stay. What the kernel would refuse is refused before anything is changed; should it refuse a \
                        value all the same, the earlier limits are put back."
)]
pub struct Update {
    #[command(flatten)]
    pub limits: LimitFlags,
    /// OCI's object linux.resources in JSON, from a file or standard input: -1 lifts a limit, 0
    /// leaves it
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["memory", "memory_swap", "oom_group", "cpus", "cpuset_cpus", "cpuset_mems", "pids_limit"])]
    pub resources: Option<PathBuf>,
    /// Container names
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Takes what `run` takes, refuses what `run` refuses, and ends with 0 also where the launch would fail as things are: \
                        then the obstacles are named."
)]
pub struct Plan {
    #[command(flatten)]
    pub run: Run,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Ps {
    /// Show all containers [default: those that run]
    #[arg(short, long)]
    pub all: bool,
    /// Show which containers have which CPUs, nodes and memory, and what is free
    #[arg(long, conflicts_with = "all")]
    pub resources: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// Container names
    #[arg(value_name = "ID")]
    pub id: String,
    /// Print JSON: the whole record
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Ids {
    /// Container names
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Several {
    /// Container names
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Stop {
    /// Seconds to wait before the kill
    #[arg(short, long, value_name = "S", default_value = "10", allow_hyphen_values = true)]
    pub time: String,
    /// Signal to send [default: the container's own, from --stop-signal or its image]
    #[arg(short, long)]
    pub signal: Option<String>,
    /// Container names
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Kill {
    /// Signal to send
    #[arg(short, long, default_value = "KILL")]
    pub signal: String,
    /// Container names
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Rm {
    /// Kill running containers first
    #[arg(short, long)]
    pub force: bool,
    /// Container names
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "TIME is 2026-01-31T12:00:00Z, 2026-01-31, seconds since 1970, or how long ago: 90s, 10m, 1h30m. It needs a log with \
                        timestamps. What the worker wrote to its standard error goes to standard error where the log tells the streams apart."
)]
pub struct Logs {
    /// Go on until the container has ended and everything is shown
    #[arg(short, long)]
    pub follow: bool,
    /// Number of lines to show from the end [default: all]
    #[arg(short = 'n', long, value_name = "N")]
    pub tail: Option<u64>,
    /// Show lines from this time on
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Show lines before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Show the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
    /// Container name
    #[arg(value_name = "ID")]
    pub id: String,
}

#[derive(Debug, Args)]
pub struct Layers {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Reap {
    /// Number of unused layers to leave mounted
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep: usize,
    /// Only show what would be removed, and why
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Demo {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 0 where everything can be launched, 1 where something is limited or the launch at the end could not be \
                        tried, 2 where nothing can be launched. Changes nothing on the machine but by that launch, which clears away after itself."
)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Check a node of an Apache Storm cluster as well: worker-launcher, its configuration, what that names
    #[arg(long)]
    pub storm: bool,
    /// worker-launcher's configuration file [default: the one that it reads]
    #[arg(long, value_name = "FILE", requires = "storm")]
    pub config: Option<PathBuf>,
    /// The supervisor's user [default: the members of the launcher's group]
    #[arg(long, value_name = "NAME", requires = "storm")]
    pub user: Option<String>,
    /// The program, as supervisor.worker.launcher in storm.yaml [default: where it is usually installed]
    #[arg(long, value_name = "FILE", requires = "storm")]
    pub launcher: Option<PathBuf>,
}
