//! What is done to cgroups, on the machine as it is.

use serde::Serialize;

use crate::cgroup::{Act, Layout, Manager, Preview, frozen_words};
use crate::request::LaunchSpec;
use crate::settings::Settings;

/// The machine's hierarchies, and what kept them from being found.
pub(super) struct Machine {
    pub(super) layout: Layout,
    pub(super) trouble: Option<String>,
}

/// What is done to cgroups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedCgroups {
    /// The container's, in each hierarchy.
    pub path: String,
    /// Where its monitor lives.
    pub monitors: String,
    /// The unit that systemd is asked for first; none where cgroups are made without it.
    pub unit: Option<String>,
    /// Where the hierarchies are mounted.
    pub hierarchies: Vec<String>,
    /// Everything that is made, written and joined, in order.
    pub acts: Vec<Act>,
}

/// An odd machine has a layout without hierarchies, and a reason.
pub(super) fn layout() -> Machine {
    let (layout, trouble) = match Layout::detect() {
        Ok(layout) => (layout, None),
        Err(error) => (Layout::new(Vec::new(), "/proc"), Some(error.to_string())),
    };
    let none = layout
        .hierarchies()
        .is_empty()
        .then(|| "no cgroup hierarchy is mounted: nothing is limited or counted".to_owned());
    Machine { layout, trouble: trouble.or(none) }
}

/// The acts, and what else can be known of them.
pub(super) fn of(spec: &LaunchSpec, settings: &Settings, machine: &Machine) -> (PlannedCgroups, Preview) {
    let mut preview = Preview::of(&machine.layout, &spec.cgroup, &spec.limits);
    let scope = spec.scope();
    if let Some(scope) = &scope {
        // systemd makes the unit's cgroup and those above it.
        let above: Vec<String> = std::iter::once(scope.directory().as_str())
            .chain(scope.directory().ancestors())
            .map(str::to_owned)
            .collect();
        let made =
            |act: &Act| matches!(act, Act::Make { directory } if above.iter().any(|path| directory.ends_with(path)));
        preview.acts.retain(|act| !made(act));
        preview.obstacles.extend(Manager::no_scopes(&machine.layout).map(|reason| format!("unit '{scope}': {reason}")));
    }
    if scope.is_none() {
        let monitors = crate::cgroup::frozen(&machine.layout, &settings.monitors);
        preview.obstacles.extend(monitors.map(|found| format!("monitors: {}", frozen_words(&found))));
    }
    let planned = PlannedCgroups {
        path: spec.cgroup.to_string(),
        monitors: scope.as_ref().map_or_else(|| settings.monitors.to_string(), |scope| scope.monitor().to_string()),
        unit: scope.map(|scope| scope.to_string()),
        hierarchies: machine.layout.hierarchies().iter().map(|one| one.mount_point.clone()).collect(),
        acts: std::mem::take(&mut preview.acts),
    };
    (planned, preview)
}
