//! Files of the host, held open: who may change them, where they really lie, whether they may be a
//! worker's standard streams.

pub(crate) mod acl;
pub(crate) mod as_user;
pub(crate) mod facts;
pub(crate) mod host_file;
mod streams;
pub(crate) mod trace;

pub use host_file::HostFile;
pub(crate) use host_file::open_directory_as_user;
pub(crate) use streams::{check_streams, may_be_reopened_for_writing};
