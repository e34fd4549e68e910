//! What the launch process leaves to the monitor that it becomes: a memfd as fd 3, and fds whose
//! numbers it names.
//!
//! The text is a line of `key=value` fields, each ended by a NUL (paths and ids hold any byte but
//! that one), the format's version first. Both ends come from one build, so a field that is
//! unknown, out of range or too many makes the whole malformed.

use core::ffi::CStr;
use core::fmt;

use super::decimal::Decimal;
use super::list::List;
use super::protocol::Signal;
use super::step::Terms;

/// The file in the container's directory that becomes `exit.json`: it is there from before the
/// launch is answered, with room for a record, so that a container of which nothing could be told
/// is not launched at all.
pub const RESERVED_NAME: &CStr = c"exit.json.tmp";

/// A record of usual length fits. A page is what a tmpfs gives anyway.
pub const RESERVED_BYTES: usize = 4096;

/// The fd at which the program expects the memfd.
pub const HANDOVER_FD: i32 = 3;
/// More than 16 cgroup paths and 16 ancestors of usual length take.
pub const MAX_BYTES: usize = 16 * 1024;
/// The container's own memory cgroup and 15 ancestors.
pub const MAX_WATCHES: usize = 16;
/// Linux 6 has 14 controllers; one hierarchy more for systemd and one for the unified tree.
pub const MAX_CGROUPS: usize = 16;
/// Six ends of pipes for the log.
pub const MAX_HELD: usize = 8;

const HEADER: (&str, &str) = ("squall-handover", "1");

/// The file in the container's directory that says when a container with a gate was started, in
/// nanoseconds since 1970 and of CLOCK_BOOTTIME: one line, two numbers. It is there, empty and with
/// room, from before the launch is answered, under the name that follows.
pub const STARTED_NAME: &CStr = c"started";
/// The same before the start.
pub const NOT_STARTED_NAME: &CStr = c"started.tmp";

/// What init's report begins with when it becomes the workload: the number of that stage, followed
/// by eight bytes of time.
pub const BECOME: u8 = 11;

/// Whether a report that has come to its end is that of an init that became the workload: anything
/// after the stage is why it could not.
pub fn has_started(report: &[u8]) -> bool {
    matches!(report, [BECOME, _, _, _, _, _, _, _, _])
}

/// Everything the monitor knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handover<'a> {
    /// The container.
    pub id: &'a str,
    /// The boot that all instants belong to.
    pub boot_id: &'a str,
    /// Init, in the monitor's pid namespace.
    pub pid: u32,
    /// The pidfd of init, which must be the monitor's child.
    pub pidfd: i32,
    /// `<run-root>/containers/<id>`.
    pub directory: i32,
    /// Bound to `monitor.sock` in that directory, and listening.
    pub socket: i32,
    /// Init waits until something can be read at the other end of this pipe (or from this eventfd)
    /// and gives up at its end of file. `None`: it runs already.
    pub gate: Option<i32>,
    /// Init's report from the gate on ([`has_started`]); its end of file comes with the exec. For a
    /// container with a gate.
    pub report: Option<i32>,
    /// A directory of the upper, where that is a file system of its own.
    pub upper: Option<i32>,
    /// The container's directory by its path, where nothing of it is to stay in the end.
    pub removal: Option<&'a CStr>,
    /// Where its exit record is to be written once more.
    pub exit_file: Option<ExitFile<'a>>,
    /// Who may use the socket besides root.
    pub owner_uid: u32,
    /// When, by what and how gently the container is ended.
    pub terms: Terms,
    /// When its launch began, nanoseconds since 1970: with the boot id it tells this container from
    /// others of its name.
    pub created_unix_ns: u64,
    /// When it was started, nanoseconds since 1970. Means nothing where it has a gate.
    pub started_unix_ns: u64,
    /// The same by CLOCK_BOOTTIME.
    pub started_boot_ns: u64,
    /// The container's own memory cgroup first, then its ancestors going up.
    pub watches: List<OomWatch<'a>, MAX_WATCHES>,
    /// The container's cgroup in each hierarchy. They are removed at the end; nothing above them
    /// is.
    pub cgroups: List<CgroupLeaf<'a>, MAX_CGROUPS>,
    /// What the monitor only keeps open: the pipes of the worker's output, so that no writer is
    /// ended by SIGPIPE when those who read them have been killed.
    pub held: List<i32, MAX_HELD>,
}

/// A file in a directory of whoever launched the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitFile<'a> {
    /// Its directory.
    pub directory: i32,
    /// Uid and gid of whoever makes it, if not the monitor itself. The user's supplementary groups
    /// are the monitor's from its birth.
    pub user: Option<(u32, u32)>,
    /// Its name there.
    pub name: &'a CStr,
}

/// An fd that counts how often a memory limit was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OomWatch<'a> {
    /// The fd.
    pub fd: i32,
    /// What it is.
    pub kind: OomKind,
    /// What it said before the container was there ([`OomKind::MemoryEvents`] of an ancestor).
    pub baseline: u64,
    /// The ancestor whose limit it is; `None`: the container's own.
    pub ancestor: Option<&'a str>,
}

/// How out-of-memory events are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OomKind {
    /// cgroup v1: an eventfd registered for `memory.oom_control`.
    #[default]
    Eventfd,
    /// cgroup v2: an open `memory.events.local` (Linux 5.2; `memory.events` counts the cgroups
    /// below as well).
    MemoryEvents,
}

/// One cgroup directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CgroupLeaf<'a> {
    /// Which counters it holds. A hierarchy of several controllers is listed once for each.
    pub kind: CgroupKind,
    /// Absolute.
    pub path: &'a CStr,
}

/// The hierarchies that differ in what the monitor reads or writes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupKind {
    /// v1 memory.
    Memory,
    /// v1 cpuacct.
    Cpuacct,
    /// v1 cpu.
    Cpu,
    /// v1 pids.
    Pids,
    /// v1 freezer.
    Freezer,
    /// Any other of v1, only to be removed.
    #[default]
    Other,
    /// v2, with whatever controllers it has.
    Unified,
}

impl CgroupKind {
    const ALL: [(CgroupKind, &'static str); 7] = [
        (CgroupKind::Memory, "memory"),
        (CgroupKind::Cpuacct, "cpuacct"),
        (CgroupKind::Cpu, "cpu"),
        (CgroupKind::Pids, "pids"),
        (CgroupKind::Freezer, "freezer"),
        (CgroupKind::Other, "other"),
        (CgroupKind::Unified, "unified"),
    ];
}

impl OomKind {
    const ALL: [(OomKind, &'static str); 2] = [(OomKind::Eventfd, "eventfd"), (OomKind::MemoryEvents, "memory.events")];
}

impl<'a> Handover<'a> {
    /// Reads the text. `None`: it is not one that [`Handover::write`] wrote.
    pub fn decode(text: &'a [u8]) -> Option<Handover<'a>> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let mut fields = text.split_inclusive(|byte| *byte == 0);
        let (key, version) = field(fields.next()?)?;
        if (key, version.to_str().ok()?) != HEADER {
            return None;
        }
        let mut handover = Handover::nothing();
        for bytes in fields {
            let (key, value) = field(bytes)?;
            handover.set(key, value)?;
        }
        let missing = handover.id.is_empty() || handover.boot_id.is_empty() || handover.pid == 0;
        let fds = [handover.pidfd, handover.directory, handover.socket];
        (!missing && fds.iter().all(|fd| *fd > HANDOVER_FD)).then_some(handover)
    }

    /// Writes the text. What comes out is a handover only if [`Handover::decode`] says so: the
    /// caller checks that.
    pub fn write(&self, out: &mut impl fmt::Write) -> fmt::Result {
        put(out, HEADER.0, &[HEADER.1])?;
        put(out, "id", &[self.id])?;
        put(out, "boot-id", &[self.boot_id])?;
        let fds = [("pidfd", Some(self.pidfd)), ("directory", Some(self.directory)), ("socket", Some(self.socket))];
        for (key, fd) in fds.into_iter().chain([("gate", self.gate), ("report", self.report), ("upper", self.upper)]) {
            if let Some(fd) = fd {
                put_number(out, key, fd.unsigned_abs().into())?;
            }
        }
        put_number(out, "pid", self.pid.into())?;
        put_number(out, "owner-uid", self.owner_uid.into())?;
        put_number(out, "created-unix-ns", self.created_unix_ns)?;
        put_number(out, "started-unix-ns", self.started_unix_ns)?;
        put_number(out, "started-boot-ns", self.started_boot_ns)?;
        if let Some(deadline) = self.terms.deadline {
            put_number(out, "deadline-boot-ns", deadline)?;
        }
        if let Some(timeout) = self.terms.timeout {
            put_number(out, "timeout-ns", timeout)?;
        }
        put_number(out, "stop-signal", self.terms.stop_signal.number().into())?;
        put_number(out, "grace-ms", self.terms.grace_ms.into())?;
        if let Some(path) = self.removal {
            put(out, "removal", &[path.to_str().unwrap_or("")])?;
        }
        if let Some(ExitFile { directory, user, name }) = self.exit_file {
            let fd = Decimal::new(directory.unsigned_abs().into());
            let [uid, gid] = user.map_or([None; 2], |(uid, gid)| [Some(uid), Some(gid)]).map(id_text);
            let [uid, gid] = [&uid, &gid].map(|id| id.as_ref().map_or("-", Decimal::as_str));
            put(out, "exit-file", &[fd.as_str(), uid, gid, name.to_str().unwrap_or("")])?;
        }
        for fd in self.held.iter() {
            put_number(out, "held", fd.unsigned_abs().into())?;
        }
        for watch in self.watches.iter() {
            let (fd, baseline) = (Decimal::new(watch.fd.unsigned_abs().into()), Decimal::new(watch.baseline));
            let words = [fd.as_str(), name(&OomKind::ALL, watch.kind), baseline.as_str(), watch.ancestor.unwrap_or("")];
            put(out, "oom", &words)?;
        }
        for leaf in self.cgroups.iter() {
            put(out, "cgroup", &[name(&CgroupKind::ALL, leaf.kind), leaf.path.to_str().unwrap_or("")])?;
        }
        Ok(())
    }

    /// Every fd named, which are the ones to keep. Unsorted.
    pub fn fds(&self) -> List<i32, { MAX_WATCHES + MAX_HELD + 7 }> {
        let mut fds = List::of(&[self.pidfd, self.directory, self.socket]);
        let others = self.watches.iter().map(|watch| Some(watch.fd)).chain(self.held.iter().map(|fd| Some(*fd)));
        let exit_directory = self.exit_file.map(|file| file.directory);
        for fd in [self.gate, self.report, self.upper, exit_directory].into_iter().chain(others).flatten() {
            let _ = fds.push(fd); // there is room for all
        }
        fds
    }

    fn nothing() -> Handover<'a> {
        Handover {
            id: "",
            boot_id: "",
            pid: 0,
            pidfd: -1,
            directory: -1,
            socket: -1,
            gate: None,
            report: None,
            upper: None,
            removal: None,
            exit_file: None,
            owner_uid: 0,
            terms: Terms { deadline: None, timeout: None, stop_signal: Signal::TERM, grace_ms: 0 },
            created_unix_ns: 0,
            started_unix_ns: 0,
            started_boot_ns: 0,
            watches: List::new(),
            cgroups: List::new(),
            held: List::new(),
        }
    }

    fn set(&mut self, key: &str, value: &'a CStr) -> Option<()> {
        let text = value.to_str().ok()?;
        match key {
            "id" => self.id = text,
            "boot-id" => self.boot_id = text,
            "pid" => self.pid = number(text)?,
            "pidfd" => self.pidfd = fd(text)?,
            "directory" => self.directory = fd(text)?,
            "socket" => self.socket = fd(text)?,
            "gate" => self.gate = Some(fd(text)?),
            "report" => self.report = Some(fd(text)?),
            "upper" => self.upper = Some(fd(text)?),
            "removal" => self.removal = Some(value).filter(|path| path.to_bytes().starts_with(b"/")),
            "exit-file" => self.exit_file = Some(exit_file(value)?),
            "owner-uid" => self.owner_uid = number(text)?,
            "created-unix-ns" => self.created_unix_ns = number(text)?,
            "started-unix-ns" => self.started_unix_ns = number(text)?,
            "started-boot-ns" => self.started_boot_ns = number(text)?,
            "deadline-boot-ns" => self.terms.deadline = Some(number(text)?),
            "timeout-ns" => self.terms.timeout = Some(number(text)?),
            "stop-signal" => self.terms.stop_signal = Signal::new(number(text)?)?,
            "grace-ms" => self.terms.grace_ms = number(text)?,
            "held" => self.held.push(fd(text)?).ok()?,
            "oom" => self.watches.push(watch(value)?).ok()?,
            "cgroup" => self.cgroups.push(leaf(value)?).ok()?,
            _ => return None,
        }
        Some(())
    }
}

fn field(bytes: &[u8]) -> Option<(&str, &CStr)> {
    let (key, value) = cut(bytes, b'=')?;
    Some((key, CStr::from_bytes_with_nul(value).ok()?))
}

/// The text before the first `separator`, and the bytes after it.
fn cut(bytes: &[u8], separator: u8) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == separator)?;
    Some((core::str::from_utf8(bytes.get(..end)?).ok()?, bytes.get(end + 1..)?))
}

/// One instance of the standard library's parser serves every type.
fn number<N: TryFrom<u64>>(text: &str) -> Option<N> {
    N::try_from(text.parse::<u64>().ok()?).ok()
}

/// The standard streams and the memfd itself cannot be handed over.
fn fd(text: &str) -> Option<i32> {
    number(text).filter(|fd| *fd > HANDOVER_FD)
}

fn watch(value: &CStr) -> Option<OomWatch<'_>> {
    let (number_of_fd, rest) = cut(value.to_bytes(), b' ')?;
    let (kind, rest) = cut(rest, b' ')?;
    let (baseline, ancestor) = cut(rest, b' ')?;
    let ancestor = if ancestor.is_empty() { None } else { Some(core::str::from_utf8(ancestor).ok()?) };
    Some(OomWatch { fd: fd(number_of_fd)?, kind: kind_of(&OomKind::ALL, kind)?, baseline: number(baseline)?, ancestor })
}

fn id_text(id: Option<u32>) -> Option<Decimal> {
    id.map(|id| Decimal::new(id.into()))
}

fn exit_file(value: &CStr) -> Option<ExitFile<'_>> {
    let (directory, rest) = cut(value.to_bytes_with_nul(), b' ')?;
    let (uid, rest) = cut(rest, b' ')?;
    let (gid, name) = cut(rest, b' ')?;
    let user = if (uid, gid) == ("-", "-") { None } else { Some((number(uid)?, number(gid)?)) };
    let name = CStr::from_bytes_with_nul(name).ok()?;
    let is_name = !name.is_empty() && !name.to_bytes().contains(&b'/');
    is_name.then_some(ExitFile { directory: fd(directory)?, user, name })
}

fn leaf(value: &CStr) -> Option<CgroupLeaf<'_>> {
    let (kind, path) = cut(value.to_bytes_with_nul(), b' ')?;
    let path = CStr::from_bytes_with_nul(path).ok()?;
    path.to_bytes().starts_with(b"/").then_some(CgroupLeaf { kind: kind_of(&CgroupKind::ALL, kind)?, path })
}

fn kind_of<K: Copy>(all: &[(K, &str)], name: &str) -> Option<K> {
    all.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
}

fn name<K: PartialEq>(all: &[(K, &'static str)], kind: K) -> &'static str {
    all.iter().find(|(known, _)| *known == kind).map_or("", |(_, name)| name)
}

fn put(out: &mut impl fmt::Write, key: &str, words: &[&str]) -> fmt::Result {
    out.write_str(key)?;
    for (index, word) in words.iter().enumerate() {
        out.write_str(if index == 0 { "=" } else { " " })?;
        out.write_str(word)?;
    }
    out.write_str("\0")
}

fn put_number(out: &mut impl fmt::Write, key: &str, number: u64) -> fmt::Result {
    put(out, key, &[Decimal::new(number).as_str()])
}

#[cfg(test)]
pub(super) mod tests;
