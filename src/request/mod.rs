//! What a caller asks for, made into one validated type: [`LaunchSpec`].
//!
//! There are several doors, Storm's command file ([`storm`]) and the [`Builder`] that the command
//! line ([`values`]) and Rust programs use, and behind all of them the same rules. Every door
//! reports all problems at once, each under the name that its user knows. A spec that crosses a
//! process border as JSON is checked again on the other side.
//!
//! Owns: the types of a request, their rules and bounds, the parsing of documents and values. Never
//! does: change anything, need a privilege, decide who may ask for what (allow-lists belong to the
//! programs). It touches the file system in few places only: where a door reads its document, for
//! descriptors of streams, and for `..` in a path that somebody typed ([`values::host_path`]); the
//! user database is asked in [`Identity`]. Runs in the caller's process, and in the spawner for the
//! second check.

mod apparmor;
mod bind_options;
mod builder;
mod door;
mod environment;
mod exec;
mod host_path;
mod hostname;
mod id;
mod identity;
mod log;
mod mount;
mod mount_text;
mod path;
mod resources;
mod rules;
mod seccomp;
mod selinux;
mod spec;
pub mod storm;
mod uid_range;
pub mod values;

pub use crate::document::BadValue;
pub use apparmor::{AppArmor, AppArmorProfile};
pub use bind_options::{Access, BindOptions, MountFlag, MountFlags, Propagation, Recursion};
pub use builder::Builder;
pub use door::Door;
pub use environment::{Environment, Variable};
pub use exec::ExecSpec;
pub use hostname::Hostname;
pub use id::ContainerId;
pub use identity::Identity;
pub use log::{DEFAULT_LOG_FILES, LEAST_LOG_BYTES, Log, MOST_LOG_FILES};
pub use mount::{Bind, Mount, Tmpfs};
pub use path::{AbsolutePath, Destination, LayerPath};
pub use resources::{ExclusiveCpus, MemoryPromise, Placement};
pub(crate) use rules::limit_problems;
pub use seccomp::{ProfileDocument, Seccomp};
pub use selinux::{Selinux, SelinuxLabel};
pub use spec::{Fields, Home, HostDirectory, LaunchSpec, Network, OnExit, RootMode, SetuidBits};
pub use uid_range::UidRange;
