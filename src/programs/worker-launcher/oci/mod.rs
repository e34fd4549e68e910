//! Containers: `run-oci-container`, `reap-oci-container`, `profile-oci-container`.
//!
//! The supervisor names a command file and directories; who the user is, which images, which
//! directories of the host and which confinement are allowed is in the configuration alone.

pub mod command_file;
mod output;
pub mod profile;
pub mod reap;
pub mod run;
pub mod settings;
mod v1_view;

pub use settings::Settings;
