//! Building a request piece by piece; every problem is collected, and named when the request is
//! built.

use std::path::Path;
use std::time::Duration;

use super::apparmor::AppArmor;
use super::door::Door;
use super::environment::{Environment, Variable};
use super::hostname::Hostname;
use super::id::ContainerId;
use super::identity::Identity;
use super::log::Log;
use super::mount::{Bind, Mount, Tmpfs};
use super::path::{AbsolutePath, Destination, LayerPath};
use super::resources::{ExclusiveCpus, MemoryPromise};
use super::rules::{Rules, mount_problems};
use super::seccomp::Seccomp;
use super::selinux::Selinux;
use super::spec::{Fields, Home, LaunchSpec, Network, OnExit, RootMode, SetuidBits};
use crate::cgroup::{CgroupPath, Limits, Manager, Scope, Slice};
use crate::document::{BadValue, Capped, quoted};
use crate::error::{Error, Problem, Result};

/// A field that must be given: not yet, given but refused (the problem is noted already), or there.
#[derive(Debug, Clone)]
enum Needed<T> {
    Missing,
    Refused,
    Given(T),
}

impl<T> Needed<T> {
    fn missing(&self) -> bool {
        matches!(self, Needed::Missing)
    }

    fn take(self) -> Option<T> {
        match self {
            Needed::Given(value) => Some(value),
            _ => None,
        }
    }
}

/// Where the container's cgroup is.
#[derive(Debug, Clone)]
enum Place {
    Path(CgroupPath),
    Slice(Slice),
}

/// Collects a [`LaunchSpec`]. Needed are an id, layers, arguments, a user and a cgroup. Otherwise:
/// an empty environment, working directory `/`, a read-only root, no further mounts, the host's
/// name, no network, no limits.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    id: Needed<ContainerId>,
    layers: Option<Vec<LayerPath>>,
    layers_seen: usize,
    args: Option<Vec<String>>,
    env: Vec<Variable>,
    env_seen: usize,
    home: Home,
    cwd: AbsolutePath,
    user: Option<Identity>,
    root: RootMode,
    mounts: Vec<Mount>,
    mounts_seen: usize,
    hostname: Option<Hostname>,
    network: Network,
    cgroup: Needed<Place>,
    limits: Limits,
    pid_file: Option<AbsolutePath>,
    exit_file: Option<AbsolutePath>,
    timeout: Option<Duration>,
    stop_signal: i32,
    seccomp: Seccomp,
    apparmor: AppArmor,
    selinux: Selinux,
    keep_layers: Option<u32>,
    on_exit: OnExit,
    setuid_bits: SetuidBits,
    exclusive_cpus: Option<ExclusiveCpus>,
    memory_promise: MemoryPromise,
    log: Option<Log>,
    problems: Capped<Problem>,
}

impl Builder {
    /// A request for a container of that id.
    pub fn new(id: impl AsRef<str>) -> Builder {
        Builder::empty().id(id)
    }

    /// A request without an id as yet.
    pub(crate) fn empty() -> Builder {
        Builder {
            id: Needed::Missing,
            layers: None,
            layers_seen: 0,
            args: None,
            env: Vec::new(),
            env_seen: 0,
            home: Home::Unset,
            cwd: AbsolutePath::root(),
            user: None,
            root: RootMode::ReadOnly,
            mounts: Vec::new(),
            mounts_seen: 0,
            hostname: None,
            network: Network::None,
            cgroup: Needed::Missing,
            limits: Limits::default(),
            pid_file: None,
            exit_file: None,
            timeout: None,
            stop_signal: libc::SIGTERM,
            seccomp: Seccomp::Default,
            apparmor: AppArmor::Default,
            selinux: Selinux::Default,
            keep_layers: None,
            on_exit: OnExit::Keep,
            setuid_bits: SetuidBits::Denied,
            exclusive_cpus: None,
            memory_promise: MemoryPromise::Nothing,
            log: None,
            problems: Capped::default(),
        }
    }

    /// The container's id. Field `id`.
    pub fn id(mut self, id: impl AsRef<str>) -> Builder {
        self.id = match self.noting("id", ContainerId::new(id)) {
            Some(id) => Needed::Given(id),
            None => Needed::Refused,
        };
        self
    }

    /// Adds layers on top of those given so far. Fields `layers[N]`.
    pub fn layers<P: AsRef<Path>>(mut self, paths: impl IntoIterator<Item = P>) -> Builder {
        let mut layers = self.layers.take().unwrap_or_default();
        for path in paths {
            let field = format!("layers[{}]", self.layers_seen);
            self.layers_seen += 1;
            layers.extend(self.noting(field, LayerPath::new(path)));
        }
        // Of refused layers the problems are noted; that none is left is not one more.
        self.layers = (!layers.is_empty() || self.layers_seen == 0).then_some(layers);
        self
    }

    /// The program and its arguments. Fields `args`, `args[N]`.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Builder {
        self.args = Some(args.into_iter().map(Into::into).collect());
        self
    }

    /// Adds variables in the form `NAME=VALUE`; a later one overrides an earlier one. Fields
    /// `env[N]`.
    pub fn env<S: Into<String>>(mut self, variables: impl IntoIterator<Item = S>) -> Builder {
        for text in variables {
            let field = format!("env[{}]", self.env_seen);
            self.env_seen += 1;
            let variable = self.noting(field, Variable::new(text));
            self.env.extend(variable);
        }
        self
    }

    /// Where HOME comes from, should the environment not have it.
    pub fn home(mut self, home: Home) -> Builder {
        self.home = home;
        self
    }

    /// The working directory inside the container. Field `cwd`.
    pub fn cwd(mut self, path: impl AsRef<Path>) -> Builder {
        if let Some(path) = self.noting("cwd", AbsolutePath::new(path)) {
            self.cwd = path;
        }
        self
    }

    /// Who the worker runs as.
    pub fn user(mut self, user: Identity) -> Builder {
        self.user = Some(user);
        self
    }

    /// What can be written. Field `root.size_bytes`.
    pub fn root(mut self, root: RootMode) -> Builder {
        self.root = root;
        self
    }

    /// Adds a mount after those given so far. Fields `mounts[N].size_bytes` and `.mode` of a tmpfs.
    pub fn mount(mut self, mount: Mount) -> Builder {
        self.problems.extend(mount_problems(self.mounts_seen, &mount));
        self.mounts_seen += 1;
        self.mounts.push(mount);
        self
    }

    /// Adds a bind mount with OCI's option words. Fields `mounts[N].source`, `.destination`,
    /// `.options[M]`.
    pub fn bind(mut self, source: &str, destination: &str, options: &[&str]) -> Builder {
        match Bind::parse(&format!("mounts[{}]", self.mounts_seen), source, destination, options) {
            Ok(bind) => self.mount(Mount::Bind(bind)),
            Err(problems) => {
                self.mounts_seen += 1;
                self.problems.extend(problems);
                self
            }
        }
    }

    /// Adds a tmpfs; `mode` is that of its top directory. Fields `mounts[N].destination`,
    /// `.size_bytes`, `.mode`.
    pub fn tmpfs(mut self, destination: impl AsRef<Path>, size_bytes: Option<u64>, mode: u32) -> Builder {
        let field = format!("mounts[{}].destination", self.mounts_seen);
        match self.noting(field, Destination::new(destination)) {
            Some(destination) => self.mount(Mount::Tmpfs(Tmpfs::new(destination, size_bytes, mode))),
            None => {
                self.mounts_seen += 1;
                self
            }
        }
    }

    /// The container's host name. Field `hostname`.
    pub fn hostname(mut self, name: impl AsRef<str>) -> Builder {
        self.hostname = self.noting("hostname", Hostname::new(name));
        self
    }

    /// The network.
    pub fn network(mut self, network: Network) -> Builder {
        self.network = network;
        self
    }

    /// The container's cgroup, from the top of each hierarchy. Field `cgroup`.
    pub fn cgroup(mut self, path: impl AsRef<str>) -> Builder {
        let path = path.as_ref().parse::<CgroupPath>().map_err(|error| BadValue::new(error.to_string()));
        self.cgroup = match self.noting("cgroup", path) {
            Some(path) => Needed::Given(Place::Path(path)),
            None => Needed::Refused,
        };
        self
    }

    /// A scope of systemd's in this slice, `system.slice` for example, instead of a cgroup at a
    /// path. Field `cgroup`.
    pub fn scope(mut self, slice: impl AsRef<str>) -> Builder {
        let slice = Slice::new(slice.as_ref())
            .map_err(|problem| BadValue::new(format!("{}: {problem}", quoted(slice.as_ref()))));
        self.cgroup = match self.noting("cgroup", slice) {
            Some(slice) => Needed::Given(Place::Slice(slice)),
            None => Needed::Refused,
        };
        self
    }

    /// What the container may use. Fields `limits.NAME`.
    pub fn limits(mut self, limits: Limits) -> Builder {
        self.limits = limits;
        self
    }

    /// Where the pid of the container's init is written. Field `pid_file`.
    pub fn pid_file(mut self, path: impl AsRef<Path>) -> Builder {
        self.pid_file = self.noting("pid_file", AbsolutePath::new(path));
        self
    }

    /// Where the container's exit record is written once more when it has ended: by the container's
    /// monitor, whoever else is gone by then, and as its last act, after what waits for the end may
    /// have been told of it. A file with mode 0644, whole or not at all: on a full disk there is
    /// none. It is its owner's to remove.
    ///
    /// A launch that succeeds removes an old one, before the pid file appears: a file that is there
    /// afterwards is this container's. Whoever may write to the directory can replace it, as any
    /// file there. What can be refused is refused before the workload runs: a directory that may
    /// not be written to, and a link, a directory or a device of that name. Field `exit_file`.
    pub fn exit_file(mut self, path: impl AsRef<Path>) -> Builder {
        self.exit_file = self.noting("exit_file", AbsolutePath::new(path));
        self
    }

    /// How long the workload may run. Field `timeout`.
    pub fn timeout(mut self, timeout: Duration) -> Builder {
        self.timeout = Some(timeout);
        self
    }

    /// The signal that asks the worker to end: 1 to 64, SIGTERM unless said otherwise. Field
    /// `stop_signal`.
    pub fn stop_signal(mut self, signal: i32) -> Builder {
        self.stop_signal = signal;
        self
    }

    /// The system calls that the worker may make; [`Seccomp::Default`] otherwise. Field `seccomp`.
    pub fn seccomp(mut self, seccomp: Seccomp) -> Builder {
        self.seccomp = seccomp;
        self
    }

    /// The AppArmor profile that the worker runs under; [`AppArmor::Default`] otherwise. Field
    /// `apparmor`.
    pub fn apparmor(mut self, apparmor: AppArmor) -> Builder {
        self.apparmor = apparmor;
        self
    }

    /// The SELinux label that the worker runs under; [`Selinux::Default`] otherwise. Not beside an
    /// AppArmor profile. Field `selinux`.
    pub fn selinux(mut self, selinux: Selinux) -> Builder {
        self.selinux = selinux;
        self
    }

    /// How many idle layers stay mounted.
    pub fn keep_layers(mut self, count: u32) -> Builder {
        self.keep_layers = Some(count);
        self
    }

    /// What becomes of the record in the end. Capped otherwise.
    pub fn on_exit(mut self, on_exit: OnExit) -> Builder {
        self.on_exit = on_exit;
        self
    }

    /// Whether a worker of uid 0 may make setuid programs. Denied otherwise.
    pub fn setuid_bits(mut self, setuid_bits: SetuidBits) -> Builder {
        self.setuid_bits = setuid_bits;
        self
    }

    /// Processors that the container has for itself: as many as are asked for, of those that no
    /// other container of the run root names. Where all of them are taken the launch is refused
    /// ([`Exhausted`](crate::ErrorKind::Exhausted)), with the containers that have them. Field
    /// `exclusive_cpus`.
    pub fn exclusive_cpus(mut self, cpus: ExclusiveCpus) -> Builder {
        self.exclusive_cpus = Some(cpus);
        self
    }

    /// What memory is promised to the container; nothing otherwise. A launch is refused
    /// ([`Exhausted`](crate::ErrorKind::Exhausted)) that would promise more, over all containers of
    /// the run root, than there is
    /// ([`SquallBuilder::memory_capacity`](crate::SquallBuilder::memory_capacity)). Needs a memory
    /// limit. Field `memory_promise`.
    pub fn memory_promise(mut self, promise: MemoryPromise) -> Builder {
        self.memory_promise = promise;
        self
    }

    /// Where the worker's output goes, instead of to the launch's own streams. Fields `log.file`,
    /// `log.max_bytes`, `log.max_files`.
    pub fn log(mut self, log: Log) -> Builder {
        self.log = Some(log);
        self
    }

    /// Everything wrong with what was given so far; what is missing is not in it. The first
    /// hundred, then a count.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let env = self.env.iter().cloned().collect();
        let mut problems = self.problems.clone();
        problems.extend(self.rules(&env).problems());
        problems.into_problems("request")
    }

    /// The request. Pure: nothing is opened or looked up.
    ///
    /// Errors: `Invalid` with every problem.
    pub fn build(self) -> Result<LaunchSpec> {
        self.build_for(Door::PROGRAM)
    }

    /// The request; errors use the names that the user of this door knows.
    ///
    /// Errors: `Invalid` with every problem.
    pub fn build_for(self, door: Door<'_>) -> Result<LaunchSpec> {
        let mut problems = self.missing();
        problems.extend(self.problems());
        let problems: Vec<_> = problems.into_iter().map(|problem| door.rename(problem)).collect();
        match self.fields() {
            Some(fields) if problems.is_empty() => LaunchSpec::try_from(fields),
            _ => Err(Error::invalid(door.object, problems)),
        }
    }

    fn noting<T>(&mut self, field: impl Into<String>, value: std::result::Result<T, BadValue>) -> Option<T> {
        value.map_err(|bad| self.problems.push(bad.at(field))).ok()
    }

    fn missing(&self) -> Vec<Problem> {
        let fields = [
            ("id", self.id.missing()),
            ("layers", self.layers.is_none() && self.layers_seen == 0),
            ("args", self.args.is_none()),
            ("user", self.user.is_none()),
            ("cgroup", self.cgroup.missing()),
        ];
        let missing = fields.into_iter().filter(|(_, missing)| *missing);
        missing.map(|(field, _)| Problem { field: field.into(), reason: "is missing".into() }).collect()
    }

    fn rules<'a>(&'a self, env: &'a Environment) -> Rules<'a> {
        Rules {
            layers: self.layers.as_deref(),
            args: self.args.as_deref(),
            env,
            root: &self.root,
            // Checked when they were added, under the number that the caller counts.
            mounts: &[],
            // Known with the id, and right by then.
            scope: None,
            limits: &self.limits,
            files: [self.pid_file.as_ref(), self.exit_file.as_ref()],
            timeout: self.timeout,
            stop_signal: self.stop_signal,
            seccomp: &self.seccomp,
            apparmor: &self.apparmor,
            selinux: &self.selinux,
            exclusive_cpus: self.exclusive_cpus,
            memory_promise: self.memory_promise,
            log: self.log.as_ref(),
        }
    }

    fn fields(self) -> Option<Fields> {
        let id = self.id.take()?;
        let (cgroup, cgroup_manager) = match self.cgroup.take()? {
            Place::Path(path) => (path, Manager::Cgroupfs),
            Place::Slice(slice) => (Scope::new(slice, id.as_str()).ok()?.container(), Manager::Systemd),
        };
        Some(Fields {
            id,
            layers: self.layers?,
            args: self.args?,
            env: self.env.into_iter().collect(),
            home: self.home,
            cwd: self.cwd,
            user: self.user?,
            root: self.root,
            mounts: self.mounts,
            hostname: self.hostname,
            network: self.network,
            cgroup,
            cgroup_manager,
            limits: self.limits,
            pid_file: self.pid_file,
            exit_file: self.exit_file,
            timeout: self.timeout,
            stop_signal: self.stop_signal,
            seccomp: self.seccomp,
            apparmor: self.apparmor,
            selinux: self.selinux,
            keep_layers: self.keep_layers,
            on_exit: self.on_exit,
            setuid_bits: self.setuid_bits,
            exclusive_cpus: self.exclusive_cpus,
            memory_promise: self.memory_promise,
            log: self.log,
        })
    }
}

#[cfg(test)]
mod tests;
