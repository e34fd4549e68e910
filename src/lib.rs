//! Squall (SQUAshfs Layer Launcher): an embedded OCI runtime.
#![deny(unsafe_code)]

pub mod cgroup;
pub mod container;
mod control;
#[cfg(feature = "cli")]
pub mod demo;
pub mod error;
mod fsmount;
mod launch;
pub mod layer;
pub mod monitor;
pub mod oci;
mod reap;
pub mod record;
pub mod request;
mod root;
mod run_root;
mod runtime;
mod spawner;
pub mod squashfs;
pub mod stage;
mod sys;

pub use container::{Container, Ended, Exited, Lost, Phase, Running};
pub use error::{Cause, Error, ErrorKind, Problem, Result};
pub use layer::Trim;
pub use reap::{ReapKind, Reaped};
pub use run_root::{DEFAULT_RUN_ROOT, RunRoot};
pub use runtime::{DEFAULT_KEEP_LAYERS, DEFAULT_MONITORS, SignalStream, Squall, SquallBuilder, Stdio};
pub use spawner::{Spawner, serve_standard_input};
pub use stage::Stage;
