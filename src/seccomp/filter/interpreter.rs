//! Runs a filter's program as the kernel does, for checking and explaining.

use crate::sys::instruction::{
    AND, Instruction, JUMP, JUMP_BITS, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_OR_EQUAL, LOAD, RETURN,
};

/// A call as a filter sees it: `struct seccomp_data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallData {
    /// The call's number.
    pub number: u32,
    /// `AUDIT_ARCH_*`.
    pub architecture: u32,
    /// Where it was made.
    pub instruction_pointer: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

impl CallData {
    /// The word at this offset, in the order of a little-endian machine.
    fn word(&self, offset: u32) -> Option<u32> {
        let half = |number: u64| if offset.is_multiple_of(8) { number as u32 } else { (number >> 32) as u32 };
        match offset {
            0 => Some(self.number),
            4 => Some(self.architecture),
            8 | 12 => Some(half(self.instruction_pointer)),
            16..64 if offset.is_multiple_of(4) => Some(half(self.args[(offset as usize - 16) / 8])),
            _ => None,
        }
    }
}

/// What the kernel would not have taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// No such instruction is used in filters of system calls.
    #[error("instruction {at} has the unknown code {code:#x}")]
    UnknownCode {
        /// Which instruction.
        at: usize,
        /// Its code.
        code: u16,
    },
    /// It loads what is no word of the call's data.
    #[error("instruction {at} loads from offset {offset}, where no word is")]
    NoSuchWord {
        /// Which instruction.
        at: usize,
        /// The offset.
        offset: u32,
    },
    /// The program ends without an answer.
    #[error("the program runs past its end")]
    PastTheEnd,
}

/// Runs a program on a call; the answer is the kernel's, `SECCOMP_RET_*`. Every jump goes forward,
/// so it ends.
pub fn interpret(program: &[Instruction], call: &CallData) -> Result<u32, Fault> {
    let (mut at, mut loaded) = (0_usize, 0_u32);
    loop {
        let instruction = program.get(at).ok_or(Fault::PastTheEnd)?;
        let Instruction { code, jt, jf, k } = *instruction;
        let branch = |holds: bool| usize::from(if holds { jt } else { jf });
        let skip = match code {
            LOAD => {
                loaded = call.word(k).ok_or(Fault::NoSuchWord { at, offset: k })?;
                0
            }
            AND => {
                loaded &= k;
                0
            }
            JUMP => k as usize,
            JUMP_EQUAL => branch(loaded == k),
            JUMP_GREATER => branch(loaded > k),
            JUMP_GREATER_OR_EQUAL => branch(loaded >= k),
            JUMP_BITS => branch(loaded & k != 0),
            RETURN => return Ok(k),
            code => return Err(Fault::UnknownCode { at, code }),
        };
        at = at.saturating_add(skip).saturating_add(1);
    }
}
