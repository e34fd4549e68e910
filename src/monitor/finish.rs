//! The end of a container, in this order: reap init, kill what is left in the cgroup, read the
//! counters while the cgroup is there, write the record, and only then remove the cgroup, which may
//! take a while.

use core::ffi::CStr;
use core::fmt::Write;

use crate::counters::{Counts, SOURCES};
use crate::decimal::Decimal;
use crate::handover::{CgroupKind, CgroupLeaf, Handover, NOT_STARTED_NAME, RESERVED_NAME, STARTED_NAME};
use crate::kernel_log::{Killed, killed};
use crate::record::{Ending, Extent, Facts, Upper, Usage};
use crate::sys::{self, Clock, Open};
use crate::SOCKET_NAME;

/// How long an emptied cgroup may stay populated: dying processes that hold much memory take a
/// second to leave.
const REMOVAL_BOUND_NS: u64 = 2_000_000_000;
/// Between two tries, where the kernel has nothing to wait for.
const RETRY_NS: u64 = 10_000_000;

/// The kernel does not say how init ended, and nothing may be made up.
pub struct Unknown;

/// Reaps init, if it is dead.
pub fn reap_init(pidfd: i32) -> Result<Option<(Ending, Usage)>, Unknown> {
    let dead = sys::wait(sys::Children::Pidfd(pidfd), sys::Wait::Reap).map_err(|_| Unknown)?;
    let Some(dead) = dead else { return Ok(None) };
    let number = u8::try_from(dead.status).map_err(|_| Unknown)?;
    let ending = match dead.code {
        1 => Ending::Code(number),
        2 | 3 => Ending::Signal { signal: number, core_dumped: dead.code == 3 },
        _ => return Err(Unknown),
    };
    let [user_s, user_us, system_s, system_us, max_rss_kib, ..] = dead.usage;
    let ns = |seconds: u64, micros: u64| seconds.wrapping_mul(1_000_000_000).wrapping_add(micros.wrapping_mul(1000));
    let usage = Usage {
        user_ns: ns(user_s, user_us),
        system_ns: ns(system_s, system_us),
        max_rss_bytes: max_rss_kib.wrapping_mul(1024),
    };
    Ok(Some((ending, usage)))
}

/// Reaps the orphans that came to the monitor, but never init.
pub fn reap_orphans(init: u32) {
    while let Ok(Some(dead)) = sys::wait(sys::Children::All, sys::Wait::Look) {
        // By its pid: asked for just anyone, the kernel might give us init, which has died since.
        if dead.pid == init || sys::wait(sys::Children::Pid(dead.pid), sys::Wait::Reap).is_err() {
            break;
        }
    }
}

/// Lets everything in the container's cgroup run that has been frozen there: what is frozen by
/// cgroup v1 does not even die. A cgroup further up is not the container's.
pub fn thaw(handover: &Handover<'_>) {
    for leaf in handover.cgroups.iter() {
        match leaf.kind {
            CgroupKind::Freezer => write_file(leaf, c"freezer.state", b"THAWED"),
            CgroupKind::Unified => write_file(leaf, c"cgroup.freeze", b"0"),
            _ => (),
        }
    }
}

/// Kills everything in the container's cgroup of the unified tree, of a hybrid host as well (Linux
/// 5.14). Where there is none, whoever lives in init's pid namespace dies with init all the same.
pub fn kill_cgroup(handover: &Handover<'_>) {
    if let Some(leaf) = unified(handover) {
        write_file(leaf, c"cgroup.kill", b"1");
    }
}

fn write_file(leaf: &CgroupLeaf<'_>, name: &CStr, value: &[u8]) {
    let Ok(directory) = sys::open_directory(leaf.path) else { return };
    if let Ok(fd) = sys::open_at(directory, name, Open::Write) {
        let _ = sys::write(fd, value);
        sys::close(fd);
    }
    sys::close(directory);
}

/// Reads every counter that this host has.
pub fn read_counts(handover: &Handover<'_>) -> Counts {
    let mut counts = Counts::default();
    let mut buffer = [0; 1024];
    for leaf in handover.cgroups.iter() {
        let Ok(directory) = sys::open_directory(leaf.path) else { continue };
        for source in SOURCES.iter().filter(|source| source.kind == leaf.kind) {
            let Ok(fd) = sys::open_at(directory, source.file, Open::Read) else { continue };
            if let Ok(text) = sys::read_start(fd, &mut buffer) {
                counts.take(source, text);
            }
            sys::close(fd);
        }
        sys::close(directory);
    }
    counts
}

/// The call for which a filter has killed this process, where the kernel says so. Its log may have
/// the line a moment later than the process is dead.
pub fn killed_by_filter(pid: u32) -> Option<Killed> {
    const MOST_LINES: u32 = 1 << 20;
    let log = sys::open_at(-1, c"/dev/kmsg", Open::ReadNow).ok()?;
    let until = sys::now_ns(Clock::Boottime).saturating_add(LOG_BOUND_NS);
    let mut found = None;
    let mut line = [0; 2048];
    for _ in 0..MOST_LINES {
        match sys::read(log, &mut line) {
            // One line at a time; an older one with this pid is another process's.
            Ok(length) => found = line.get(..length).and_then(|line| killed(line, pid)).or(found),
            Err(sys::EAGAIN) if found.is_none() => {
                let left = until.saturating_sub(sys::now_ns(Clock::Boottime));
                let mut more = [sys::PollFd { fd: log, events: sys::POLLIN, revents: 0 }];
                if left == 0 || sys::poll(&mut more, Some(left)) == Ok(0) {
                    break;
                }
            }
            // Some lines were overwritten before they were read.
            Err(EPIPE) => (),
            Err(_) => break,
        }
    }
    sys::close(log);
    found
}

/// How long the line is waited for.
const LOG_BOUND_NS: u64 = 200_000_000;

const EPIPE: i32 = 32;

/// How full the upper is.
pub fn read_upper(fd: i32) -> Option<Upper> {
    let [block, blocks, free, inodes, free_inodes] = sys::statfs(fd).ok()?;
    Some(Upper {
        used_bytes: blocks.saturating_sub(free).saturating_mul(block),
        size_bytes: blocks.saturating_mul(block),
        used_inodes: inodes.saturating_sub(free_inodes),
        inodes,
    })
}

/// Writes `exit.json`, whole or not at all.
///
/// Not synced: the run root is a tmpfs, and after a power loss the container is gone together with
/// the boot that the record names. Renaming alone decides what other processes see. When there is
/// no room, the socket's inode is given up, then the measures, and what remains fits in the page
/// that was reserved when the container started.
pub fn write_record(directory: i32, facts: &Facts<'_>) -> sys::Result<()> {
    try_record(directory, facts, Extent::Whole).or_else(|_| {
        let _ = sys::unlink_at(directory, SOCKET_NAME);
        try_record(directory, facts, Extent::Whole).or_else(|_| try_record(directory, facts, Extent::Essential))
    })
}

/// Removes the container's directory with everything in it. Whoever watches an exec session may be
/// writing its end just now, and has nothing to write after it.
pub fn remove_directory(directory: i32, path: &CStr) {
    const ENOTEMPTY: i32 = 39;
    for _ in 0..REMOVAL_TRIES {
        empty(directory, EXEC_DEPTH);
        if sys::rmdir(path) != Err(ENOTEMPTY) {
            break;
        }
    }
}

/// So often what comes into a directory while it is emptied is removed as well.
const REMOVAL_TRIES: u32 = 100;

/// Below a container's directory is that of its exec sessions, and below it one for each.
const EXEC_DEPTH: u32 = 2;

fn empty(directory: i32, depth: u32) {
    const EISDIR: i32 = 21;
    // An offset of its own: it is read from its beginning.
    let Ok(own) = sys::open_at(directory, c".", Open::Read) else { return };
    let mut buffer = [0; 512];
    loop {
        let Ok(entries) = sys::entries(own, &mut buffer) else { break };
        let mut seen = false;
        for name in entries {
            seen = true;
            if sys::unlink_at(own, name) != Err(EISDIR) || name == c"." || name == c".." {
                continue;
            }
            if let (Some(depth), Ok(below)) = (depth.checked_sub(1), sys::open_at(own, name, Open::Read)) {
                empty(below, depth);
                sys::close(below);
            }
            let _ = sys::rmdir_at(own, name);
        }
        if !seen {
            break;
        }
    }
    sys::close(own);
}

/// Notes when the workload was started. The room for it was taken beforehand.
pub fn note_start(directory: i32, (unix_ns, boot_ns): (u64, u64)) -> sys::Result<()> {
    let fd = sys::open_at(directory, NOT_STARTED_NAME, Open::Create)?;
    let mut out = Output::to(fd);
    for text in [Decimal::new(unix_ns).as_str(), " ", Decimal::new(boot_ns).as_str(), "\n"] {
        let _ = out.write_str(text);
    }
    out.flush();
    sys::close(fd);
    out.result.and_then(|()| sys::rename_at(directory, NOT_STARTED_NAME, STARTED_NAME))
}

fn try_record(directory: i32, facts: &Facts<'_>, extent: Extent) -> sys::Result<()> {
    let fd = sys::open_at(directory, RESERVED_NAME, Open::Create)?;
    // Also gives back what was reserved and not needed.
    let result = write_text(fd, facts, extent).and_then(|length| sys::truncate(fd, length));
    sys::close(fd);
    result.and_then(|()| sys::rename_at(directory, RESERVED_NAME, c"exit.json"))
}

/// Writes the record's text to a file; its length.
#[inline(never)] // one copy in the program
pub fn write_text(fd: i32, facts: &Facts<'_>, extent: Extent) -> sys::Result<usize> {
    let mut out = Output::to(fd);
    let _ = facts.write(extent, &mut out);
    out.flush();
    out.result.map(|()| out.written)
}

/// Collects small pieces into larger writes. The first failure stays.
struct Output {
    fd: i32,
    buffer: [u8; 512],
    filled: usize,
    written: usize,
    result: sys::Result<()>,
}

impl Output {
    fn to(fd: i32) -> Output {
        Output { fd, buffer: [0; 512], filled: 0, written: 0, result: Ok(()) }
    }

    fn flush(&mut self) {
        let mut rest = self.buffer.get(..self.filled).unwrap_or(&[]);
        while self.result.is_ok() && !rest.is_empty() {
            match sys::write(self.fd, rest) {
                Ok(length) => {
                    self.written += length;
                    rest = rest.get(length..).unwrap_or(&[]);
                }
                Err(errno) => self.result = Err(errno),
            }
        }
        self.filled = 0;
    }
}

impl core::fmt::Write for Output {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            if self.filled == self.buffer.len() {
                self.flush();
            }
            if let Some(place) = self.buffer.get_mut(self.filled) {
                *place = byte;
                self.filled += 1;
            }
        }
        self.result.map_err(|_| core::fmt::Error)
    }
}

/// Removes the container's cgroups, and waits for their last processes to leave, for two seconds in
/// total. What is not gone by then is left for `reap` to find: a monitor that waits for ever would
/// keep everybody else waiting.
///
/// The first one goes last: by its inode the cgroup is known to be this container's, so that
/// somebody else can go on if this is cut short.
pub fn remove_cgroups(handover: &Handover<'_>) {
    let until = sys::now_ns(Clock::Boottime).saturating_add(REMOVAL_BOUND_NS);
    let Some((first, others)) = handover.cgroups.split_first() else { return };
    while others.iter().filter(|leaf| !removed(leaf)).count() > 0 || !removed(first) {
        let left = until.saturating_sub(sys::now_ns(Clock::Boottime));
        if left == 0 {
            break;
        }
        if !wait_unpopulated(handover, left) {
            let _ = sys::poll(&mut [], Some(RETRY_NS.min(left)));
        }
    }
}

fn removed(leaf: &CgroupLeaf<'_>) -> bool {
    const EBUSY: i32 = 16;
    sys::rmdir(leaf.path) != Err(EBUSY)
}

/// Waits for the unified cgroup to lose its last process. False: there is no such cgroup, or it is
/// empty already.
fn wait_unpopulated(handover: &Handover<'_>, timeout_ns: u64) -> bool {
    let Some(directory) = unified(handover).and_then(|leaf| sys::open_directory(leaf.path).ok()) else { return false };
    let events = sys::open_at(directory, c"cgroup.events", Open::Read);
    sys::close(directory);
    let Ok(fd) = events else { return false };
    // Reading is what tells the kernel which change would be news.
    let mut buffer = [0; 128];
    let populated =
        sys::read_start(fd, &mut buffer).is_ok_and(|text| crate::counters::value(text, "populated") == Some(1));
    if populated {
        let _ = sys::poll(&mut [sys::PollFd { fd, events: sys::POLLPRI, revents: 0 }], Some(timeout_ns));
    }
    sys::close(fd);
    populated
}

fn unified<'h>(handover: &'h Handover<'_>) -> Option<&'h CgroupLeaf<'h>> {
    handover.cgroups.iter().find(|leaf| leaf.kind == CgroupKind::Unified)
}
