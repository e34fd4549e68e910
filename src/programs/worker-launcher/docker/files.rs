//! What a docker command line names on the host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::docker_line::{DockerLine, MountSource, seccomp_path, seccomp_value};

use crate::{Launcher, trusted};

/// Directories that containers may have mounted. The first of the keys that is there holds.
const ALLOWED: [&str; 2] =
    ["worker.launcher.docker.allowed.mount.source.dirs", "worker.launcher.oci.allowed.mount.source.dirs"];

/// How long the file systems of the sources may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

type Checked<T> = Result<T, String>;

/// Checks the sources of mounts, seccomp profiles and the client's configuration. Of the last two
/// the line names what they lead to afterwards, which nobody can exchange.
pub fn check(launcher: &Launcher, line: &mut DockerLine) -> Checked<()> {
    // What the configuration names is executed by docker with ids that can become root's.
    if let Some(directory) = &line.config {
        line.config = Some(text(trusted::resolve(Path::new(directory), &[0])?)?);
    }
    for value in line.seccomp_profiles() {
        let owners = [0, launcher.supervisor.uid()];
        *value = seccomp_value(&text(trusted::resolve(Path::new(seccomp_path(value)), &owners)?)?);
    }
    let sources = line.mount_sources().map_err(|refused| refused.text)?;
    check_sources(launcher, sources)
}

/// Follows each source as the supervisor, and refuses what lies outside of the allowed directories;
/// without a list what would show all of the host, or is no directory or file.
///
/// Docker is given the sources as Storm wrote them. Its daemon follows them again, later: where the
/// user can rename a part of a path, the followed one can be led elsewhere just as well, and those
/// who look at the container know its mounts by Storm's paths. So the directories of the list have
/// to be such that the user can bear what the user can link to in them: the container's processes
/// are the user's, and can become nobody else.
fn check_sources(launcher: &Launcher, sources: Vec<MountSource>) -> Checked<()> {
    let allowed = allowed_directories(launcher)?;
    let followed = squall::as_user(&launcher.supervisor, "mount sources", PATIENCE, move || {
        Ok(sources.iter().map(|MountSource(path)| follow(path.as_path())).collect::<Checked<Vec<PathBuf>>>())
    });
    let followed = followed.map_err(|error| error.to_string())??;
    match followed.iter().find(|source| !is_allowed(source, allowed.as_deref())) {
        None => Ok(()),
        Some(source) => Err(format!("mount source '{}' is not allowed", source.display())),
    }
}

/// The list, with what its directories lead to. None is configured: none is asked for.
fn allowed_directories(launcher: &Launcher) -> Checked<Option<Vec<PathBuf>>> {
    for key in ALLOWED {
        if let Some(directories) = launcher.config.paths(key).map_err(|failure| failure.text)? {
            // One that is not there holds nothing.
            return Ok(Some(directories.iter().filter_map(|path| path.canonicalize().ok()).collect()));
        }
    }
    Ok(None)
}

/// One that is missing would be made by docker, as root.
fn follow(path: &Path) -> Checked<PathBuf> {
    let wrong = |problem: String| format!("mount source '{}': {problem}", path.display());
    let resolved = path.canonicalize().map_err(|error| wrong(error.to_string()))?;
    let kind = resolved.symlink_metadata().map_err(|error| wrong(error.to_string()))?.file_type();
    // A socket is the door of a daemon: of docker's own, perhaps.
    if kind.is_dir() || kind.is_file() { Ok(resolved) } else { Err(wrong("it is no directory or file".to_owned())) }
}

/// Whole components are compared: `/a` does not hold `/ab`.
fn is_allowed(source: &Path, allowed: Option<&[PathBuf]>) -> bool {
    match allowed {
        Some(directories) => directories.iter().any(|directory| source.starts_with(directory)),
        None => source != Path::new("/"),
    }
}

fn text(path: PathBuf) -> Checked<String> {
    path.into_os_string().into_string().map_err(|path| format!("'{}' is no UTF-8", path.display()))
}
