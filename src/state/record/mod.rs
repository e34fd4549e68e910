//! What is kept on disk about a container.
//!
//! A reader takes a record as it was written, by whichever version: a running worker can be waited
//! for, stopped and counted as a user of its layers by programs that are older or newer than the
//! one that launched it. So records are plain data without rules. Unknown fields are ignored; a
//! field that is missing, or says what this version does not know, reads as empty; only what tells
//! which container it is, and where, has to be there. The request is kept as the text that it was
//! ([`LaunchRecord::spec`]) and not checked again.
//!
//! Two files, both written whole and renamed into place: `record.json` by the launch process, when
//! the workload runs or is ready to, and `exit.json` by the monitor, when it has ended. Whoever
//! reads finds either a whole file or none. When a container that was created is started, its
//! monitor says so in a third file, `started`.

mod lenient;
mod removed;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FallocateFlags, RenameFlags, fallocate, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cgroup::Adjustment;
use crate::error::{Cause, Context, Error, ErrorKind, Result};
use crate::host::absent;
use crate::layer::{LayerSource, digest_in_name};
pub use crate::monitor::exit::*;
use crate::monitor::handover::{RESERVED_NAME, STARTED_NAME};
pub use crate::process::ProcessId;
use crate::stage::Stage;
pub(crate) use removed::{MOST as MOST_REMOVED, RemovedExits};

/// The version of both files that this version writes.
pub const SCHEMA: u32 = 1;

/// A layer as a container uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerRecord {
    /// The path by which the caller named it.
    pub path: String,
    /// What it is: device, inode, size and modification time of its file.
    pub layer_id: String,
    /// How its mount was obtained; `None` for a way that this version does not know.
    #[serde(default, deserialize_with = "lenient::value")]
    pub source: Option<LayerSource>,
}

/// How long a stage of the launch took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageTime {
    /// The stage.
    pub stage: Stage,
    /// Microseconds of CLOCK_MONOTONIC.
    pub microseconds: u64,
}

/// `record.json`: a container as it was launched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LaunchRecord {
    /// [`SCHEMA`] of the version that wrote it.
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
    #[serde(default)]
    pub created_unix_ns: u64,
    /// When the workload was executed, in nanoseconds of CLOCK_BOOTTIME; 0 where it was only
    /// created.
    pub started_boot_ns: u64,
    /// The pid namespace that the pids belong to, by its inode.
    pub pid_namespace: u64,
    /// The cgroup, the same path in every hierarchy.
    pub cgroup: String,
    /// The inode of its directory in the first hierarchy: another cgroup of the same path is not
    /// this container's.
    #[serde(default)]
    pub cgroup_inode: Option<u64>,
    /// Layers, base first.
    pub layers: Vec<LayerRecord>,
    /// What the kernel rounded or lacks of the limits asked for.
    #[serde(default, deserialize_with = "lenient::list")]
    pub adjustments: Vec<Adjustment>,
    /// What else could not be done as it should be, and is not fatal.
    #[serde(default, deserialize_with = "lenient::list")]
    pub notes: Vec<String>,
    /// The AppArmor profile with its mode, or the SELinux label, that the worker was under right
    /// after its exec, in the kernel's words: `docker-default (enforce)`. `None` where neither was
    /// asked for, and for a worker that had ended by then.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::value")]
    pub confined_by: Option<String>,
    /// How long each stage took, in the order in which they ended. The launch process works while
    /// init does, so they overlap.
    #[serde(default, deserialize_with = "lenient::list")]
    pub stages: Vec<StageTime>,
    /// From the caller's call to the workload's exec, and the pid file if there is one, in
    /// microseconds.
    #[serde(default)]
    pub launch_microseconds: u64,
    /// What was asked for, and done: a [`LaunchSpec`](crate::request::LaunchSpec) as the version
    /// that launched it writes one, with the user and the limits that it got.
    /// [`LaunchSpec::from_json`](crate::request::LaunchSpec::from_json) reads it where this version
    /// has its rules.
    #[serde(default)]
    pub spec: Value,
}

impl LaunchRecord {
    /// The uid that the worker runs as, by the spec; `None` where that is not to be found in it.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.spec.pointer("/user/uid")?.as_u64()?.try_into().ok()
    }

    /// The signal that asks the worker to end, by the spec; SIGTERM where that says none.
    #[must_use]
    pub fn stop_signal(&self) -> i32 {
        let said = self.spec.get("stop_signal").and_then(serde_json::Value::as_i64);
        said.and_then(|signal| signal.try_into().ok()).unwrap_or(libc::SIGTERM)
    }

    /// The image by its content: the chain id of OCI's image specification over the layers'
    /// digests, where every layer's file is named by its digest, as in Storm's image store. Nothing
    /// otherwise: hashing the files would cost more than the launch.
    #[must_use]
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
    read(&directory.join("record.json"))
}

/// Reads `record.json` of a container directory with all that it holds, known here or not; nothing
/// where there is none (any more).
pub(crate) fn read_launch_whole(directory: &Path) -> Result<Option<Value>> {
    read(&directory.join("record.json"))
}

/// Reads `exit.json` of a container directory; nothing where there is none (yet).
pub(crate) fn read_exit(directory: &Path) -> Result<Option<ExitRecord>> {
    read(&directory.join("exit.json"))
}

/// The file that holds the exit record of a container, or will, open: whoever has it learns the end
/// even after the container's removal.
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
        self.read_any().filter(|exit| is_end_of(exit, launch))
    }

    /// The record, if it is written, for who knows whose file it is.
    pub(crate) fn read_any(&self) -> Option<ExitRecord> {
        let mut text = vec![0; self.0.metadata().ok()?.len() as usize];
        self.0.read_exact_at(&mut text, 0).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// Whether this is how that container ended, and not one of the same id before it or after. Earlier
/// versions had nothing to tell them by but the start.
pub(crate) fn is_end_of(exit: &ExitRecord, launch: &LaunchRecord) -> bool {
    let started = || exit.wall_ns.and_then(|wall| exit.ended_boot_ns.checked_sub(wall));
    let same = match exit.created_unix_ns {
        Some(created) => created == launch.created_unix_ns,
        None => started() == Some(launch.started_boot_ns),
    };
    exit.boot_id == launch.boot_id && same
}

/// When a container that was created has been started, in nanoseconds of CLOCK_BOOTTIME; nothing
/// where it has not.
pub(crate) fn read_start(directory: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(directory.join(OsStr::from_bytes(STARTED_NAME.to_bytes()))).ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).at(Stage::Watch, path.display(), "read"),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(path, &bytes, &error))
}

/// A record of a later schema may lack what this version has to know; another one is damaged.
fn unreadable(path: &Path, bytes: &[u8], error: &serde_json::Error) -> Error {
    let written: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let object = path.display().to_string();
    match written["schema"].as_u64() {
        Some(found) if found > u64::from(SCHEMA) => {
            let meaning = Some(error.to_string());
            let cause = Cause::Version { of: "schema".to_owned(), found, known: SCHEMA.into(), meaning };
            Error::new(ErrorKind::Unsupported, Stage::Watch, object, "parse", cause)
        }
        _ => Error::malformed(Stage::Watch, object, "parse", error),
    }
}

/// A file that is written whole: under another name first, then renamed. Its room is taken when it
/// is made, so that what must not fail later does not fail for want of it. No fsync: a record means
/// nothing after a restart of the machine.
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

/// A launch record that takes the place of the one that is there.
pub(crate) struct Replacement {
    draft: Draft,
    directory: PathBuf,
}

impl Replacement {
    /// Takes room for `length` bytes. Whoever does this holds the container's lock
    /// ([`lock_file`](crate::state::claim::lock_file)), so what lies there of another replacement is
    /// of one that was killed.
    pub(crate) fn prepare(directory: &Path, length: usize) -> io::Result<Replacement> {
        for entry in std::fs::read_dir(directory)?.flatten() {
            if entry.file_name().as_bytes().starts_with(b"record.json.") {
                absent(std::fs::remove_file(entry.path()))?;
            }
        }
        let draft = Draft::reserve(directory.join("record.json"), length, 0o600)?;
        Ok(Replacement { draft, directory: directory.to_owned() })
    }

    /// Exchanges the two. False: there is no record any more, since the container is being removed,
    /// and none appears.
    pub(crate) fn finish(self, bytes: &[u8]) -> io::Result<bool> {
        let Draft { path, temporary, file } = &self.draft;
        (&*file).write_all(bytes)?;
        file.set_len(bytes.len() as u64)?;
        match renameat_with(CWD, temporary, CWD, path, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Whatever came of it, the other file goes. A monitor that has removed all it knows meanwhile has
/// left the directory for it.
impl Drop for Replacement {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.draft.temporary);
        if !self.draft.path.exists() {
            let _ = std::fs::remove_dir(&self.directory);
        }
    }
}

/// A span in whole microseconds.
pub(crate) fn microseconds(span: Duration) -> u64 {
    span.as_micros().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::LaunchSpec;

    /// Records as version 0.1 wrote them. They stay as they are: every later version has to serve
    /// them.
    const LAUNCH_OF_0_1: &str = include_str!("frozen/record-1.json");
    const EXIT_OF_0_1: &str = include_str!("frozen/exit-1.json");

    fn directory(record: &str, exit: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("record.json"), record).unwrap();
        std::fs::write(directory.path().join("exit.json"), exit).unwrap();
        directory
    }

    #[test]
    fn records_of_version_0_1_are_read_whole() {
        let directory = directory(LAUNCH_OF_0_1, EXIT_OF_0_1);
        let launch = read_launch(directory.path()).unwrap().unwrap();
        let written: Value = serde_json::from_str(&LAUNCH_OF_0_1.replace("\"exec\"", "\"become\"")).unwrap();
        assert_eq!(serde_json::to_value(&launch).unwrap(), written, "the stage has another name since");
        assert_eq!((launch.id.as_str(), launch.init.pid, launch.uid()), ("frozen", 25044, Some(1000)));
        assert_eq!(launch.layers[0].source, Some(LayerSource::Attached));
        assert_eq!(launch.stages.len(), 12);
        let spec = LaunchSpec::from_json(launch.spec.to_string().as_bytes()).unwrap();
        assert_eq!(spec.args, ["/bin/sleep", "1000"]);
        let exit = read_exit(directory.path()).unwrap().unwrap();
        assert_eq!(
            (exit.exit, exit.reason),
            (Exit::Signal { signal: 9, core_dumped: false }, EndReason::KilledAfterGrace)
        );
        assert!(is_end_of(&exit, &launch));
    }

    #[test]
    fn records_of_a_later_version_tell_what_both_know() {
        let mut launch: Value = serde_json::from_str(LAUNCH_OF_0_1).unwrap();
        let mut exit: Value = serde_json::from_str(EXIT_OF_0_1).unwrap();
        for record in [&mut launch, &mut exit] {
            record["schema"] = json!(7);
            record["new"] = json!({ "field": [1] });
        }
        launch["layers"][0]["source"] = json!("beamed");
        launch["stages"][0]["stage"] = json!("charm");
        launch["notes"] = json!("one");
        launch["adjustments"] = json!([{ "field": "unheard-of" }]);
        launch["spec"]["layers"] = json!("a rule that this version has is broken");
        launch.as_object_mut().unwrap().remove("cgroup_inode");
        exit["reason"] = json!("eaten");
        let directory = directory(&launch.to_string(), &exit.to_string());
        let read = read_launch(directory.path()).unwrap().unwrap();
        assert_eq!((read.schema, read.id.as_str(), read.uid()), (7, "frozen", Some(1000)));
        assert_eq!((read.layers.len(), read.layers[0].source), (1, None));
        assert_eq!((read.stages.len(), read.notes.len(), read.adjustments.len(), read.cgroup_inode), (11, 0, 0, None));
        let exit = read_exit(directory.path()).unwrap().unwrap();
        assert_eq!((exit.reason, is_end_of(&exit, &read)), (EndReason::Unknown, true));
    }

    #[test]
    fn a_record_is_replaced_in_one_step_and_none_appears_where_none_is() {
        let directory = directory("{}", "");
        let replace = || Replacement::prepare(directory.path(), 100).unwrap();
        let names = || {
            let entries = std::fs::read_dir(directory.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert!(replace().finish(b"[1]").unwrap());
        assert_eq!(read_launch_whole(directory.path()).unwrap(), Some(json!([1])));
        std::fs::write(directory.path().join("record.json.1"), "of one that was killed").unwrap();
        drop(replace());
        assert_eq!(names(), ["exit.json", "record.json"]);
        let late = replace();
        std::fs::remove_file(directory.path().join("record.json")).unwrap();
        std::fs::remove_file(directory.path().join("exit.json")).unwrap();
        assert!(!late.finish(b"[2]").unwrap());
        assert!(!directory.path().exists(), "nobody else would remove it");
    }

    #[test]
    fn what_does_not_say_which_container_it_is_is_refused_by_its_schema() {
        for (record, kind, words) in [
            (r#"{ "schema": 7, "name": "frozen" }"#, ErrorKind::Unsupported, "schema 7 is newer"),
            (r#"{ "schema": 1, "id": "frozen" }"#, ErrorKind::System, "missing field `boot_id`"),
            ("{", ErrorKind::System, "EOF"),
        ] {
            let directory = directory(record, "");
            let error = read_launch(directory.path()).unwrap_err();
            assert!(error.kind() == kind && error.to_string().contains(words), "{error}");
        }
    }
}
