//! What is kept on disk about a container.
//!
//! Two files, one writer each, both written whole and renamed into place: `record.json` by the launch process, when the workload runs,
//! and `exit.json` by the monitor, when it has ended. Whoever reads finds either a whole file or none.

mod removed;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cgroup::Adjustment;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::layer::{LayerSource, digest_in_name};
pub use crate::monitor::exit::*;
use crate::monitor::handover::RESERVED_NAME;
pub use crate::process::ProcessId;
use crate::request::LaunchSpec;
use crate::stage::Stage;
pub(crate) use removed::{MOST as MOST_REMOVED, RemovedExits};

/// The version of both files. A reader refuses what is newer.
pub const SCHEMA: u32 = 1;

/// A layer as a container uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The path by which the caller named it.
    pub path: String,
    /// What it is: device, inode, size and modification time of its file.
    pub layer_id: String,
    /// How its mount was come by.
    pub source: LayerSource,
}

/// How long a stage of the launch took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTime {
    /// The stage.
    pub stage: Stage,
    /// Microseconds of CLOCK_MONOTONIC.
    pub microseconds: u64,
}

/// `record.json`: a container as it was launched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchRecord {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The container's id.
    pub id: String,
    /// The kernel's boot id: after a restart of the machine no pid of this record means anything.
    pub boot_id: String,
    /// Init, as the host sees it.
    pub init: ProcessId,
    /// The monitor.
    pub monitor: ProcessId,
    /// When the launch began, in nanoseconds since 1970.
    pub created_unix_ns: u64,
    /// When the workload was executed, in nanoseconds of CLOCK_BOOTTIME.
    pub started_boot_ns: u64,
    /// The pid namespace that the pids belong to, by its inode.
    pub pid_namespace: u64,
    /// The cgroup, the same path in every hierarchy.
    pub cgroup: String,
    /// The inode of its directory in the first hierarchy: another cgroup of the same path is not this container's.
    pub cgroup_inode: Option<u64>,
    /// Layers, base first.
    pub layers: Vec<LayerRecord>,
    /// What the kernel rounded or lacks of the limits asked for.
    pub adjustments: Vec<Adjustment>,
    /// What else could not be done as it should be, and is not fatal.
    pub notes: Vec<String>,
    /// The AppArmor profile with its mode, or the SELinux label, that the worker was under right
    /// after its exec, in the kernel's words: `docker-default (enforce)`. `None` where neither was
    /// asked for, and for a worker that had ended by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confined_by: Option<String>,
    /// How long each stage took, in the order in which they ended. The launch process works while init does, so they overlap.
    pub stages: Vec<StageTime>,
    /// From the caller's call to the workload's exec, and the pid file if there is one, in microseconds.
    pub launch_microseconds: u64,
    /// What was asked for.
    pub spec: LaunchSpec,
}

impl LaunchRecord {
    /// The image by its content: the chain id of OCI's image specification over the layers' digests, where every layer's file is named by
    /// its digest, as in Storm's image store. Nothing otherwise: hashing the files would cost more than the launch.
    pub fn image_digest(&self) -> Option<String> {
        let mut digests = self.layers.iter().map(|layer| digest_in_name(&layer.path));
        let first = digests.next()??;
        digests
            .try_fold(first, |chain, digest| {
                let text = format!("sha256:{chain} sha256:{}", digest?);
                Some(Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect())
            })
            .map(|hex: String| format!("sha256:{hex}"))
    }
}

/// Reads `record.json` of a container directory; nothing where there is none (yet).
pub(crate) fn read_launch(directory: &Path) -> Result<Option<LaunchRecord>> {
    let record: Option<LaunchRecord> = read(&directory.join("record.json"))?;
    match &record {
        Some(record) if record.schema > SCHEMA => Err(too_new(directory, record.schema)),
        _ => Ok(record),
    }
}

/// Reads `exit.json` of a container directory; nothing where there is none (yet).
pub(crate) fn read_exit(directory: &Path) -> Result<Option<ExitRecord>> {
    let record: Option<ExitRecord> = read(&directory.join("exit.json"))?;
    match &record {
        Some(record) if record.schema > SCHEMA => Err(too_new(directory, record.schema)),
        _ => Ok(record),
    }
}

/// The file that holds the exit record of a container, or will, open: whoever has it learns the end even after the container's removal.
pub(crate) struct OpenExit(File);

impl OpenExit {
    /// Nothing where there is none (any more).
    pub(crate) fn of(directory: &Path) -> Option<OpenExit> {
        let reserved = OsStr::from_bytes(RESERVED_NAME.to_bytes());
        [OsStr::new("exit.json"), reserved]
            .into_iter()
            .find_map(|name| File::open(directory.join(name)).ok())
            .map(OpenExit)
    }

    /// The record, if it is written and this launch's: another container may have the id by now.
    pub(crate) fn read(&self, launch: &LaunchRecord) -> Option<ExitRecord> {
        let mut text = vec![0; self.0.metadata().ok()?.len() as usize];
        self.0.read_exact_at(&mut text, 0).ok()?;
        serde_json::from_slice(&text).ok().filter(|exit| is_end_of(exit, launch))
    }
}

/// Whether this is how that container ended, and not one of the same id before it or after.
pub(crate) fn is_end_of(exit: &ExitRecord, launch: &LaunchRecord) -> bool {
    let started = exit.wall_ns.and_then(|wall| exit.ended_boot_ns.checked_sub(wall));
    exit.schema <= SCHEMA && exit.boot_id == launch.boot_id && started == Some(launch.started_boot_ns)
}

fn too_new(directory: &Path, schema: u32) -> Error {
    let text = format!("schema {schema} is newer than this program's {SCHEMA}");
    Error::found(ErrorKind::Unsupported, Stage::Watch, directory.display().to_string(), "read(record)", text)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).at(Stage::Watch, path.display(), "read"),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Error::found(ErrorKind::System, Stage::Watch, path.display().to_string(), "parse", error.to_string())
    })
}

/// A file that is written whole: under another name first, then renamed. Its room is taken when it is made, so that what must not fail later
/// does not fail for want of it. No fsync: a record means nothing after a restart of the machine.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
}

impl Draft {
    /// Makes the file under its other name, with room for `length` bytes.
    pub(crate) fn reserve(path: PathBuf, length: usize, mode: u32) -> io::Result<Draft> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let temporary = path.with_file_name(name);
        let file =
            File::options().write(true).create_new(true).mode(mode).custom_flags(libc::O_NOFOLLOW).open(&temporary)?;
        match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, length as u64) {
            // Not every file system can promise room.
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(Draft { path, temporary, file }),
            Err(errno) => {
                let _ = std::fs::remove_file(&temporary);
                Err(errno.into())
            }
        }
    }

    /// Writes it and gives it its name; room that is not needed is given back.
    pub(crate) fn finish(mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.set_len(bytes.len() as u64)?;
        std::fs::rename(&self.temporary, &self.path)
    }
}

/// A span in whole microseconds.
pub(crate) fn microseconds(span: Duration) -> u64 {
    span.as_micros().try_into().unwrap_or(u64::MAX)
}
