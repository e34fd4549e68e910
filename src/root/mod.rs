//! The container's root: an overlay of layers, and everything that is mounted below it.
//!
//! [`mount_steps`] says what is mounted, where and in which order: a pure function. [`staging`] builds the
//! overlay, [`mounts`] carries that out, [`devices`] fills `/dev`, [`masks`] covers what a
//! worker has no business with, [`upper_quota`] bounds what is written into a directory of the host, and
//! [`staging`] makes it all the root. All of it runs in the container's first process, in its own
//! mount namespace; the host's mounts are never touched.

pub(crate) mod binds;
pub(crate) mod devices;
pub(crate) mod masks;
pub(crate) mod mount_steps;
pub(crate) mod mounts;
pub(crate) mod staging;
pub(crate) mod target;
pub(crate) mod upper;
pub(crate) mod upper_quota;
