//! Hearing of the kernel killing for want of memory.
//!
//! Owns the fd that becomes ready, and nothing of what it means: the counter is the truth
//! ([`Usage::oom_kills`](crate::cgroup::Usage::oom_kills)), read after waking. The monitor holds
//! one for the container's cgroup and one for each ancestor, to tell whose limit it was.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
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

/// An fd that becomes ready at an OOM event of one cgroup, and also when that cgroup is removed.
#[derive(Debug)]
pub struct OomEvents {
    fd: OwnedFd,
    kind: EventKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventKind {
    /// v1: an eventfd that the kernel adds to.
    Eventfd,
    /// v2: the file `memory.events`.
    File,
}

impl OomEvents {
    /// Watches the cgroup `path`. On v1 a limit that is hit wakes the watchers of that cgroup and
    /// of all below it; on v2 those of that cgroup and of all above it. The kernel forgets a v1
    /// registration with the cgroup.
    ///
    /// # Errors
    /// `Unsupported`: no memory controller, or (v1) a real-time kernel. `NotFound`: no such cgroup.
    pub fn watch(layout: &Layout, path: &CgroupPath) -> Result<OomEvents> {
        let Some(hierarchy) = layout.holder(Controller::Memory) else {
            let object = format!("cgroup '{path}'");
            return Err(Error::found(
                ErrorKind::Unsupported,
                Stage::Cgroup,
                object,
                "watch",
                "this machine offers no memory controller",
            ));
        };
        let directory =
            file::open_directory(&hierarchy.directory(path)).map_err(|errno| failed(hierarchy, path, "open", errno))?;
        if hierarchy.is_v2() {
            let fd = file::open(&directory, "memory.events", OFlags::RDONLY)
                .map_err(|errno| failed(hierarchy, path, "open(memory.events)", errno))?;
            let events = OomEvents { fd, kind: EventKind::File };
            // Polling reports what changed since the last read.
            events.acknowledge().map_err(|errno| failed(hierarchy, path, "read(memory.events)", errno))?;
            return Ok(events);
        }
        register(&directory).map_err(|(call, errno)| failed(hierarchy, path, call, errno))
    }

    /// The fd alone, for a process that is handed it.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// What to poll for: readable on v1, priority on v2.
    pub fn interest(&self) -> PollFlags {
        match self.kind {
            EventKind::Eventfd => PollFlags::IN,
            EventKind::File => PollFlags::PRI,
        }
    }

    /// Makes the fd unready again until the next event. Call it after waking, before the counter is
    /// read.
    ///
    /// # Errors
    /// ENODEV where the v2 cgroup is gone.
    pub fn acknowledge(&self) -> std::result::Result<(), Errno> {
        match self.kind {
            EventKind::Eventfd => match rustix::io::read(&self.fd, &mut [0u8; 8]) {
                Ok(_) | Err(Errno::AGAIN) => Ok(()),
                Err(errno) => Err(errno),
            },
            EventKind::File => file::show(&self.fd).map(|_| ()),
        }
    }
}

impl AsFd for OomEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The kernel keeps the eventfd itself; the other fds are needed for the registration alone.
fn register(directory: &OwnedFd) -> std::result::Result<OomEvents, (&'static str, Errno)> {
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| ("eventfd", errno))?;
    let control = file::open(directory, "memory.oom_control", OFlags::RDONLY)
        .map_err(|errno| ("open(memory.oom_control)", errno))?;
    let registry = file::open(directory, "cgroup.event_control", OFlags::WRONLY)
        .map_err(|errno| ("open(cgroup.event_control)", errno))?;
    let line = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
    file::write(registry, &line).map_err(|errno| ("write(cgroup.event_control)", errno))?;
    Ok(OomEvents { fd, kind: EventKind::Eventfd })
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
    fn each_version_is_polled_in_its_own_way() {
        let path = CgroupPath::new("/a").unwrap();
        let v2 = FakeTree::v2("memory");
        assert_eq!(OomEvents::watch(v2.layout(), &path).unwrap_err().kind(), ErrorKind::NotFound);
        v2.add("/a");
        assert_eq!(OomEvents::watch(v2.layout(), &path).unwrap().interest(), PollFlags::PRI);

        let v1 = FakeTree::v1();
        v1.add("memory/a");
        assert_eq!(OomEvents::watch(v1.layout(), &path).unwrap_err().kind(), ErrorKind::Unsupported);
        v1.put("memory/a", "cgroup.event_control", "");
        let events = OomEvents::watch(v1.layout(), &path).unwrap();
        assert_eq!(events.interest(), PollFlags::IN);
        events.acknowledge().unwrap();
        let line = v1.read("memory/a", "cgroup.event_control");
        assert_eq!(line.split(' ').next(), Some(events.as_fd().as_raw_fd().to_string().as_str()));

        let without = FakeTree::v2("cpu");
        assert_eq!(OomEvents::watch(without.layout(), &path).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
