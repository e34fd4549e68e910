//! What a launch process is given.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::default_limits::DefaultLimits;
use crate::cgroup::CgroupPath;
use crate::error::Result;
use crate::layer::OpenLayer;
use crate::request::{HostFiles, ImageRoots, LaunchSpec, UidRange};
use crate::seccomp::Filter;
use crate::state::own_users::{OwnUser, Users};
use crate::state::run_root::RunRoot;

/// What does not change from launch to launch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) run_root: RunRoot,
    /// How many idle layers stay mounted.
    pub(crate) keep_layers: usize,
    /// The cgroup in which monitors live.
    pub(crate) monitors: CgroupPath,
    /// Where layers may lie; anywhere, if nothing is said.
    pub(crate) image_roots: Option<ImageRoots>,
    /// Of which containers get users of their own.
    pub(crate) own_users: UidRange,
    /// What a container is limited to whose spec does not say.
    pub(crate) default_limits: DefaultLimits,
}

impl Settings {
    /// Who has which uid of the range.
    pub(crate) fn users(&self) -> Users {
        Users::new(&self.run_root, self.own_users)
    }

    /// Whether the layers, all those of the spec in its order, may be mounted for its user. Gives notes.
    pub(crate) fn check_image_roots(&self, spec: &LaunchSpec, layers: &[OpenLayer]) -> Result<Vec<String>> {
        self.image_roots.as_ref().map_or(Ok(Vec::new()), |roots| roots.check(spec, layers))
    }
}

/// One container to be launched.
#[derive(Debug)]
pub(crate) struct Job {
    /// When the caller asked for it, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) called_ns: u64,
    pub(crate) spec: LaunchSpec,
    /// Where the spec's user is only a stand-in for one that the container is to have for itself.
    pub(crate) own_user: Option<OwnUser>,
    /// What the spec names on the host, where the caller has opened it, each layer once. Otherwise the launch process opens it by its paths: a
    /// file system that hangs can hold up nobody else then.
    pub(crate) files: Option<HostFiles>,
    pub(crate) stdio: [OwnedFd; 3],
    /// The spec's seccomp profile, compiled.
    pub(crate) filter: Option<Filter>,
    /// What the caller should know and the record keeps.
    pub(crate) notes: Vec<String>,
    pub(crate) settings: Settings,
}
