//! Images: from a registry or an archive to a store of squashfs layers, and back.
//!
//! An image is a manifest, a config and layers. Its layers are tar archives where images are
//! exchanged, and squashfs files in a [`store`], where the runtime mounts them. This package
//! fetches, converts, keeps, verifies and publishes them. It never mounts anything and needs no
//! privilege. The core of Squall does not depend on it, and no setuid program links it: TLS, HTTP
//! and async code stay in here.
//!
//! | module | what for |
//! |---|---|
//! | [`digest`] | content names, and readers that check them on the way |
//! | [`mod@reference`] | image names: `debian:12`, `registry.example/app@sha256:…` |
//! | [`manifest`] | manifests, indexes and configs as documents, bounded |
//! | [`convert`] | one pass from a layer's tar to squashfs |
//! | [`transport`] | where images come from and go to: `docker://`, `docker-archive:`, `oci:`, `oci-archive:`, `dir:` |
//! | [`mod@pull`] | from a transport to the store |
//! | [`run_config`], [`user`] | how an image runs, and as whom |
//! | [`mod@push`] | from the store to a transport |
//! | [`assemble`] | images of directories and archives |
//! | [`mod@copy`] | from one store to another |
//! | [`store`] | the local store, exactly as Apache Storm reads it |

pub mod assemble;
pub mod convert;
pub mod copy;
pub mod digest;
mod error;
pub mod manifest;
pub mod pull;
pub mod push;
pub mod reference;
pub mod run_config;
pub mod store;
pub mod transport;
pub mod user;

pub use error::{Cause, Error, ErrorKind, Result, Step};
