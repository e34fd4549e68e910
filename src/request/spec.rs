//! The validated request: what a launch works from.

use std::ops::Deref;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::apparmor::AppArmor;
use super::builder::Builder;
use super::environment::Environment;
use super::hostname::Hostname;
use super::id::ContainerId;
use super::identity::Identity;
use super::log::Log;
use super::mount::Mount;
use super::path::{AbsolutePath, LayerPath};
use super::resources::{ExclusiveCpus, MemoryPromise};
use super::rules::Rules;
use super::seccomp::Seccomp;
use super::selinux::Selinux;
use crate::cgroup::{CgroupPath, Limits, Manager, Scope};
use crate::document::BadValue;
use crate::error::{Error, Result};

/// What an error calls a spec that arrives as JSON.
const OBJECT: &str = "launch spec";

/// The container's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum RootMode {
    /// Nothing can be written.
    ReadOnly,
    /// What is written lies in memory and is gone afterwards.
    Writable {
        /// Most bytes that can be written; without it half of the machine's memory, as the kernel
        /// has it for a tmpfs. They count against the container's memory limit.
        size_bytes: Option<u64>,
    },
    /// What is written lies in this directory of the host: in `overlay/upper`, beside the overlay's
    /// work directory. `overlay` is made for it, of root's and closed to everybody else (0700);
    /// another that stands there is refused (`Exists`).
    Directory(HostDirectory),
}

impl RootMode {
    /// What a record notes of it: a container that can fill its host's disk.
    pub(crate) fn note(&self) -> Option<String> {
        let RootMode::Directory(HostDirectory { path, size_bytes: None }) = self else { return None };
        let path = path.as_str();
        Some(format!("nothing bounds what is written to the host's directory '{path}' but the room in its file system"))
    }
}

/// A directory of the host that takes a container's writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "HostDirectoryText")]
pub struct HostDirectory {
    /// Where it is.
    pub path: AbsolutePath,
    /// Most bytes that it may come to hold; without it the room in its file system is the only
    /// bound, which the record notes. Capped by a project quota; where the file system has none the
    /// launch is refused (`Unsupported`) and says what is missing: a bound is never left out.
    pub size_bytes: Option<u64>,
}

/// A path alone is how records were written before there was a size.
#[derive(Deserialize)]
#[serde(untagged)]
enum HostDirectoryText {
    Path(AbsolutePath),
    Sized(SizedDirectory),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SizedDirectory {
    path: AbsolutePath,
    size_bytes: Option<u64>,
}

impl From<AbsolutePath> for HostDirectory {
    fn from(path: AbsolutePath) -> HostDirectory {
        HostDirectory { path, size_bytes: None }
    }
}

impl From<HostDirectoryText> for HostDirectory {
    fn from(text: HostDirectoryText) -> HostDirectory {
        match text {
            HostDirectoryText::Path(path) => path.into(),
            HostDirectoryText::Sized(SizedDirectory { path, size_bytes }) => HostDirectory { path, size_bytes },
        }
    }
}

/// The network that a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Network {
    /// The host's.
    Host,
    /// One of its own with nothing in it but a loopback device.
    None,
}

/// What becomes of a container's record when the container has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OnExit {
    /// It stays until somebody removes it, so that everybody can learn how the container ended.
    #[default]
    Keep,
    /// The monitor removes it as its last act. Whoever waits then only learns that the container is
    /// gone.
    Remove,
}

/// Where the worker's HOME comes from, should its environment not have one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Home {
    /// It has none then.
    #[default]
    Unset,
    /// The directory that the image's own `/etc/passwd` names for the worker's uid.
    OfImage {
        /// What it is where the image names none.
        otherwise: AbsolutePath,
    },
}

/// Whether a worker of uid 0 may give files the bits of a setuid or setgid program. Inside nothing
/// comes of them (no_new_privs, `nosuid`), but a file that lies in a directory of the host, below a
/// bind or a writable root, is a program that makes root of whoever runs it there. Other workers
/// may set them always: such a program makes no more of anybody than they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SetuidBits {
    /// EPERM for every call that would set them. A package manager that installs `su` fails by it.
    #[default]
    Denied,
    /// As for other workers. For directories of the host that no other user can reach.
    Allowed,
}

/// Everything that can be asked for. Each field is checked by its type; the rules between and
/// beyond them hold in a [`LaunchSpec`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// The container's name.
    pub id: ContainerId,
    /// Files of the layers, the base first: 1 to 500, as many as an overlay takes.
    pub layers: Vec<LayerPath>,
    /// The program and its arguments; the program's name is not empty.
    pub args: Vec<String>,
    /// The environment, nothing is added to it but what `home` says.
    pub env: Environment,
    /// Where HOME comes from, should the environment not have it.
    #[serde(default)]
    pub home: Home,
    /// The working directory inside the container.
    pub cwd: AbsolutePath,
    /// Who the worker runs as.
    pub user: Identity,
    /// What can be written.
    pub root: RootMode,
    /// Further mounts, in this order.
    pub mounts: Vec<Mount>,
    /// The container's host name; the host's own where absent.
    pub hostname: Option<Hostname>,
    /// The network.
    pub network: Network,
    /// The container's cgroup, from the top of each hierarchy.
    pub cgroup: CgroupPath,
    /// Who makes it. systemd makes those alone that [`Scope::container`] names.
    #[serde(default)]
    pub cgroup_manager: Manager,
    /// What the container may use.
    pub limits: Limits,
    /// Where the pid of the container's init is written.
    pub pid_file: Option<AbsolutePath>,
    /// Where the container's exit record is written once more when it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_file: Option<AbsolutePath>,
    /// How long the workload may run.
    pub timeout: Option<Duration>,
    /// The signal that asks the worker to end: where it is stopped without another one, and when
    /// its time is over. 1 to 64; SIGTERM where absent.
    #[serde(default = "sigterm", skip_serializing_if = "is_sigterm")]
    pub stop_signal: i32,
    /// The system calls that the worker may make.
    pub seccomp: Seccomp,
    /// The AppArmor profile that the worker runs under.
    #[serde(default)]
    pub apparmor: AppArmor,
    /// The SELinux label that the worker runs under. Not beside an AppArmor profile.
    #[serde(default)]
    pub selinux: Selinux,
    /// How many idle layers stay mounted; the configuration's number where absent.
    pub keep_layers: Option<u32>,
    /// What becomes of the record in the end.
    #[serde(default)]
    pub on_exit: OnExit,
    /// Whether a worker of uid 0 may make setuid programs.
    #[serde(default)]
    pub setuid_bits: SetuidBits,
    /// Processors that it has for itself. Which they are stands in the limits
    /// ([`Limits::cpuset_cpus`]) once they have been chosen; a list that is given there is taken as
    /// it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive_cpus: Option<ExclusiveCpus>,
    /// What memory is promised to it.
    #[serde(default, skip_serializing_if = "MemoryPromise::is_nothing")]
    pub memory_promise: MemoryPromise,
    /// Where the worker's output goes; to the launch's own streams where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
}

fn sigterm() -> i32 {
    libc::SIGTERM
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_sigterm(signal: &i32) -> bool {
    *signal == libc::SIGTERM
}

/// A request that keeps all rules. The fields can be read and not written, so it stays what was
/// checked; it serialises as [`Fields`] and is checked again when it is read back.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Fields")]
pub struct LaunchSpec {
    fields: Fields,
}

impl LaunchSpec {
    /// Begins a request for a container of that id.
    pub fn builder(id: impl AsRef<str>) -> Builder {
        Builder::new(id)
    }

    /// Reads a spec that [`LaunchSpec::to_json`] wrote, and checks it anew. The text has no bound
    /// of its own: the sender's message has.
    ///
    /// Errors: `Invalid` for what is not such a document (with line and column) or breaks a rule
    /// (with every problem).
    pub fn from_json(text: &[u8]) -> Result<LaunchSpec> {
        let fields: Fields = serde_json::from_slice(text)
            .map_err(|error| Error::invalid(OBJECT, vec![BadValue::new(error.to_string()).at("document")]))?;
        LaunchSpec::try_from(fields)
    }

    /// The spec as JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Checked text, numbers and lists with text keys: nothing that JSON could not hold.
        serde_json::to_vec(&self.fields).unwrap_or_default()
    }

    /// The scope that systemd is asked for; none where the cgroup is made without it.
    #[must_use]
    pub fn scope(&self) -> Option<Scope> {
        Scope::of(&self.cgroup).filter(|_| self.cgroup_manager == Manager::Systemd)
    }

    /// The fields, to change some and check again.
    #[must_use]
    pub fn into_fields(self) -> Fields {
        self.fields
    }
}

impl Deref for LaunchSpec {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        &self.fields
    }
}

impl TryFrom<Fields> for LaunchSpec {
    type Error = Error;

    fn try_from(fields: Fields) -> Result<LaunchSpec> {
        let problems = Rules::of(&fields).problems();
        if problems.is_empty() { Ok(LaunchSpec { fields }) } else { Err(Error::invalid(OBJECT, problems)) }
    }
}

impl Serialize for LaunchSpec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.fields.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cgroup::SwapLimit;

    /// Builders of which most are fine: odd text, numbers around the bounds.
    fn builders() -> impl Strategy<Value = Builder> {
        let names = (prop::collection::vec("/[^/]{1,9}", 1..4), prop::collection::vec(".{0,9}", 1..4));
        let places = (prop::collection::vec("[A-Z]{1,2}=.{0,9}", 0..6), "/[a-z. ]{1,9}", "[a-z0-9]{1,12}");
        let numbers =
            (any::<[u32; 3]>(), 1_u64 << 19..1 << 62, any::<Option<u32>>(), 1_u64..u64::MAX >> 32, any::<bool>());
        (names, places, numbers).prop_map(|((layers, args), (env, path, id), (ids, bytes, keep, nanos, flag))| {
            let limits = Limits {
                memory_bytes: Some(bytes),
                memory_swap_bytes: Some(if flag { SwapLimit::Unlimited } else { SwapLimit::Total(bytes) }),
                cpu_quota_us: Some(1000 + (bytes >> 32) as i64),
                ..Limits::default()
            };
            let root = if flag { RootMode::Writable { size_bytes: Some(bytes) } } else { RootMode::ReadOnly };
            let builder =
                LaunchSpec::builder(&id).layers(layers).args(args).env(env).cwd(&path).limits(limits).root(root);
            let builder = builder.bind(&path, "/mnt", &["ro", "rnosuid", "slave"]).tmpfs("/tmp", Some(bytes), 0o1777);
            let builder =
                builder.hostname(&id).cgroup(format!("/squall/{id}")).exit_file(format!("{path}.exit")).pid_file(path);
            let builder = builder.timeout(Duration::from_nanos(nanos)).seccomp(if flag {
                Seccomp::Unconfined
            } else {
                Seccomp::Default
            });
            let builder = keep.into_iter().fold(builder, Builder::keep_layers);
            Identity::new(ids[0], ids[1], [ids[2]]).into_iter().fold(builder, Builder::user)
        })
    }

    #[test]
    fn a_directory_of_the_host_is_read_with_a_size_and_as_the_path_alone() {
        let path = AbsolutePath::new("/srv/upper").unwrap();
        let plain: RootMode = serde_json::from_str(r#"{"directory": "/srv/upper"}"#).unwrap();
        assert_eq!(plain, RootMode::Directory(path.clone().into()));
        let sized = RootMode::Directory(HostDirectory { path, size_bytes: Some(7) });
        assert_eq!(serde_json::from_value::<RootMode>(serde_json::to_value(&sized).unwrap()).unwrap(), sized);
        assert!(serde_json::from_str::<RootMode>(r#"{"directory": {"path": "/a", "size": 7}}"#).is_err());
    }

    proptest! {
        #[test]
        fn a_spec_is_the_same_after_json_and_what_is_refused_has_reasons(builder in builders()) {
            match builder.build() {
                Ok(spec) => {
                    prop_assert_eq!(&LaunchSpec::from_json(&spec.to_json()).unwrap(), &spec);
                    prop_assert_eq!(serde_json::from_slice::<LaunchSpec>(&spec.to_json()).unwrap(), spec);
                }
                Err(error) => prop_assert!(!error.problems().is_empty()),
            }
        }

        #[test]
        fn no_bytes_make_reading_a_spec_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(LaunchSpec::from_json(&bytes).is_err());
        }
    }
}
