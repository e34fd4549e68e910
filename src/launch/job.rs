//! What a launch process is given.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::opened::HostFiles;
use crate::request::LaunchSpec;
use crate::seccomp::Filter;
use crate::settings::Settings;
use crate::state::own_users::OwnUser;
use crate::state::record::LaunchRecord;
use crate::stdio::Console;

/// How far a launch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Goal {
    /// Up to the last step before the workload's exec.
    Create,
    /// Until the workload runs.
    Start,
}

/// One container to be launched.
#[derive(Debug)]
pub(crate) struct Job {
    /// When the caller asked for it, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) called_ns: u64,
    pub(crate) goal: Goal,
    pub(crate) spec: LaunchSpec,
    /// Where the spec's user is only a stand-in for one that the container is to have for itself.
    pub(crate) own_user: Option<OwnUser>,
    /// What the spec names on the host, where the caller has opened it, each layer once. Otherwise
    /// the launch process opens it by its paths: a file system that hangs can hold up nobody else
    /// then.
    pub(crate) files: Option<HostFiles>,
    pub(crate) stdio: [OwnedFd; 3],
    /// In the place of the streams, a terminal.
    pub(crate) console: Option<Console>,
    /// The spec's seccomp profile, compiled.
    pub(crate) filter: Option<Filter>,
    /// What the caller should know and the record keeps.
    pub(crate) notes: Vec<String>,
    pub(crate) settings: Settings,
}

/// One program to be executed in a running container.
#[derive(Debug)]
pub(crate) struct ExecJob {
    /// When the caller asked for it, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) called_ns: u64,
    /// The container's spec with this program in the place of its own.
    pub(crate) spec: LaunchSpec,
    /// The container, and its directory.
    pub(crate) container: LaunchRecord,
    pub(crate) directory: PathBuf,
    pub(crate) stdio: [OwnedFd; 3],
    /// In the place of the streams, a terminal.
    pub(crate) console: Option<Console>,
    /// The spec's seccomp profile, compiled.
    pub(crate) filter: Option<Filter>,
    pub(crate) settings: Settings,
}

/// What a process that is forked for one thing is to do.
#[derive(Debug)]
pub(crate) enum Order {
    Launch(Box<Job>),
    Exec(Box<ExecJob>),
}
