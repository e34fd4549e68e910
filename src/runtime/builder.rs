//! Setting up: what holds for every launch of a program.

use std::path::PathBuf;

use super::{Launcher, Squall};
use crate::cgroup::CgroupPath;
use crate::error::{Error, Result};
use crate::layer::ImageRoots;
use crate::request::{AppArmor, AppArmorProfile, Selinux, SelinuxLabel, UidRange};
use crate::settings::Settings;
use crate::settings::default_limits::DefaultLimits;
use crate::spawner::Spawner;
use crate::state::run_root::{DEFAULT_RUN_ROOT, RunRoot};

/// How many idle layers stay mounted unless said otherwise: a pin costs every launch on the host
/// about 2 µs (measured: 350 µs with no other mounts, 1360 with 500), so few are kept.
pub const DEFAULT_KEEP_LAYERS: usize = 32;

/// Where monitors live unless said otherwise: never in a worker's cgroup, and not in their
/// caller's.
pub const DEFAULT_MONITORS: &str = "/squall/monitors";

/// Sets up a [`Squall`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct SquallBuilder {
    run_root: PathBuf,
    keep_layers: usize,
    monitors: String,
    spawner: Option<Spawner>,
    image_roots: Option<Vec<PathBuf>>,
    own_users: UidRange,
    image_owners: Vec<u32>,
    default_limits: DefaultLimits,
    default_apparmor: AppArmor,
    default_selinux: Selinux,
    memory_capacity: Option<u64>,
}

impl SquallBuilder {
    /// Where records, sockets and layer mounts are kept; [`DEFAULT_RUN_ROOT`] otherwise.
    pub fn run_root(mut self, path: impl Into<PathBuf>) -> SquallBuilder {
        self.run_root = path.into();
        self
    }

    /// How many idle layers stay mounted; [`DEFAULT_KEEP_LAYERS`] otherwise.
    pub fn keep_layers(mut self, count: usize) -> SquallBuilder {
        self.keep_layers = count;
        self
    }

    /// The cgroup in which monitors live; [`DEFAULT_MONITORS`] otherwise. The monitor of a
    /// container in a scope of systemd's is in that.
    pub fn monitors(mut self, cgroup: impl Into<String>) -> SquallBuilder {
        self.monitors = cgroup.into();
        self
    }

    /// Has launches forked by this spawner. Without one, launching needs a program with a single
    /// thread.
    pub fn spawner(mut self, spawner: Spawner) -> SquallBuilder {
        self.spawner = Some(spawner);
        self
    }

    /// Refuses every layer that does not lie below one of these directories, all links resolved, or
    /// that anybody could change but root and [`SquallBuilder::image_owners`]: the file and each
    /// directory above it belong to one of them, not to the worker's user, and nobody else can
    /// write to them, by mode or POSIX access control list. Nor may a process have the file open
    /// for writing. For programs that launch for others; without this no layer is refused for
    /// where it lies. No directory at all is an error of [`SquallBuilder::build`].
    pub fn image_roots<P: Into<PathBuf>>(mut self, roots: impl IntoIterator<Item = P>) -> SquallBuilder {
        self.image_roots = Some(roots.into_iter().map(Into::into).collect());
        self
    }

    /// The uids of which [`Squall::launch_as_own_user`] gives one; the [default](UidRange)
    /// otherwise. Run roots of one machine that are in use at the same time should have ranges of
    /// their own.
    pub fn own_users(mut self, range: UidRange) -> SquallBuilder {
        self.own_users = range;
        self
    }

    /// Whom layers below image roots may belong to besides root, by their uids.
    pub fn image_owners(mut self, owners: impl IntoIterator<Item = u32>) -> SquallBuilder {
        self.image_owners = owners.into_iter().collect();
        self
    }

    /// What a container is limited to whose spec does not say; nothing otherwise. A program that
    /// launches for others sets both.
    pub fn default_limits(mut self, limits: DefaultLimits) -> SquallBuilder {
        self.default_limits = limits;
        self
    }

    /// The AppArmor profile of workers whose spec does not say ([`AppArmor::Default`]); none
    /// otherwise. For programs that launch for others: a spec that says is taken at its word, so
    /// such a program looks at [`Fields::apparmor`](crate::request::Fields::apparmor) of what it is
    /// given. On a host without AppArmor, or where the profile is not loaded, the launches are
    /// refused.
    pub fn default_apparmor(mut self, profile: AppArmorProfile) -> SquallBuilder {
        self.default_apparmor = AppArmor::Profile(profile);
        self
    }

    /// The SELinux label of workers whose spec does not say ([`Selinux::Default`]); none otherwise.
    /// For programs that launch for others, as [`SquallBuilder::default_apparmor`]. On a host
    /// without SELinux, or where its policy does not know the label, the launches are refused.
    pub fn default_selinux(mut self, label: SelinuxLabel) -> SquallBuilder {
        self.default_selinux = Selinux::Label(label);
        self
    }

    /// How much memory can be promised to containers together
    /// ([`Builder::memory_promise`](crate::request::Builder::memory_promise)), in bytes; all that the
    /// machine has otherwise. Programs that launch in one run root should say the same.
    pub fn memory_capacity(mut self, bytes: u64) -> SquallBuilder {
        self.memory_capacity = Some(bytes);
        self
    }

    /// Checks what was set; touches nothing.
    pub fn build(self) -> Result<Squall> {
        let monitors = CgroupPath::new(self.monitors)
            .map_err(|problem| Error::invalid_field("monitor cgroup", "monitors", problem))?;
        let image_roots = self.image_roots.map(ImageRoots::new).transpose();
        let image_roots = image_roots.map_err(|problem| Error::invalid_field("image roots", "image_roots", problem))?;
        let image_roots = image_roots.map(|roots| roots.owned_by(self.image_owners));
        let settings = Settings {
            run_root: RunRoot::new(self.run_root)?,
            keep_layers: self.keep_layers,
            monitors,
            image_roots,
            own_users: self.own_users,
            default_limits: self.default_limits,
            memory_capacity: self.memory_capacity,
        };
        let launcher = self.spawner.map_or(Launcher::Direct, Launcher::Spawner);
        let (default_apparmor, default_selinux) = (self.default_apparmor, self.default_selinux);
        Ok(Squall { settings, launcher, default_apparmor, default_selinux })
    }
}

impl Squall {
    /// Begins with the defaults.
    pub fn builder() -> SquallBuilder {
        SquallBuilder {
            run_root: DEFAULT_RUN_ROOT.into(),
            keep_layers: DEFAULT_KEEP_LAYERS,
            monitors: DEFAULT_MONITORS.to_owned(),
            spawner: None,
            image_roots: None,
            own_users: UidRange::default(),
            image_owners: Vec::new(),
            default_limits: DefaultLimits::default(),
            default_apparmor: AppArmor::Default,
            default_selinux: Selinux::Default,
            memory_capacity: None,
        }
    }
}
