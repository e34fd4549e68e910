//! The directories that the configuration names: where layers lie, and what may be mounted.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::super::finding::Finding;
use super::super::machine::Machine;
use super::{Node, give_to_root};
use worker_launcher::{settings, trusted};

pub(in super::super) fn findings(_: &Machine, node: &Node) -> Vec<Finding> {
    let Ok(config) = &node.config else {
        return vec![Finding::unknown("all", "the configuration file cannot be used")];
    };
    // Values that are wrong have been named with the configuration.
    let roots = settings::image_roots(config).unwrap_or_default();
    let mut findings: Vec<Finding> = roots.iter().map(|root| image_root(node, root)).collect();
    findings.extend(settings::mount_sources(config).ok().map(|sources| {
        let sources: Vec<&Path> = sources.iter().map(|source| source.as_path()).collect();
        mount_sources(&sources)
    }));
    findings
}

/// Layers are opened as the worker's user, and mounted only from where nobody else can write.
fn image_root(node: &Node, root: &Path) -> Finding {
    const NAME: &str = "image root";
    let key = settings::IMAGE_ROOTS;
    match root.metadata() {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            return Finding::missing(NAME, format!("{}: it is no directory", root.display()), format!("correct {key}"));
        }
        Err(error) => {
            let advice = format!("mkdir -p '{}' (storm.oci.resources.local.dir), or correct {key}", root.display());
            return Finding::missing(NAME, format!("{}: {error}", root.display()), advice);
        }
    }
    let resolved = match trusted::resolve(root, &node.owners()) {
        Ok(resolved) => resolved,
        Err(untrusted) => {
            let seen = format!("{untrusted}: layers below '{}' are refused", root.display());
            let advice = format!("{}; the supervisor's user may own it instead of root", give_to_root(&untrusted.part));
            return Finding::missing(NAME, seen, advice);
        }
    };
    match closed(&resolved) {
        Some(closed) => Finding::missing(
            NAME,
            format!(
                "'{}': users may not search it, so they cannot open layers below '{}'",
                closed.display(),
                root.display()
            ),
            format!("chmod o+x '{}'", closed.display()),
        ),
        None => Finding::ok(NAME, format!("{}: users can search it, and write nowhere", root.display())),
    }
}

/// The first directory on the way that not everybody can search.
fn closed(path: &Path) -> Option<&Path> {
    let closed = |part: &&Path| part.metadata().is_ok_and(|metadata| metadata.mode() & 0o001 == 0);
    path.ancestors().filter(closed).last()
}

/// A source that is not there refuses a launch only if Storm mounts it.
fn mount_sources(sources: &[&Path]) -> Finding {
    const NAME: &str = "mount sources";
    let key = settings::MOUNT_SOURCES;
    if sources.is_empty() {
        let advice = format!("set {key} to what Storm mounts; worker-launcher.cfg has an example");
        return Finding::missing(NAME, "none is allowed, and Storm mounts some for each worker", advice);
    }
    let lost: Vec<String> =
        sources.iter().filter_map(|path| Some(format!("'{}' ({})", path.display(), path.metadata().err()?))).collect();
    match lost.is_empty() {
        true => Finding::ok(NAME, format!("{} are allowed, and there", sources.len())),
        false => Finding::limited(
            NAME,
            format!("allowed, and not there: {}", lost.join(", ")),
            format!("make them before a worker is launched, or take them out of {key}"),
        ),
    }
}
