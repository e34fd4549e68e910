//! The container's root: an overlay of layers, and everything that is mounted below it.
//!
//! [`plan`] says what is mounted, where and in which order: a pure function. [`staging`] builds the
//! overlay, [`mounts`] carries the plan out, [`devices`] fills `/dev`, [`masks`] covers what a
//! worker has no business with, [`quota`] bounds what is written into a directory of the host, and
//! [`staging`] makes it all the root. All of it runs in the container's first process, in its own
//! mount namespace; the host's mounts are never touched.

pub(crate) mod binds;
pub(crate) mod devices;
pub(crate) mod masks;
pub(crate) mod mounts;
pub(crate) mod plan;
pub(crate) mod quota;
pub(crate) mod staging;
pub(crate) mod target;
pub(crate) mod upper;
