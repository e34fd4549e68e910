//! Removing what is kept of a container that has ended.

use std::path::Path;
use std::time::Instant;

use super::wait::wait_readable;
use super::{Ended, Exited, KILL_PATIENCE, Lost, recorded_cgroup};
use crate::cgroup::{self, Layout};
use crate::crash::{self, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::host::boot_id;
use crate::log;
use crate::stage::Stage;
use crate::state::claim;
use crate::state::record::LaunchRecord;

impl Exited {
    /// Removes what is kept of it.
    pub fn remove(self) -> Result<()> {
        remove(&self.directory, &self.record)
    }
}

impl Lost {
    /// Removes what is kept of it.
    pub fn remove(self) -> Result<()> {
        remove(&self.directory, &self.record)
    }
}

impl Ended {
    /// Removes what is kept of it.
    pub fn remove(self) -> Result<()> {
        match self {
            Ended::Exited(exited) => exited.remove(),
            Ended::Lost(lost) => lost.remove(),
        }
    }
}

/// Removes cgroup and directory. The monitor comes to its own end first: it may still be clearing
/// away, by the same names. The directory goes last: as long as it is there, removing can be tried
/// again. Of a record from before the machine was restarted neither pid nor inode means anything:
/// they may be somebody else's now.
fn remove(directory: &Path, record: &LaunchRecord) -> Result<()> {
    crash::point(Role::Caller, Stage::Remove);
    let of_this_boot = record.boot_id == boot_id()?;
    if let Some(monitor) = of_this_boot.then(|| record.monitor.open()).flatten() {
        wait_readable(&monitor, Some(Instant::now() + KILL_PATIENCE))?;
    }
    let Some(_held) = claim::hold(directory)? else {
        return match directory.exists() {
            false => Ok(()),
            true => {
                let object = format!("container '{}'", record.id);
                let by = "its monitor, or by somebody else who removes it";
                Err(Error::in_use(ErrorKind::Phase, Stage::Remove, object, by))
            }
        };
    };
    let inode = record.cgroup_inode.filter(|_| of_this_boot);
    cgroup::end(&Layout::detect()?, &recorded_cgroup(record)?, inode)?;
    crash::point(Role::Caller, Stage::Remove);
    log::remove(directory)?;
    claim::remove_directory(directory)
}
