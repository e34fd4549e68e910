//! The cgroup module against the kernel. Needs root and writable cgroups.
//!
//! Each test has a cgroup of its own at the top of every hierarchy, removed at its end and after a
//! failure by plain file calls. What has to run inside a cgroup is this same program again, started
//! with a role (`SQUALL_CGTEST_ROLE`); it enters by itself, as a container's first process does.

mod cost;
mod ground;
mod inside;
mod kernel;
