//! One instruction of the kernel's classic packet filter, and the few kinds that filters for system
//! calls need.

use serde::{Deserialize, Serialize};

/// Loads a 32-bit word of the call's data.
pub(crate) const LOAD: u16 = 0x20;
/// Jumps by `k`, without a condition.
pub(crate) const JUMP: u16 = 0x05;
/// Jumps by `jt` if what was loaded is `k`, else by `jf`.
pub(crate) const JUMP_EQUAL: u16 = 0x15;
/// The same if it is greater.
pub(crate) const JUMP_GREATER: u16 = 0x25;
/// The same if it is greater or equal.
pub(crate) const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
/// The same if they have a bit in common.
pub(crate) const JUMP_BITS: u16 = 0x45;
/// Keeps the bits of `k`.
pub(crate) const AND: u16 = 0x54;
/// Ends with the answer `k`.
pub(crate) const RETURN: u16 = 0x06;

/// Where the data of a call (`struct seccomp_data`) has its number; the architecture, the
/// instruction pointer and six arguments follow.
pub(crate) const NUMBER_AT: u32 = 0;
/// Where it has the architecture.
pub(crate) const ARCHITECTURE_AT: u32 = 4;

/// One instruction, `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions are skipped if a comparison holds.
    pub jt: u8,
    /// How many if not.
    pub jf: u8,
    /// Its operand.
    pub k: u32,
}

impl Instruction {
    /// As it lies in memory, for a program that is handed it.
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        let [a, b] = self.code.to_ne_bytes();
        let [c, d, e, f] = self.k.to_ne_bytes();
        [a, b, self.jt, self.jf, c, d, e, f]
    }

    /// One that does not compare.
    pub(crate) fn plain(code: u16, k: u32) -> Instruction {
        Instruction { code, jt: 0, jf: 0, k }
    }
}

impl From<seccompiler::sock_filter> for Instruction {
    fn from(other: seccompiler::sock_filter) -> Instruction {
        Instruction { code: other.code, jt: other.jt, jf: other.jf, k: other.k }
    }
}
