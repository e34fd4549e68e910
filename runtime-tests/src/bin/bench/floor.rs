//! The floor as a candidate: its program, and its list of steps for one container.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime_tests::Bed;
use squall::cgroup::Layout;

use crate::command::{timed, within};
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

    /// For a further program in a running container of ours.
    pub fn exec(ground: &'g Ground, id: &str, init: i32, argv: &[&str]) -> Outcome<Floor<'g>> {
        let document = bundle::document(ground, id, argv)?;
        let steps = ground.bed.work().join(format!("{id}-exec.steps"));
        fs::write(&steps, floor_steps::write_exec(&document, &ground.layout, init, argv)?)?;
        Ok(Floor { ground, steps, cgroup: format!("{}/{id}", ground.bed.cgroup()) })
    }

    /// The whole life of the container.
    pub fn whole(&self) -> Command {
        let mut command = Command::new(&self.ground.floor);
        command.arg(&self.steps).arg("whole");
        command
    }

    /// Runs the container; the answer is how long each part took until the workload's exec, in
    /// microseconds.
    pub fn parts(&self) -> Outcome<Vec<(String, f64)>> {
        let mut command = self.whole();
        command.arg("tell");
        let marks = timed(within(command, None)?)?.stderr;
        let marks = marks.lines().map(mark).collect::<Outcome<Vec<_>>>()?;
        let spans = marks.windows(2).map(|pair| (pair[0].0.to_owned(), (pair[1].1 - pair[0].1) as f64 / 1000.0));
        Ok(spans.collect())
    }

    /// Runs the container; the answer is the microseconds from the program's start to the
    /// workload's exec.
    pub fn to_exec(&self) -> Outcome<f64> {
        Ok(self.parts()?.iter().map(|(_, span)| span).sum())
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

/// A part, and when it began.
fn mark(line: &str) -> Outcome<(&str, u64)> {
    let (part, instant) = line.split_once(' ').ok_or_else(|| format!("the floor says '{line}'"))?;
    Ok((part, instant.parse()?))
}

fn remove(directory: &Path) -> Outcome<()> {
    fs::remove_dir(directory).map_err(|error| format!("{}: {error}", directory.display()).into())
}
