//! One container of a stream: what was told of it, and what is to be told now.

use std::cell::OnceCell;
use std::collections::{BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::sources::Sources;
use super::{Change, Event};
use crate::cgroup::{self, CgroupPath, Layout};
use crate::container::{Container, Created, Ended, Next, Running, Waiting};
use crate::error::{ErrorKind, Result};
use crate::host::{ClockId, boot_id, nanoseconds};
use crate::state::record::{self, ExitRecord, LaunchRecord, OpenExit, RemovedExits};
use crate::state::run_root::RunRoot;

/// How what is found is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// As something that happened, with every step on the way to it.
    Live,
    /// As how things stand.
    Snapshot,
}

/// How far the life of a container has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nothing,
    Launching,
    Created,
    Started,
    /// Exited, lost, or unreadable.
    Ended,
}

/// Its directory, as it was found. Another one of the same name is another container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It could not be watched so far.
    Unknown,
    /// It was there, with this inode, and is watched.
    Found(u64),
    /// It was gone before anybody looked.
    Gone,
}

/// A container whose directory has been seen, or was reported.
pub(super) struct Subject {
    id: String,
    directory: PathBuf,
    place: Place,
    told: Told,
    told_paused: bool,
    told_kills: u64,
    told_unix_ns: u64,
    /// The file of its exit record, open while there is no other record: it may be gone before that
    /// can be read.
    exit: Option<OpenExit>,
    waiting: Option<Waiting>,
    process: Option<Arc<OwnedFd>>,
    /// Of cgroup v1.
    oom: Option<OwnedFd>,
    is_cgroup_watched: bool,
    /// The kernel has given notice of a memory limit, and no kill was to be seen.
    doubtful: bool,
    /// Of its directory and its cgroup's files.
    watches: Vec<i32>,
}

impl Subject {
    pub(super) fn new(id: String, directory: PathBuf) -> Subject {
        Subject {
            id,
            directory,
            place: Place::Unknown,
            told: Told::Nothing,
            told_paused: false,
            told_kills: 0,
            told_unix_ns: 0,
            exit: None,
            waiting: None,
            process: None,
            oom: None,
            is_cgroup_watched: false,
            doubtful: false,
            watches: Vec::new(),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn watches(&self) -> &[i32] {
        &self.watches
    }

    /// Watches its directory; whether that is there.
    pub(super) fn watch_directory(&mut self, sources: &Sources) -> Result<bool> {
        if self.place == Place::Unknown {
            let watched = sources.watch_directory(&self.directory)?;
            self.watches.extend(watched.map(|(watch, _)| watch));
            self.place = watched.map_or(Place::Gone, |(_, inode)| Place::Found(inode));
        }
        Ok(self.place != Place::Gone)
    }

    /// Whether its own directory has its name.
    pub(super) fn is_there(&self) -> bool {
        let now = inode_of(&self.directory);
        match self.place {
            Place::Unknown => now.is_some(),
            Place::Found(inode) => now == Some(inode),
            Place::Gone => false,
        }
    }

    /// Whether another look may find a kill that the kernel has given notice of.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// No look has found one.
    pub(super) fn doubt_no_more(&mut self) {
        self.doubtful = false;
    }

    /// Looks at it, and tells what is different.
    pub(super) fn look(
        &mut self,
        manner: Manner,
        layout: &OnceCell<Layout>,
        sources: &Sources,
        serial: u64,
        events: &mut VecDeque<Event>,
    ) -> Result<()> {
        if self.told == Told::Ended {
            return Ok(());
        }
        if !self.watch_directory(sources)? {
            self.tell_launching(manner, events);
            return Ok(());
        }
        if self.waiting.is_none() && !self.find_record(manner, events)? {
            return Ok(());
        }
        let Some(waiting) = &mut self.waiting else { return Ok(()) };
        match waiting.next() {
            Ok(Next::Watch(source)) => {
                let running = waiting.running().clone();
                self.watch_process(source, sources, serial)?;
                self.watch_cgroup(&running, layout, sources, serial, manner)?;
                self.tell_living(running.alive(layout)?, manner, events);
                self.tell_kills(&running, manner, layout, events);
            }
            Ok(Next::Ended(Ended::Exited(exited))) => {
                self.tell_exit(exited.exit(), manner, events);
                self.leave(sources);
            }
            Ok(Next::Ended(Ended::Lost(lost))) => {
                self.tell_steps_before_end(manner, events);
                self.tell(now_unix_ns(), manner, Change::Lost(lost), events);
                self.told = Told::Ended;
                self.leave(sources);
            }
            // Its removal is told when that is reported.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether there is a record by now. Before that it is being launched.
    fn find_record(&mut self, manner: Manner, events: &mut VecDeque<Event>) -> Result<bool> {
        let record = match record::read_launch(&self.directory) {
            Err(error) if error.kind() == ErrorKind::Exhausted => return Err(error),
            // What is there is another container's.
            _ if !self.is_there() => return Ok(false),
            Ok(None) => {
                self.tell_launching(manner, events);
                self.exit = self.exit.take().or_else(|| OpenExit::of(&self.directory)).filter(|_| self.is_there());
                return Ok(false);
            }
            Ok(Some(record)) => record,
            Err(error) => {
                self.tell(now_unix_ns(), manner, Change::Unreadable(error), events);
                self.told = Told::Ended;
                return Ok(false);
            }
        };
        self.exit = None;
        self.waiting = Some(Waiting::of(&Running::new(self.directory.clone(), record)));
        Ok(true)
    }

    fn watch_process(&mut self, source: Arc<OwnedFd>, sources: &Sources, serial: u64) -> Result<()> {
        if self.process.as_ref().is_some_and(|watched| Arc::ptr_eq(watched, &source)) {
            return Ok(());
        }
        if let Some(watched) = self.process.take() {
            sources.delete(&*watched);
        }
        sources.add(&*source, serial)?;
        self.process = Some(source);
        Ok(())
    }

    /// Once, and before the cgroup is looked at.
    fn watch_cgroup(
        &mut self,
        running: &Running,
        layout: &OnceCell<Layout>,
        sources: &Sources,
        serial: u64,
        manner: Manner,
    ) -> Result<()> {
        let (Some(layout), Some(path)) = (layout.get(), cgroup_of(running.record())) else { return Ok(()) };
        if self.is_cgroup_watched {
            return Ok(());
        }
        let oom = match cgroup::oom_eventfd(layout, &path) {
            Err(error) if error.kind() == ErrorKind::Exhausted => return Err(error),
            other => other.ok(),
        };
        if let Some(oom) = &oom {
            sources.add(oom, serial)?;
        }
        self.oom = oom;
        for file in cgroup::notifying_files(layout, &path) {
            self.watches.extend(sources.watch_file(&file)?);
        }
        self.is_cgroup_watched = true;
        if self.is_told_by_phase_alone(manner) {
            self.told_kills = cgroup::oom_kills(layout, &path).unwrap_or(0);
        }
        Ok(())
    }

    /// Watches nothing of it any more: its removal is seen in the directory above.
    pub(super) fn leave(&mut self, sources: &Sources) {
        if let Some(process) = self.process.take() {
            sources.delete(&*process);
        }
        if let Some(oom) = self.oom.take() {
            sources.delete(&oom);
        }
        sources.unwatch(&std::mem::take(&mut self.watches));
        (self.exit, self.waiting) = (None, None);
        self.doubtful = false;
    }

    /// That it is being launched.
    pub(super) fn tell_launching(&mut self, manner: Manner, events: &mut VecDeque<Event>) {
        if self.told == Told::Nothing {
            self.tell(now_unix_ns(), manner, Change::Launching, events);
            self.told = Told::Launching;
        }
    }

    fn tell_living(&mut self, found: Container, manner: Manner, events: &mut VecDeque<Event>) {
        let paused = matches!(found, Container::Paused(_));
        match found {
            Container::Created(created) => {
                self.tell_launched(created.record(), manner, events);
                self.tell_created(created, manner, events);
            }
            Container::Running(running) => {
                self.tell_started(&running, manner, events);
                if self.told_paused {
                    self.tell(now_unix_ns(), manner, Change::Resumed(running), events);
                }
            }
            Container::Paused(handle) => {
                if !self.is_told_by_phase_alone(manner) {
                    self.tell_started(&handle.clone().into_running(), manner, events);
                }
                self.told = Told::Started;
                if !self.told_paused {
                    self.tell(now_unix_ns(), manner, Change::Paused(handle), events);
                }
            }
            _ => return,
        }
        self.told_paused = paused;
    }

    /// The launch, where nothing was told so far and steps are.
    fn tell_launched(&mut self, record: &LaunchRecord, manner: Manner, events: &mut VecDeque<Event>) {
        if self.told == Told::Nothing && manner == Manner::Live {
            self.tell(record.created_unix_ns, manner, Change::Launching, events);
            self.told = Told::Launching;
        }
    }

    fn tell_created(&mut self, created: Created, manner: Manner, events: &mut VecDeque<Event>) {
        if self.told < Told::Created {
            self.tell(now_unix_ns(), manner, Change::Created(created), events);
            self.told = Told::Created;
        }
    }

    /// Whether only the present state counts, and no step on the way to it.
    fn is_told_by_phase_alone(&self, manner: Manner) -> bool {
        manner == Manner::Snapshot && self.told == Told::Nothing
    }

    /// The launch, and the creation of one that was created before it was started.
    fn tell_steps_before_start(&mut self, manner: Manner, events: &mut VecDeque<Event>) {
        let Some(waiting) = self.waiting.as_ref().filter(|_| !self.is_told_by_phase_alone(manner)) else { return };
        let running = waiting.running().clone();
        self.tell_launched(running.record(), manner, events);
        if running.record().started_boot_ns == 0 {
            self.tell_created(Created::new(running), manner, events);
        }
    }

    fn tell_started(&mut self, running: &Running, manner: Manner, events: &mut VecDeque<Event>) {
        self.tell_steps_before_start(manner, events);
        if self.told < Told::Started {
            let started = unix_ns_of(running.record().started_boot_ns);
            self.tell(started, manner, Change::Started(Some(running.clone())), events);
            self.told = Told::Started;
        }
    }

    /// What came before an end, where it was not told: by what is left of it.
    fn tell_steps_before_end(&mut self, manner: Manner, events: &mut VecDeque<Event>) {
        let Some(waiting) = self.waiting.as_ref().filter(|_| !self.is_told_by_phase_alone(manner)) else { return };
        match waiting.running().started() {
            Some(started) => self.tell_started(&started, manner, events),
            None => self.tell_steps_before_start(manner, events),
        }
    }

    fn tell_exit(&mut self, exit: &ExitRecord, manner: Manner, events: &mut VecDeque<Event>) {
        let steps = !self.is_told_by_phase_alone(manner);
        self.tell_steps_before_end(manner, events);
        if let Some(started) = exit.started_unix_ns.filter(|_| steps && self.told < Told::Started) {
            let running = self.waiting.as_ref().map(|waiting| waiting.running().clone());
            self.tell(started, manner, Change::Started(running), events);
        }
        let kills = exit.oom.as_ref().and_then(|oom| oom.kills).unwrap_or(0);
        if steps && kills > self.told_kills {
            self.told_kills = kills;
            self.tell(exit.ended_unix_ns, manner, Change::OutOfMemory { kills }, events);
        }
        self.tell(exit.ended_unix_ns, manner, Change::Exited(Box::new(exit.clone())), events);
        self.told = Told::Ended;
    }

    /// Kills that were not told. Without one after the kernel's notice there is doubt.
    fn tell_kills(
        &mut self,
        running: &Running,
        manner: Manner,
        layout: &OnceCell<Layout>,
        events: &mut VecDeque<Event>,
    ) {
        let noticed = self.oom.as_ref().is_some_and(|oom| rustix::io::read(oom, &mut [0; 8]) == Ok(8));
        self.doubtful |= noticed;
        let (Some(layout), Some(path)) = (layout.get(), cgroup_of(running.record())) else { return };
        let kills = cgroup::oom_kills(layout, &path).unwrap_or(0);
        if kills > self.told_kills {
            self.told_kills = kills;
            self.doubtful = false;
            self.tell(now_unix_ns(), manner, Change::OutOfMemory { kills }, events);
        }
    }

    /// Its end where that is known, and that it is gone.
    pub(super) fn tell_removed(&mut self, manner: Manner, ends: &mut Ends, events: &mut VecDeque<Event>) {
        if self.told == Told::Nothing {
            // Seen, and gone again before it was looked at.
            if manner == Manner::Snapshot {
                return;
            }
            self.tell_launching(manner, events);
        }
        if self.told < Told::Ended {
            let own = self.exit.as_ref().and_then(OpenExit::read_any);
            if let Some(exit) = own.or_else(|| ends.take(&self.id)) {
                self.tell_exit(&exit, manner, events);
            }
        }
        self.tell(now_unix_ns(), manner, Change::Removed, events);
    }

    fn tell(&mut self, time_unix_ns: u64, manner: Manner, change: Change, events: &mut VecDeque<Event>) {
        self.told_unix_ns = self.told_unix_ns.max(time_unix_ns);
        events.push_back(Event {
            time_unix_ns: self.told_unix_ns,
            id: self.id.clone(),
            snapshot: manner == Manner::Snapshot,
            change,
        });
    }
}

/// The ends of containers that were removed with their end, which are known by their ids alone.
pub(super) struct Ends {
    removed: RemovedExits,
    boot_id: String,
    /// All notices had been taken at this instant of CLOCK_BOOTTIME.
    caught_up_boot_ns: u64,
    /// Those taken since: ids, and when they ended.
    taken: BTreeSet<(String, u64)>,
}

impl Ends {
    pub(super) fn of(run_root: &RunRoot) -> Result<Ends> {
        let removed = run_root.removed();
        Ok(Ends { removed, boot_id: boot_id()?, caught_up_boot_ns: now_boot_ns(), taken: BTreeSet::new() })
    }

    /// All notices had been taken at this instant.
    pub(super) fn caught_up(&mut self, boot_ns: u64) {
        self.caught_up_boot_ns = boot_ns;
        self.taken.clear();
    }

    /// The end of the container of this id that has just gone, without anybody having seen its
    /// record. That ended after all notices had been taken; an end of before is that of an earlier
    /// container.
    fn take(&mut self, id: &str) -> Option<ExitRecord> {
        let own = |exit: &ExitRecord| exit.boot_id == self.boot_id && exit.ended_boot_ns >= self.caught_up_boot_ns;
        let exit = self.removed.read(id).filter(own)?;
        self.taken.insert((id.to_owned(), exit.ended_boot_ns)).then_some(exit)
    }
}

fn cgroup_of(record: &LaunchRecord) -> Option<CgroupPath> {
    CgroupPath::new(record.cgroup.as_str()).ok()
}

/// Nanoseconds since 1970.
pub(super) fn now_unix_ns() -> u64 {
    nanoseconds(ClockId::Realtime)
}

/// Nanoseconds of CLOCK_BOOTTIME.
pub(super) fn now_boot_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// An instant of CLOCK_BOOTTIME, in nanoseconds since 1970.
fn unix_ns_of(boot_ns: u64) -> u64 {
    let ago = now_boot_ns().saturating_sub(boot_ns);
    now_unix_ns().saturating_sub(ago)
}

/// The inode of a directory; `None` where there is none.
fn inode_of(directory: &Path) -> Option<u64> {
    rustix::fs::lstat(directory).ok().map(|stat| stat.st_ino)
}
