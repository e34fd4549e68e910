//! From the command line to a launch spec.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use squall::cgroup::{DEFAULT_SLICE, Manager};
use squall::request::{
    AbsolutePath, AppArmor, BadValue, Builder, ContainerId, Door, Home, HostDirectory, Hostname, Identity, LaunchSpec,
    MemoryPromise, Network, OnExit, RootMode, Seccomp, Selinux, SetuidBits, UidRange, storm, values,
};
use squall::{DefaultLimits, Error, Problem, Result};

use crate::args::Run;
use crate::image::LaunchImage;
use crate::limits::limits;
use crate::logs;
use crate::mounts::Mounts;
use crate::security::Security;
use crate::signals;

/// What programs are found by when the caller gives no PATH: Docker's and podman's default.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program of a single-file image when none is named.
const DEFAULT_PROGRAM: &str = "/bin/sh";

/// The cgroup above the containers' own, unless said otherwise.
const DEFAULT_CGROUP_PARENT: &str = "/squall";

/// Asks for a user that no other container has, which root gets without saying.
pub const AUTO: &str = "auto";

/// The builder's fields by the flags that set them.
pub const DOOR: Door<'static> = Door {
    object: "command line",
    names: &[
        ("id", "--name"),
        ("layers", "--layer"),
        ("args", "ARGV"),
        ("env", "--env"),
        ("cwd", "--workdir"),
        ("user", "--user"),
        ("root", "--writable"),
        ("hostname", "--hostname"),
        ("network", "--network"),
        ("cgroup", "--cgroup-parent"),
        ("pid_file", "--pidfile"),
        ("exit_file", "--exit-file"),
        ("timeout", "--timeout"),
        ("stop_signal", "--stop-signal"),
        ("log.file", "--log-file"),
        ("log.max_bytes", "--log-opt max-size"),
        ("log.max_files", "--log-opt max-file"),
        ("seccomp", "--security-opt seccomp"),
        ("apparmor", "--security-opt apparmor"),
        ("selinux", "--security-opt label"),
        ("limits.memory_bytes", "--memory"),
        ("limits.memory_swap_bytes", "--memory-swap"),
        ("limits.cpu_quota_us", "--cpus"),
        ("limits.cpu_period_us", "--cpus"),
        ("limits.cpuset_cpus", "--cpuset-cpus"),
        ("exclusive_cpus", "--cpuset-cpus"),
        ("memory_promise", "--memory-promised"),
        ("limits.cpuset_mems", "--cpuset-mems"),
        ("limits.memory_oom_group", "--oom-group"),
        ("limits.pids", "--pids-limit"),
    ],
};

/// A launch, and what of its document or flags has no effect.
pub struct Asked {
    pub spec: LaunchSpec,
    pub warnings: Vec<String>,
    pub names: Names,
    /// Whether it is to have a user that no other container has; the spec's is a stand-in until it
    /// is claimed.
    pub own_user: bool,
}

/// The flags that the fields of a spec came from; none where a document is what was given.
pub enum Names {
    Document,
    Flags {
        /// The flag of each mount, in the spec's order.
        mounts: Vec<String>,
    },
}

impl Names {
    /// A refusal of the library in the words of the command line.
    pub fn rename(&self, error: Error) -> Error {
        let Names::Flags { mounts } = self else { return error };
        if error.problems().is_empty() {
            return error;
        }
        let fields: Vec<String> = (0..mounts.len()).map(|index| format!("mounts[{index}]")).collect();
        let mounts = fields.iter().zip(mounts).map(|(ours, flag)| (ours.as_str(), flag.as_str()));
        let names: Vec<(&str, &str)> = mounts.chain(DOOR.names.iter().copied()).collect();
        let door = Door { object: DOOR.object, names: &names };
        Error::invalid(DOOR.object, error.problems().iter().map(|problem| door.rename(problem.clone())).collect())
    }
}

/// The launch that the command line asks for. Every problem is reported, each under its flag.
pub fn launch_spec(run: &Run, monitor_cgroup: Option<&str>, image: Option<&LaunchImage>) -> Result<Asked> {
    match &run.spec {
        Some(path) => from_storm(path, run),
        None => from_flags(run, monitor_cgroup, image),
    }
}

/// Storm's command file; its user is looked up, and a deadline may be added.
fn from_storm(path: &Path, run: &Run) -> Result<Asked> {
    let command = storm::read(path)?;
    // Storm's own launcher refuses an old one.
    command.check_pid_file()?;
    let mut warnings = command.warnings().to_vec();
    let identity = command.resolve_user()?;
    let mut fields = command.launch_spec(identity)?.into_fields();
    if let Some(text) = &run.timeout {
        let problem = |bad: BadValue| Error::invalid("command line", vec![bad.at("--timeout")]);
        fields.timeout = Some(values::seconds(text).map_err(problem)?);
    }
    if let Some(path) = &run.exit_file {
        let problem = |bad: BadValue| Error::invalid("command line", vec![bad.at("--exit-file")]);
        fields.exit_file = Some(values::host_path(path).map_err(problem)?);
    }
    if run.rm && run.detach {
        fields.on_exit = OnExit::Remove;
    }
    fields.log = logs::asked(run).map_err(|bad| Error::invalid("command line", vec![bad.at("--log-opt")]))?;
    if run.allow_setuid_bits {
        fields.setuid_bits = SetuidBits::Allowed;
    }
    if run.memory_promised {
        fields.memory_promise = MemoryPromise::Limit;
    }
    let security = Security::of(&run.security_options)?;
    if let Some(asked) = security.seccomp.filter(|_| fields.seccomp == Seccomp::Unconfined) {
        warnings.extend(asked.warnings);
        fields.seccomp = asked.seccomp;
    }
    // A document's own word comes first.
    if let Some(apparmor) = security.apparmor.filter(|_| fields.apparmor == AppArmor::Default) {
        fields.apparmor = apparmor;
    }
    if let Some(selinux) = security.selinux.filter(|_| fields.selinux == Selinux::Default) {
        fields.selinux = selinux;
    }
    Ok(Asked { spec: LaunchSpec::try_from(fields)?, warnings, names: Names::Document, own_user: false })
}

fn from_flags(run: &Run, monitor_cgroup: Option<&str>, image: Option<&LaunchImage>) -> Result<Asked> {
    let mut flags = Flags::default();
    let id = run.name.clone().unwrap_or_else(random_id);
    let (layers, args) = layers_and_args(run, image, &mut flags);
    let network = flags.value("--network", network(run.network.as_deref())).unwrap_or(Network::None);
    let mut builder = LaunchSpec::builder(&id)
        .layers(&layers)
        .args(args)
        .env([DEFAULT_PATH])
        .env(image.iter().flat_map(|image| image.config.env.iter().flatten().cloned()))
        .env(env_files(&run.env_file, &mut flags))
        .env(environment(&run.env, &mut flags))
        .network(network)
        .limits(limits(&run.limits.without_auto(), &mut flags));
    if let Some(cpus) = run.limits.auto().and_then(|text| flags.value("--cpuset-cpus", text.parse())) {
        builder = builder.exclusive_cpus(cpus);
    }
    if run.memory_promised {
        builder = builder.memory_promise(MemoryPromise::Limit);
    }
    builder = with_cgroup(builder, run, &id, monitor_cgroup, &mut flags);
    let mut warnings = Vec::new();
    if let Some(security) = flags.take("--security-opt", Security::of(&run.security_options)) {
        (builder, warnings) = security.apply(builder);
    }
    // That of an image is found in the image, when everything else is known.
    let is_images = image.and_then(|image| image.user_to_find(run)).is_some();
    let own_user = !is_images && wants_own_user(run.user.as_deref());
    if let Some(user) = flags.take("--user", user(run.user.as_deref().filter(|_| !is_images), own_user)) {
        let is_hosts = !own_user && !is_images;
        builder = builder.home(home(is_hosts.then_some(&user))).user(user);
    }
    if let Some(path) = workdir(run, image) {
        builder = builder.cwd(path);
    }
    if let Some(signal) = stop_signal(run, image, &mut flags) {
        builder = builder.stop_signal(signal);
    }
    let Mounts { mounts, problems, warnings: of_mounts } = Mounts::of(run, image);
    warnings.extend(image.iter().flat_map(|image| image.config.not_used()));
    flags.0.extend(problems);
    warnings.extend(of_mounts);
    let names = Names::Flags { mounts: mounts.iter().map(|(flag, _)| flag.clone()).collect() };
    builder = mounts.into_iter().fold(builder, |builder, (_, mount)| builder.mount(mount));
    match (&run.hostname, network) {
        (Some(hostname), _) => builder = builder.hostname(hostname),
        (None, Network::None) => {
            let name = ContainerId::new(&id).map(|id| Hostname::of_id(&id));
            builder = name.into_iter().fold(builder, |builder, name| builder.hostname(name.as_str()));
        }
        // With the host's network the host's name is the right one.
        (None, _) => {}
    }
    if let Some(path) = run.pidfile.as_ref().and_then(|path| flags.value("--pidfile", values::host_path(path))) {
        builder = builder.pid_file(path);
    }
    if let Some(path) = run.exit_file.as_ref().and_then(|path| flags.value("--exit-file", values::host_path(path))) {
        builder = builder.exit_file(path);
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
    if let Some(log) = flags.value("--log-opt", logs::asked(run)).flatten() {
        builder = builder.log(log);
    }
    if run.allow_setuid_bits {
        builder = builder.setuid_bits(SetuidBits::Allowed);
    }
    let spec = flags.finish(builder.build().map_err(|error| names.rename(error)))?;
    Ok(Asked { spec, warnings, names, own_user })
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

/// Problems of flags whose values the builder never sees.
#[derive(Default)]
pub struct Flags(Vec<Problem>);

impl Flags {
    pub fn value<T>(&mut self, flag: &str, value: std::result::Result<T, BadValue>) -> Option<T> {
        value.map_err(|bad| self.0.push(bad.at(flag))).ok()
    }

    pub fn take<T>(&mut self, flag: &str, value: Result<T>) -> Option<T> {
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

    /// What was built, or every problem of flags and builder together.
    pub fn finish<T>(self, built: Result<T>) -> Result<T> {
        if self.0.is_empty() {
            return built;
        }
        let mut problems = self.0;
        if let Err(error) = built {
            // That a field is missing is no news where what was given for it is wrong.
            let known: Vec<String> = problems.iter().map(|problem| problem.field.clone()).collect();
            let is_known = |field: &str| known.iter().any(|known| known.split('[').next() == field.split('[').next());
            let more = error.problems().iter().filter(|problem| !is_known(&problem.field));
            problems.extend(more.cloned().collect::<Vec<_>>());
        }
        Err(Error::invalid(DOOR.object, problems))
    }
}

/// With `--layer` everything else is the program; without, the first word is the image or the one
/// layer.
fn layers_and_args(run: &Run, image: Option<&LaunchImage>, flags: &mut Flags) -> (Vec<AbsolutePath>, Vec<String>) {
    let mut layers = host_paths("--layer", run.layers.iter().map(PathBuf::as_path), flags);
    let mut rest = run.rest.as_slice();
    let entrypoint = run.entrypoint.as_deref().and_then(|text| flags.value("--entrypoint", entrypoint(text)));
    if run.layers.is_empty() {
        let Some((first, others)) = rest.split_first() else { return (layers, Vec::new()) };
        rest = match others.split_first() {
            Some((dashes, program)) if dashes == "--" => program,
            _ => others,
        };
        if let Some(image) = image {
            layers = host_paths("IMAGE", image.layers.iter().map(PathBuf::as_path), flags);
            let words = image.arguments(entrypoint.as_deref(), arguments(rest, flags));
            if words.is_empty() {
                flags.0.push(BadValue::new("the image names no program: give one").at("ARGV"));
            }
            return (layers, words);
        }
        layers = host_paths("--layer", [Path::new(first)], flags);
        if rest.is_empty() && entrypoint.as_ref().is_none_or(Vec::is_empty) {
            return (layers, vec![DEFAULT_PROGRAM.to_owned()]);
        }
    }
    let mut words = entrypoint.unwrap_or_default();
    words.extend(arguments(rest, flags));
    (layers, words)
}

/// A word, or a JSON array of words, as podman has it.
fn entrypoint(text: &str) -> std::result::Result<Vec<String>, BadValue> {
    match text {
        "" => Ok(Vec::new()),
        text if text.starts_with('[') => serde_json::from_str(text)
            .map_err(|error| BadValue::new(format!("'{text}' is not an array of words: {error}"))),
        text => Ok(vec![text.to_owned()]),
    }
}

/// The caller's, else the image's.
fn workdir(run: &Run, image: Option<&LaunchImage>) -> Option<PathBuf> {
    let of_image = || image?.config.working_dir.as_ref().filter(|path| !path.is_empty()).map(PathBuf::from);
    run.workdir.clone().or_else(of_image)
}

/// The caller's, else the image's.
fn stop_signal(run: &Run, image: Option<&LaunchImage>, flags: &mut Flags) -> Option<i32> {
    if let Some(text) = &run.stop_signal {
        return flags.value("--stop-signal", signals::number(text));
    }
    let text = image?.config.stop_signal.as_ref().filter(|text| !text.is_empty())?;
    flags.value("IMAGE: StopSignal", signals::number(text))
}

/// The largest file of variables that is read.
const MAX_ENV_FILE: u64 = 1 << 20;

/// The variables of files, in podman's form.
fn env_files(paths: &[PathBuf], flags: &mut Flags) -> Vec<String> {
    let mut variables = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let read = || {
            let mut text = String::new();
            let file = std::fs::File::open(path)?;
            file.take(MAX_ENV_FILE).read_to_string(&mut text).map(|_| text)
        };
        let bad = |error: std::io::Error| BadValue::new(format!("'{}' cannot be read: {error}", path.display()));
        let flag = format!("--env-file[{index}]");
        let Some(text) = flags.value(&flag, read().map_err(bad)) else { continue };
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        variables.extend(environment(&lines.map(str::to_owned).collect::<Vec<_>>(), flags));
    }
    variables
}

/// The paths that are right; of the others the problems are noted.
fn host_paths<'a>(flag: &str, paths: impl IntoIterator<Item = &'a Path>, flags: &mut Flags) -> Vec<AbsolutePath> {
    let named = paths.into_iter().enumerate();
    named.filter_map(|(index, path)| flags.value(&format!("{flag}[{index}]"), values::host_path(path))).collect()
}

/// A spec is text, so that records can hold it.
pub fn arguments(words: &[OsString], flags: &mut Flags) -> Vec<String> {
    let mut text = |(index, word): (usize, &OsString)| {
        let text = word.to_str().map(str::to_owned);
        let bad = || BadValue::new(format!("'{}' is not UTF-8", word.to_string_lossy().escape_debug()));
        flags.value(&format!("ARGV[{index}]"), text.ok_or_else(bad)).unwrap_or_default()
    };
    words.iter().enumerate().map(&mut text).collect()
}

/// The variables that are right. One without a value is the caller's, and is left out where the
/// caller has none.
pub fn environment(texts: &[String], flags: &mut Flags) -> Vec<String> {
    let mut variable = |(index, text): (usize, &String)| {
        let passed = !text.is_empty() && !text.contains('=');
        let text = if passed { format!("{text}={}", std::env::var_os(text)?.to_string_lossy()) } else { text.clone() };
        let variable = flags.value(&format!("--env[{index}]"), values::variable(&text))?;
        Some(variable.as_str().to_owned())
    };
    texts.iter().enumerate().filter_map(&mut variable).collect()
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

/// As docker and podman have it: a program may rely on there being one. A user of the container's
/// own has none on the host.
fn home(user: Option<&Identity>) -> Home {
    Home::OfImage { otherwise: user.and_then(Identity::home_on_host).unwrap_or_else(AbsolutePath::root) }
}

/// Processes and threads of a worker whose command names no number: podman's default.
const DEFAULT_PIDS: u64 = 2048;

/// What a worker is limited to that is asked for by flags. Of a document's, only what the document
/// says.
pub fn default_limits(run: &Run) -> DefaultLimits {
    let pids = (run.spec.is_none() && run.limits.pids_limit.is_none()).then_some(DEFAULT_PIDS);
    DefaultLimits { pids, memory_bytes: None }
}

/// The uids of which containers get their own, if the command says so.
pub fn own_users(run: &Run) -> Result<Option<UidRange>> {
    let problem = |bad: BadValue| Error::invalid(DOOR.object, vec![bad.at("--own-users")]);
    run.own_users.as_deref().map(|text| text.parse().map_err(problem)).transpose()
}

fn network(text: Option<&str>) -> std::result::Result<Network, BadValue> {
    match text {
        Some("host") => Ok(Network::Host),
        Some("none") | None => Ok(Network::None),
        Some(other) => Err(BadValue::new(format!("'{other}' is not a network: expected host or none"))),
    }
}

/// Nothing is a tmpfs without a size of its own, digits with a unit are one with that size, and the
/// rest is a directory and perhaps a size.
fn writable(text: &str) -> std::result::Result<RootMode, BadValue> {
    if text.is_empty() {
        return Ok(RootMode::Writable { size_bytes: None });
    }
    if text.starts_with(|first: char| first.is_ascii_digit() || first == '-') && !text.contains('/') {
        return values::size(text).map(|bytes| RootMode::Writable { size_bytes: Some(bytes) });
    }
    let (path, size) = text.rsplit_once(",size=").map_or((text, None), |(path, size)| (path, Some(size)));
    let size_bytes = size.map(values::size).transpose()?;
    let directory = values::host_path(path)?;
    if !text.contains('/') && !directory.as_path().is_dir() {
        return Err(BadValue::new(format!("'{}' is neither a size nor a directory", path.escape_debug())));
    }
    Ok(RootMode::Directory(HostDirectory { path: directory, size_bytes }))
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
