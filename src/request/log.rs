//! Where a worker's output goes: its log.

use serde::{Deserialize, Serialize};

use super::path::AbsolutePath;
use crate::error::Problem;

/// Least size of a log file before it is rotated: more than one chunk of a pipe (64 KiB) with the
/// timestamps of its lines.
pub const LEAST_LOG_BYTES: u64 = 128 << 10;

/// Most files of one log.
pub const MOST_LOG_FILES: u32 = 1000;

/// Files of a log that is rotated, where no number is given: podman has no rotation, docker's
/// examples have three.
pub const DEFAULT_LOG_FILES: u32 = 3;

/// The log of a worker: standard output and standard error go there instead of to the launch's own
/// streams 1 and 2.
///
/// Without a size and without timestamps the worker writes to the file itself (`O_APPEND`), and no
/// process stands between. With one of them a *copier* does ([`crate::log`]).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Log {
    /// The file; what it holds already stays. `None`: `logs/<id>/log` of the run root, which goes
    /// with the container. That is memory mostly, so such a log has to be rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<AbsolutePath>,
    /// When the file would become larger than this many bytes it is renamed to `FILE.1`, `FILE.1`
    /// to `FILE.2` and so on, and a new one is begun. At least 128 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// How many files there are at most, the newest one included: 1 to 1000, 3 where nothing is
    /// said. The oldest is removed. Only with `max_bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_files: Option<u32>,
    /// Whether each line has its time and its stream, in the format that Kubernetes and podman
    /// (`k8s-file`) have: `2026-01-31T12:00:00.000000000Z stdout F text`, with `P` instead of `F`
    /// for a piece of a line that goes on.
    #[serde(default)]
    pub timestamps: bool,
}

impl Log {
    /// A log in the run root, which goes with the container, of files of at most this many bytes
    /// each, and at most so many.
    #[must_use]
    pub fn in_run_root(max_bytes: u64, max_files: u32) -> Log {
        Log::default().rotated(max_bytes, max_files)
    }

    /// A log in this file, straight from the worker.
    #[must_use]
    pub fn in_file(path: AbsolutePath) -> Log {
        Log { file: Some(path), ..Log::default() }
    }

    /// Rotated: files of at most this many bytes each, and at most so many.
    #[must_use]
    pub fn rotated(self, max_bytes: u64, max_files: u32) -> Log {
        Log { max_bytes: Some(max_bytes), max_files: Some(max_files), ..self }
    }

    /// With the time and the stream of each line.
    #[must_use]
    pub fn with_timestamps(self) -> Log {
        Log { timestamps: true, ..self }
    }

    /// Whether a copier writes the file, and not the worker itself.
    #[must_use]
    pub fn is_copied(&self) -> bool {
        self.max_bytes.is_some() || self.timestamps
    }

    /// How many files there can be.
    #[must_use]
    pub fn files(&self) -> u32 {
        match self.max_bytes {
            Some(_) => self.max_files.unwrap_or(DEFAULT_LOG_FILES),
            None => 1,
        }
    }

    /// What is wrong with it.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut add = |field: &str, reason: String| found.push(Problem { field: format!("log.{field}"), reason });
        if self.file.as_ref().is_some_and(|file| file.as_path().file_name().is_none()) {
            add("file", "'/' is a directory: expected a file".to_owned());
        }
        if self.file.is_none() && self.max_bytes.is_none() {
            add(
                "file",
                "without a file the log is in the run root, which is memory: name one, or give max_bytes".to_owned(),
            );
        }
        if let Some(bytes) = self.max_bytes.filter(|bytes| *bytes < LEAST_LOG_BYTES || *bytes > i64::MAX as u64) {
            add(
                "max_bytes",
                format!(
                    "{bytes} bytes cannot be the size of a log file: expected at least {LEAST_LOG_BYTES} (128 KiB)"
                ),
            );
        }
        match self.max_files {
            Some(_) if self.max_bytes.is_none() => {
                add("max_files", "without max_bytes there is one file: give both".to_owned());
            }
            Some(count) if !(1..=MOST_LOG_FILES).contains(&count) => {
                add("max_files", format!("{count} is not a number of files: expected 1 to {MOST_LOG_FILES}"));
            }
            _ => {}
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_numbers_have_bounds_and_go_together() {
        let path = |text: &str| AbsolutePath::new(text).unwrap();
        let fields = |log: Log| -> Vec<String> { log.problems().into_iter().map(|problem| problem.field).collect() };
        let none: [&str; 0] = [];
        assert_eq!(fields(Log::in_run_root(LEAST_LOG_BYTES, 1000)), none);
        assert_eq!(fields(Log::in_file(path("/var/log/a")).rotated(LEAST_LOG_BYTES, 1).with_timestamps()), none);
        assert_eq!(fields(Log::in_file(path("/"))), ["log.file"]);
        assert_eq!(fields(Log::default().rotated(LEAST_LOG_BYTES - 1, 1001)), ["log.max_bytes", "log.max_files"]);
        assert_eq!(fields(Log { max_files: Some(2), ..Log::in_file(path("/a")) }), ["log.max_files"]);
        assert_eq!(fields(Log::default().with_timestamps()), ["log.file"], "it would have no bound");
    }

    #[test]
    fn only_a_size_or_timestamps_take_a_copier_and_only_a_size_more_than_one_file() {
        let rotated = Log { max_bytes: Some(1 << 20), ..Log::default() };
        assert_eq!((Log::default().is_copied(), Log::default().files()), (false, 1));
        assert_eq!((Log::default().with_timestamps().is_copied(), rotated.is_copied()), (true, true));
        assert_eq!((rotated.files(), rotated.rotated(1 << 20, 7).files()), (DEFAULT_LOG_FILES, 7));
    }
}
