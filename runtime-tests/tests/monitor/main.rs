//! The monitor on a real kernel: a child of its own, real cgroups, real clients. Needs root and
//! cgroup v1 or a hybrid host.
#![forbid(unsafe_code)]

mod container;
mod kernel;
