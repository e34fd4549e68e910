//! The run root: where Squall keeps what is true only until the machine restarts.
//!
//! ```text
//! <run-root>/                     default /run/squall
//!   layers/<layer-id>/            mnt (the pin), loop (hint), lock
//!   users/                        which container has which uid (`own_users`)
//!   containers/                   locked while processors or memory are claimed (`ledger`)
//!   containers/<id>/              claim (what the launch makes elsewhere), record.json, exit.json, monitor.sock
//!   removed/<id>                  how a container ended that was removed with its end; the newest 128, until somebody reaps
//! ```
//!
//! Every directory is root's alone (0700): pids, sockets and layer mounts are nobody else's
//! business.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::RemovedExits;
use crate::error::{Context, Error, ErrorKind, FileAspect, Result};
use crate::host::{create_private_directory, file_with_access};
use crate::request::ContainerId;
use crate::stage::Stage;

/// The default run root.
pub const DEFAULT_RUN_ROOT: &str = "/run/squall";

/// A run root, by its absolute path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRoot(PathBuf);

impl RunRoot {
    /// The run root at this path, which has to be absolute. Nothing is made or checked yet.
    pub fn new(path: impl Into<PathBuf>) -> Result<RunRoot> {
        let path = path.into();
        if path.is_absolute() {
            return Ok(RunRoot(path));
        }
        Err(Error::invalid_field(format!("run root '{}'", path.display()), "path", "it has to be absolute"))
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.0.join("layers")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }

    pub(crate) fn users(&self) -> PathBuf {
        self.0.join("users")
    }

    pub(crate) fn removed(&self) -> RemovedExits {
        RemovedExits::at(self.0.join("removed"))
    }

    pub(crate) fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }

    /// Makes what is missing: the last component and what belongs below it. A run root that
    /// somebody else owns or may write to is refused, because whoever can rename a record or a pin
    /// decides what root mounts and signals.
    pub(crate) fn prepare(&self) -> Result<()> {
        let object = format!("run root '{}'", self.0.display());
        create_private_directory(&self.0).at(Stage::Claim, &object, "mkdir")?;
        let metadata = fs::symlink_metadata(&self.0).at(Stage::Claim, &object, "lstat")?;
        let own = rustix::process::geteuid().as_raw();
        let aspect = match metadata.is_dir() {
            false => Some(FileAspect::Type),
            true => (metadata.uid() != own || metadata.mode() & 0o022 != 0).then_some(FileAspect::Access),
        };
        if let Some(aspect) = aspect {
            let found = file_with_access(metadata.mode(), metadata.uid());
            let expected = format!("a directory of uid {own} that nobody else can write to");
            let error = Error::wrong_file(Stage::Claim, object, "lstat", aspect, found, expected);
            return Err(error.with_kind(ErrorKind::Privilege));
        }
        create_private_directory(&self.layers()).at(Stage::Claim, &object, "mkdir(layers)")?;
        create_private_directory(&self.containers()).at(Stage::Claim, &object, "mkdir(containers)")
    }
}
