//! Where notices come from: one epoll instance with an inotify instance, a timer, and the
//! descriptors of each container.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use crate::error::{Context, Error, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::stage::Stage;

/// What epoll calls the inotify instance.
pub(super) const FILES: u64 = 0;
/// What it calls the timer.
pub(super) const DOUBTS: u64 = 1;
/// Containers are called by serial numbers from here on.
pub(super) const FIRST_SERIAL: u64 = 2;

/// How long after the kernel's notice of a memory limit to look for a kill, again and again.
pub(super) const DOUBT_PAUSES: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(100), Duration::from_secs(1)];

/// So many notices of descriptors are taken at a time.
const BATCH: usize = 64;

/// Notices of files are taken by so many bytes: 16 and the name each.
const BUFFER: usize = 16 << 10;

const OBJECT: &str = "events";

/// A notice of inotify.
pub(super) struct Notice {
    pub(super) watch: i32,
    pub(super) what: What,
    /// Empty where it is about the watched file itself.
    pub(super) name: OsString,
}

/// What it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Something got this name.
    Appeared(Kind),
    /// Something lost it.
    Vanished,
    /// The file was written to, or the kernel says that it shows something else.
    Modified,
    /// The watched directory itself was removed or renamed.
    Gone,
    /// The watch is none any more.
    Forgotten,
    /// Notices were dropped.
    Overflow,
}

/// What got a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    Other,
}

pub(super) struct Sources {
    epoll: OwnedFd,
    inotify: OwnedFd,
    timer: OwnedFd,
    containers: i32,
}

impl Sources {
    /// Watches the directory of containers.
    pub(super) fn of(containers: &Path) -> Result<Sources> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).at(Stage::Watch, OBJECT, "epoll_create1")?;
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .at(Stage::Watch, OBJECT, "inotify_init1")
            .at_limit(libc::EMFILE, Limit::InotifyInstances)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK).at(
            Stage::Watch,
            OBJECT,
            "timerfd_create",
        )?;
        let events = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let added = inotify::add_watch(&inotify, containers, events);
        let containers = added
            .at(Stage::Watch, containers.display(), "inotify_add_watch")
            .at_limit(libc::ENOSPC, Limit::InotifyWatches)?;
        let sources = Sources { epoll, inotify, timer, containers };
        sources.add(&sources.inotify, FILES)?;
        sources.add(&sources.timer, DOUBTS)?;
        Ok(sources)
    }

    /// The watch of the directory of containers.
    pub(super) fn containers(&self) -> i32 {
        self.containers
    }

    /// Whose descriptors can be read now.
    pub(super) fn ready(&self) -> Result<Vec<u64>> {
        let mut ready = Vec::with_capacity(BATCH);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), Some(&at_once)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).at(Stage::Watch, OBJECT, "epoll_wait"),
        }
        Ok(ready.into_iter().map(|event: epoll::Event| event.data.u64()).collect())
    }

    /// Some of the notices that inotify has, in their order.
    pub(super) fn notices(&self) -> Result<Vec<Notice>> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut notices = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => notices.extend(notice(&event)),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(notices),
                Err(errno) => return Err(errno).at(Stage::Watch, OBJECT, "read(inotify)"),
            }
            if reader.is_buffer_empty() {
                return Ok(notices);
            }
        }
    }

    /// Watches a container's directory for files that appear; its watch and inode. `None`
    /// where it is gone, or no directory.
    pub(super) fn watch_directory(&self, directory: &Path) -> Result<Option<(i32, u64)>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match open(directory, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            other => other.at(Stage::Watch, directory.display(), "open")?,
        };
        let inode = fstat(&opened).at(Stage::Watch, directory.display(), "fstat")?.st_ino;
        // By the descriptor, so that it is the directory whose inode that is.
        let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
        let events = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let added = inotify::add_watch(&self.inotify, path, events);
        let watch = added
            .at(Stage::Watch, directory.display(), "inotify_add_watch")
            .at_limit(libc::ENOSPC, Limit::InotifyWatches)?;
        Ok(Some((watch, inode)))
    }

    /// Watches a file for modification; `None` where there is none.
    pub(super) fn watch_file(&self, path: &str) -> Result<Option<i32>> {
        match inotify::add_watch(&self.inotify, path, WatchFlags::MODIFY) {
            Ok(watch) => Ok(Some(watch)),
            Err(Errno::NOENT | Errno::NODEV) => Ok(None),
            Err(errno) => {
                let error = Error::system(Stage::Watch, format!("file '{path}'"), "inotify_add_watch", errno);
                Err(error.at_limit(libc::ENOSPC, Limit::InotifyWatches))
            }
        }
    }

    /// Waits for a descriptor, too.
    pub(super) fn add(&self, fd: impl AsFd, serial: u64) -> Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(serial), epoll::EventFlags::IN)
            .at(Stage::Watch, OBJECT, "epoll_ctl")
            .at_limit(libc::ENOSPC, Limit::EpollWatches)
    }

    /// Waits for it no more.
    pub(super) fn delete(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Watches these no more. What was watched may be gone, and the watch with it.
    pub(super) fn unwatch(&self, watches: &[i32]) {
        for watch in watches {
            let _ = inotify::remove_watch(&self.inotify, *watch);
        }
    }

    /// The timer can be read after this span.
    pub(super) fn set_timer(&self, after: Duration) -> Result<()> {
        let it_value = Timespec { tv_sec: after.as_secs() as i64, tv_nsec: after.subsec_nanos().into() };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })
            .at(Stage::Watch, OBJECT, "timerfd_settime")
            .map(drop)
    }

    /// The timer has been heard.
    pub(super) fn forget_timer(&self) {
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
    }
}

impl AsFd for Sources {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// `None`: nothing that matters.
fn notice(event: &inotify::Event<'_>) -> Option<Notice> {
    let flags = event.events();
    let kind = if flags.contains(ReadFlags::ISDIR) { Kind::Directory } else { Kind::Other };
    let table = [
        (ReadFlags::QUEUE_OVERFLOW, What::Overflow),
        (ReadFlags::IGNORED, What::Forgotten),
        (ReadFlags::CREATE | ReadFlags::MOVED_TO, What::Appeared(kind)),
        (ReadFlags::DELETE | ReadFlags::MOVED_FROM, What::Vanished),
        (ReadFlags::MODIFY, What::Modified),
        (ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF, What::Gone),
    ];
    let (_, what) = table.into_iter().find(|(bits, _)| flags.intersects(*bits))?;
    let name = event.file_name().map_or(OsString::new(), |name| OsStr::from_bytes(name.to_bytes()).to_owned());
    Some(Notice { watch: event.wd(), what, name })
}
