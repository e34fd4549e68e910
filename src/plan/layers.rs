//! The layers, and the overlay that they become.

use serde::Serialize;

use crate::layer::{LayerFormat, LayerSource, LayerStore, OpenLayer, without_repeats};
use crate::request::{LaunchSpec, RootMode};
use crate::root::staging;
use crate::settings::Settings;

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedLayer {
    /// The file.
    pub path: String,
    /// Its length.
    pub size_bytes: u64,
    /// What was found in it.
    pub format: LayerFormat,
    /// What the run root calls it: what the file is, never its path.
    pub layer_id: String,
    /// Whether it becomes a lower; one that occurs again further up does not, and nothing changes
    /// by that.
    pub used: bool,
    /// How its mount would be obtained now; `None` where that cannot be known.
    pub way: Option<LayerSource>,
    /// Why that way, or why it is not known.
    pub why: String,
}

/// The container's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedOverlay {
    /// What takes the writes.
    pub upper: String,
    /// Attributes of its mount.
    pub attributes: Vec<&'static str>,
    /// Options as mount(2) gets them, relative to the staging file system; the layers stand there
    /// by their numbers, 0 the base.
    pub options: String,
}

/// Every layer of the spec, those included that are left out.
pub(super) fn of(spec: &LaunchSpec, layers: Vec<OpenLayer>, settings: &Settings) -> Vec<PlannedLayer> {
    let keep = spec.keep_layers.map_or(settings.keep_layers, |keep| keep as usize);
    let store = LayerStore::new(settings.run_root.layers(), keep);
    let mut planned: Vec<PlannedLayer> = layers.iter().map(|layer| planned(&store, layer)).collect();
    // Of equal layers the last one stays, so going through both lists from the top pairs them up.
    let kept = without_repeats(layers);
    let mut kept = kept.iter().rev().peekable();
    for layer in planned.iter_mut().rev() {
        let stays = |next: &&OpenLayer| next.path.as_str() == layer.path && next.identity.layer_id() == layer.layer_id;
        if kept.next_if(stays).is_none() {
            layer.used = false;
            layer.way = None;
            "it occurs again further up".clone_into(&mut layer.why);
        }
    }
    planned
}

fn planned(store: &LayerStore, layer: &OpenLayer) -> PlannedLayer {
    let preview = store.preview(layer);
    PlannedLayer {
        path: layer.path.as_str().to_owned(),
        size_bytes: layer.identity.size_bytes,
        format: layer.format,
        layer_id: layer.identity.layer_id(),
        used: true,
        way: preview.way,
        why: preview.why,
    }
}

/// The overlay of so many layers.
pub(super) fn overlay(spec: &LaunchSpec, layers: usize) -> PlannedOverlay {
    let (upper, above) = match &spec.root {
        RootMode::ReadOnly => ("the staging tmpfs, for mount points only: the root is read-only".to_owned(), ""),
        RootMode::Writable { size_bytes: Some(bytes) } => (format!("a tmpfs of {bytes} bytes"), "above/"),
        RootMode::Writable { size_bytes: None } => ("a tmpfs without a size of its own".to_owned(), "above/"),
        RootMode::Directory(directory) => (format!("the host's directory {}", directory.path.as_str()), "above/"),
    };
    let mut attributes = vec!["nodev", "nosuid"];
    if spec.root == RootMode::ReadOnly {
        attributes.push("ro");
    }
    let options = staging::overlay_options(layers, &format!("{above}upper"), &format!("{above}work"));
    PlannedOverlay { upper, attributes, options }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::check_layers;
    use crate::request::Identity;

    #[test]
    fn a_layer_that_occurs_again_further_up_is_shown_and_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| {
            let mut image = vec![0; 4096];
            image[..4].copy_from_slice(b"hsqs");
            image[28] = 4;
            image[40..48].copy_from_slice(&4096_u64.to_le_bytes());
            let path = directory.path().join(name);
            std::fs::write(&path, image).unwrap();
            path
        });
        let user = Identity::new(1, 1, []).unwrap();
        let builder = LaunchSpec::builder("a").layers([&a, &b, &a]).args(["/p"]).user(user).cgroup("/a");
        let spec = builder.build().unwrap();
        let settings = Settings {
            run_root: crate::RunRoot::new(directory.path().join("run")).unwrap(),
            keep_layers: 1,
            monitors: crate::cgroup::CgroupPath::new("/m").unwrap(),
            image_roots: None,
            own_users: crate::request::UidRange::default(),
            default_limits: crate::DefaultLimits::default(),
            memory_capacity: None,
        };
        let planned = of(&spec, check_layers(&spec).unwrap(), &settings);
        assert_eq!(planned.iter().map(|layer| layer.used).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!(planned[1].way, Some(LayerSource::Attached));
        assert!(overlay(&spec, 2).options.starts_with("lowerdir=1:0,upperdir=upper,"));
    }
}
