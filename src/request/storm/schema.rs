//! The command file's fields, one function for each object of it.

use super::{DOOR, Place, StormCommand, resources};
use crate::document::{BadValue, Kind, quoted};
use crate::request::{
    AbsolutePath, AppArmor, Bind, Builder, ContainerId, LayerPath, Mount, Network, Seccomp, Selinux, SelinuxLabel,
};

/// The media type of a layer, the one that there is.
const LAYER_TYPE: &str = "application/vnd.squashfs";

/// Keys of `linux` that may be there.
const LINUX: [&str; 3] = ["cgroupsPath", "resources", "seccomp"];

/// Keys of a mount, all of them needed.
const MOUNT: [&str; 4] = ["type", "source", "destination", "options"];

/// Longest user name in bytes: glibc's `LOGIN_NAME_MAX` without the NUL.
const MAX_USER_BYTES: usize = 255;

/// Walks the whole document. The answer is `None` only where there are problems.
pub(super) fn command(top: &Place<'_, '_>) -> Option<StormCommand> {
    if !top.is_object() {
        return None;
    }
    let username = top.needed("username").and_then(|place| user_name(&place));
    let pid_file = top.needed("pidFile").and_then(|place| path(&place));
    let container_script_path = top.needed("containerScriptPath").and_then(|place| path(&place));
    let mut builder = Builder::empty().network(Network::Host).seccomp(Seccomp::Unconfined);
    if let Some(id) = top.needed("containerId").and_then(|place| container_id(&place)) {
        builder = builder.id(id);
    }
    if let Some(pid_file) = &pid_file {
        builder = builder.pid_file(pid_file);
    }
    if let Some(layers) = top.needed("layers") {
        builder = with_layers(builder, &layers);
    }
    let keep_layers = keep_count(top);
    if let Some(config) = top.needed("ociRuntimeConfig").filter(Place::is_object) {
        builder = with_runtime_config(builder, &config);
    }
    builder = builder.keep_layers(keep_layers.unwrap_or_default());
    builder.problems().into_iter().for_each(|problem| top.findings().problem(DOOR.rename(problem)));
    Some(StormCommand {
        username: username?,
        container_script_path: container_script_path?,
        pid_file: pid_file?,
        builder,
        warnings: Vec::new(),
    })
}

/// A name that NSS can be asked for; whether anyone has it is not asked here.
fn user_name(place: &Place<'_, '_>) -> Option<String> {
    let name = place.text()?;
    if name.is_empty()
        || name.len() > MAX_USER_BYTES
        || name.contains(|c: char| c.is_control() || matches!(c, ':' | '/'))
    {
        place.problem(format!("{} is not a user name", quoted(name)));
        return None;
    }
    Some(name.to_owned())
}

/// `<port>-<uuid>`: hexadecimal digits and dashes, 36 to 42 of them. Not a dash first: that would
/// be an option of a program.
fn container_id(place: &Place<'_, '_>) -> Option<ContainerId> {
    let id = place.text()?;
    let plain = id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if !plain || !(36..=42).contains(&id.len()) || id.starts_with('-') {
        let expected = "expected 36 to 42 characters of 0-9 a-f A-F -, not '-' first";
        place.problem(format!("{} is not an id of Storm: {expected}", quoted(id)));
        return None;
    }
    checked(place, ContainerId::new(id))
}

/// The number of layers that stay mounted. Java leaves out a number that is 0, so a missing one is 0.
/// Beyond 31 bits it is the greatest of them, as in Storm's launcher.
fn keep_count(top: &Place<'_, '_>) -> Option<u32> {
    let place = top.member("reapLayerKeepCount")?;
    let number = place.number()?;
    // Without its fraction; what does not fit is the nearest that does, as a cast from floating
    // point has it.
    let small = number.as_i64().or_else(|| number.as_u64().map(|_| i64::MAX));
    let count = small.or_else(|| number.as_f64().map(|float| float as i64))?;
    match u32::try_from(count.min(i64::from(i32::MAX))) {
        Ok(count) => Some(count),
        Err(_) => {
            place.problem(format!("{count} is negative: expected 0 or more"));
            None
        }
    }
}

fn with_layers(builder: Builder, layers: &Place<'_, '_>) -> Builder {
    let found: Vec<_> = layers.elements().map(|place| layer(&place)).collect();
    let paths: Option<Vec<LayerPath>> = found.into_iter().collect();
    // With a layer refused the list is not the one that was meant: nothing more is said about it.
    match paths.filter(|_| layers.is_array()) {
        Some(paths) => builder.layers(paths),
        None => builder,
    }
}

fn layer(layer: &Place<'_, '_>) -> Option<LayerPath> {
    if !layer.is_object() {
        return None;
    }
    if let Some(place) = layer.needed("mediaType") {
        match place.text() {
            Some(LAYER_TYPE) | None => {}
            Some(other) => place.problem(format!("expected '{LAYER_TYPE}', found {}", quoted(other))),
        }
    }
    let place = layer.needed("path")?;
    checked(&place, LayerPath::new(place.text()?))
}

fn with_runtime_config(mut builder: Builder, config: &Place<'_, '_>) -> Builder {
    config.only(&["hostname", "mounts", "process", "linux", "ociVersion"]);
    if let Some(hostname) = config.member("hostname").filter(|place| place.text().is_some()) {
        hostname.warn(|field| format!("{field}: is not used: the container has the host's name"));
    }
    if let Some(mounts) = config.member("mounts") {
        let binds = mounts.elements().filter(Place::is_object).filter_map(|mount| bind(&mount));
        builder = binds.fold(builder, |builder, bind| builder.mount(Mount::Bind(bind)));
    }
    if let Some(process) = config.needed("process").filter(Place::is_object) {
        builder = with_process(builder, &process);
    }
    if let Some(linux) = config.needed("linux").filter(Place::is_object) {
        builder = with_linux(builder, &linux);
    }
    builder
}

fn bind(mount: &Place<'_, '_>) -> Option<Bind> {
    for (_, place) in mount.members().filter(|(key, _)| !MOUNT.contains(key)) {
        place.problem(format!("is not allowed: expected only {}", MOUNT.join(", ")));
    }
    if let Some(place) = mount.needed("type") {
        match place.text() {
            Some("bind") | None => {}
            Some(other) => place.problem(format!("expected 'bind', found {}", quoted(other))),
        }
    }
    let source = mount.needed("source").and_then(|place| place.text());
    let destination = mount.needed("destination").and_then(|place| place.text());
    let options = mount.needed("options").and_then(|place| bind_options(&place));
    let bind = Bind::parse(&mount.field(), source?, destination?, &options?);
    bind.map_err(|problems| problems.into_iter().for_each(|problem| mount.findings().problem(problem))).ok()
}

fn bind_options<'d>(place: &Place<'_, 'd>) -> Option<Vec<&'d str>> {
    let options = place.texts()?;
    for word in ["rbind", "rprivate"] {
        if !options.contains(&word) {
            place.problem(format!("'{word}' is missing: expected rbind and rprivate among the options"));
        }
    }
    Some(options)
}

fn with_process(mut builder: Builder, process: &Place<'_, '_>) -> Builder {
    process.only(&["args", "cwd", "env", "apparmorProfile", "selinuxLabel"]);
    if let Some(args) = process.needed("args").and_then(|place| place.texts()) {
        builder = builder.args(args);
    }
    if let Some(env) = process.needed("env").and_then(|place| place.texts()) {
        builder = builder.env(env);
    }
    if let Some(cwd) = process.needed("cwd").and_then(|place| place.text()) {
        builder = builder.cwd(cwd);
    }
    // Storm's own launcher leaves them out. A worker that runs without what was to confine it is
    // worse than none.
    if let Some(apparmor) = named(process, "apparmorProfile", AppArmor::new) {
        builder = builder.apparmor(apparmor);
    }
    if let Some(label) = named(process, "selinuxLabel", SelinuxLabel::new) {
        builder = builder.selinux(Selinux::Label(label));
    }
    builder
}

/// The label of every file in the container. It would be an option of each mount, and what the
/// layers hold is shared with other containers.
fn mount_label(place: &Place<'_, '_>) {
    let unset = matches!(place.node().kind, Kind::Null) || place.text().is_none_or(str::is_empty);
    if !unset {
        place.problem("mounts are given no label: they have what the host's policy gives them; leave it out");
    }
}

/// A text that may be missing, null or empty: a writer in Go or Java means the same by all three.
fn named<'d, T>(object: &Place<'_, 'd>, key: &str, read: impl FnOnce(&'d str) -> Result<T, BadValue>) -> Option<T> {
    let place = object.given(key)?;
    let text = place.text().filter(|text| !text.is_empty())?;
    checked(&place, read(text))
}

fn with_linux(mut builder: Builder, linux: &Place<'_, '_>) -> Builder {
    for (key, place) in linux.members().filter(|(key, _)| !LINUX.contains(key)) {
        match key {
            "mountLabel" => mount_label(&place),
            _ => place.problem(format!("is not allowed: expected only {}", LINUX.join(", "))),
        }
    }
    // Java joins paths with '/', so the plain form is what counts.
    if let Some(path) = linux.needed("cgroupsPath").and_then(|place| path(&place)) {
        builder = builder.cgroup(path.as_str());
    }
    if let Some(resources) = linux.member("resources").filter(Place::is_object) {
        builder = builder.limits(resources::limits(&resources));
    }
    if let Some(place) = linux.given("seccomp") {
        match place.node().to_value() {
            Some(profile) => {
                let seccomp = Seccomp::Profile(profile.into());
                seccomp.warnings().iter().for_each(|text| place.warn(|field| format!("{field}: {text}")));
                builder = builder.seccomp(seccomp);
            }
            None => place.problem("is nested too deeply for a profile"),
        }
    }
    builder
}

fn path(place: &Place<'_, '_>) -> Option<AbsolutePath> {
    checked(place, AbsolutePath::new(place.text()?))
}

fn checked<T>(place: &Place<'_, '_>, value: Result<T, BadValue>) -> Option<T> {
    value.map_err(|bad| place.problem(bad.to_string())).ok()
}
