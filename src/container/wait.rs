//! Waiting for a container's end, and looking at what has become of it.

use std::cell::OnceCell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use super::{Container, Created, Ended, Exited, Lost, Running, no_such, removed};
use crate::cgroup::Layout;
use crate::crash::{self, Role};
use crate::error::{Context, Error, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::host::{boot_id, pid_namespace};
use crate::process::ProcessId;
use crate::stage::Stage;
use crate::state::claim;
use crate::state::record::{self, Exit, ExitRecord, OpenExit, RemovedExits};
use crate::sys;
use crate::wait::is_readable_by;

impl Running {
    /// A pidfd that becomes readable when it is time to look again: the monitor's, or without one
    /// init's. `None` when both are gone.
    ///
    /// A monitor that has been killed and not been waited for is still a process, whose pidfd is
    /// readable for ever: it does not count.
    #[must_use]
    pub fn process(&self) -> Option<OwnedFd> {
        let monitor = if self.is_watched() { self.record.monitor.open() } else { None };
        monitor.or_else(|| self.record.init.open())
    }

    /// The container as it is now, with the limits that are in force now.
    ///
    /// The exit record is looked for a second time after monitor and init were found dead: the
    /// monitor writes it before it ends.
    pub fn refresh(&self) -> Result<Container> {
        self.newest().refresh_among(&OnceCell::new())
    }

    /// With its record as it is now; limits in it may have been changed.
    fn newest(&self) -> Running {
        let found = record::read_launch(&self.directory).ok().flatten();
        let same = |found: &record::LaunchRecord| {
            found.init == self.record.init && found.created_unix_ns == self.record.created_unix_ns
        };
        found.filter(same).map_or_else(|| self.clone(), |found| Running::new(self.directory.clone(), found))
    }

    /// As [`Running::refresh`], one of several.
    pub(super) fn refresh_among(&self, layout: &OnceCell<Layout>) -> Result<Container> {
        self.look(|running| running.alive(layout))
    }

    /// What has become of it; one that lives is told by `alive`.
    fn look(&self, alive: impl Fn(&Running) -> Result<Container>) -> Result<Container> {
        if let Some(exit) = self.own_exit()? {
            return Ok(Container::Exited(self.exited(exit)));
        }
        if boot_id()? != self.record.boot_id {
            return Ok(Container::Lost(self.lost_with(None)));
        }
        if self.is_watched() || self.is_alive() {
            return alive(self);
        }
        let gone = self.is_gone()?;
        // Pids of another pid namespace tell nothing here, so nothing is concluded from them.
        if !gone && (self.is_foreign()? || claim::is_held(&self.directory)?) {
            return alive(self);
        }
        match self.own_exit()? {
            Some(exit) => Ok(Container::Exited(self.exited(exit))),
            None if gone || !self.directory.exists() => Err(removed(&self.record.id)),
            None => Ok(Container::Lost(self.lost_with(None))),
        }
    }

    /// Whether its pids belong to another pid namespace than this process's.
    fn is_foreign(&self) -> Result<bool> {
        Ok(pid_namespace()? != self.record.pid_namespace)
    }

    /// Running or paused, or created where nobody has started it.
    pub(crate) fn alive(&self, layout: &OnceCell<Layout>) -> Result<Container> {
        match self.started() {
            Some(running) => running.running_or_paused(layout),
            None => Ok(Container::Created(Created(self.clone()))),
        }
    }

    /// Whether its directory has been removed; what has its id now is another container.
    fn is_gone(&self) -> Result<bool> {
        let found = record::read_launch(&self.directory)?;
        Ok(found.map_or(!self.directory.exists(), |found| found.init != self.record.init))
    }

    /// Its exit record: in its directory or, once that is gone, where the ends of removed
    /// containers are.
    fn own_exit(&self) -> Result<Option<ExitRecord>> {
        let here = record::read_exit(&self.directory)?.filter(|exit| record::is_end_of(exit, &self.record));
        let removed = || RemovedExits::of_container(&self.directory).read(&self.record.id);
        Ok(here.or_else(|| removed().filter(|exit| record::is_end_of(exit, &self.record))))
    }

    fn exited(&self, exit: ExitRecord) -> Exited {
        Exited { directory: self.directory.clone(), record: self.record.clone(), exit: Box::new(exit) }
    }

    /// Waits until the container has ended and its record is written. Any number of programs may
    /// wait.
    pub fn wait(&self) -> Result<Ended> {
        match self.wait_until(None)? {
            Some(ended) => Ok(ended),
            None => unreachable!("without a deadline, only the end ends the wait"),
        }
    }

    /// Waits as [`Running::wait`] does, at most this long; nothing means that it is still running.
    pub fn wait_for(&self, span: Duration) -> Result<Option<Ended>> {
        self.wait_until(Instant::now().checked_add(span))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<Option<Ended>> {
        crash::point(Role::Caller, Stage::Watch);
        Waiting::of(self).until(deadline)
    }
    fn lost_with(&self, known: Option<Exit>) -> Lost {
        Lost { directory: self.directory.clone(), record: self.record.clone(), known }
    }
}

/// A wait that is under way: what has become of the container, or what to wait on before the next
/// look. It never blocks. Who waits on what it names is the driver: [`Running::wait`] in poll(2),
/// `Running::wait_async` in a reactor, and a stream of events with many others in one epoll.
pub(crate) struct Waiting {
    running: Running,
    /// Open from the first look on, so that the end is learned whoever removes the container, and
    /// however soon.
    open: Option<OpenExit>,
    source: Source,
}

/// What comes next in a wait.
pub(crate) enum Next {
    /// It is over.
    Ended(Ended),
    /// To look again when this can be read. The same as before is the same allocation.
    Watch(Arc<OwnedFd>),
}

/// What tells that it is time to look again.
enum Source {
    Nothing,
    /// The monitor's pidfd.
    Monitor(Arc<OwnedFd>),
    /// Init's pidfd, where no monitor lives.
    Init(Arc<OwnedFd>),
    /// Init ended unwatched, and somebody else reaps it.
    Reaping(Reaping),
    /// Changes of the directory, where pids tell nothing.
    Changes(Arc<OwnedFd>),
}

/// How long whoever holds a directory without living processes is given between two looks: a lock
/// has no descriptor to wait on.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

impl Waiting {
    /// Begins a wait for the end of this container.
    pub(crate) fn of(running: &Running) -> Waiting {
        Waiting { running: running.clone(), open: OpenExit::of(&running.directory), source: Source::Nothing }
    }

    /// Waits in poll(2) until it is over; `None` when the deadline came first.
    pub(super) fn until(&mut self, deadline: Option<Instant>) -> Result<Option<Ended>> {
        loop {
            let source = match self.next()? {
                Next::Ended(ended) => return Ok(Some(ended)),
                Next::Watch(source) => source,
            };
            // What has ended is told as ended, and its last word comes within seconds.
            if !wait_readable(&source, deadline.filter(|_| !self.is_ending()))? {
                return Ok(None);
            }
        }
    }

    /// As [`Waiting::until`], at most this long.
    pub(super) fn within(&mut self, span: Duration) -> Result<Option<Ended>> {
        self.until(Instant::now().checked_add(span))
    }

    /// The container.
    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    /// Whether it has ended, and only how is still to be learned.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.source, Source::Reaping(_))
    }

    /// Looks. May be called at any time, also when nothing has become readable.
    pub(crate) fn next(&mut self) -> Result<Next> {
        if self.open.is_none() {
            self.open = OpenExit::of(&self.running.directory);
        }
        let mut again = false;
        loop {
            if let Some(next) = self.unwatched_end()? {
                return Ok(next);
            }
            if let Source::Changes(changes) = &self.source {
                drain(changes);
            }
            if let Some(ended) = self.look()? {
                return Ok(Next::Ended(ended));
            }
            if let Some(process) = self.process()? {
                return Ok(Next::Watch(process));
            }
            // They may have ended since the look: the next one knows better, if it is not too much
            // for it.
            if again && let Some(source) = self.without_process()? {
                return Ok(Next::Watch(source));
            }
            again = true;
        }
    }

    /// The end of a container whose monitor was gone before init: lost, with what the kernel still
    /// knows. `None` where it is not that.
    fn unwatched_end(&mut self) -> Result<Option<Next>> {
        if let Source::Init(init) = &self.source
            && !self.running.record.init.is_alive()
        {
            self.source = Source::Reaping(Reaping::of(Arc::clone(init))?);
        }
        let Source::Reaping(reaping) = &self.source else { return Ok(None) };
        if !is_readable_by(reaping.over.as_fd(), Some(Instant::now())).at(Stage::Watch, "init", "poll")? {
            return Ok(Some(Next::Watch(Arc::clone(&reaping.over))));
        }
        Ok(Some(Next::Ended(Ended::Lost(self.running.lost_with(reaping.end())))))
    }

    fn look(&self) -> Result<Option<Ended>> {
        let running = &self.running;
        let found = running.look(|running| Ok(Container::Running(running.clone())));
        if !matches!(found, Ok(Container::Running(_) | Container::Exited(_)))
            && let Some(exit) = self.open.as_ref().and_then(|open| open.read(&running.record))
        {
            return Ok(Some(Ended::Exited(running.exited(exit))));
        }
        match found? {
            Container::Created(_) | Container::Running(_) | Container::Paused(_) => Ok(None),
            Container::Exited(exited) => Ok(Some(Ended::Exited(exited))),
            Container::Lost(lost) => Ok(Some(Ended::Lost(lost))),
            Container::Launching(launching) => Err(no_such(&launching.id)),
        }
    }

    /// The pidfd to wait on; `None` when monitor and init are gone.
    fn process(&mut self) -> Result<Option<Arc<OwnedFd>>> {
        let record = &self.running.record;
        let open = |process: ProcessId| {
            let opened = process.try_open().at(Stage::Watch, self.running.object(), "pidfd_open");
            opened.map(|opened| opened.map(Arc::new))
        };
        if self.running.is_watched() {
            if let Source::Monitor(monitor) = &self.source {
                return Ok(Some(Arc::clone(monitor)));
            }
            if let Some(monitor) = open(record.monitor)? {
                self.source = Source::Monitor(Arc::clone(&monitor));
                return Ok(Some(monitor));
            }
        }
        if let Source::Init(init) = &self.source {
            return Ok(Some(Arc::clone(init)));
        }
        let init = open(record.init)?;
        if let Some(init) = &init {
            self.source = Source::Init(Arc::clone(init));
        }
        Ok(init)
    }

    /// What to wait on where no process of it is to be seen: it is another pid namespace's, or
    /// somebody holds its directory, to remove it. `None`: look again first.
    fn without_process(&mut self) -> Result<Option<Arc<OwnedFd>>> {
        if !self.running.is_foreign()? {
            return timer(MOMENT).at(Stage::Watch, self.running.object(), "timerfd_create").map(Arc::new).map(Some);
        }
        if let Source::Changes(changes) = &self.source {
            return Ok(Some(Arc::clone(changes)));
        }
        let events = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::DELETE_SELF | inotify::WatchFlags::MOVE_SELF;
        if let Some(changes) = changes_of(&self.running.directory, events, &self.running.object())? {
            self.source = Source::Changes(Arc::new(changes));
        }
        Ok(None)
    }
}

/// Changes of a container's directory, as something to read; `None` where it is gone.
pub(super) fn changes_of(directory: &Path, events: inotify::WatchFlags, object: &str) -> Result<Option<OwnedFd>> {
    let changes = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .at(Stage::Watch, object, "inotify_init1")
        .at_limit(libc::EMFILE, Limit::InotifyInstances)?;
    match inotify::add_watch(&changes, directory, events) {
        Ok(_) => Ok(Some(changes)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => {
            let error = Error::system(Stage::Watch, object, "inotify_add_watch", errno);
            Err(error.at_limit(libc::ENOSPC, Limit::InotifyWatches))
        }
    }
}

/// Takes what has changed. Which change it was does not matter: the next look decides.
pub(super) fn drain(changes: &OwnedFd) {
    while rustix::io::read(changes, &mut [0; 4096]).is_ok_and(|length| length > 0) {}
}

/// Something that can be read after this time.
fn timer(after: Timespec) -> rustix::io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let never_again = Timespec { tv_sec: 0, tv_nsec: 0 };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never_again, it_value: after })?;
    Ok(timer)
}

/// A wait status, as wait(2) encodes it.
fn exit_of(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code { code: (status >> 8) as u8 },
        signal => Exit::Signal { signal: signal as u8, core_dumped: status & 0x80 != 0 },
    }
}

/// A process that has ended and that somebody else reaps: the kernel keeps its exit status for
/// whoever holds a pidfd, from the moment of the reaping.
struct Reaping {
    init: Arc<OwnedFd>,
    /// Can be read when it has been reaped, or when that has taken too long.
    over: Arc<OwnedFd>,
    /// Of `over`.
    _patience: OwnedFd,
}

/// How long that of a host's init may take.
const REAPING_PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

impl Reaping {
    fn of(init: Arc<OwnedFd>) -> Result<Reaping> {
        let both = |init: &OwnedFd| -> rustix::io::Result<(OwnedFd, OwnedFd)> {
            let over = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let patience = timer(REAPING_PATIENCE)?;
            // A reaped process hangs up, which is reported unasked.
            epoll::add(&over, init, epoll::EventData::new_u64(0), epoll::EventFlags::empty())?;
            epoll::add(&over, &patience, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
            Ok((over, patience))
        };
        let (over, patience) = both(&init).at(Stage::Watch, "init", "epoll_ctl")?;
        Ok(Reaping { init, over: Arc::new(over), _patience: patience })
    }

    fn end(&self) -> Option<Exit> {
        sys::pidfd_wait_status(self.init.as_fd()).map(exit_of)
    }
}

/// Waits until a descriptor can be read; false when the deadline came first. Of a pidfd that is a
/// reason to look at its process, and no proof that it has ended.
pub(super) fn wait_readable(fd: &OwnedFd, deadline: Option<Instant>) -> Result<bool> {
    is_readable_by(fd.as_fd(), deadline).at(Stage::Watch, "descriptor", "poll")
}
