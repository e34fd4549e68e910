//! The docker commands: a command line that the supervisor wrote, checked and passed on to docker.

mod client;
mod files;
mod profile;

use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::docker_line::{DockerLine, Refused};

use crate::exit::{Code, Failure, Result};
use crate::first_line::{self, Reader};
use crate::{Launcher, Outcome, tree};
use client::Client;
pub use client::configured as configured_client;
pub use profile::profile;

/// `launch-docker-container`: gives the work directory to the user and runs docker.
pub fn launch(launcher: &Launcher, arguments: &[OsString]) -> Outcome {
    let [work, file] = arguments else { return Err(Failure::new(Code::Arguments, "wrong arguments")) };
    // Read and checked before: the file lies in the directory that becomes the user's.
    let line = command_line(launcher, Path::new(file))?;
    let client = Client::find(launcher)?;
    tree::permit_work_directory(launcher, Path::new(work))?;
    client.execute(launcher, Path::new(work), &line)
}

/// `run-docker-cmd`: runs docker.
pub fn run(launcher: &Launcher, arguments: &[OsString]) -> Outcome {
    let [work, file] = arguments else { return Err(Failure::new(Code::Arguments, "wrong arguments")) };
    let line = command_line(launcher, Path::new(file))?;
    Client::find(launcher)?.execute(launcher, Path::new(work), &line)
}

/// Reads the command file, once, and checks everything in it.
fn command_line(launcher: &Launcher, file: &Path) -> Result<DockerLine> {
    let reader = Reader { identity: &launcher.supervisor, code: Code::DockerUser };
    let (supervisor, group) = (launcher.supervisor.uid(), launcher.config.group);
    let text = first_line::read(&reader, file, move |metadata| check_owner(metadata, supervisor, group))?;
    let named = |refused: Refused| {
        let code = if refused.image { Code::DockerImage } else { Code::DockerCommand };
        Failure::new(code, format!("docker command file '{}': {refused}", file.display()))
    };
    let mut line = DockerLine::parse(&text).map_err(named)?;
    line.check(&launcher.user.identity).map_err(named)?;
    files::check(launcher, &mut line).map_err(|problem| named(Refused::line(problem)))?;
    Ok(line)
}

/// The supervisor's, or root's, and nobody else can write to it. The launcher's group is the
/// supervisor's own, and a caller with a looser umask leaves its files writable by it.
fn check_owner(metadata: &Metadata, supervisor: u32, group: u32) -> std::result::Result<(), String> {
    let (uid, mode) = (metadata.uid(), metadata.mode());
    if uid != 0 && uid != supervisor {
        return Err(format!("it belongs to uid {uid} instead of the supervisor or root"));
    }
    if mode & 0o002 != 0 || (mode & 0o020 != 0 && metadata.gid() != group) {
        return Err(format!("others than the supervisor can write to it (mode {:04o})", mode & 0o7777));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
