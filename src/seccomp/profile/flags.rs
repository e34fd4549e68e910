//! Flags of a filter.

use serde::{Deserialize, Serialize};

/// How the filter is installed: flags of seccomp(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flags(u32);

impl Flags {
    /// All threads of the process get the filter; a container's init has one.
    pub const TSYNC: Flags = Flags(1);
    /// Every answer but "allow" is logged, where `/proc/sys/kernel/seccomp/actions_logged` lists
    /// it. Kernel 4.14.
    pub const LOG: Flags = Flags(1 << 1);
    /// No mitigation of speculative store bypass: before kernel 5.16 a filter turns it on. Kernel
    /// 4.17.
    pub const SPEC_ALLOW: Flags = Flags(1 << 2);

    /// Both.
    pub fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// The bits as the kernel takes them.
    pub fn bits(self) -> u32 {
        self.0
    }
}
