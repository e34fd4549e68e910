//! Tests of Squall against the kernel: the harness that they share.
//!
//! Every test is a process of its own with one thread, started again from the test program under
//! the test's name, and has a [`Bed`] of its own: a run root, a directory for images and one to
//! work in, cgroups. All of them carry the bed's tag, so any number of tests can run at a time, and
//! after each the harness looks for what carries its tag still ([`leaks`]). Something left fails
//! the test.

pub mod bed;
pub mod call;
pub mod debian;
pub mod harness;
pub mod host;
pub mod interruption;
pub mod leaks;
pub mod namespace;
pub mod needs;
pub mod random;
pub mod resources;
pub mod roles;
pub mod threats;
mod zlib;

pub use bed::{Bed, Worker};
pub use call::{Call, Output};
pub use harness::Case;
pub use host::until;
pub use zlib::Zlib;
