//! `squall-monitor`, the program: watches one container and writes how it ended.
//!
//! Who we are here: the former launch process, alone in its own session, root, outside the
//! container's namespaces and cgroups, parent of init. No argument and no environment is read;
//! everything comes from the handover in fd 3. See `mod.rs` for the library's side.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod clients;
mod counters;
mod decimal;
mod exit_file;
mod finish;
#[allow(dead_code)] // the library's half: writing
mod handover;
mod kernel_log;
mod list;
mod oom_cause;
#[allow(dead_code)] // the library's half: asking
mod protocol;
mod record;
mod step;
mod sys;

use core::ffi::CStr;

use clients::{Accepted, Clients, PLACES};
use handover::{HANDOVER_FD, Handover, MAX_BYTES, MAX_WATCHES, OomKind, RESERVED_BYTES, RESERVED_NAME};
use list::List;
use protocol::{Answer, Status};
use record::{Ending, Facts, Stopper, Usage};
use step::{Action, Event, Phase, Reason, State, step};
use sys::{Clock, POLLIN, PollFd};

const MALFORMED: i32 = 64;
const BUG: i32 = 70;
const NO_RECORD: i32 = 1;

/// What a filter kills with.
const SIGSYS: u8 = 31;

const SOCKET_NAME: &CStr = c"monitor.sock";
/// How long the socket is left alone when the system has nothing left to accept a connection with,
/// and init's pidfd when it says more than is true.
const REST_NS: u64 = 1_000_000_000;

/// The places of the fixed fds among those waited for; the clients follow.
const INIT: usize = 0;
const SIGNALS: usize = 1;
const SOCKET: usize = 2;
const REPORT: usize = 3;
const FIRST_CLIENT: usize = 4;

/// Of what init says when it cannot start, so much is kept: an error is a few hundred bytes.
const MAX_REPORT: usize = 1536;

/// Called by `_start`, on the stack that the kernel made.
pub extern "C" fn main() -> ! {
    sys::settle(c"squall-monitor");
    let Some(mut monitor) = read_handover().and_then(Monitor::new) else { sys::exit(MALFORMED) };
    loop {
        monitor.wait_once();
    }
}

/// Nothing here panics: a test finds no way to this function in the program. If one comes to be,
/// init lives on, its end is reported as lost, and the kernel's log has the reason.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    if let Ok(log) = sys::open_at(-1, c"/dev/kmsg", sys::Open::Write) {
        let _ = sys::write(log, b"squall-monitor: panicked\n");
    }
    sys::exit(BUG)
}

fn read_handover() -> Option<Handover<'static>> {
    // One byte more than allowed, so that a longer text does not pass for a whole one.
    let text = sys::read_whole(HANDOVER_FD, MAX_BYTES + 1).ok()?;
    let handover = Handover::decode(text)?;
    close_all_but(&handover.fds())?;
    Some(handover)
}

/// A copy of somebody's fd 1 or 2, or of a pipe's end, that lives as long as the container would
/// keep its reader waiting for ever.
fn close_all_but(kept: &[i32]) -> Option<()> {
    let mut next = 0;
    while let Some(fd) = kept.iter().copied().filter(|fd| *fd >= next).min() {
        if fd > next {
            sys::close_range(next, fd - 1).ok()?;
        }
        next = fd.checked_add(1)?;
    }
    sys::close_range(next, i32::MAX).ok()
}

/// The world around the pure [`step`].
struct Monitor {
    handover: Handover<'static>,
    state: State,
    clients: Clients,
    /// Readable when a child has died, or when the monitor is to end.
    signals: i32,
    /// The gate's fd until it is opened.
    gate: Option<i32>,
    /// Init's report until its end.
    report: Option<i32>,
    /// What it has said so far.
    said: List<u8, MAX_REPORT>,
    started_ns: Option<(u64, u64)>,
    oom_seen: [u64; MAX_WATCHES],
    watching_boot_ns: u64,
    wakeups: u64,
    accepting: Accepted,
    /// Init's pidfd could be read, and init had not ended.
    doubted: bool,
    /// Who has begun to stop it.
    stopper: Option<Stopper>,
    /// How init ended, once it is reaped.
    ended: Option<(Ending, Usage)>,
}

impl Monitor {
    /// `None`: an fd is not what the handover says.
    fn new(handover: Handover<'static>) -> Option<Monitor> {
        // Anything else than "our child, and not reaped" would be found out when it is too late.
        sys::wait(sys::Children::Pidfd(handover.pidfd), sys::Wait::Look).ok()?;
        for fd in [Some(handover.socket), handover.report].into_iter().flatten() {
            sys::set_nonblocking(fd).ok()?;
        }
        for watch in handover.watches.iter().filter(|watch| watch.kind == OomKind::Eventfd) {
            sys::set_nonblocking(watch.fd).ok()?;
        }
        reserve_record(handover.directory)?;
        let phase = if handover.gate.is_some() { Phase::Created } else { Phase::Running };
        Some(Monitor {
            state: State { phase, terms: handover.terms },
            clients: Clients::new(handover.owner_uid),
            signals: sys::signals().ok()?,
            gate: handover.gate,
            report: handover.report,
            said: List::new(),
            started_ns: handover.gate.is_none().then_some((handover.started_unix_ns, handover.started_boot_ns)),
            oom_seen: [0; MAX_WATCHES],
            watching_boot_ns: sys::now_ns(Clock::Boottime),
            wakeups: 0,
            accepting: Accepted::Yes,
            doubted: false,
            stopper: None,
            ended: None,
            handover,
        })
    }

    /// Sleeps until something happens, and deals with all that has. An exit goes first: a stop or a
    /// deadline that comes at the same moment did not cause it.
    fn wait_once(&mut self) {
        let ready = self.poll();
        let is_ready = |place: usize| ready.get(place).is_some_and(|revents| *revents != 0);
        self.doubted = false;
        if is_ready(REPORT) {
            self.read_report();
        }
        if is_ready(INIT) || is_ready(SIGNALS) {
            self.look_at_init();
            self.doubted = is_ready(INIT);
        }
        if is_ready(SIGNALS) {
            if let Some((pid, uid)) = sys::take_termination(self.signals) {
                self.happened_by(Event::Terminated, Stopper::Signal { pid, uid });
            }
            finish::reap_orphans(self.handover.pid);
        }
        self.accepting = Accepted::Yes;
        for client in (0..PLACES).filter(|client| is_ready(FIRST_CLIENT + client)) {
            if let Some((request, pid)) = self.clients.receive(client) {
                self.happened_by(Event::Asked(client, request), Stopper::Request { pid });
            }
        }
        if is_ready(SOCKET) {
            self.accepting = self.clients.accept(self.handover.socket);
        }
        if self.state.deadline().is_some_and(|deadline| sys::now_ns(Clock::Boottime) >= deadline) {
            self.happened_by(Event::DeadlinePassed, Stopper::Deadline);
        }
    }

    /// Only the wait tells whether init has ended. Its pidfd can be read for an instant while a
    /// thread of it executes a program and replaces the first one, and as long as a debugger holds
    /// the dead init back; then it is left alone, since the true end comes with a SIGCHLD.
    fn look_at_init(&mut self) {
        match finish::reap_init(self.handover.pidfd) {
            Ok(None) => (),
            Ok(ended) => {
                self.ended = ended;
                // Whether it ever ran: what it said is all there by now.
                self.read_report();
                self.happened(Event::InitExited);
            }
            Err(finish::Unknown) => sys::exit(NO_RECORD),
        }
    }

    /// Reads what init has said. At the end of its report it is known whether it became the workload.
    fn read_report(&mut self) {
        let Some(report) = self.report else { return };
        let mut buffer = [0; 256];
        loop {
            match sys::read(report, &mut buffer) {
                Err(sys::EAGAIN | sys::EINTR) => return,
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    for byte in buffer.iter().take(length) {
                        let _ = self.said.push(*byte); // what does not fit is left out
                    }
                }
            }
        }
        sys::close(report);
        self.report = None;
        if handover::has_started(&self.said) {
            self.happened(Event::Started);
        }
    }

    fn poll(&mut self) -> [i16; FIRST_CLIENT + PLACES] {
        let exhausted = self.accepting == Accepted::Exhausted;
        let resting = exhausted || self.doubted;
        let mut fds = [PollFd { fd: -1, events: POLLIN, revents: 0 }; FIRST_CLIENT + PLACES];
        let [init, signals, socket, report, clients @ ..] = &mut fds;
        report.fd = self.report.unwrap_or(-1);
        init.fd = if self.doubted { -1 } else { self.handover.pidfd };
        signals.fd = self.signals;
        socket.fd = if exhausted { -1 } else { self.handover.socket };
        for (place, fd) in clients.iter_mut().zip(self.clients.fds()) {
            place.fd = fd;
        }
        let due = self.state.deadline().map(|deadline| deadline.saturating_sub(sys::now_ns(Clock::Boottime)));
        let timeout = if resting { Some(due.unwrap_or(REST_NS).min(REST_NS)) } else { due };
        let _ = sys::poll(&mut fds, timeout);
        self.wakeups += 1;
        fds.map(|place| place.revents)
    }

    /// Something that may be the beginning of a stop, and then it is known by whom.
    fn happened_by(&mut self, event: Event, who: Stopper) {
        let ends = |phase| matches!(phase, Phase::Stopping { .. } | Phase::Killing { .. });
        let before = ends(self.state.phase);
        self.happened(event);
        if !before && ends(self.state.phase) {
            self.stopper = Some(who);
        }
    }

    fn happened(&mut self, event: Event) {
        let (state, actions) = step(self.state, sys::now_ns(Clock::Boottime), event);
        self.state = state;
        let mut outcome = Ok(());
        for action in actions.iter() {
            match *action {
                Action::OpenGate => outcome = self.open_gate(),
                Action::NoteStart => self.note_start(),
                Action::Signal(signal) => outcome = sys::send_signal(self.handover.pidfd, signal.number()),
                Action::Thaw => finish::thaw(&self.handover),
                Action::KillTree => self.kill_tree(),
                Action::AnswerDone(client) => {
                    self.clients.answer(client, outcome.map_or_else(failed, |()| Answer::Done))
                }
                Action::AnswerErrno(client, errno) => self.clients.answer(client, Answer::Failed(errno)),
                Action::AnswerStatus(client) => {
                    let status = self.status();
                    self.clients.answer(client, Answer::Status(status));
                }
                Action::Finish(reason) => self.finish(reason),
            }
        }
    }

    fn open_gate(&mut self) -> sys::Result<()> {
        let Some(gate) = self.gate.take() else { return Ok(()) };
        // Eight bytes are what an eventfd takes; the reader of a pipe looks at the first.
        let result = sys::write(gate, &1_u64.to_ne_bytes()).map(drop);
        sys::close(gate);
        result
    }

    /// Without the file the container still looks as if it had not been started; its end will tell.
    fn note_start(&mut self) {
        let now = now_ns();
        self.started_ns = Some(now);
        let _ = finish::note_start(self.handover.directory, now);
    }

    /// Init by its pidfd in any case: in a unified tree that it never joined `cgroup.kill` succeeds
    /// and kills nobody. Thawed last, so that nothing runs again but to die.
    fn kill_tree(&self) {
        finish::kill_cgroup(&self.handover);
        let _ = sys::send_signal(self.handover.pidfd, sys::SIGKILL);
        finish::thaw(&self.handover);
    }

    fn status(&mut self) -> Status {
        self.read_oom();
        let own = oom_cause::own_events(&self.handover.watches, &self.oom_seen);
        let first_is_own = self.handover.watches.first().is_some_and(|watch| watch.ancestor.is_none());
        Status {
            progress: self.state.progress(),
            pid: self.handover.pid,
            watching_boot_ns: self.watching_boot_ns,
            deadline_boot_ns: self.state.deadline().unwrap_or(0),
            wakeups: self.wakeups,
            oom_events: if first_is_own { own.first().copied().unwrap_or(0) } else { 0 },
        }
    }

    fn read_oom(&mut self) {
        for (watch, seen) in self.handover.watches.iter().zip(self.oom_seen.iter_mut()) {
            let mut count = [0; 8];
            let mut buffer = [0; 256];
            match watch.kind {
                // Reading an eventfd sets it back to 0, and fails if it is 0.
                OomKind::Eventfd if sys::read(watch.fd, &mut count) == Ok(8) => {
                    *seen = seen.saturating_add(u64::from_ne_bytes(count))
                }
                OomKind::Eventfd => (),
                OomKind::MemoryEvents => {
                    let text = sys::read_start(watch.fd, &mut buffer).unwrap_or(&[]);
                    *seen = counters::value(text, "oom").map_or(*seen, |count| count.saturating_sub(watch.baseline));
                }
            }
        }
    }

    fn finish(&mut self, reason: Reason) -> ! {
        let ended_ns = now_ns();
        let Some((ending, usage)) = self.ended.take() else { sys::exit(BUG) };
        finish::kill_cgroup(&self.handover);
        finish::thaw(&self.handover);
        finish::reap_orphans(self.handover.pid);
        self.read_oom();
        let facts = Facts {
            handover: &self.handover,
            ending,
            reason,
            stopper: self.stopper,
            seccomp: match ending {
                Ending::Signal { signal: SIGSYS, .. } => finish::killed_by_filter(self.handover.pid),
                _ => None,
            },
            started_ns: self.started_ns,
            start_report: &self.said,
            ended_ns,
            usage,
            counts: finish::read_counts(&self.handover),
            oom_seen: List::of(&self.oom_seen),
            upper: self.handover.upper.and_then(finish::read_upper),
            wakeups: self.wakeups,
        };
        let written = finish::write_record(self.handover.directory, &facts);
        finish::remove_cgroups(&self.handover);
        let _ = sys::unlink_at(self.handover.directory, SOCKET_NAME);
        if let Some(path) = self.handover.removal {
            finish::remove_directory(self.handover.directory, path);
        }
        exit_file::write(&facts);
        sys::exit(if written.is_ok() { 0 } else { NO_RECORD })
    }
}

/// Takes the room for the record, where the launch process has not, so that a run root that others
/// fill up later cannot hide how this container ended. Without room the container is watched all
/// the same.
fn reserve_record(directory: i32) -> Option<()> {
    match sys::open_at(directory, RESERVED_NAME, sys::Open::Create) {
        Ok(fd) => {
            let _ = sys::reserve(fd, RESERVED_BYTES);
            sys::close(fd);
        }
        Err(sys::EBADF | sys::ENOTDIR) => return None,
        Err(_) => (),
    }
    Some(())
}

fn now_ns() -> (u64, u64) {
    (sys::now_ns(Clock::Realtime), sys::now_ns(Clock::Boottime))
}

fn failed(errno: i32) -> Answer {
    Answer::Failed(u8::try_from(errno).unwrap_or(u8::MAX))
}
