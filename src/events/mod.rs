//! What happens to the containers of a run root, as one stream.
//!
//! [`Squall::events`] watches the files that launches and monitors write, the monitors' processes
//! and the containers' cgroups, whichever program launched them. Everything is in one epoll
//! instance: no thread, no polling, and no wake-up while nothing happens. See [`Events`] for what is
//! told and when.
//!
//! A notification only says which container to look at. What is told is the difference between
//! what was told last and what is so now, so that nothing is told twice and an early, late or
//! repeated notification does no harm.

mod sources;
mod subject;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cgroup::Layout;
use crate::container::{Created, Lost, Paused, Running};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::runtime::Squall;
use crate::stage::Stage;
use crate::state::claim;
use crate::state::record::ExitRecord;
use crate::wait::is_readable_by;
use sources::{Notice, Sources, What};
use subject::{Ends, Manner, Subject};

/// Something that happened to a container.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Event {
    /// When it happened where that is on record (launch, start, exit), otherwise when it was
    /// noticed; nanoseconds since 1970. Never goes back for one container.
    pub time_unix_ns: u64,
    /// The container's id; empty for [`Change::Lagged`].
    pub id: String,
    /// Whether this tells how things stood when the stream began, or after it had
    /// [lagged](Change::Lagged), and not something that was seen to happen.
    pub snapshot: bool,
    /// What happened.
    pub change: Change,
}

/// What happened to a container. The phases are those of [`Container`](crate::Container).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change {
    /// Its launch has begun.
    Launching,
    /// It waits to be started.
    Created(Created),
    /// Its workload runs. `None`: it was gone before anybody looked, and its record with it.
    Started(Option<Running>),
    /// All its processes stand still, by whoever's request.
    Paused(Paused),
    /// They run again.
    Resumed(Running),
    /// The kernel killed processes of it for want of memory: so many so far.
    OutOfMemory {
        /// Processes killed since the container was made.
        kills: u64,
    },
    /// It has ended; these are the facts of its exit record.
    Exited(Box<ExitRecord>),
    /// It has ended while nobody watched it.
    Lost(Lost),
    /// Nothing of it is left: it was removed, or its launch failed and took back what it had made.
    Removed,
    /// Its record cannot be read. Nothing more is told of it but its removal.
    Unreadable(Error),
    /// The reader was slow, and the kernel dropped notifications. What is different now from what
    /// was told before follows, marked as [`Event::snapshot`]. What came and went meanwhile, or
    /// changed and changed back, is not told.
    Lagged {
        /// How many differences follow: so many events were missed at least.
        missed: u64,
    },
}

impl Change {
    /// Its name, as `squall events` prints it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Change::Launching => "launching",
            Change::Created(_) => "created",
            Change::Started(_) => "started",
            Change::Paused(_) => "paused",
            Change::Resumed(_) => "resumed",
            Change::OutOfMemory { .. } => "oom",
            Change::Exited(_) => "exited",
            Change::Lost(_) => "lost",
            Change::Removed => "removed",
            Change::Unreadable(_) => "unreadable",
            Change::Lagged { .. } => "lagged",
        }
    }
}

/// What happens to the containers of a run root. Made by [`Squall::events`].
///
/// # What is told
/// First each container that is there, in its present phase, marked as [`Event::snapshot`]; then
/// what changes. There is no gap between the two, and nothing is told twice.
///
/// For one container the order is that in which things happened: launching, created (if it was
/// created and started later), started, then paused, resumed and out of memory in any number, then
/// exited or lost, then removed. A step that was too short to be seen is told all the same, where
/// something of it is known; a pause that was over before anybody looked is not. Between containers
/// there is no order.
///
/// - *Paused* and *resumed* need a write of the cgroup's own freezer, by Squall or anybody else. A
///   cgroup above that is frozen is not told.
/// - *Out of memory* is told when the kernel has counted the kill, and in any case before the exit.
/// - A container that is throttled is not told: the kernel notifies nobody of it.
///   [`Running::usage`] and the exit record have the counters.
/// - The exit of a container that is removed at once is told as well, by whoever it is removed. Of
///   one that came and went while nobody read the stream it is known only if it was removed with
///   its end ([`OnExit::Remove`](crate::request::OnExit)).
///
/// # Being slow
/// The kernel keeps `fs.inotify.max_queued_events` notifications (16384 by default) for a reader
/// that is busy. Then the stream tells [`Change::Lagged`] and goes on with the differences.
///
/// # What it takes
/// For each living container one inotify watch and two more at most for its cgroup
/// (`fs.inotify.max_user_watches`), and two descriptors, on cgroup v1 three (`RLIMIT_NOFILE`). A
/// container that has ended takes a watch until it is removed. A limit that is reached is an error
/// that names it; it is tried again with the next call.
///
/// # With others
/// It is an iterator that blocks. Its descriptor ([`AsFd`]) can be put into poll(2) or epoll(7):
/// call [`Events::next_timeout`] with no time until it gives `None`, then wait until the descriptor
/// can be read. With the feature `tokio` there is `next_async`.
///
/// ```no_run
/// use squall::{Change, Squall};
///
/// # fn main() -> squall::Result<()> {
/// for event in Squall::builder().build()?.events()? {
///     let event = event?;
///     match event.change {
///         Change::Exited(exit) => println!("{}: {:?}", event.id, exit.exit),
///         Change::Lost(_) => println!("{}: nobody saw it end", event.id),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Events {
    containers: PathBuf,
    /// Of containers that are gone.
    ends: Ends,
    layout: OnceCell<Layout>,
    sources: Sources,
    /// By their serial numbers: in the order in which they were seen first.
    subjects: BTreeMap<u64, Subject>,
    by_id: HashMap<String, u64>,
    by_watch: HashMap<i32, u64>,
    next_serial: u64,
    /// Those to look at.
    due: BTreeSet<u64>,
    /// Of whose memory the kernel has given notice without a kill so far, and how often they were
    /// looked at since.
    doubtful: BTreeMap<u64, u32>,
    pending: VecDeque<Event>,
    lagged: bool,
    /// What could not be done; told when there is nothing else to tell.
    failure: Option<Error>,
    /// There is nothing to watch any more.
    over: Option<Error>,
    /// That has been told to whoever iterates.
    ended: bool,
}

impl Squall {
    /// What happens to the containers of the run root from now on, whichever program launches them;
    /// first how each of them stands. See [`Events`]. A run root that is not there yet is made, as
    /// the first launch would.
    ///
    /// # Errors
    /// [`ErrorKind::Privilege`] where the run root belongs to somebody else or others may write to
    /// it; [`ErrorKind::Exhausted`] where a limit is reached, which the error names.
    pub fn events(&self) -> Result<Events> {
        let run_root = &self.settings().run_root;
        run_root.prepare()?;
        let mut events = Events {
            containers: run_root.containers(),
            ends: Ends::of(run_root)?,
            layout: OnceCell::from(Layout::detect()?),
            sources: Sources::of(&run_root.containers())?,
            subjects: BTreeMap::new(),
            by_id: HashMap::new(),
            by_watch: HashMap::new(),
            next_serial: sources::FIRST_SERIAL,
            due: BTreeSet::new(),
            doubtful: BTreeMap::new(),
            pending: VecDeque::new(),
            lagged: false,
            failure: None,
            over: None,
            ended: false,
        };
        events.look_at_all()?;
        match events.failure.take() {
            None => Ok(events),
            Some(error) => Err(error),
        }
    }
}

impl Events {
    /// The next event; waits for one at most this long. `None`: nothing happened.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] where a container cannot be watched for want of watches or
    /// descriptors: the stream goes on with the next call, and tries again.
    /// [`ErrorKind::NotFound`] when the run root has been removed: there is nothing to watch any
    /// more.
    pub fn next_timeout(&mut self, span: Duration) -> Result<Option<Event>> {
        self.next_by(Instant::now().checked_add(span))
    }

    fn next_by(&mut self, deadline: Option<Instant>) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.ready()? {
                return Ok(Some(event));
            }
            if !is_readable_by(self.as_fd(), deadline).at(Stage::Watch, "events", "poll")? {
                return Ok(None);
            }
        }
    }

    /// The next event of the stream, in tokio's reactor. Cancel-safe: a future that is dropped has
    /// taken no event.
    ///
    /// # Errors
    /// Those of [`Events::next_timeout`]; [`ErrorKind::Unsupported`] outside of a runtime of tokio.
    ///
    /// # Panics
    /// In a runtime that was built without I/O (`enable_io`).
    #[cfg(feature = "tokio")]
    pub async fn next_async(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.ready()? {
                return Ok(event);
            }
            crate::reactor::readable(self.as_fd()).await?;
        }
    }

    /// The next event, if there is one by now.
    fn ready(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            self.look_at_due(Manner::Live)?;
            let idle = self.pending.is_empty() && self.over.is_none();
            let noticed = idle && self.take_notices()?;
            if noticed || !self.pending.is_empty() {
                continue;
            }
            match self.failure.take().or_else(|| self.over.clone()) {
                None => return Ok(None),
                Some(error) => return Err(error),
            }
        }
    }

    /// Takes what the kernel has to say now, and looks at those that it is about; false where that
    /// is nothing.
    fn take_notices(&mut self) -> Result<bool> {
        let now = subject::now_boot_ns();
        let ready = self.sources.ready()?;
        for serial in &ready {
            match *serial {
                sources::FILES => self.take_notices_of_files()?,
                sources::DOUBTS => {
                    self.sources.forget_timer();
                    self.due.extend(self.doubtful.keys());
                }
                serial => drop(self.due.insert(serial)),
            }
        }
        if std::mem::take(&mut self.lagged) {
            self.resume_after_lag()?;
        }
        if ready.is_empty() {
            self.ends.caught_up(now);
        }
        Ok(!ready.is_empty())
    }

    fn take_notices_of_files(&mut self) -> Result<()> {
        for Notice { watch, what, name } in self.sources.notices()? {
            match what {
                What::Overflow => self.lagged = true,
                What::Forgotten => drop(self.by_watch.remove(&watch)),
                What::Gone if watch == self.sources.containers() => self.run_root_is_gone(),
                What::Appeared(_) | What::Vanished if watch != self.sources.containers() => self.is_due(watch),
                What::Appeared(kind) => self.appeared(&name, kind),
                What::Vanished => self.vanished(&name),
                What::Modified => self.is_due(watch),
                What::Gone => {}
            }
        }
        Ok(())
    }

    fn is_due(&mut self, watch: i32) {
        self.due.extend(self.by_watch.get(&watch));
    }

    fn run_root_is_gone(&mut self) {
        let object = format!("run root directory '{}'", self.containers.display());
        self.over =
            Some(Error::found(ErrorKind::NotFound, Stage::Watch, object, "inotify", "it has been removed or renamed"));
    }

    /// A directory of this name is there, or was when this was reported.
    fn appeared(&mut self, name: &OsStr, kind: sources::Kind) {
        let id = name.to_string_lossy().into_owned();
        if kind == sources::Kind::Other || claim::is_unnamed(&id) {
            return;
        }
        match self.by_id.get(&id) {
            // Seen before its own notice came, unless that is of a container that has gone.
            Some(serial) if self.subjects[serial].is_there() => drop(self.due.insert(*serial)),
            Some(serial) => {
                self.remove(*serial, Manner::Live);
                self.add(name, Manner::Live);
            }
            None => self.add(name, Manner::Live),
        }
    }

    /// The directory of this name has gone, and another one may have it by now.
    fn vanished(&mut self, name: &OsStr) {
        match self.by_id.get(&*name.to_string_lossy()) {
            Some(serial) if !self.subjects[serial].is_there() => self.remove(*serial, Manner::Live),
            _ => {}
        }
    }

    /// A container that has not been told. Watched at once, so that no later container of its id is
    /// taken for it; looked at when all notices are taken. One that has gone already has nothing to
    /// look at.
    fn add(&mut self, name: &OsStr, manner: Manner) {
        let serial = self.next_serial;
        let mut subject = Subject::new(name.to_string_lossy().into_owned(), self.containers.join(name));
        match subject.watch_directory(&self.sources) {
            Ok(false) if manner == Manner::Snapshot => return,
            Ok(false) => subject.tell_launching(manner, &mut self.pending),
            // The look says it again, if it is still so.
            Ok(true) | Err(_) => drop(self.due.insert(serial)),
        }
        self.next_serial += 1;
        self.by_id.insert(subject.id().to_owned(), serial);
        self.by_watch.extend(subject.watches().iter().map(|watch| (*watch, serial)));
        self.subjects.insert(serial, subject);
    }

    /// The last that is told of a container whose directory has gone.
    fn remove(&mut self, serial: u64, manner: Manner) {
        let looked = self.look_at(serial, manner);
        self.failure = self.failure.take().or(looked.err());
        self.due.remove(&serial);
        self.doubtful.remove(&serial);
        let Some(mut subject) = self.subjects.remove(&serial) else { return };
        self.by_id.remove(subject.id());
        subject.tell_removed(manner, &mut self.ends, &mut self.pending);
        for watch in subject.watches() {
            self.by_watch.remove(watch);
        }
        subject.leave(&self.sources);
    }

    /// Looks at those that are due. One that cannot be watched does not keep the others back, and
    /// stays due.
    fn look_at_due(&mut self, manner: Manner) -> Result<()> {
        if self.due.is_empty() {
            return Ok(());
        }
        for serial in std::mem::take(&mut self.due) {
            if let Err(error) = self.look_at(serial, manner) {
                self.due.insert(serial);
                self.failure = self.failure.take().or(Some(error));
            }
        }
        self.set_timer()
    }

    fn look_at(&mut self, serial: u64, manner: Manner) -> Result<()> {
        let Some(subject) = self.subjects.get_mut(&serial) else { return Ok(()) };
        let watches_before = subject.watches().len();
        let looked = subject.look(manner, &self.layout, &self.sources, serial, &mut self.pending);
        self.by_watch.extend(subject.watches().iter().skip(watches_before).map(|watch| (*watch, serial)));
        match subject.is_doubtful() {
            true => *self.doubtful.entry(serial).or_default() += 1,
            false => drop(self.doubtful.remove(&serial)),
        }
        looked
    }

    /// The kernel gives notice of a limit that was met before it kills, and none of the kill
    /// (cgroup v1): a few looks, further and further apart, find it.
    fn set_timer(&mut self) -> Result<()> {
        let mut next = None;
        let subjects = &mut self.subjects;
        self.doubtful.retain(|serial, looks| {
            let pause = sources::DOUBT_PAUSES.get((*looks as usize).saturating_sub(1)).copied();
            next = next.into_iter().chain(pause).min();
            if pause.is_none() {
                subjects.get_mut(serial).into_iter().for_each(Subject::doubt_no_more);
            }
            pause.is_some()
        });
        next.map_or(Ok(()), |pause| self.sources.set_timer(pause))
    }

    /// Everything that is there, as a snapshot.
    fn look_at_all(&mut self) -> Result<()> {
        let entries = std::fs::read_dir(&self.containers).at(Stage::Watch, self.containers.display(), "opendir")?;
        for entry in entries {
            let name = entry.at(Stage::Watch, self.containers.display(), "readdir")?.file_name();
            let id = name.to_string_lossy();
            if !claim::is_unnamed(&id) && !self.by_id.contains_key(&*id) {
                self.add(&name, Manner::Snapshot);
            }
        }
        self.due.extend(self.subjects.keys());
        self.look_at_due(Manner::Snapshot)
    }

    /// The kernel has dropped notices.
    fn resume_after_lag(&mut self) -> Result<()> {
        let told_before = self.pending.len();
        let gone: Vec<u64> =
            self.subjects.iter().filter(|(_, subject)| !subject.is_there()).map(|(serial, _)| *serial).collect();
        gone.into_iter().for_each(|serial| self.remove(serial, Manner::Snapshot));
        let outcome = self.look_at_all();
        let missed = self.pending.len() - told_before;
        let lagged = Event {
            time_unix_ns: subject::now_unix_ns(),
            id: String::new(),
            snapshot: false,
            change: Change::Lagged { missed: missed as u64 },
        };
        self.pending.insert(told_before, lagged);
        outcome
    }
}

/// Waits for the next event. `None` comes only after the error that says that the run root has been
/// removed.
impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        if self.ended {
            return None;
        }
        let next = self.next_by(None);
        self.ended = self.over.is_some() && next.is_err();
        next.transpose()
    }
}

/// Can be read when [`Events::next_timeout`] has something to look at. What it has told apart by
/// then it gives at once, so call it until it gives `None`.
impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sources.as_fd()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("containers", &self.containers).finish_non_exhaustive()
    }
}
