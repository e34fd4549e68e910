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

    /// The faults to be tried at a point of a scenario. The monitor is killed at each of its system
    /// calls; the others strike it at the first call of each kind in each stage, because what
    /// follows is the same work in the next cgroup or file. No memory limit: it allocates nothing,
    /// so that to be killed for it is no different from being killed.
    pub fn of(scenario: Scenario, point: &str) -> Vec<Fault> {
        let tried = |fault: &Fault| match fault {
            Fault::Kill => true,
            Fault::Memory => !scenario.is_monitors(),
            _ => !scenario.is_monitors() || point.ends_with(" 1"),
        };
        Fault::ALL.into_iter().filter(tried).collect()
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
