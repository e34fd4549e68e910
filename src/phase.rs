//! The phases of a container's life.

use serde::{Deserialize, Serialize};

/// The name of a phase, as `ps` prints it and as errors carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Phase {
    /// See [`Container::Launching`](crate::Container::Launching).
    Launching,
    /// See [`Container::Created`](crate::Container::Created).
    Created,
    /// See [`Container::Running`](crate::Container::Running).
    Running,
    /// See [`Container::Paused`](crate::Container::Paused).
    Paused,
    /// See [`Container::Exited`](crate::Container::Exited).
    Exited,
    /// See [`Container::Lost`](crate::Container::Lost).
    Lost,
}

impl Phase {
    /// Its name, as it is printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Launching => "launching",
            Phase::Created => "created",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Exited => "exited",
            Phase::Lost => "lost",
        }
    }
}
