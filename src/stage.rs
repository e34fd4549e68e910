//! The named steps of a container's life.
//!
//! One enum serves everything that has to say *where*: errors name it, records carry the time spent
//! in it, logs print it and the crash tests stop a process at each of its values. The order of the
//! variants is the order in which a launch passes them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A step of launching, running or clearing away a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
#[non_exhaustive]
pub enum Stage {
    /// What the caller asked for is read and checked; nothing has been touched.
    Request = 1,
    /// The container's directory below the run root is claimed.
    Claim,
    /// Layer files are attached to loop devices and mounted, detached.
    Layers,
    /// The cgroups are made and limits written.
    Cgroup,
    /// Host paths to be bound are cloned as detached mounts.
    Binds,
    /// The first process of the container is cloned, and cleaned of what it has from its caller.
    Clone,
    /// The staging file system and the overlay are put together.
    Root,
    /// Everything is mounted below the new root.
    Mounts,
    /// Init waits until it is in its cgroups; from here on its limits are in force.
    Join,
    /// libcontainer turns the process into the container's init.
    Init,
    /// Init becomes the workload. Records of before have it as `exec`.
    #[serde(alias = "exec")]
    Become,
    /// The pid file is written.
    PidFile,
    /// The record of the running container is written.
    Record,
    /// The launch process becomes the monitor.
    Monitor,
    /// The container runs and is being watched.
    Watch,
    /// The container is being ended.
    Stop,
    /// The exit record is written.
    Exit,
    /// The container's directory is removed.
    Remove,
    /// Idle layers and what a crash left behind are cleared away.
    Reap,
    /// A stage that only a later version knows; found in what that version wrote.
    Unknown,
}

impl Stage {
    /// Every stage that is passed, in order.
    pub const ALL: [Stage; 19] = [
        Stage::Request,
        Stage::Claim,
        Stage::Layers,
        Stage::Cgroup,
        Stage::Binds,
        Stage::Clone,
        Stage::Root,
        Stage::Mounts,
        Stage::Join,
        Stage::Init,
        Stage::Become,
        Stage::PidFile,
        Stage::Record,
        Stage::Monitor,
        Stage::Watch,
        Stage::Stop,
        Stage::Exit,
        Stage::Remove,
        Stage::Reap,
    ];

    /// The name used in errors, records and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Request => "request",
            Stage::Claim => "claim",
            Stage::Layers => "layers",
            Stage::Cgroup => "cgroup",
            Stage::Binds => "binds",
            Stage::Clone => "clone",
            Stage::Root => "root",
            Stage::Mounts => "mounts",
            Stage::Join => "join",
            Stage::Init => "init",
            Stage::Become => "become",
            Stage::PidFile => "pid-file",
            Stage::Record => "record",
            Stage::Monitor => "monitor",
            Stage::Watch => "watch",
            Stage::Stop => "stop",
            Stage::Exit => "exit",
            Stage::Remove => "remove",
            Stage::Reap => "reap",
            Stage::Unknown => "unknown",
        }
    }

    /// The stage with this discriminant, as it crosses the pipe between init and the launch
    /// process.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| *stage as u8 == byte)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_survives_the_pipe_and_json_under_its_own_name() {
        for stage in Stage::ALL {
            assert_eq!(Stage::from_byte(stage as u8), Some(stage));
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.name());
        }
        assert_eq!(Stage::from_byte(0), None);
        assert_eq!(Stage::from_byte(Stage::ALL.len() as u8 + 1), None);
    }
}
