//! All of supervision as one pure function: what the monitor does when something happens.
//!
//! ```text
//!            start            stop, deadline            grace passed
//! Created ──────────> Running ──────────────> Stopping ──────────────> Killing
//!    └────────────────── stop, deadline: nothing to be gentle with ───────^
//! every phase ── init exited ──> Ended: one record, then nothing more
//! ```
//!
//! Instants are CLOCK_BOOTTIME nanoseconds. The function knows neither fds nor clients: a client is a number to answer to.

use super::list::List;
use super::protocol::{EALREADY, Progress, Request, Signal};

/// Why a container ended, as its record says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// By itself, or by a signal that was no stop.
    Exited,
    /// By a stop, within its grace (or before the container was started).
    Stopped,
    /// By a stop whose grace had passed.
    KilledAfterGrace,
    /// By the deadline of the container, whether gently or not.
    Timeout,
}

/// Where the container is, with what only matters there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waits at its gate.
    Created,
    /// Runs.
    Running,
    /// Was signalled and has until `kill_at`.
    Stopping {
        /// When everything is killed.
        kill_at: u64,
        /// What began the stop. A later cause does not replace an earlier one.
        cause: Reason,
    },
    /// Was killed.
    Killing {
        /// What the record will say.
        cause: Reason,
    },
    /// Init was reaped.
    Ended,
}

/// What was agreed on when the container was launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// When the container is stopped in any case.
    pub deadline: Option<u64>,
    /// The stop signal, where a stop names none.
    pub stop_signal: Signal,
    /// The grace, where a stop names none.
    pub grace_ms: u32,
}

/// Everything that a step depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Where the container is.
    pub phase: Phase,
    /// What was agreed on.
    pub terms: Terms,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Init is dead and can be reaped.
    InitExited,
    /// [`State::deadline`] has passed. One that comes early changes nothing.
    DeadlinePassed,
    /// This client asks for something.
    Asked(usize, Request),
}

/// What to do, in the order given. A failed signal turns the answer that follows it into its errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Let init pass the gate.
    OpenGate,
    /// Send init this signal.
    Signal(Signal),
    /// Kill init and everything in the container's cgroup.
    #[default]
    KillTree,
    /// Tell the client that its request is accepted.
    AnswerDone(usize),
    /// Tell the client this errno.
    AnswerErrno(usize, u8),
    /// Tell the client how things stand.
    AnswerStatus(usize),
    /// Reap init, write the record, clear away, exit.
    Finish(Reason),
}

/// No event has more than two.
pub type Actions = List<Action, 2>;

impl State {
    /// The next instant at which something is due by itself.
    pub fn deadline(&self) -> Option<u64> {
        match self.phase {
            Phase::Created | Phase::Running => self.terms.deadline,
            Phase::Stopping { kill_at, .. } => Some(kill_at),
            Phase::Killing { .. } | Phase::Ended => None,
        }
    }

    /// The phase as clients see it.
    pub fn progress(&self) -> Progress {
        match self.phase {
            Phase::Created => Progress::Created,
            Phase::Running => Progress::Running,
            Phase::Stopping { .. } => Progress::Stopping,
            Phase::Killing { .. } | Phase::Ended => Progress::Killing,
        }
    }

    /// When a stop that begins now ends in a kill: a later stop can only bring that nearer, and none outlives the container's own deadline
    /// by more than the container's own grace.
    fn kill_at(&self, now: u64, grace_ms: u32) -> u64 {
        let asked = after(now, grace_ms);
        match (self.phase, self.terms.deadline) {
            (Phase::Stopping { kill_at, .. }, _) => asked.min(kill_at),
            (_, Some(deadline)) => asked.min(after(deadline.max(now), self.terms.grace_ms)),
            (_, None) => asked,
        }
    }
}

/// What becomes of `state` when `event` happens at `now`, and what is to be done.
pub fn step(state: State, now: u64, event: Event) -> (State, Actions) {
    let (phase, actions): (Phase, &[Action]) = match (state.phase, event) {
        (Phase::Ended, _) => (Phase::Ended, &[]),
        (phase, Event::InitExited) => (Phase::Ended, &[Action::Finish(reason(phase))]),
        (phase, Event::DeadlinePassed) if state.deadline().is_none_or(|deadline| now < deadline) => (phase, &[]),
        (Phase::Created, Event::DeadlinePassed) => (Phase::Killing { cause: Reason::Timeout }, &[Action::KillTree]),
        (Phase::Stopping { cause, .. }, Event::DeadlinePassed) => {
            let cause = if cause == Reason::Stopped { Reason::KilledAfterGrace } else { cause };
            (Phase::Killing { cause }, &[Action::KillTree])
        }
        (_, Event::DeadlinePassed) => {
            let kill_at = after(now, state.terms.grace_ms);
            (Phase::Stopping { kill_at, cause: Reason::Timeout }, &[Action::Signal(state.terms.stop_signal)])
        }
        (_, Event::Asked(client, request)) => return asked(state, now, client, request),
    };
    (State { phase, ..state }, Actions::of(actions))
}

fn asked(state: State, now: u64, client: usize, request: Request) -> (State, Actions) {
    let done = Action::AnswerDone(client);
    let (phase, actions): (Phase, &[Action]) = match (state.phase, request) {
        (phase, Request::Status) => (phase, &[Action::AnswerStatus(client)]),
        (Phase::Created, Request::Start) => (Phase::Running, &[Action::OpenGate, done]),
        (phase, Request::Start) => (phase, &[Action::AnswerErrno(client, EALREADY)]),
        (phase, Request::Signal(signal)) => (phase, &[Action::Signal(signal), done]),
        (Phase::Created, Request::Stop { .. }) => {
            (Phase::Killing { cause: Reason::Stopped }, &[Action::KillTree, done])
        }
        // Killed, but not dead: perhaps something was out of reach the first time.
        (phase @ Phase::Killing { .. }, Request::Stop { .. }) => (phase, &[Action::KillTree, done]),
        (phase, Request::Stop { signal, grace_ms }) => {
            let kill_at = state.kill_at(now, grace_ms.unwrap_or(state.terms.grace_ms));
            let cause = if let Phase::Stopping { cause, .. } = phase { cause } else { Reason::Stopped };
            let signal = signal.unwrap_or(state.terms.stop_signal);
            (Phase::Stopping { kill_at, cause }, &[Action::Signal(signal), done])
        }
    };
    (State { phase, ..state }, Actions::of(actions))
}

fn reason(phase: Phase) -> Reason {
    match phase {
        Phase::Created | Phase::Running | Phase::Ended => Reason::Exited,
        Phase::Stopping { cause, .. } | Phase::Killing { cause } => cause,
    }
}

fn after(instant: u64, grace_ms: u32) -> u64 {
    instant.saturating_add(u64::from(grace_ms) * 1_000_000)
}
