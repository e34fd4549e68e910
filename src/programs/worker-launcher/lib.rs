//! `worker-launcher`: what an Apache Storm supervisor does as root, in one program of its own.
//!
//! It has the command line, the configuration file and the exit codes of Storm's C program of that
//! name, and is installed setuid root. Its caller is the supervisor, which it trusts a little, and
//! which passes on what users of the cluster choose: nothing of the caller's environment,
//! descriptors, limits or ids is used, every path is opened with the ids of whoever named it, and
//! what was opened is not looked up again.
//!
//! | file | what for |
//! |---|---|
//! | `config` | the configuration file, and who may have written it |
//! | `config_text` | the text of it |
//! | `keys` | the keys that it may have |
//! | `setup` | the program's own file |
//! | `user` | whom the supervisor may act for |
//! | `command` | the sub-commands with their numbers of arguments |
//! | `tree` | permissions and removal of directory trees |
//! | `script` | `worker` and `profiler`: a script as the user |
//! | `signal` | `signal` |
//! | `oci` | containers: run, reap, profile |
//! | `docker` | the docker commands |
//! | `docker_line` | the command line that docker is given |
//! | `profile` | the profiler and its arguments |
//! | `work_directory` | the directory of a worker |
//! | `first_line` | the first line of a file, with somebody's ids |
//! | `regular_file` | regular files that the caller names |
//! | `trusted` | paths that nobody can lead elsewhere |
//! | `ids` | the user's ids, for good |
//!
//! The program is this library and a `main` that calls [`main`]. What is public besides is for
//! `squall doctor`, which checks an installation by the program's own rules, and for fuzz targets.

#[macro_use]
mod say;

pub mod command;
pub mod config;
pub mod config_text;
mod docker;
pub mod docker_line;
pub mod exit;
mod first_line;
mod ids;
pub mod keys;
mod oci;
mod profile;
mod regular_file;
mod script;
pub mod setup;
mod signal;
#[cfg(test)]
mod testing;
pub mod tree;
pub mod trusted;
mod user;
mod work_directory;

pub use crate::docker::configured_client as docker_client;
/// What single words of a command line mean.
pub mod words {
    pub use crate::oci::command_file::is_container_id;
    pub use crate::oci::profile::host_pid;
    pub use crate::oci::reap::count;
    pub use crate::signal::numbers;
}
pub use crate::oci::settings;
pub use crate::profile::KEY as PROFILER_KEY;

use std::ffi::OsString;

use squall::setuid;

use crate::exit::{Code, Result};

/// The whole program; the answer is its exit code.
pub fn main() -> i32 {
    // Before anything is read, allocated for long, or said.
    let begun = setuid::begin();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match begun {
        Ok(caller) => command::run(&caller, &arguments).unwrap_or_else(|failure| {
            if !failure.text.is_empty() {
                tell!("{}", failure.text);
            }
            failure.code as i32
        }),
        Err(error) => {
            tell!("this program is neither setuid root nor has it the capabilities of that: {error}");
            Code::Binary as i32
        }
    }
}

/// What every sub-command has at hand.
pub(crate) struct Launcher {
    /// What the administrator says.
    pub config: config::Config,
    /// Who called: the supervisor.
    pub caller: setuid::Caller,
    /// The supervisor's identity, for what is done with its ids.
    pub supervisor: squall::request::Identity,
    /// For whom: the user that the supervisor named.
    pub user: user::User,
}

/// The exit code of a sub-command that did what it was asked.
pub(crate) type Outcome = Result<i32>;
