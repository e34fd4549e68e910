//! Seccomp: profiles read and checked, made into one program for the kernel, explained to people.
//!
//! Owns the OCI format of profiles and docker's and podman's, the meaning of their rules
//! ([`Profile`]), the program and its installation ([`Filter`]), and what can be said about them
//! ([`Explanation`], [`Listing`]). seccompiler generates the code that compares arguments; the
//! search for a call's rule is made here. Never does: choose a profile, set `no_new_privs`, talk to
//! a listener.
//!
//! Profiles are read and compiled in any process; the filter is installed by the container's init,
//! last before it executes the workload.
//!
//! # What a profile means here
//!
//! * Several rules for one call: one that says what the default action says adds nothing; one
//!   without conditions makes the others redundant; of several whose conditions are met the
//!   strictest counts. This is what runc with libseccomp does wherever libseccomp has an answer of
//!   its own. Two conditions on the same argument in one rule make every condition of it count by
//!   itself, as with runc.
//! * Only the machine's own call table is ever open. A call with another architecture kills the
//!   process; x32's calls answer ENOSYS, as on a kernel without them, or get the default action
//!   where that is stricter.
//! * Where the default is to deny, calls newer than everything the profile names answer ENOSYS, and
//!   so does clone3 unless it is named: programs then use the older call, where EPERM would end
//!   them.
//! * Names that are unknown here are skipped, with a [`Warning`].
//!
//! Everything that is asked of the kernel is there since 4.17, before the oldest one that Squall
//! runs on.

mod filter;
mod profile;
#[cfg(test)]
mod tests;
mod text;

pub use crate::sys::instruction::Instruction;
pub use filter::Filter;
#[cfg(fuzzing)]
pub use filter::cross_check::CrossCheck;
pub use filter::interpreter::Fault;
pub(crate) use filter::refused;

/// The call table that this library is built for, as the kernel names it.
pub(crate) const AUDIT_ARCH: u32 = profile::architecture::NATIVE.audit;
pub use profile::Profile;
pub use profile::action::Action;
pub use profile::flags::Flags;
pub use profile::warning::{Warning, brief as brief_warnings};
pub use text::explanation::{Explanation, Reason};
pub use text::listing::{Case, Conditional, Group, Listing};
pub use text::number::parse as parse_number;

/// For tests alone, by the feature `testing`.
#[cfg(feature = "testing")]
pub(crate) mod machinery {
    pub use super::filter::interpreter::{CallData, interpret};
}
