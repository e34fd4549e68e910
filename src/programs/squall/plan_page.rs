//! A plan, for a person to read.

use squall::cgroup::Act;
use squall::plan::{Plan, PlannedFilter, PlannedLayer, PlannedMount, PlannedMountKind};
use squall::seccomp::brief_warnings;

use crate::print;

/// Prints the whole plan, section by section.
pub fn show(plan: &Plan) {
    worker(plan);
    layers(plan);
    section("mounts below the root, in order");
    plan.mounts.iter().for_each(|mount| say!("  {}", mount_line(mount)));
    cgroups(plan);
    section("seccomp filter");
    match &plan.filter {
        Some(filter) => show_filter(filter),
        None => say!("  none"),
    }
    section("security module");
    match &plan.confinement {
        Some(confinement) => {
            say!("  {} {}: write  {}  {}", confinement.module, confinement.name, confinement.file, confinement.text);
        }
        None => say!("  none"),
    }
    section("kernel features");
    for feature in &plan.features {
        say!("  {:16}  {}  ({})", feature.name, feature.chosen, feature.why);
    }
    list("adjustments known beforehand", plan.adjustments.iter().map(ToString::to_string));
    list("notes", plan.notes.iter().cloned());
    list("obstacles: a launch would fail by these, as things are", plan.obstacles.iter().cloned());
    section("OCI document");
    print::lines(format_args!("{:#}", plan.document));
}

fn show_filter(filter: &PlannedFilter) {
    filter.listing.to_string().lines().for_each(|line| say!("  {line}"));
    say!("  one program of {} instructions", filter.instructions);
    brief_warnings(&filter.warnings).iter().for_each(|warning| say!("  warning: {warning}"));
}

fn section(title: &str) {
    say!("");
    say!("{title}");
}

fn list(title: &str, lines: impl Iterator<Item = String>) {
    section(title);
    let mut any = false;
    for line in lines {
        any = true;
        say!("  {line}");
    }
    if !any {
        say!("  none");
    }
}

fn worker(plan: &Plan) {
    say!("container   {}", plan.id);
    say!("program     {}", plan.args.iter().map(|arg| format!("{arg:?}")).collect::<Vec<_>>().join(" "));
    let groups: Vec<String> = plan.user.groups().iter().map(ToString::to_string).collect();
    say!(
        "user        uid {}, gid {}, groups {}; no capabilities, no_new_privs",
        plan.user.uid(),
        plan.user.gid(),
        groups.join(" ")
    );
    say!("network     {}", plan.network);
    say!("host name   {}", plan.hostname.as_deref().unwrap_or("the host's"));
    if let Some(home) = &plan.home {
        say!("HOME        {home}");
    }
    section("namespaces of its own, in order");
    plan.namespaces.iter().for_each(|namespace| say!("  {:8}  {}", namespace.kind, namespace.made));
}

fn layers(plan: &Plan) {
    section("layers, base first");
    plan.layers.iter().for_each(|layer| say!("  {}", layer_line(layer)));
    section("root");
    say!("  overlay  {}  {}", plan.overlay.attributes.join(","), plan.overlay.options);
    say!("  writes   {}", plan.overlay.upper);
}

fn layer_line(layer: &PlannedLayer) -> String {
    let format = word(&layer.format);
    let way = match (layer.used, &layer.way) {
        (false, _) => "left out".to_owned(),
        (true, Some(way)) => word(way),
        (true, None) => "unknown".to_owned(),
    };
    format!("{}  {}  {format}  {way}: {}", layer.path, print::bytes(layer.size_bytes), layer.why)
}

/// The word by which JSON has it.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// What this page has no words for (yet).
fn as_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn mount_line(mount: &PlannedMount) -> String {
    let attributes = mount.attributes.join(",");
    let links = if mount.follows_links { "" } else { "  [no links]" };
    let what = match &mount.what {
        PlannedMountKind::New { kind, options, .. } => format!("{kind}  {attributes}  {}", options.join(",")),
        PlannedMountKind::Bind { source, recursive, cleared, propagation } => {
            let recursive = if *recursive { "rbind" } else { "bind" };
            let cleared: String = cleared.iter().map(|word| format!(",-{word}")).collect();
            format!("{recursive} of {source}  {attributes}{cleared},{propagation}")
        }
        PlannedMountKind::Cgroup { source } => format!("bind of {source}  {attributes}"),
        PlannedMountKind::Link { to } => format!("link to {to}"),
        PlannedMountKind::MakeReadOnly => "turns read-only".to_owned(),
        other => as_json(other),
    };
    format!("{:28}  {}{links}", mount.destination, what.trim_end())
}

fn cgroups(plan: &Plan) {
    section("cgroups, in order");
    say!("  path {}, monitor in {}", plan.cgroups.path, plan.cgroups.monitors);
    if let Some(unit) = &plan.cgroups.unit {
        say!("  ask    systemd for {unit}, with the launch process in it");
    }
    plan.cgroups.acts.iter().for_each(|act| say!("  {}", act_line(act)));
}

fn act_line(act: &Act) -> String {
    match act {
        Act::Make { directory } => format!("mkdir  {directory}"),
        Act::Replace { directory } => format!("rmdir, mkdir  {directory}"),
        Act::Write { file, value, field, otherwise } => {
            let field = field.map_or("so that it can be used".to_owned(), |field| field.to_string());
            let otherwise = otherwise
                .as_ref()
                .map_or(String::new(), |(file, value)| format!("; where there is none, {value} to {file}"));
            format!("write  {file}  {value}  ({field}{otherwise})")
        }
        Act::Restrict { directory, rules } => {
            format!("bpf    {directory}  denies devices but for: {}  (devices)", rules.join(", "))
        }
        Act::Join { file } => format!("write  {file}  <pid of init>"),
        Act::Born { directory } => format!("clone  init is born in {directory}"),
        other => as_json(other),
    }
}
