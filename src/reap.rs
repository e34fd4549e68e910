//! Reaping: clearing what a crash left, and unmounting idle layers.
//!
//! Nothing that works is touched: a running container, watched or not, stays, and so does the
//! record of an ended one, which somebody may still want to read. What goes are containers whose
//! launch died half way, those that ended unwatched, idle pins beyond the number to keep, and how
//! removed containers ended, and the monitors' cgroup when it is empty.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::cgroup::{self, CgroupPath, Layout, Occupancy};
use crate::container::Container;
use crate::crash::{self, Role};
use crate::error::Result;
use crate::layer::{LayerStatus, LayerStore, Look, Trim, Use};
use crate::log;
use crate::phase::Phase;
use crate::runtime::Squall;
use crate::stage::Stage;
use crate::state::claim;
use crate::state::record::RemovedExits;

/// What kind of object reaping looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ReapKind {
    /// A container's directory, with its cgroup and processes.
    Container,
    /// A layer's pin.
    Layer,
    /// How a container ended that was removed with its end.
    Exit,
    /// A cgroup.
    Cgroup,
    /// The log of a container in the run root.
    Log,
}

impl ReapKind {
    /// Its name, as it is printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ReapKind::Container => "container",
            ReapKind::Layer => "layer",
            ReapKind::Exit => "exit",
            ReapKind::Cgroup => "cgroup",
            ReapKind::Log => "log",
        }
    }
}

/// One object, and why it goes or stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Reaped {
    /// What it is.
    pub kind: ReapKind,
    /// Its name.
    pub name: String,
    /// Whether it goes.
    pub goes: bool,
    /// Why.
    pub reason: String,
}

impl Squall {
    /// Clears away; with [`Trim::Report`] only says what would go. `keep` idle layers may stay
    /// mounted.
    ///
    /// # Errors
    /// The first object that could not be removed; what came before it is gone, and reaping can be
    /// done again.
    pub fn reap(&self, keep: usize, trim: Trim) -> Result<Vec<Reaped>> {
        crash::point(Role::Caller, Stage::Reap);
        let mut report = Vec::new();
        let listing = self.containers()?;
        // Cgroups that are gone by the time that the monitors' is looked at, or would be.
        let mut gone = Vec::new();
        for container in listing.containers {
            let cgroup = container.record().and_then(|record| CgroupPath::new(record.cgroup.as_str()).ok());
            report.extend(mend_log(&container, trim));
            let reaped = reap_container(container, trim)?;
            gone.extend(cgroup.filter(|_| reaped.goes));
            report.push(reaped);
        }
        report.extend(listing.unreadable.into_iter().map(|(name, error)| Reaped {
            kind: ReapKind::Container,
            name,
            goes: false,
            reason: error.to_string(),
        }));
        if trim == Trim::Do {
            claim::remove_unnamed(&self.settings().run_root.containers())?;
            self.settings().users().sweep()?;
        }
        report.extend(reap_logs(self.settings().run_root.path(), trim)?);
        report.extend(reap_removed(&self.settings().run_root.removed(), trim)?);
        let store = LayerStore::new(self.settings().run_root.layers(), keep);
        let mut layers = store.trim(keep, trim, Look::AtDevices, &self.used_layers()?)?;
        if trim == Trim::Do {
            for forgotten in store.forget_unused(|| Ok(self.used_layers()?.into_keys().collect()))? {
                for layer in layers.iter_mut().filter(|layer| layer.layer_id == forgotten && !layer.goes) {
                    layer.goes = true;
                    "its last user is gone".clone_into(&mut layer.reason);
                }
            }
        }
        report.extend(layers.into_iter().map(|layer| Reaped {
            kind: ReapKind::Layer,
            name: layer.layer_id,
            goes: layer.goes,
            reason: layer.file.map_or(layer.reason.clone(), |file| format!("{}: {file}", layer.reason)),
        }));
        crash::point(Role::Caller, Stage::Reap);
        report.extend(reap_monitors_cgroup(&self.settings().monitors, gone, trim)?);
        Ok(report)
    }
}

impl Squall {
    /// Every layer that is mounted, or that a running container uses; the most recently used first.
    ///
    /// # Errors
    /// Where the run root cannot be read, by somebody else than root for example.
    pub fn layers(&self) -> Result<Vec<LayerStatus>> {
        let store = LayerStore::new(self.settings().run_root.layers(), self.settings().keep_layers);
        store.list(self.used_layers()?)
    }

    /// The layers of containers that are created or run.
    fn used_layers(&self) -> Result<BTreeMap<String, Use>> {
        let mut used: BTreeMap<String, Use> = BTreeMap::new();
        for container in self.containers()?.containers {
            if !matches!(container.phase(), Phase::Created | Phase::Running | Phase::Paused) {
                continue;
            }
            let Some(record) = container.record() else { continue };
            for layer in &record.layers {
                let user = used.entry(layer.layer_id.clone()).or_default();
                user.containers.push(record.id.clone());
                user.path.clone_from(&layer.path);
            }
        }
        Ok(used)
    }
}

fn reap_container(container: Container, trim: Trim) -> Result<Reaped> {
    let name = container.id().to_owned();
    let (goes, reason) = match &container {
        Container::Running(running) if running.record().monitor.is_alive() => (false, "it runs"),
        Container::Running(_) => (false, "it runs, unwatched: its monitor is gone"),
        Container::Created(_) => (false, "it waits to be started"),
        Container::Paused(_) => (false, "it is paused"),
        Container::Exited(_) => (false, "its record stays until it is removed"),
        Container::Lost(_) => (true, "it ended unwatched"),
        Container::Launching(launching) if claim::is_held(launching.directory())? => (false, "it is being launched"),
        Container::Launching(_) => (true, "its launch died half way"),
    };
    if !goes || trim == Trim::Report {
        return Ok(Reaped { kind: ReapKind::Container, name, goes, reason: reason.to_owned() });
    }
    let outcome = match container {
        Container::Lost(lost) => lost.remove(),
        Container::Launching(launching) => launching.abandon(),
        _ => Ok(()),
    };
    // One that cannot be removed is no reason to leave the others.
    let (goes, reason) = match outcome {
        Ok(()) => (true, reason.to_owned()),
        Err(error) => (false, error.to_string()),
    };
    Ok(Reaped { kind: ReapKind::Container, name, goes, reason })
}

/// Has a log copied again whose copier and keeper were killed.
fn mend_log(container: &Container, trim: Trim) -> Option<Reaped> {
    let log = container.log().filter(|_| trim == Trim::Do)?;
    let reason = match log.mend() {
        Ok(false) => return None,
        Ok(true) => "its copier was killed: another one goes on".to_owned(),
        Err(error) => error.to_string(),
    };
    Some(Reaped { kind: ReapKind::Log, name: container.id().to_owned(), goes: false, reason })
}

/// Logs in the run root whose containers are gone.
fn reap_logs(run_root: &Path, trim: Trim) -> Result<Vec<Reaped>> {
    let reaped = |name| {
        let reason = "its container is gone".to_owned();
        Reaped { kind: ReapKind::Log, name, goes: true, reason }
    };
    Ok(log::reap(run_root, trim)?.into_iter().map(reaped).collect())
}

/// What was still known of containers that are not there any more.
fn reap_removed(removed: &RemovedExits, trim: Trim) -> Result<Vec<Reaped>> {
    let reap = |id: String| {
        if trim == Trim::Do {
            removed.forget(&id)?;
        }
        let reason = "its container was removed with its end".to_owned();
        Ok(Reaped { kind: ReapKind::Exit, name: id, goes: true, reason })
    };
    removed.beyond(0).into_iter().map(reap).collect()
}

/// The monitors' cgroup, and the one above it where that is ours too, as far as they are empty.
fn reap_monitors_cgroup(monitors: &CgroupPath, mut gone: Vec<CgroupPath>, trim: Trim) -> Result<Vec<Reaped>> {
    let layout = Layout::detect()?;
    let mut report = Vec::new();
    for path in [Some(monitors.clone()), monitors.parent()].into_iter().flatten() {
        let state = Occupancy::of(&layout, &path, if trim == Trim::Report { &gone } else { &[] });
        let (goes, reason) = match state {
            Occupancy::Absent => continue,
            Occupancy::Occupied => (false, "monitors or containers are in it"),
            Occupancy::Empty => (true, "nothing is in it"),
        };
        if goes && trim == Trim::Do {
            cgroup::remove_empty(&layout, &path);
        }
        report.push(Reaped { kind: ReapKind::Cgroup, name: path.as_str().to_owned(), goes, reason: reason.to_owned() });
        gone.extend(goes.then_some(path));
    }
    Ok(report)
}
