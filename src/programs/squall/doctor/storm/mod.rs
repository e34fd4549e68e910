//! A node of an Apache Storm cluster: whether `worker-launcher` is installed and configured so that
//! a supervisor can launch workers, by the program's own rules.

mod configuration;
mod directories;
mod kernel;
mod launcher;
mod values;

use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group};
use serde::{Deserialize, Serialize};

use super::finding::Finding;
use super::machine::Machine;
use squall::request::Identity;
use worker_launcher::config::Config;
use worker_launcher::settings;

/// Where the program usually is: by `make install`, by the Debian package, and where Storm's own is.
const USUAL: [&str; 4] = [
    "/usr/local/libexec/squall/worker-launcher",
    "/usr/libexec/squall/worker-launcher",
    "/opt/storm/bin/worker-launcher",
    "/usr/local/bin/worker-launcher",
];

/// What is known of the node.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The configuration file, where it is not the one that the program reads.
    pub config: Option<PathBuf>,
    /// The program.
    pub launcher: Option<PathBuf>,
    /// The supervisor's user.
    pub user: Option<String>,
}

/// How an area is looked at.
type Look = fn(&Machine, &Node) -> Vec<Finding>;

/// The areas, in the order in which things are set up.
pub(super) const AREAS: [(&str, Look); 5] = [
    ("storm config", configuration::findings),
    ("storm program", launcher::findings),
    ("storm directories", directories::findings),
    ("storm workers", values::findings),
    ("storm kernel", kernel::findings),
];

/// A node, as its configuration has it.
pub(super) struct Node {
    config_path: PathBuf,
    /// The file, or what is wrong with it.
    config: Result<Config, String>,
    /// The launcher's group, or why there is none.
    group: Result<Group, String>,
    supervisor: Supervisor,
    /// The program that was asked about, or that was found.
    launcher: Option<PathBuf>,
}

/// Who calls the program.
enum Supervisor {
    Known(String, Identity),
    Unknown {
        name: String,
        why: String,
    },
    /// No name is given, and nobody is a member of the group.
    Unnamed,
}

/// The run root of the node's configuration; `None` where that cannot be read.
pub(super) fn run_root(asked: &Asked) -> Option<PathBuf> {
    settings::run_root(Node::of(asked).config.as_ref().ok()?).ok()
}

impl Node {
    pub(super) fn of(asked: &Asked) -> Node {
        let config_path = asked.config.clone().unwrap_or_else(Config::built_in_path);
        let config = Config::open(&config_path).map_err(|failure| failure.text);
        let group = match &config {
            Ok(config) => group(config),
            Err(_) => Err("the configuration file cannot be used".to_owned()),
        };
        let supervisor = Supervisor::of(asked.user.as_deref(), group.as_ref().ok());
        let launcher =
            asked.launcher.clone().or_else(|| USUAL.map(PathBuf::from).into_iter().find(|path| path.exists()));
        Node { config_path, config, group, supervisor, launcher }
    }

    /// What the launcher's group is called, in advice.
    fn group_name(&self) -> &str {
        self.group.as_ref().map_or("GROUP", |group| group.name.as_str())
    }

    /// Whom the supervisor's own files belong to, beside root.
    fn owners(&self) -> Vec<u32> {
        match &self.supervisor {
            Supervisor::Known(_, identity) => vec![0, identity.uid()],
            _ => vec![0],
        }
    }
}

fn group(config: &Config) -> Result<Group, String> {
    let id = config.group_id().map_err(|failure| failure.text)?;
    match Group::from_gid(Gid::from_raw(id)) {
        Ok(Some(group)) => Ok(group),
        Ok(None) => Err(format!("group {id} has no name")),
        Err(errno) => Err(format!("group {id}: {errno}")),
    }
}

impl Supervisor {
    /// The user that is named, else the first member of the group.
    fn of(name: Option<&str>, group: Option<&Group>) -> Supervisor {
        let member = || group.and_then(|group| group.mem.first()).map(String::as_str);
        let Some(name) = name.or_else(member) else { return Supervisor::Unnamed };
        match Identity::of_user_name(name) {
            Ok(identity) => Supervisor::Known(name.to_owned(), identity),
            Err(error) => Supervisor::Unknown { name: name.to_owned(), why: error.to_string() },
        }
    }
}

/// What makes a path root's alone.
fn give_to_root(part: &Path) -> String {
    format!("chown root:root '{0}' && chmod go-w '{0}'", part.display())
}

/// What a program said, to be handed over between processes.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    /// Its exit code; `None` where it was not executed.
    code: Option<i32>,
    text: String,
}
