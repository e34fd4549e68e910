//! What does not change from launch to launch.

pub(crate) mod default_limits;

use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupPath;
use crate::error::Result;
use crate::layer::{ImageRoots, OpenLayer};
use crate::request::{LaunchSpec, UidRange};
use crate::state::ledger::Ledger;
use crate::state::own_users::Users;
use crate::state::run_root::RunRoot;
use default_limits::DefaultLimits;

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
    /// How much memory can be promised, if not all that the machine has.
    pub(crate) memory_capacity: Option<u64>,
}

impl Settings {
    /// Who has which uid of the range.
    pub(crate) fn users(&self) -> Users {
        Users::new(&self.run_root, self.own_users)
    }

    /// Who has which processors and memory.
    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::new(&self.run_root, self.memory_capacity)
    }

    /// Whether the layers, all those of the spec in its order, may be mounted for its user. Gives
    /// notes.
    pub(crate) fn check_image_roots(&self, spec: &LaunchSpec, layers: &[OpenLayer]) -> Result<Vec<String>> {
        self.image_roots.as_ref().map_or(Ok(Vec::new()), |roots| roots.check(spec, layers))
    }
}
