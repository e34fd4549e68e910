//! Squall (SQUAshfs Layer Launcher): an embedded OCI runtime.
//!
//! It runs workers in containers whose root is an overlay of mounted squashfs (or EROFS) layers,
//! limited by cgroups, watched to their end by a small monitor each, and cleared away without a
//! trace. No daemon, no external runtime, no unpacking: the container is made in process, by
//! youki's libcontainer.
//!
//! ```no_run
//! use squall::request::{Identity, LaunchSpec};
//! use squall::{Ended, Spawner, Squall, Stdio};
//!
//! # fn main() -> squall::Result<()> {
//! // First in main, while the program has one thread: everything is forked from here.
//! let squall = Squall::builder().spawner(Spawner::fork()?).build()?;
//! let spec = LaunchSpec::builder("worker-1")
//!     .layers(["/srv/images/base.sqsh", "/srv/images/app.sqsh"])
//!     .args(["/usr/bin/app"])
//!     .user(Identity::of_user_name("app")?)
//!     .cgroup("/squall/worker-1")
//!     .build()?;
//! match squall.launch(&spec, Stdio::null()?)?.wait()? {
//!     Ended::Exited(exited) => println!("{:?}", exited.exit().exit),
//!     Ended::Lost(_) => println!("nobody saw it end"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Launching for others
//!
//! A program that launches for other users, a setuid program above all, must not reach for them
//! what they could not. It makes a [`OpenedSpec`], which opens what the spec names on the host as
//! the user, refuses what it does not allow, and calls [`Squall::launch_opened`]. The example
//! stands there. Nothing of the library is found by `/proc/self/exe`, except by
//! [`Spawner::companion`], which such a program does not use; and nothing of the program's
//! environment reaches what the library starts.
//!
//! # Process model
//!
//! ```text
//! caller ──(socket)── spawner ──fork──> launch ──exec──> squall-monitor      the parent of init, one per container,
//!  threads, async,      one thread,       │ libcontainer                     outlives the caller
//!  any program          forked first      └──clone3──> init = the worker     pid 1 of its own pid namespace
//! ```
//!
//! libcontainer is only ever called in a process that was forked for one launch and has one thread.
//! A program with threads gets a [`Spawner`]; the command line program forks its launches directly.
//! The launch process answers and then executes the monitor, a static program of 31 KiB that is
//! embedded in this library; pid and child stay the same.
//!
//! [`Squall::launch`] returns when the workload runs. [`Squall::create`] stops before its exec, with
//! everything else done and watched; [`Created::start`] lets it go on.
//!
//! # Waiting
//!
//! [`Running::wait`] blocks; any number of threads and programs may wait for one container.
//! [`Squall::events`] is one stream for all containers of a run root, whoever launches them. With
//! the cargo feature `tokio` both have futures: `wait_async` of [`Created`], [`Running`] and
//! [`Paused`], `Launching::settle_async` and `Events::next_async`, which take a descriptor each in
//! tokio's reactor, no thread and no polling. They need a runtime with I/O (`enable_io`). Launching
//! still blocks, for some milliseconds: call it in `spawn_blocking`. The directory `examples` has a
//! supervisor of each kind.
//!
//! # Cgroups
//!
//! [`Builder::cgroup`](request::Builder::cgroup) names a cgroup that Squall makes itself, and
//! [`SquallBuilder::monitors`] one for the monitors: below a cgroup that was delegated to the
//! caller, or anywhere on a machine that nobody else manages.
//! [`Builder::scope`](request::Builder::scope) has systemd make one (feature `systemd`, cgroup v2
//! alone): a delegated scope with the worker in `container` and its monitor in `monitor`, which
//! lasts as long as one of the two. [`cgroup::Manager::of_this_machine`] says which of them suits
//! the machine, and the program `squall` goes by it. A worker and its monitor are never in their
//! caller's cgroup, so that no service manager ends them with it.
//!
//! # Resources of the host
//!
//! [`Running::update`] changes limits of a container that is there. A spec can ask for processors
//! that no other container of the run root gets
//! ([`Builder::exclusive_cpus`](request::Builder::exclusive_cpus)), and have its memory promised
//! ([`Builder::memory_promise`](request::Builder::memory_promise)). Both are claimed before
//! anything is made, refused with the containers that have what is asked for
//! ([`Cause::Taken`]), and free with the end of their container, whatever ends it.
//! [`Squall::resources`] tells who has what.
//!
//! # Security modules
//!
//! [`Builder::apparmor`](request::Builder::apparmor) and
//! [`Builder::selinux`](request::Builder::selinux) name a profile or a label that confines the
//! worker from its exec on; [`SquallBuilder::default_apparmor`] and
//! [`SquallBuilder::default_selinux`] one for workers that name none. Where the host cannot apply
//! it the launch is refused, before anything is touched where that can be known.
//! [`record::LaunchRecord::confined_by`] is what the kernel says is in force.
//!
//! # What the kernel has to have
//!
#![doc = include_str!("kernel/features.md")]
//!
//! The table is [`kernel::FEATURES`]; the program's `doctor` tries each. On cgroup v2 alone, device
//! rules take `CONFIG_CGROUP_BPF`; without it they are not in force, and the record says so.
//!
//! squashfs, overlayfs, the loop driver and a cgroup hierarchy are needed as well, and root with
//! the capabilities that [`Squall::launch`] names when they are missing. Everything has been run on
//! kernel 6.18 with cgroup v1 in the hybrid layout; the machines of `vagrant/` are for others,
//! first of all kernel 6.1 with systemd and cgroup v2 alone.
//!
//! An older loop driver (seen with 6.1, not with 6.18) reads zeros behind the end of a layer's file
//! that was cut off under its mount: what is compressed there gives EIO, what is stored as it is
//! reads as zeros.
//!
//! # Errors
//!
//! Every [`Error`] names stage, object, call and cause. A program decides by [`Error::kind`]; the
//! fields of [`Error::cause`] say more: which phase was found, which deadline passed, which
//! capability or feature is missing. A failed launch takes back what it made.
//!
//! # Where to look
//!
//! | to | see |
//! |---|---|
//! | say what to run | [`request`]: [`LaunchSpec`](request::LaunchSpec) and its [`Builder`](request::Builder) |
//! | launch, list, clear away | [`Squall`], [`SquallBuilder`], [`Spawner`] |
//! | wait, signal, stop, update, remove | [`Container`] and the type of each phase |
//! | execute a further program in it | [`Squall::exec`] of an [`ExecSpec`](request::ExecSpec): [`ExecSession`] |
//! | give it streams, or a terminal | [`Stdio`], [`Stdio::terminal`] |
//! | learn what happens to all | [`Squall::events`]: [`Events`], [`Change`] |
//! | see who has which processors and memory | [`Resources`], by [`Squall::resources`] |
//! | see what would be done | [`plan`], by [`Squall::plan`] |
//! | know what was launched, and how it ended | [`record`] |
//! | limit it, and read its use | [`cgroup`]: [`Limits`](cgroup::Limits), [`Usage`](cgroup::Usage) |
//! | read the use of all; see the processes inside | [`Listing::usages`]; [`Container::processes`] |
//! | confine it | [`seccomp`]: [`Profile`](seccomp::Profile); [`lsm`] |
//! | keep what a worker writes, and read it | [`request::Log`], [`ContainerLog`]; [`log`] |
//! | see mounted layers; write one | [`layer`]; [`squashfs`] |
//! | launch for others, in a setuid program | [`setuid`], [`OpenedSpec`], [`as_user`] |
//! | check a machine first | [`kernel`], [`privilege`], [`child_task`] |
#![deny(unsafe_code)]

pub mod cgroup;
pub mod child_task;
pub mod container;
mod crash;
mod document;
pub mod error;
mod events;
mod exhausted;
mod fsmount;
mod host;
mod host_files;
mod image_file;
pub mod kernel;
mod launch;
pub mod layer;
pub mod log;
pub mod lsm;
mod monitor;
mod oci;
mod one_line;
mod opened;
mod packet_socket;
mod passing;
mod phase;
pub mod plan;
pub mod privilege;
mod process;
#[cfg(feature = "tokio")]
mod reactor;
mod reap;
pub mod request;
mod root;
mod runtime;
pub mod seccomp;
mod settings;
pub mod setuid;
mod signal_stream;
mod spawner;
pub mod squashfs;
mod stage;
mod state;
mod stdio;
mod supported;
mod sys;
mod systemd;
#[cfg(feature = "testing")]
pub mod testing;
mod usages;
mod wait;

pub use container::{
    Container, ContainerLog, ContainerProcess, ContainerUsage, Created, Delivery, Ended, ExecEnd, ExecSession, Exited,
    Launching, LentTerminal, Lost, Paused, Running, TerminalKeeper,
};
pub use error::{Cause, Context, Error, ErrorKind, FileAspect, Holder, LackedCapability, Problem, ProcessEnd, Result};
pub use events::{Change, Event, Events};
pub use host_files::HostFile;
pub use host_files::as_user::as_user;
pub use layer::Trim;
pub use one_line::OneLine;
pub use opened::OpenedSpec;
pub use phase::Phase;
pub use reap::{ReapKind, Reaped};
pub use runtime::{DEFAULT_KEEP_LAYERS, DEFAULT_MONITORS, Listing, Squall, SquallBuilder};
pub use settings::default_limits::DefaultLimits;
pub use signal_stream::{Sender, SignalStream, TakenSignal};
pub use spawner::{LIBEXEC, Spawner, serve_standard_input};
pub use stage::Stage;
pub use state::ledger::{Held, NodeResources, Resources};
pub use state::own_users::OwnUser;
pub use state::record;
pub use state::run_root::{DEFAULT_RUN_ROOT, RunRoot};
pub use stdio::{Stdio, TerminalEnd, WindowSize};

/// Whether this was built to be interrupted where a test says (feature `crash-points`): such a
/// library must not be in a program with more privilege than its caller.
pub const CRASH_POINTS: bool = cfg!(feature = "crash-points");
