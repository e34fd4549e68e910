//! The ends of containers that were removed as they ended
//! ([`OnExit::Remove`](crate::request::OnExit)), known for a while longer.
//!
//! `removed/<id>` of the run root is a second name of the file that the monitor writes the exit
//! record into. The launch process makes it, while the file is empty; the container's directory
//! goes with the first name, and the second one stays: no moment is without one. The newest
//! [`MOST`] ends stay, until a container of the same id is launched or somebody reaps.

use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, linkat};

use super::ExitRecord;
use crate::error::{Context, Result};
use crate::host::{absent, create_private_directory};
use crate::monitor::handover::RESERVED_NAME;
use crate::stage::Stage;

/// As many ends stay known, a page of memory each.
pub(crate) const MOST: usize = 128;

/// The directory `removed` of a run root.
pub(crate) struct RemovedExits(PathBuf);

impl RemovedExits {
    /// By its path, whether it is there or not.
    pub(crate) fn at(path: PathBuf) -> RemovedExits {
        RemovedExits(path)
    }

    /// That of the run root in which this container directory is, or was.
    pub(crate) fn of_container(directory: &Path) -> RemovedExits {
        RemovedExits(directory.ancestors().nth(2).unwrap_or(Path::new("/")).join("removed"))
    }

    /// Gives the exit record of a container that is being launched its second name, which is the
    /// answer. An earlier end of this id has been forgotten.
    pub(crate) fn keep(&self, container: BorrowedFd<'_>, id: &str) -> Result<PathBuf> {
        let path = self.0.join(id);
        create_private_directory(&self.0).at(Stage::Monitor, self.0.display(), "mkdir")?;
        linkat(container, RESERVED_NAME, CWD, &path, AtFlags::empty()).at(Stage::Monitor, path.display(), "linkat")?;
        Ok(path)
    }

    /// How the last container of this id ended that removed itself, if that is still known.
    pub(crate) fn read(&self, id: &str) -> Option<ExitRecord> {
        serde_json::from_slice(&fs::read(self.0.join(id)).ok()?).ok()
    }

    /// The ids of those whose directory is gone, but for the newest; no list is made where there
    /// are no more names than that.
    pub(crate) fn beyond(&self, newest: usize) -> Vec<String> {
        let names: Vec<_> = fs::read_dir(&self.0).into_iter().flatten().flatten().collect();
        if names.len() <= newest {
            return Vec::new();
        }
        let mut gone: Vec<(SystemTime, String)> = names
            .into_iter()
            .filter_map(|entry| Some((entry.metadata().ok()?, entry.file_name().into_string().ok()?)))
            .filter(|(metadata, _)| metadata.nlink() == 1)
            .filter_map(|(metadata, id)| Some((metadata.modified().ok()?, id)))
            .collect();
        gone.sort();
        gone.truncate(gone.len().saturating_sub(newest));
        gone.into_iter().map(|(_, id)| id).collect()
    }

    /// Forgets one.
    pub(crate) fn forget(&self, id: &str) -> Result<()> {
        let path = self.0.join(id);
        absent(fs::remove_file(&path)).at(Stage::Remove, path.display(), "unlink")
    }

    /// Forgets those of [`RemovedExits::beyond`]; one that cannot be removed is left for reaping to
    /// name.
    pub(crate) fn trim(&self, newest: usize) {
        for id in self.beyond(newest) {
            let _ = self.forget(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_newest_ends_stay_known_and_what_runs_is_none() {
        let root = tempfile::tempdir().unwrap();
        let removed = RemovedExits::at(root.path().join("removed"));
        let launch = |id: &str| {
            let directory = root.path().join(id);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join(RESERVED_NAME.to_str().unwrap()), "").unwrap();
            removed.keep(fs::File::open(&directory).unwrap().as_fd(), id).unwrap();
            directory
        };
        launch("runs");
        for (age, id) in ["old", "newer", "newest"].iter().enumerate() {
            fs::remove_dir_all(launch(id)).unwrap();
            let file = fs::File::options().write(true).open(root.path().join("removed").join(id)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age as u64)).unwrap();
        }
        assert_eq!(removed.beyond(4), Vec::<String>::new());
        assert_eq!(removed.beyond(2), ["old"]);
        removed.trim(1);
        assert_eq!(removed.beyond(0), ["newest"]);
        assert!(removed.read("newest").is_none(), "nothing was written into it");
    }
}
