//! A compiled profile.

pub(super) mod assembly;
#[cfg(any(test, fuzzing))]
pub(super) mod cross_check;
pub(super) mod interpreter;
pub(super) mod program;

use serde::{Deserialize, Serialize};

use super::profile::action::Action;
use super::profile::architecture::NATIVE;
use super::profile::flags::Flags;
use crate::error::{Error, Result};
use crate::stage::Stage;
use crate::sys::instruction::Instruction;
use interpreter::{CallData, Fault, interpret};

/// A program for the kernel, and how it is installed. Plain data: it may cross a process border.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    program: Vec<Instruction>,
    flags: Flags,
}

impl Filter {
    pub(super) fn new(program: Vec<Instruction>, flags: Flags) -> Filter {
        Filter { program, flags }
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &[Instruction] {
        &self.program
    }

    /// Flags for seccomp(2).
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// What the program answers to a call in this machine's own table.
    ///
    /// Errors: a [`Fault`] only of a filter that was not compiled here.
    pub fn decide(&self, number: u32, args: &[u64; 6]) -> std::result::Result<Action, Fault> {
        let call = CallData { number, architecture: NATIVE.audit, instruction_pointer: 0, args: *args };
        interpret(&self.program, &call).map(Action::from_kernel)
    }

    /// Installs it for the calling thread, for ever: from the next system call on it is in force.
    /// The caller has set `no_new_privs` or has CAP_SYS_ADMIN. Allocates nothing unless it fails.
    ///
    /// Errors: what seccomp(2) answers: `Privilege` without either (EACCES), `Unsupported` where
    /// the kernel lacks a flag.
    pub fn install(&self) -> Result<()> {
        crate::sys::install_seccomp_filter(&self.program, self.flags.bits()).map_err(refused)
    }
}

/// What the kernel says of a filter, whoever was to install it.
pub(crate) fn refused(error: std::io::Error) -> Error {
    let unknown = error.raw_os_error() == Some(libc::EINVAL);
    let error = Error::system(Stage::Become, "seccomp filter", "seccomp(SECCOMP_SET_MODE_FILTER)", error);
    if unknown { error.explain("this kernel does not know a flag or an action of the profile") } else { error }
}
