//! The floor as a candidate: its program, and its list of steps for one container.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime_tests::Bed;
use squall::cgroup::Layout;

use crate::ground::Ground;
use crate::{Outcome, bundle, floor_steps};

/// The program, compiled by the build script.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/floor"));

/// Writes the program where it can be executed.
pub fn write_program(bed: &Bed) -> Outcome<PathBuf> {
    let path = bed.work().join("floor");
    fs::write(&path, PROGRAM)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// The floor's list of steps for a container.
pub struct Floor<'g> {
    ground: &'g Ground,
    steps: PathBuf,
    /// The container's cgroup.
    cgroup: String,
}

impl<'g> Floor<'g> {
    /// For this container, from these pins, base first.
    pub fn new(ground: &'g Ground, id: &str, pins: &[PathBuf], argv: &[&str]) -> Outcome<Floor<'g>> {
        Floor::among(&ground.layout, ground, id, pins, argv)
    }

    /// On a host with other hierarchies than ours.
    pub fn among(layout: &Layout, ground: &'g Ground, id: &str, pins: &[PathBuf], argv: &[&str]) -> Outcome<Floor<'g>> {
        let document = bundle::document(ground, id, argv)?;
        let text = floor_steps::write(&document, layout, pins)?;
        let steps = ground.bed.work().join(format!("{id}.steps"));
        fs::write(&steps, text)?;
        Ok(Floor { ground, steps, cgroup: format!("{}/{id}", ground.bed.cgroup()) })
    }

    /// The whole life of the container.
    pub fn whole(&self) -> Command {
        let mut command = Command::new(&self.ground.floor);
        command.arg(&self.steps).arg("whole");
        command
    }

    /// The same; the microseconds from its start to the workload's exec go to standard error.
    pub fn to_exec(&self) -> Command {
        let mut command = self.whole();
        command.arg("tell");
        command
    }

    /// Until the workload runs; its pid goes to standard output.
    pub fn detached(&self) -> Command {
        let mut command = Command::new(&self.ground.floor);
        command.arg(&self.steps).arg("detach");
        command
    }

    /// What a detached one leaves when its worker has ended.
    pub fn remove_cgroups(&self) -> Outcome<()> {
        let directories = runtime_tests::host::cgroup_directories(&self.cgroup);
        directories.iter().try_for_each(|directory| remove(directory))
    }
}

fn remove(directory: &Path) -> Outcome<()> {
    fs::remove_dir(directory).map_err(|error| format!("{}: {error}", directory.display()).into())
}
