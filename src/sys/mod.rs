//! The system calls that no library offers safely, and the only `unsafe` of the library.
//!
//! Everything here is a thin call: no policy, no retries, no text. Each block states why it is
//! sound. Callers that fork or clone uphold one rule, stated once: **the calling process has a
//! single thread** ([`is_single_threaded`] checks it), so that the child, a copy of that thread,
//! may go on using the allocator and every library.
#![allow(unsafe_code)]

mod bpf;
mod descriptors;
mod ids;
mod inherited;
pub(crate) mod instruction;
mod leases;
mod loops;
mod mounts;
mod namespaces;
mod process;
mod project_quota;
mod seccomp;
mod signals;

use std::io;

pub(crate) use bpf::{attach_device_program, load_device_program};
pub(crate) use descriptors::{close_all_but, close_on_exec_from, duplicate, move_to};
pub(crate) use ids::{fs_ids, set_fs_ids};
pub(crate) use inherited::{
    RLIMITS, Rlimit, join_new_session_keyring, reset_scheduling, reset_securebits, rlimit_of, set_rlimit,
};
pub(crate) use leases::is_open_for_writing;
pub(crate) use loops::{LoopStatus, loop_configure, loop_configure_nothing, loop_get_free, loop_get_status};
pub(crate) use mounts::{MountAttr, mount_setattr};
pub(crate) use namespaces::{bring_loopback_up, unshare_cgroup_namespace, unshare_mount_namespace};
pub(crate) use process::{
    Cloned, Fork, ParentDeath, clear_environment, clone3, execveat, exit_now, fork, is_single_threaded,
    on_parent_death, pidfd_wait_status,
};
pub(crate) use project_quota::{QUOTA_BLOCK_BYTES, project_of, project_quota_is_on, set_project, set_project_quota};
pub(crate) use seccomp::install_seccomp_filter;
pub(crate) use signals::{
    Addressee, block_every_signal_of_this_thread, block_signals, forget_pending, ignore, ignore_children,
    pidfd_send_signal, reap_children_again, reset_dispositions, signal_fd, unblock_signals,
};

/// The result of a raw call: the errno as `io::Error`.
type Io<T> = io::Result<T>;

fn check(value: libc::c_long) -> Io<libc::c_long> {
    if value == -1 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
