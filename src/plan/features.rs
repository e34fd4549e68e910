//! What of the kernel a launch would use, and why.

use serde::Serialize;

use crate::cgroup::Layout;
use crate::kernel::{FEATURES, Feature, Presence, Release, Without};
use crate::request::{LaunchSpec, RootMode, SetuidBits};

/// One choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedFeature {
    /// What it is about.
    pub name: &'static str,
    /// What is used.
    pub chosen: String,
    /// Why.
    pub why: String,
}

/// The kernel's features, and the choices that the spec and the machine decide. No fallback is
/// forced: each is taken only for want of something.
pub(super) fn of(spec: &LaunchSpec, layout: &Layout) -> Vec<PlannedFeature> {
    let release = Release::running();
    let mut planned: Vec<PlannedFeature> = FEATURES.iter().map(|feature| choice(feature, release)).collect();
    planned.extend([
        way_into_cgroups(layout),
        overlay(spec),
        program_between(),
        user_namespaces(spec),
        setuid_bits(spec),
        forced(),
    ]);
    planned
}

fn choice(feature: &Feature, release: Option<Release>) -> PlannedFeature {
    let (presence, why) = feature.look(release);
    let chosen = match (presence, feature.without) {
        (Presence::Present, _) => format!("used: {}", feature.used_for),
        (Presence::Absent(_), Without::Instead(instead)) => instead.to_owned(),
        (Presence::Absent(_), Without::NoLaunch) => format!("missing: {}", feature.used_for),
        (Presence::Untried(_), _) => format!("used where it is there: {}", feature.used_for),
    };
    PlannedFeature { name: feature.name, chosen, why }
}

fn way_into_cgroups(layout: &Layout) -> PlannedFeature {
    let (chosen, why) = match (layout.unified(), layout.hierarchies()) {
        (_, []) => ("none", "there is no hierarchy".to_owned()),
        (Some(unified), [_]) => {
            ("born in its cgroup (CLONE_INTO_CGROUP)", format!("{} is cgroup v2", unified.mount_point))
        }
        (Some(unified), _) => (
            "born in the unified tree (CLONE_INTO_CGROUP), moved into the others",
            format!("hybrid: {} is cgroup v2, the others are v1", unified.mount_point),
        ),
        (None, _) => ("moved into every hierarchy", "all are cgroup v1".to_owned()),
    };
    PlannedFeature { name: "way into cgroups", chosen: chosen.to_owned(), why }
}

fn overlay(spec: &LaunchSpec) -> PlannedFeature {
    let why = match spec.root {
        RootMode::ReadOnly => "works from 5.12 on, takes 500 layers; nothing on a disk is left by a crash",
        RootMode::Writable { .. } => "works from 5.12 on, takes 500 layers; writes lie in memory",
        RootMode::Directory(_) => "works from 5.12 on, takes 500 layers; writes lie in the caller's directory",
    };
    let chosen = "mount(2) with relative names, on a private tmpfs".to_owned();
    PlannedFeature { name: "overlay", chosen, why: why.to_owned() }
}

/// What `launch::init::exec_stub` does for every worker.
fn program_between() -> PlannedFeature {
    let why = "no worker comes out of the program that launches it, which /proc/self/exe would lead to";
    PlannedFeature { name: "program between", chosen: "a sealed program in memory".to_owned(), why: why.to_owned() }
}

fn user_namespaces(spec: &LaunchSpec) -> PlannedFeature {
    let (chosen, why) = match spec.user.uid() {
        0 => ("denied by a filter", "in one of its own a worker that is root would have capabilities again"),
        _ => ("as the host has it", "an unprivileged worker owns nothing outside that it could reach by one"),
    };
    PlannedFeature { name: "user namespaces", chosen: chosen.to_owned(), why: why.to_owned() }
}

fn setuid_bits(spec: &LaunchSpec) -> PlannedFeature {
    let (chosen, why) = match (spec.user.uid(), spec.setuid_bits) {
        (0, SetuidBits::Denied) => {
            ("denied by a filter", "a setuid program of root's in a directory of the host is every user's")
        }
        (0, SetuidBits::Allowed) => ("allowed", "asked for"),
        _ => ("allowed", "such a program makes no more of anybody than the worker is"),
    };
    PlannedFeature { name: "setuid bits", chosen: chosen.to_owned(), why: why.to_owned() }
}

fn forced() -> PlannedFeature {
    PlannedFeature { name: "forced fallbacks", chosen: "none".to_owned(), why: "only tests force them".to_owned() }
}
