//! Dry run of a launch.
//!
//! A [`Plan`] is put together from what the launch itself works by: the same mount steps, the same
//! cgroup values, the same namespaces. It reads, and changes nothing: no directory, no device, no
//! cgroup; and needs no privilege. What the caller may not see is said to be unknown. What is true
//! now may not be when the launch comes.

mod cgroups;
mod confinement;
mod features;
mod layers;
mod mounts;
mod namespaces;
mod obstacles;
mod system_calls;

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::cgroup::Adjustment;
use crate::error::Result;
use crate::layer::OpenLayer;
use crate::oci;
use crate::request::{Home, Identity, LaunchSpec};
use crate::settings::Settings;
pub use cgroups::PlannedCgroups;
pub use confinement::PlannedConfinement;
pub use features::PlannedFeature;
pub use layers::{PlannedLayer, PlannedOverlay};
pub use mounts::{PlannedMount, PlannedMountKind};
pub use namespaces::PlannedNamespace;
pub use system_calls::PlannedFilter;

/// Where the document has its root: a directory of the bundle, as other runtimes call it.
const BUNDLE_ROOT: &str = "rootfs";

/// Everything that a launch would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The container.
    pub id: String,
    /// Who the worker is.
    pub user: Identity,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// What the worker sees of networks.
    pub network: &'static str,
    /// The host name; nothing where it stays the host's.
    pub hostname: Option<String>,
    /// Where HOME comes from, should the environment not have it; nothing where it stays unset or
    /// is given.
    pub home: Option<String>,
    /// Namespaces of its own, in the order in which they are made.
    pub namespaces: Vec<PlannedNamespace>,
    /// The layers, base first.
    pub layers: Vec<PlannedLayer>,
    /// How they become the root.
    pub overlay: PlannedOverlay,
    /// What is mounted below the root, in order.
    pub mounts: Vec<PlannedMount>,
    /// What is done to cgroups, in order.
    pub cgroups: PlannedCgroups,
    /// What becomes of each system call; nothing where nothing is filtered.
    pub filter: Option<PlannedFilter>,
    /// What confines the worker from its exec on, and where it is named to the kernel; nothing
    /// where no profile and no label is asked for.
    pub confinement: Option<PlannedConfinement>,
    /// What of the kernel is used, what instead of it, and why.
    pub features: Vec<PlannedFeature>,
    /// Limits that will not be applied as asked.
    pub adjustments: Vec<Adjustment>,
    /// What the record will note, as far as it is known.
    pub notes: Vec<String>,
    /// Why the launch would fail as things are; another user, or a later moment, may not meet them.
    pub obstacles: Vec<String>,
    /// The complete OCI document, for any runtime, with its root at `rootfs`.
    pub document: Value,
}

impl Plan {
    /// The plan for a spec whose layers have been checked.
    pub(crate) fn of(spec: &LaunchSpec, layers: Vec<OpenLayer>, settings: &Settings) -> Result<Plan> {
        let machine = cgroups::layout();
        let spec = &settings.default_limits.complete(spec, &machine.layout)?;
        let document = oci::document(spec, Path::new(BUNDLE_ROOT))?;
        let (cgroups, preview) = cgroups::of(spec, settings, &machine);
        let layers = layers::of(spec, layers, settings);
        Ok(Plan {
            id: spec.id.to_string(),
            user: spec.user.clone(),
            args: spec.args.clone(),
            network: namespaces::network(spec),
            hostname: spec.hostname.as_ref().map(|name| name.as_str().to_owned()),
            home: home(spec),
            namespaces: namespaces::of(spec),
            overlay: layers::overlay(spec, layers.iter().filter(|layer| layer.used).count()),
            layers,
            mounts: mounts::of(spec, &machine.layout),
            filter: system_calls::of(spec)?,
            confinement: confinement::of(spec),
            features: features::of(spec, &machine.layout),
            notes: obstacles::notes(&spec.root),
            obstacles: obstacles::of(spec, settings, &machine, preview.obstacles),
            adjustments: preview.adjustments,
            cgroups,
            document: serde_json::to_value(document).expect("a document is plain data"),
        })
    }
}

fn home(spec: &LaunchSpec) -> Option<String> {
    match &spec.home {
        Home::OfImage { otherwise } if spec.env.get("HOME").is_none() => {
            Some(format!("as the image's /etc/passwd has it for uid {}, otherwise {otherwise}", spec.user.uid()))
        }
        _ => None,
    }
}
