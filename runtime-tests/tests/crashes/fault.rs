//! What strikes.

use crate::scenario::Scenario;

/// A fault, as `src/crash.rs` or the tracer brings it about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// The process aborts, as a panic makes it.
    Abort,
    /// The run root's file system is full from here on.
    Enospc,
    /// The process's memory limit is reached, and the kernel kills it.
    Memory,
    /// The layer's file is truncated under its mount.
    Eio,
}

impl Fault {
    const ALL: [Fault; 5] = [Fault::Kill, Fault::Abort, Fault::Enospc, Fault::Memory, Fault::Eio];

    /// The faults to be tried at a point of a scenario: all of them, but for the monitor no memory limit. It allocates nothing, so that to be
    /// killed for it is no different from being killed.
    pub fn of(scenario: Scenario, _: &str) -> Vec<Fault> {
        Fault::ALL.into_iter().filter(|fault| !(scenario.is_monitors() && *fault == Fault::Memory)).collect()
    }

    /// Its name in the order.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Abort => "abort",
            Fault::Enospc => "enospc",
            Fault::Memory => "memory",
            Fault::Eio => "eio",
        }
    }

    /// Whether it ends the process that it strikes.
    pub fn ends_its_victim(self) -> bool {
        matches!(self, Fault::Kill | Fault::Abort | Fault::Memory)
    }
}
