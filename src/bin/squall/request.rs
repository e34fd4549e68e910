//! From the command line to a launch spec.

use std::path::Path;

use squall::cgroup::{CpuList, DEFAULT_SLICE, Limits, Manager, SwapLimit};
use squall::request::{
    AbsolutePath, BadValue, Builder, Door, HostDirectory, Identity, LaunchSpec, Network, OnExit, RootMode, Seccomp,
    UidRange, storm, values,
};
use squall::seccomp::{Profile, brief_warnings};
use squall::{Error, Problem, Result};

use crate::args::Run;

/// What programs are found by when the caller gives no PATH: Docker's and podman's default.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program of a single-file image when none is named.
const DEFAULT_PROGRAM: &str = "/bin/sh";

/// The cgroup above the containers' own, unless said otherwise.
const DEFAULT_CGROUP_PARENT: &str = "/squall";

/// Asks for a user that no other container has, which root gets without saying.
const AUTO: &str = "auto";

/// The builder's fields by the flags that set them.
const DOOR: Door<'static> = Door {
    object: "command line",
    names: &[
        ("id", "--name"),
        ("layers", "--layer"),
        ("args", "ARGV"),
        ("env", "--env"),
        ("cwd", "--workdir"),
        ("user", "--user"),
        ("root", "--writable"),
        ("mounts", "--volume"),
        ("hostname", "--hostname"),
        ("network", "--network"),
        ("cgroup", "--cgroup-parent"),
        ("pid_file", "--pidfile"),
        ("timeout", "--timeout"),
        ("seccomp", "--security-opt seccomp"),
        ("limits.memory_bytes", "--memory"),
        ("limits.memory_swap_bytes", "--memory-swap"),
        ("limits.cpu_quota_us", "--cpus"),
        ("limits.cpu_period_us", "--cpus"),
        ("limits.memory_oom_group", "--oom-group"),
        ("limits.pids", "--pids-limit"),
    ],
};

/// A launch, and what of its document has no effect.
pub struct Asked {
    pub spec: LaunchSpec,
    pub warnings: Vec<String>,
    /// Whether it is to have a user that no other container has; the spec's is a stand-in until it is claimed.
    pub own_user: bool,
}

/// The launch that the command line asks for. Every problem is reported, each under its flag.
pub fn launch_spec(run: &Run, monitor_cgroup: Option<&str>) -> Result<Asked> {
    match &run.spec {
        Some(path) => from_storm(path, run),
        None => from_flags(run, monitor_cgroup),
    }
}

/// Storm's command file; its user is looked up, and a deadline may be added.
fn from_storm(path: &Path, run: &Run) -> Result<Asked> {
    let command = storm::read(path)?;
    let mut warnings = command.warnings().to_vec();
    let identity = command.resolve_user()?;
    let mut fields = command.launch_spec(identity)?.into_fields();
    if let Some(text) = &run.timeout {
        let problem = |bad: BadValue| Error::invalid("command line", vec![bad.at("--timeout")]);
        fields.timeout = Some(values::seconds(text).map_err(problem)?);
    }
    if run.rm && run.detach {
        fields.on_exit = OnExit::Remove;
    }
    if let Some(asked) = seccomp(&run.security_options)?.filter(|_| fields.seccomp == Seccomp::Unconfined) {
        warnings.extend(asked.warnings);
        fields.seccomp = asked.seccomp;
    }
    Ok(Asked { spec: LaunchSpec::try_from(fields)?, warnings, own_user: false })
}

fn from_flags(run: &Run, monitor_cgroup: Option<&str>) -> Result<Asked> {
    let mut flags = Flags::default();
    let id = run.name.clone().unwrap_or_else(random_id);
    let (layers, args) = layers_and_args(run);
    let network = flags.value("--network", network(run.network.as_deref())).unwrap_or(Network::None);
    let mut builder = LaunchSpec::builder(&id)
        .layers(layers.iter().map(|layer| absolute(Path::new(layer))))
        .args(args)
        .env([DEFAULT_PATH])
        .env(run.env.iter().map(String::as_str))
        .network(network)
        .limits(limits(run, &mut flags));
    builder = with_cgroup(builder, run, &id, monitor_cgroup, &mut flags);
    let mut warnings = Vec::new();
    if let Some(asked) = flags.take("--security-opt", seccomp(&run.security_options)).flatten() {
        warnings = asked.warnings;
        builder = builder.seccomp(asked.seccomp);
    }
    let own_user = wants_own_user(run.user.as_deref());
    if let Some(user) = flags.take("--user", user(run.user.as_deref(), own_user)) {
        builder = builder.user(user);
    }
    if let Some(path) = &run.workdir {
        builder = builder.cwd(path);
    }
    builder = with_mounts(builder, run, &mut flags);
    match (&run.hostname, network) {
        (Some(hostname), _) => builder = builder.hostname(hostname),
        // With the host's network the host's name is the right one.
        (None, Network::Host) => {}
        (None, Network::None) => builder = builder.hostname(&id),
    }
    if let Some(path) = &run.pidfile {
        builder = builder.pid_file(absolute(path));
    }
    if let Some(timeout) = run.timeout.as_deref().and_then(|text| flags.value("--timeout", values::seconds(text))) {
        builder = builder.timeout(timeout);
    }
    if let Some(root) = run.writable.as_deref().and_then(|text| flags.value("--writable", writable(text))) {
        builder = builder.root(root);
    }
    if run.rm && run.detach {
        builder = builder.on_exit(OnExit::Remove);
    }
    let spec = flags.finish(builder.build_for(DOOR)).map_err(|error| under_its_flag(error, run))?;
    Ok(Asked { spec, warnings, own_user })
}

/// A scope of systemd's, or a path, as the flags say; where they do not, as the machine has it.
fn with_cgroup(builder: Builder, run: &Run, id: &str, monitor_cgroup: Option<&str>, flags: &mut Flags) -> Builder {
    let parent = run.cgroup_parent.as_deref();
    let is_slice = parent.is_some_and(|parent| parent.ends_with(".slice") && !parent.contains('/'));
    let manager = match run.cgroup_manager.as_deref() {
        Some("systemd") => Manager::Systemd,
        None if is_slice => Manager::Systemd,
        None if parent.is_none() && monitor_cgroup.is_none() => Manager::of_this_machine(),
        None | Some("cgroupfs") => Manager::Cgroupfs,
        Some(other) => {
            let bad = BadValue::new(format!("'{other}' makes no cgroups: expected cgroupfs or systemd"));
            flags.0.push(bad.at("--cgroup-manager"));
            Manager::Cgroupfs
        }
    };
    if manager == Manager::Cgroupfs {
        return builder.cgroup(format!("{}/{id}", parent.unwrap_or(DEFAULT_CGROUP_PARENT).trim_end_matches('/')));
    }
    if monitor_cgroup.is_some() {
        let bad = BadValue::new("the monitor of a container in a scope of systemd's is there too");
        flags.0.push(bad.at("--monitor-cgroup"));
    }
    builder.scope(parent.unwrap_or(DEFAULT_SLICE))
}

/// A refusal of the library in the words of the command line. Volumes come before tmpfs, and the library counts both as mounts.
pub fn under_its_flag(error: Error, run: &Run) -> Error {
    if error.problems().is_empty() || run.spec.is_some() {
        return error;
    }
    let rename = |problem: &Problem| {
        let problem = DOOR.rename(problem.clone());
        let tmpfs = problem.field.strip_prefix("--volume[").and_then(|rest| {
            let (index, rest) = rest.split_once(']')?;
            let index: usize = index.parse().ok()?;
            Some(format!("--tmpfs[{}]{rest}", index.checked_sub(run.volumes.len())?))
        });
        Problem { field: tmpfs.unwrap_or(problem.field), reason: problem.reason }
    };
    Error::invalid(DOOR.object, error.problems().iter().map(rename).collect())
}

/// Problems of flags whose values the builder never sees.
#[derive(Default)]
struct Flags(Vec<Problem>);

impl Flags {
    fn value<T>(&mut self, flag: &str, value: std::result::Result<T, BadValue>) -> Option<T> {
        value.map_err(|bad| self.0.push(bad.at(flag))).ok()
    }

    fn take<T>(&mut self, flag: &str, value: Result<T>) -> Option<T> {
        let error = match value {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        if error.problems().is_empty() {
            self.0.push(Problem { field: flag.to_owned(), reason: error.to_string() });
        }
        self.0.extend(
            error.problems().iter().map(|problem| Problem { field: flag.to_owned(), reason: problem.reason.clone() }),
        );
        None
    }

    /// The spec, or every problem of flags and builder together.
    fn finish(self, built: Result<LaunchSpec>) -> Result<LaunchSpec> {
        if self.0.is_empty() {
            return built;
        }
        let mut problems = self.0;
        if let Err(error) = built {
            let known: Vec<String> = problems.iter().map(|problem| problem.field.clone()).collect();
            let more = error.problems().iter().filter(|problem| !known.contains(&problem.field));
            problems.extend(more.cloned().collect::<Vec<_>>());
        }
        Err(Error::invalid(DOOR.object, problems))
    }
}

/// With `--layer` everything else is the program; without, the first word is the one layer.
fn layers_and_args(run: &Run) -> (Vec<String>, Vec<String>) {
    let mut rest = run.rest.as_slice();
    let mut layers: Vec<String> = run.layers.iter().map(|layer| layer.to_string_lossy().into_owned()).collect();
    if layers.is_empty() {
        let Some((image, others)) = rest.split_first() else { return (layers, Vec::new()) };
        layers.push(image.clone());
        rest = match others.split_first() {
            Some((dashes, program)) if dashes == "--" => program,
            _ => others,
        };
        if rest.is_empty() {
            return (layers, vec![DEFAULT_PROGRAM.to_owned()]);
        }
    }
    (layers, rest.to_vec())
}

fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn wants_own_user(text: Option<&str>) -> bool {
    text.map_or_else(|| rustix::process::getuid().is_root(), |text| text == AUTO)
}

/// The caller stands in for a user that is still to be claimed.
fn user(text: Option<&str>, own_user: bool) -> Result<Identity> {
    match text.filter(|_| !own_user) {
        Some(text) => Identity::parse(text),
        None => {
            let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
            Identity::new(uid, gid, [gid]).map_err(|bad| Error::invalid("caller", vec![bad.at("--user")]))
        }
    }
}

/// The uids of which containers get their own, if the command says so.
pub fn own_users(run: &Run) -> Result<Option<UidRange>> {
    let problem = |bad: BadValue| Error::invalid(DOOR.object, vec![bad.at("--own-users")]);
    run.own_users.as_deref().map(|text| text.parse().map_err(problem)).transpose()
}

/// What a worker may call, and what of the profile's file is not done as it is written.
struct AskedSeccomp {
    seccomp: Seccomp,
    warnings: Vec<String>,
}

/// `seccomp=…`, the last of several; `no-new-privileges` holds for every worker and may be said all the same.
fn seccomp(options: &[String]) -> Result<Option<AskedSeccomp>> {
    let plain = |seccomp| Some(AskedSeccomp { seccomp, warnings: Vec::new() });
    let mut asked = None;
    for option in options {
        match option.split_once(['=', ':']) {
            Some(("seccomp", "unconfined")) => asked = plain(Seccomp::Unconfined),
            Some(("seccomp", "default")) => asked = plain(Seccomp::Default),
            Some(("seccomp", path)) => {
                let profile = Profile::read(&absolute(Path::new(path))).map_err(|error| within_file(error, path))?;
                let warnings = brief_warnings(profile.warnings());
                let warnings = warnings.into_iter().map(|warning| format!("'{path}': {warning}")).collect();
                asked = Some(AskedSeccomp { seccomp: Seccomp::Profile(profile.to_value()), warnings });
            }
            None | Some(("no-new-privileges", "true")) if option.starts_with("no-new-privileges") => {}
            _ => {
                let bad = BadValue::new(format!(
                    "'{option}' is not known: expected seccomp=FILE, seccomp=unconfined or seccomp=default"
                ));
                return Err(Error::invalid("command line", vec![bad.at("--security-opt")]));
            }
        }
    }
    Ok(asked)
}

/// The problems of a file, each with its place there behind the file's name.
fn within_file(error: Error, path: &str) -> Error {
    if error.problems().is_empty() {
        return error;
    }
    let named = |problem: &Problem| Problem {
        field: "--security-opt".to_owned(),
        reason: format!("'{path}': {}: {}", problem.field, problem.reason),
    };
    Error::invalid(DOOR.object, error.problems().iter().map(named).collect())
}

fn network(text: Option<&str>) -> std::result::Result<Network, BadValue> {
    match text {
        Some("host") => Ok(Network::Host),
        Some("none") | None => Ok(Network::None),
        Some(other) => Err(BadValue::new(format!("'{other}' is not a network: expected host or none"))),
    }
}

/// Nothing is a tmpfs without a size of its own, something with a slash is a directory and perhaps a size, the rest a size.
fn writable(text: &str) -> std::result::Result<RootMode, BadValue> {
    if text.is_empty() {
        return Ok(RootMode::Writable { size_bytes: None });
    }
    if text.contains('/') {
        let (path, size) = text.rsplit_once(",size=").map_or((text, None), |(path, size)| (path, Some(size)));
        let path = AbsolutePath::new(absolute(Path::new(path)))?;
        let size_bytes = size.map(values::size).transpose()?;
        return Ok(RootMode::Directory(HostDirectory { path, size_bytes }));
    }
    values::size(text).map(|bytes| RootMode::Writable { size_bytes: Some(bytes) })
}

fn with_mounts(mut builder: Builder, run: &Run, flags: &mut Flags) -> Builder {
    let volumes = run.volumes.iter().map(|text| ("--volume", values::volume(text)));
    let tmpfs = run.tmpfs.iter().map(|text| ("--tmpfs", values::tmpfs(text)));
    for (flag, mount) in volumes.chain(tmpfs) {
        if let Some(mount) = flags.value(flag, mount) {
            builder = builder.mount(mount);
        }
    }
    builder
}

fn limits(run: &Run, flags: &mut Flags) -> Limits {
    let mut limits = Limits::default();
    let mut size =
        |flag: &str, text: &Option<String>| text.as_deref().and_then(|text| flags.value(flag, values::size(text)));
    limits.memory_bytes = size("--memory", &run.memory);
    limits.memory_swap_bytes = match run.memory_swap.as_deref() {
        Some("-1") => Some(SwapLimit::Unlimited),
        _ => size("--memory-swap", &run.memory_swap).map(SwapLimit::Total),
    };
    limits.memory_oom_group = run.oom_group;
    if let Some(cpus) = run.cpus.as_deref().and_then(|text| flags.value("--cpus", values::cpus(text))) {
        limits.cpu_quota_us = Some(cpus.quota_us);
        limits.cpu_period_us = Some(cpus.period_us);
    }
    let mut list = |flag: &str, text: &Option<String>| {
        let parsed = text
            .as_deref()
            .map(|text| text.parse::<CpuList>().map_err(|problem| BadValue::new(format!("'{text}': {problem}"))));
        parsed.and_then(|parsed| flags.value(flag, parsed))
    };
    limits.cpuset_cpus = list("--cpuset-cpus", &run.cpuset_cpus);
    limits.cpuset_mems = list("--cpuset-mems", &run.cpuset_mems);
    limits.pids = run.pids_limit.as_deref().and_then(|text| flags.value("--pids-limit", pids(text)));
    limits
}

fn pids(text: &str) -> std::result::Result<u64, BadValue> {
    let wrong = || BadValue::new(format!("'{text}' is not a number of processes: expected 1 or more"));
    text.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)
}

/// Sixteen hexadecimal digits: 64 bits, so that even a million containers hardly ever meet.
fn random_id() -> String {
    let mut bytes = [0; 8];
    let filled =
        std::fs::File::open("/dev/urandom").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    if filled.is_err() {
        // Without a /dev the clock has to do: an id in use is refused, never shared.
        bytes = (std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos() as u64).to_le_bytes();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
