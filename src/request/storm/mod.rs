//! Storm's door: `oci-config.json`, the command file that a supervisor writes for `worker-launcher
//! run-oci-container`.
//!
//! Owns: the file's grammar and schema, field by field as Storm's own launcher takes them. Stricter
//! than that one: paths are absolute and without `..`, mount options exist, the command fits
//! execve(2), limits are possible. Milder: a keep count that is missing is 0, because Java leaves
//! out a 0. What confines the worker (`process.apparmorProfile`, `process.selinuxLabel`) is
//! applied, where that one leaves it out. Never does: decide whether the user, the sources of
//! mounts, the layers or the cgroup are allowed; that takes the root-owned configuration.
//!
//! Runs in the launcher. [`read`] uses the effective ids of the moment, so the launcher becomes the
//! supervisor's user first.

mod resources;
mod schema;

use std::fs::File;
use std::path::Path;

use rustix::io::Errno;

use super::builder::Builder;
use super::door::Door;
use super::identity::Identity;
use super::path::AbsolutePath;
use super::spec::LaunchSpec;
use crate::document::text_file::{self, FinalLink};
use crate::document::{self, Bounds, Unknown};
use crate::error::{Error, ErrorKind, Result};
use crate::stage::Stage;

/// What errors call a document whose path is not known.
const OBJECT: &str = "oci-config.json";

/// What problems call the document itself.
const TOP: &str = "document";

/// Java's documents are a few KiB; a seccomp profile adds 20. The nesting is that of Storm's parser
/// (`CJSON_NESTING_LIMIT`).
const BOUNDS: Bounds = Bounds { bytes: 16 << 20, nesting: 1000 };

type Findings<'d> = document::Findings<'d, String>;
type Place<'p, 'd> = document::Place<'p, 'd, String>;

/// The builder's fields by their places in the document.
const DOOR: Door<'static> = Door {
    object: OBJECT,
    names: &[
        ("id", "containerId"),
        ("user", "username"),
        ("pid_file", "pidFile"),
        ("args", "ociRuntimeConfig.process.args"),
        ("env", "ociRuntimeConfig.process.env"),
        ("cwd", "ociRuntimeConfig.process.cwd"),
        ("mounts", "ociRuntimeConfig.mounts"),
        ("cgroup", "ociRuntimeConfig.linux.cgroupsPath"),
        ("seccomp", "ociRuntimeConfig.linux.seccomp"),
        ("apparmor", "ociRuntimeConfig.process.apparmorProfile"),
        ("selinux", "ociRuntimeConfig.process.selinuxLabel"),
        ("limits.memory_bytes", "ociRuntimeConfig.linux.resources.memory.limit"),
        ("limits.memory_swap_bytes", "ociRuntimeConfig.linux.resources.memory.swap"),
        ("limits.memory_reservation_bytes", "ociRuntimeConfig.linux.resources.memory.reservation"),
        ("limits.cpu_quota_us", "ociRuntimeConfig.linux.resources.cpu.quota"),
        ("limits.cpu_period_us", "ociRuntimeConfig.linux.resources.cpu.period"),
        ("limits.cpu_shares", "ociRuntimeConfig.linux.resources.cpu.shares"),
        ("limits.blkio_weight", "ociRuntimeConfig.linux.resources.blockIO.weight"),
    ],
};

/// A command file that keeps all rules. It lacks one thing to be a [`LaunchSpec`]: who the user is.
#[derive(Debug, Clone)]
pub struct StormCommand {
    username: String,
    container_script_path: AbsolutePath,
    pid_file: AbsolutePath,
    builder: Builder,
    warnings: Vec<String>,
}

/// Reads a command file. It must be a regular file, is opened without following a symbolic link at
/// its end and without ever waiting, and not more than 16 MiB of it are read.
///
/// Errors: those of [`parse`] with the file's path as object; `Invalid` for what is not a regular
/// file or too long; `System` for what open(2) and read(2) answer.
pub fn read(path: &Path) -> Result<StormCommand> {
    read_open(&text_file::open(path, &object(path), FinalLink::Refuse)?, path)
}

/// Reads a command file that is open already, from where its offset stands; `path` is for errors
/// only. The open file is set to blocking reads.
///
/// Errors: those of [`read`] without open(2).
pub fn read_open(file: &File, path: &Path) -> Result<StormCommand> {
    let object = object(path);
    parse_as(&object, &text_file::read(file, &object, BOUNDS.bytes as u64)?)
}

fn object(path: &Path) -> String {
    format!("command file '{}'", path.display())
}

/// Parses a command file's text. Pure; time and memory are bounded whatever the text is (the worst
/// known: 2.2 s, and 175 MB; with a seccomp profile of half a million rules 690 MB).
///
/// Errors: `Invalid`, with line and column for what is not JSON, else with every problem and its
/// place (the first 100).
pub fn parse(text: &[u8]) -> Result<StormCommand> {
    parse_as(OBJECT, text)
}

fn parse_as(object: &str, text: &[u8]) -> Result<StormCommand> {
    // As Storm's parser does. The columns of the first line then count from behind the mark.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let parsed = document::parse(text, BOUNDS);
    let (text, top) = parsed.map_err(|bad| Error::invalid(object, vec![bad.at(TOP)]))?;
    let unknown = Unknown::Warned(|field| format!("{field}: is not used"));
    let findings = Findings::new(TOP, Some(text), unknown);
    let command = schema::command(&Place::top(&top, &findings));
    let (problems, warnings) = findings.into_parts(|omitted| format!("{omitted} more warnings are not shown"));
    match command {
        Some(command) if problems.is_empty() => Ok(StormCommand { warnings, ..command }),
        _ => Err(Error::invalid(object, problems)),
    }
}

impl StormCommand {
    /// The user's name, as the document has it: whether it is the user that the launcher was called
    /// for is the launcher's to check.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The worker's script, which the supervisor's user must be able to read.
    pub fn container_script_path(&self) -> &AbsolutePath {
        &self.container_script_path
    }

    /// Where the pid of the container's init is to be written.
    pub fn pid_file(&self) -> &AbsolutePath {
        &self.pid_file
    }

    /// What the document asks for and will not be done, each with its place.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The identity of the document's user, with all groups, from NSS.
    ///
    /// Errors: `Invalid` when nobody has that name, `System` when NSS fails.
    pub fn resolve_user(&self) -> Result<Identity> {
        Identity::of_user_name(&self.username).map_err(|error| match error.problems() {
            [] => error,
            problems => Error::invalid(OBJECT, problems.iter().cloned().map(|problem| DOOR.rename(problem)).collect()),
        })
    }

    /// Makes sure that nothing stands where the pid file will be. A symbolic link counts even if it
    /// leads nowhere.
    ///
    /// Errors: `Exists`; what lstat(2) answers other than "no entry".
    pub fn check_pid_file(&self) -> Result<()> {
        let object = format!("pid file '{}'", self.pid_file);
        match rustix::fs::lstat(self.pid_file.as_path()) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::system(Stage::Request, object, "lstat", errno)),
            Ok(_) => Err(Error::there_already(ErrorKind::Exists, Stage::Request, object, "lstat")),
        }
    }

    /// The request, once it is known who the user is: read-only root, the host's network and name.
    ///
    /// Errors: `Invalid`; all rules were checked when the document was parsed, so none is expected.
    pub fn launch_spec(&self, user: Identity) -> Result<LaunchSpec> {
        self.builder.clone().user(user).build_for(DOOR)
    }
}

#[cfg(test)]
mod tests;
