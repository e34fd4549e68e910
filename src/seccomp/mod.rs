//! Seccomp: profiles read and checked, made into one program for the kernel, explained to people.
//!
//! Owns the OCI format of profiles and docker's and podman's, the meaning of their rules ([`Profile`]), the program and its
//! installation ([`Filter`]), and what can be said about them ([`Explanation`], [`Listing`]). seccompiler generates the code that compares
//! arguments; the search for a call's rule is made here. Never does: choose a profile, set `no_new_privs`, talk to a listener.
//!
//! Profiles are read and compiled in any process; the filter is installed by the container's init, last before it executes the workload.
//!
//! # What a profile means here
//!
//! * Several rules for one call: one that says what the default action says adds nothing; one without conditions makes the
//!   others redundant; of several whose conditions are met the strictest counts. This is what runc with libseccomp does
//!   wherever libseccomp has an answer of its own. Two conditions on the same argument in one rule make every condition of it count
//!   by itself, as with runc.
//! * Only the machine's own call table is ever open. A call with another architecture kills the process; x32's calls answer ENOSYS,
//!   as on a kernel without them, or get the default action where that is stricter.
//! * Where the default is to deny, calls newer than everything the profile names answer ENOSYS, and so does clone3 unless it is named:
//!   programs then use the older call, where EPERM would end them.
//! * Names that are unknown here are skipped, with a [`Warning`].
//!
//! | of the kernel | since | used for | without |
//! |---|---|---|---|
//! | `SECCOMP_RET_KILL_PROCESS`, `SECCOMP_RET_LOG`, `SECCOMP_FILTER_FLAG_LOG` | 4.14 | other architectures, actions, flag | not supported |
//! | `SECCOMP_FILTER_FLAG_SPEC_ALLOW` | 4.17 | flag | installing fails |

mod action;
mod architecture;
mod assembly;
mod call;
mod condition;
mod docker;
mod errno_name;
mod explanation;
mod filter;
mod flags;
mod instruction;
mod interpreter;
mod listing;
mod node;
mod oci;
mod place;
mod profile;
mod program;
mod rule;
mod schema;
#[cfg(any(test, fuzzing))]
mod second_opinion;
#[cfg(test)]
mod tests;
mod treatment;
mod value;
mod warning;

pub use action::Action;
pub use explanation::{Explanation, Reason};
pub use filter::Filter;
pub(crate) use filter::refused;
pub use flags::Flags;
pub use instruction::Instruction;
pub use interpreter::{CallData, Fault, interpret};
pub use listing::{Case, Conditional, Group, Listing};
pub use profile::Profile;
#[cfg(fuzzing)]
pub use second_opinion::SecondOpinion;
pub use value::parse as parse_number;
pub use warning::{Warning, brief as brief_warnings};
