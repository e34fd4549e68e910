//! All that is on disk in the run root: the containers' directories with claim and records, what is
//! known of removed ones, users.
//!
//! It is read here without being judged.

pub(crate) mod claim;
pub(crate) mod ledger;
pub(crate) mod own_users;
pub mod record;
pub(crate) mod run_root;
