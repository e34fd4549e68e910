//! What this machine has of cgroups: its hierarchies and controllers, and where processes are in
//! them. Changes nothing.

pub(super) mod controller;
pub(super) mod delegated;
pub(super) mod layout;
pub(super) mod membership;
pub(super) mod mountinfo;
