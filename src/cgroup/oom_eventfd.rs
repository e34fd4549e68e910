//! The notification of cgroup v1 that a memory limit was hit.
//!
//! Owns the registration, and nothing of what it means: the counter is the truth
//! ([`Usage::oom_kills`](crate::cgroup::Usage::oom_kills)), read after waking. The monitor holds
//! one for the container's cgroup and one for each ancestor, to tell whose limit it was. On v2 it
//! polls `memory.events.local` instead.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::explain::explained;
use super::file;
use super::group::directory;
use super::machine::controller::Controller;
use super::machine::layout::{Hierarchy, Layout};
use super::path::CgroupPath;
use crate::error::{Error, ErrorKind, Result};
use crate::stage::Stage;

/// Watches the v1 cgroup `path`: an eventfd that the kernel adds to when the limit of that cgroup, or
/// of one above it, is hit, and also when the cgroup is removed.
///
/// # Errors
/// `Unsupported`: no memory controller of v1, or a real-time kernel. `NotFound`: no such cgroup.
pub fn oom_eventfd(layout: &Layout, path: &CgroupPath) -> Result<OwnedFd> {
    let Some(hierarchy) = layout.holder(Controller::Memory).filter(|hierarchy| !hierarchy.is_v2()) else {
        let text = "this machine offers no memory controller of cgroup v1";
        let object = format!("cgroup '{path}'");
        return Err(Error::lacking(Stage::Cgroup, object, "watch", "cgroup controller memory", text));
    };
    let directory =
        file::open_directory(&hierarchy.directory(path)).map_err(|errno| failed(hierarchy, path, "open", errno))?;
    register(&directory).map_err(|(call, errno)| failed(hierarchy, path, call, errno))
}

/// The kernel keeps the eventfd itself; the other fds are needed for the registration alone.
fn register(directory: &OwnedFd) -> std::result::Result<OwnedFd, (&'static str, Errno)> {
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| ("eventfd", errno))?;
    let control = file::open(directory, "memory.oom_control", OFlags::RDONLY)
        .map_err(|errno| ("open(memory.oom_control)", errno))?;
    let registry = file::open(directory, "cgroup.event_control", OFlags::WRONLY)
        .map_err(|errno| ("open(cgroup.event_control)", errno))?;
    let line = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
    file::write(registry, &line).map_err(|errno| ("write(cgroup.event_control)", errno))?;
    Ok(fd)
}

fn failed(hierarchy: &Hierarchy, path: &CgroupPath, call: &str, errno: Errno) -> Error {
    let error = explained(Error::system(Stage::Cgroup, directory::object(hierarchy, path), call, errno));
    match (errno, call) {
        (Errno::NOENT, "open") => error.with_kind(ErrorKind::NotFound),
        (Errno::NOENT | Errno::INVAL | Errno::OPNOTSUPP, _) => error.with_kind(ErrorKind::Unsupported),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::FakeTree;

    #[test]
    fn an_eventfd_is_registered_where_the_memory_controller_is_v1s() {
        let path = CgroupPath::new("/a").unwrap();
        let v1 = FakeTree::v1();
        assert_eq!(oom_eventfd(v1.layout(), &path).unwrap_err().kind(), ErrorKind::NotFound);
        v1.add("memory/a");
        assert_eq!(oom_eventfd(v1.layout(), &path).unwrap_err().kind(), ErrorKind::Unsupported);
        v1.put("memory/a", "cgroup.event_control", "");
        let events = oom_eventfd(v1.layout(), &path).unwrap();
        let line = v1.read("memory/a", "cgroup.event_control");
        assert_eq!(line.split(' ').next(), Some(events.as_raw_fd().to_string().as_str()));

        for without in [FakeTree::v2("memory"), FakeTree::v2("cpu")] {
            without.add("/a");
            assert_eq!(oom_eventfd(without.layout(), &path).unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }
}
