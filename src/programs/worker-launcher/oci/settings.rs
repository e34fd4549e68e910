//! What the configuration says about containers.

use std::path::{Path, PathBuf};

use squall::request::{AbsolutePath, AppArmorProfile, Seccomp, SelinuxLabel};
use squall::seccomp::Profile;
use squall::{DefaultLimits, Squall, SquallBuilder};

use crate::Launcher;
use crate::config::Config;
use crate::exit::{Code, Failure, Result, WithCode};

/// Storm's own default.
const RUN_ROOT: &str = "/run/worker-launcher";

/// Processes and threads of a worker, unless the configuration says another number: a JVM of many
/// slots has some thousands, and a fork bomb must not take the host's (`kernel.threads-max`).
const PIDS: u64 = 8192;

/// The key of the directories that layers may lie in.
pub const IMAGE_ROOTS: &str = "worker.launcher.oci.image.roots";
/// The key of what of the host may be mounted.
pub const MOUNT_SOURCES: &str = "worker.launcher.oci.allowed.mount.source.dirs";
/// The key of the filter of workers for whom none is named.
pub const SECCOMP: &str = "worker.launcher.oci.seccomp.default";

/// What the configuration says about containers.
#[derive(Debug)]
pub struct Settings {
    /// Where images may lie.
    image_roots: Vec<PathBuf>,
    /// What of the host may be mounted.
    pub mount_sources: Vec<AbsolutePath>,
    /// For a command file that says nothing of seccomp.
    pub seccomp: Seccomp,
    /// Swap in bytes beside the memory limit.
    pub swap_bytes: u64,
    /// Where a v1-shaped view of memory use is kept, on a host with cgroup v2.
    pub v1_view: Option<PathBuf>,
    /// The parent of workers' cgroups, where it is to be one and no other.
    pub cgroup_parent: Option<String>,
    apparmor: Option<AppArmorProfile>,
    selinux: Option<SelinuxLabel>,
    pids: u64,
}

impl Settings {
    /// Reads them. What a container needs and is missing is an error here, before anything is
    /// touched.
    pub fn of(config: &Config) -> Result<Settings> {
        Ok(Settings {
            image_roots: image_roots(config)?,
            mount_sources: mount_sources(config)?,
            seccomp: seccomp(config)?,
            swap_bytes: swap_bytes(config)?,
            v1_view: v1_view(config)?,
            cgroup_parent: config.get("worker.launcher.oci.cgroup.parent").map(str::to_owned),
            apparmor: apparmor(config)?,
            selinux: selinux(config)?,
            pids: pids(config)?,
        })
    }

    /// The library, set up for this caller.
    pub(crate) fn squall(&self, launcher: &Launcher) -> Result<Squall> {
        let limits = DefaultLimits { pids: Some(self.pids), ..DefaultLimits::default() };
        let mut builder =
            base(launcher)?.image_roots(&self.image_roots).image_owners([launcher.caller.uid]).default_limits(limits);
        if let Some(profile) = &self.apparmor {
            builder = builder.default_apparmor(profile.clone());
        }
        if let Some(label) = &self.selinux {
            builder = builder.default_selinux(label.clone());
        }
        builder
            .build()
            .code(Code::Configuration, format_args!("configuration file '{}'", launcher.config.path.display()))
    }
}

/// The library, for what needs no image: the containers that are there.
pub(crate) fn existing(launcher: &Launcher) -> Result<Squall> {
    base(launcher)?.build().code(Code::Configuration, "run root")
}

/// What launching and looking after containers have in common: where they and their monitors are.
fn base(launcher: &Launcher) -> Result<SquallBuilder> {
    let builder = Squall::builder().run_root(run_root(&launcher.config)?);
    Ok(match launcher.config.get("worker.launcher.oci.monitors.cgroup") {
        Some(cgroup) => builder.monitors(cgroup),
        None => builder,
    })
}

/// What is wrong with any of them, one failure for each key.
pub fn problems(config: &Config) -> Vec<Failure> {
    let failures = [
        image_roots(config).err(),
        mount_sources(config).err(),
        seccomp(config).err(),
        swap_bytes(config).err(),
        v1_view(config).err(),
        apparmor(config).err(),
        selinux(config).err(),
        pids(config).err(),
        run_root(config).err(),
    ];
    failures.into_iter().flatten().collect()
}

/// Where records, sockets and mounted layers are.
pub fn run_root(config: &Config) -> Result<PathBuf> {
    Ok(config.path("worker.launcher.oci.run-root")?.unwrap_or_else(|| PathBuf::from(RUN_ROOT)))
}

/// Where layers may lie.
pub fn image_roots(config: &Config) -> Result<Vec<PathBuf>> {
    let roots = config.paths(IMAGE_ROOTS)?.filter(|roots| !roots.is_empty());
    roots.ok_or_else(|| {
        config.wrong(IMAGE_ROOTS, "it is missing: the directories that layers may lie in, separated by ','")
    })
}

/// What of the host may be mounted.
pub fn mount_sources(config: &Config) -> Result<Vec<AbsolutePath>> {
    let sources = config.list(MOUNT_SOURCES).unwrap_or_default().into_iter().map(|text| {
        let checked = AbsolutePath::new(text).map_err(|bad| config.wrong(MOUNT_SOURCES, bad.at(text)))?;
        if checked.as_str() == "/" {
            return Err(config.wrong(MOUNT_SOURCES, "'/' would allow everything: name the directories"));
        }
        Ok(checked)
    });
    sources.collect()
}

/// Where a v1-shaped view of memory use is kept, if anywhere.
pub fn v1_view(config: &Config) -> Result<Option<PathBuf>> {
    config.path("worker.launcher.oci.cgroup.v1.view")
}

/// The AppArmor profile of workers, if any.
pub fn apparmor(config: &Config) -> Result<Option<AppArmorProfile>> {
    parsed(config, "worker.launcher.oci.apparmor.profile", |text| AppArmorProfile::new(text))
}

/// The SELinux label of workers, if any.
pub fn selinux(config: &Config) -> Result<Option<SelinuxLabel>> {
    parsed(config, "worker.launcher.oci.selinux.label", |text| SelinuxLabel::new(text))
}

fn swap_bytes(config: &Config) -> Result<u64> {
    Ok(config.number("worker.launcher.oci.swap.limit")?.unwrap_or(0))
}

fn pids(config: &Config) -> Result<u64> {
    Ok(config.number("worker.launcher.oci.pids.limit")?.unwrap_or(PIDS))
}

fn parsed<T, E: std::fmt::Debug>(
    config: &Config,
    key: &str,
    parse: impl FnOnce(&str) -> std::result::Result<T, E>,
) -> Result<Option<T>> {
    let value = config.get(key).map(|text| parse(text).map_err(|_| config.wrong(key, format!("'{text}' is none"))));
    value.transpose()
}

/// `default`, `unconfined`, or a file that only root can have written.
pub fn seccomp(config: &Config) -> Result<Seccomp> {
    match config.get(SECCOMP) {
        None | Some("default") => Ok(Seccomp::Default),
        Some("unconfined") => Ok(Seccomp::Unconfined),
        Some(path) => {
            let text = config.read_trusted(SECCOMP, Path::new(path))?;
            let profile = Profile::parse(&text).map_err(|error| config.wrong(SECCOMP, error))?;
            Ok(Seccomp::Profile(profile.into()))
        }
    }
}
