//! `run-oci-container`: a worker in a container.
//!
//! What Storm relies on (`spec`): exit code 0 means that it runs; then the pid file is there and
//! its process belongs to the user; no process that goes on has the launcher's own output.

use std::ffi::OsString;
use std::path::Path;

use squall::cgroup::SwapLimit;
use squall::request::storm::StormCommand;
use squall::request::{AbsolutePath, LaunchSpec, Mount, MountFlag, Seccomp};
use squall::{OpenedSpec, Stdio, as_user};

use super::{Settings, command_file, output, v1_view};
use crate::exit::{Code, Failure, Result, WithCode};
use crate::{Launcher, Outcome, tree};

/// Runs it: `<work directory> <command file> <artifacts directory>`.
pub(crate) fn run(launcher: &Launcher, arguments: &[OsString]) -> Outcome {
    let [work, file, artifacts] = arguments else { return Err(Failure::new(Code::Arguments, "three are needed")) };
    let (work, file, artifacts) = (Path::new(work), Path::new(file), Path::new(artifacts));
    let settings = Settings::of(&launcher.config)?;
    // Before the walk, which gives the directory with the file in it to the user.
    let command = command_file::read(launcher, file)?;
    command.warnings().iter().for_each(|warning| say!("{warning}"));
    let spec = confined(
        command.launch_spec(launcher.user.identity.clone()).code(Code::Configuration, "command file")?,
        &settings,
    )?;
    check(&spec, &settings)?;
    tree::permit_work_directory(launcher, work)?;
    command_file::check_script(launcher, &command)?;
    start(launcher, &settings, &command, spec, artifacts)
}

fn start(
    launcher: &Launcher,
    settings: &Settings,
    command: &StormCommand,
    spec: LaunchSpec,
    artifacts: &Path,
) -> Outcome {
    let squall = settings.squall(launcher)?;
    check_pid_file(launcher, command)?;
    let opened = OpenedSpec::open_as(&spec, &launcher.user.identity);
    let opened = opened.map_err(|error| Failure::new(Code::ContainerStart, error.to_string()))?;
    check_mounts(&opened, settings)?;
    // An id in use is refused before its output files are emptied.
    if let Ok(container) = squall.attach(spec.id.as_str()) {
        let text = format!("container '{}' is there already: it is {}", spec.id, container.phase().name());
        return Err(Failure::new(Code::ContainerStart, text));
    }
    let [(out, stdout), (err, stderr)] = output::open(launcher, artifacts, spec.id.as_str())?;
    say!("Redirecting STDOUT and STDERR to {} {}", out.display(), err.display());
    let [stdin, ..] = Stdio::inherit().code(Code::ContainerStart, "standard input")?.streams;
    let launched = squall.launch_opened(opened, Stdio::new([stdin, stdout, stderr]));
    let running = launched.map_err(|error| Failure::new(Code::ContainerStart, error.to_string()))?;
    running.record().notes.iter().for_each(|note| say!("{note}"));
    if let Some(view) = &settings.v1_view
        && let Err(error) = v1_view::make(view, &running.record().cgroup)
    {
        // The worker runs: Storm reads no memory use, and goes on.
        tell!("v1-shaped view '{}': {error}", view.display());
    }
    Ok(0)
}

/// The spec with what the configuration adds: a filter where the document names none, no swap
/// beside the memory limit, and the exit record beside the pid file.
fn confined(spec: LaunchSpec, settings: &Settings) -> Result<LaunchSpec> {
    let id = spec.id.to_string();
    let mut fields = spec.into_fields();
    fields.exit_file = fields.pid_file.as_ref().map(exit_file).transpose()?;
    if matches!(fields.seccomp, Seccomp::Unconfined) {
        fields.seccomp = settings.seccomp.clone();
    }
    if let (Some(memory), None) = (fields.limits.memory_bytes, fields.limits.memory_swap_bytes) {
        fields.limits.memory_swap_bytes = Some(SwapLimit::Total(memory.saturating_add(settings.swap_bytes)));
    }
    LaunchSpec::try_from(fields)
        .map_err(|error| Failure::new(Code::Configuration, format!("container '{id}': {error}")))
}

/// Storm's `container-<worker>.pid` makes `container-<worker>.exit.json`.
fn exit_file(pid_file: &AbsolutePath) -> Result<AbsolutePath> {
    let path = pid_file.as_path().with_extension("exit.json");
    AbsolutePath::new(path)
        .map_err(|bad| Failure::new(Code::Configuration, format!("command file: {}", bad.at("pidFile"))))
}

/// What the document may not ask for, whatever the user could do by itself.
fn check(spec: &LaunchSpec, settings: &Settings) -> Result<()> {
    let refused =
        |field: &str, text: String| Err(Failure::new(Code::Configuration, format!("command file: {field}: {text}")));
    if !command_file::is_container_id(spec.id.as_str()) {
        return refused("containerId", format!("'{}' is no id of Storm's", spec.id));
    }
    let cgroup = spec.cgroup.as_str();
    let parent = cgroup.strip_suffix(spec.id.as_str()).and_then(|rest| rest.strip_suffix('/'));
    match (parent, &settings.cgroup_parent) {
        (None, _) => return refused("linux.cgroupsPath", format!("'{cgroup}' does not end with the container's id")),
        (Some(parent), Some(wanted)) if parent.trim_matches('/') != wanted.trim_matches('/') => {
            return refused("linux.cgroupsPath", format!("'{cgroup}' is not directly below '{wanted}'"));
        }
        _ => {}
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        let Mount::Bind(bind) = mount else { continue };
        let flags = bind.options.flags.iter().chain(bind.options.flags_below.iter());
        if let Some(flag) = flags.into_iter().find(|flag| matches!(flag, MountFlag::Dev | MountFlag::Suid)) {
            let text = format!("'{flag:?}' is not allowed").to_lowercase();
            return refused(&format!("mounts[{index}].options"), text);
        }
    }
    Ok(())
}

/// With the user's ids, as the directory is the user's.
fn check_pid_file(launcher: &Launcher, command: &StormCommand) -> Result<()> {
    let (object, looked_at) = (format!("pid file '{}'", command.pid_file()), command.clone());
    let checked = as_user(&launcher.user.identity, object, command_file::PATIENCE, move || looked_at.check_pid_file());
    checked.map_err(|error| Failure::new(Code::Configuration, error.to_string()))
}

/// Each bind's source, as it is resolved and held open, lies in an allowed directory.
fn check_mounts(opened: &OpenedSpec, settings: &Settings) -> Result<()> {
    // What is not there allows nothing.
    let is_allowed = |bind: &squall::HostFile| {
        let within = |directory: &&AbsolutePath| bind.lies_within([*directory]).unwrap_or(false);
        settings.mount_sources.iter().find(within).is_some()
    };
    let refused: Vec<String> = opened
        .binds()
        .filter(|(_, bind)| !is_allowed(bind))
        .map(|(index, bind)| format!("mounts[{index}]: '{}' (really '{}')", bind.path(), bind.resolved()))
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    let text = format!(
        "command file: sources that do not lie in worker.launcher.oci.allowed.mount.source.dirs: {}",
        refused.join(", ")
    );
    Err(Failure::new(Code::Configuration, text))
}
