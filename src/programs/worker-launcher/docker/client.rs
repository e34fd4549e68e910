//! The docker program, with what it is executed with.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::docker_line::DockerLine;
use rustix::process::setsid;

use crate::config::Config;
use crate::exit::{Code, Failure, Result};
use crate::{Launcher, Outcome, ids, trusted, work_directory};

/// Of the two keys the second wins: the first is also read by Storm's own launcher.
const KEYS: [&str; 2] = ["worker.launcher.docker.binary", "docker.binary"];

const DEFAULT: &str = "/usr/bin/docker";

/// The key of the directory with the client's configuration: credentials of registries, the
/// daemon's address.
const CONFIG_KEY: &str = "worker.launcher.docker.config.dir";

/// Where docker finds its helpers.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The docker program that the configuration names, if it names one.
///
/// # Errors
/// A value that is no absolute path.
pub fn configured(config: &Config) -> Result<Option<PathBuf>> {
    for key in KEYS {
        if let Some(path) = config.path(key)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The docker program.
pub struct Client {
    /// As configured: what docker is called.
    named: PathBuf,
    /// What that leads to.
    program: PathBuf,
    config: Option<PathBuf>,
}

impl Client {
    /// Finds it. It and its configuration are root's, and so is every directory above them.
    pub fn find(launcher: &Launcher) -> Result<Client> {
        let failed = |problem: trusted::Untrusted| Failure::new(Code::DockerExec, format!("docker: {problem}"));
        let named = configured(&launcher.config)?.unwrap_or_else(|| PathBuf::from(DEFAULT));
        let config = launcher.config.path(CONFIG_KEY)?;
        let config = config.map(|path| trusted::resolve(&path, &[0])).transpose().map_err(failed)?;
        Ok(Client { program: trusted::program(&named).map_err(failed)?, named, config })
    }

    /// The command with the environment it gets, which is none of the caller's: topologies choose
    /// that.
    ///
    /// `HOME` is not the user's either. Docker executes plugins and credential helpers that the
    /// configuration in it names, and whatever runs with docker's ids can become root.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg0(&self.named).env_clear().env("PATH", PATH).env("HOME", "/");
        command.envs(self.config.iter().map(|directory| ("DOCKER_CONFIG", directory)));
        command
    }

    /// Becomes docker. Comes back only with a failure.
    pub fn execute(&self, launcher: &Launcher, work: &Path, line: &DockerLine) -> Outcome {
        let words = line.words();
        say!("command: {} {}", self.named.display(), words.join(" "));
        // A process that leads a group already has a session of its own, or another's terminal.
        let _ = setsid();
        ids::become_docker_client(&launcher.user.identity, launcher.config.group)?;
        // With the user's ids in effect: a directory where the user can go.
        let _directory = work_directory::enter(work)?;
        let error = self.command().args(words).exec();
        Err(Failure::new(Code::DockerExec, format!("docker '{}': exec: {error}", self.program.display())))
    }
}
