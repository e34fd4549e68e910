//! The document's mounts: the mount steps of the fast way in OCI's words.

use std::path::PathBuf;

use oci_spec::runtime::{Mount as OciMount, MountBuilder};
use rustix::mount::MountAttrFlags;

use super::Built;
use crate::request::{Access, Bind, BindOptions, LaunchSpec, Mount, MountFlag, Propagation, Recursion};
use crate::root::mount_steps::{self, MountStep, What};

/// Every mount below the root, in the order in which they are made.
pub(super) fn of(spec: &LaunchSpec) -> Built<Vec<OciMount>> {
    let binds = spec.mounts.iter().filter_map(|mount| match mount {
        Mount::Bind(bind) => Some(bind),
        Mount::Tmpfs(_) => None,
    });
    let binds: Vec<&Bind> = binds.collect();
    let cgroups = mount_steps::shows_cgroups(spec).then(cgroups);
    let ours = mount_steps::standard().into_iter().filter_map(|step| entry(&step, &binds));
    let later = mount_steps::scratch(spec).into_iter().chain(mount_steps::asked(spec));
    ours.chain(cgroups).chain(later.filter_map(|step| entry(&step, &binds))).collect()
}

/// A step of the plan; those that are no mount belong to the hierarchies of a machine, which have
/// an entry of their own.
fn entry(step: &MountStep, binds: &[&Bind]) -> Option<Built<OciMount>> {
    match &step.what {
        What::New { kind, source, options, attributes } => {
            Some(mount(&step.destination, kind, source, new_words(options, *attributes)))
        }
        What::Bind { index } => Some(bind(binds[*index])),
        What::Cgroup { .. } | What::Link { .. } | What::MakeReadOnly => None,
    }
}

/// One entry stands for all hierarchies: which they are is for the runtime to find out, on the
/// machine where it runs.
fn cgroups() -> Built<OciMount> {
    mount(mount_steps::CGROUP_ROOT, "cgroup", "cgroup", ["ro", "nosuid", "nodev", "noexec"].map(str::to_owned).to_vec())
}

fn new_words(options: &[(String, Option<String>)], attributes: MountAttrFlags) -> Vec<String> {
    let data = options.iter().map(|(key, value)| match value {
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    });
    mount_steps::words(attributes).map(str::to_owned).chain(data).collect()
}

fn bind(bind: &Bind) -> Built<OciMount> {
    mount(bind.destination.as_str(), "bind", bind.source.as_str(), bind_words(&bind.options))
}

/// The words for what the fast way does (`launch::binds`). A word with `r` before it holds for the
/// mounts below as well; the plain one is kept beside it for a runtime that does not know the
/// other.
fn bind_words(options: &BindOptions) -> Vec<String> {
    let recursive = options.recursion == Recursion::Recursive;
    let asks = |flag| options.flags.contains(flag) || options.flags_below.contains(flag);
    let read_only = options.access == Access::ReadOnly || options.access_below == Some(Access::ReadOnly);
    let mut all: Vec<&str> = Vec::new();
    if read_only {
        all.push("ro");
    }
    all.push(if asks(MountFlag::Suid) { "suid" } else { "nosuid" });
    all.push(if asks(MountFlag::Dev) { "dev" } else { "nodev" });
    const FURTHER: [(MountFlag, &str); 6] = [
        (MountFlag::NoExec, "noexec"),
        (MountFlag::NoSymFollow, "nosymfollow"),
        (MountFlag::NoDirAtime, "nodiratime"),
        (MountFlag::NoAtime, "noatime"),
        (MountFlag::StrictAtime, "strictatime"),
        (MountFlag::RelAtime, "relatime"),
    ];
    all.extend(FURTHER.iter().filter(|(flag, _)| asks(*flag)).map(|(_, word)| *word));
    let mut words =
        vec![if recursive { "rbind" } else { "bind" }.to_owned(), propagation(options.propagation).to_owned()];
    for word in all {
        words.push(word.to_owned());
        if recursive {
            words.push(format!("r{word}"));
        }
    }
    words
}

fn propagation(asked: Propagation) -> &'static str {
    match asked {
        Propagation::Private => "private",
        Propagation::RecursivePrivate => "rprivate",
        Propagation::Slave => "slave",
        Propagation::RecursiveSlave => "rslave",
        Propagation::Shared => "shared",
        Propagation::RecursiveShared => "rshared",
        Propagation::Unbindable => "unbindable",
        Propagation::RecursiveUnbindable => "runbindable",
    }
}

fn mount(destination: &str, kind: &str, source: &str, options: Vec<String>) -> Built<OciMount> {
    MountBuilder::default()
        .destination(PathBuf::from(destination))
        .typ(kind)
        .source(PathBuf::from(source))
        .options(options)
        .build()
}
