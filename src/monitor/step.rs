//! All of supervision as one pure function: what the monitor does when something happens.
//!
//! ```text
//!          start            exec            stop, SIGTERM, deadline       grace passed
//! Created ───────> Starting ─────> Running ─────────────────────────> Stopping ─────> Killing
//!    └───────────────┴── stop, SIGTERM, deadline: nothing to be gentle with ─────────────^
//! every phase ── init exited ──> Ended: one record, then nothing more
//! ```
//!
//! Instants are CLOCK_BOOTTIME nanoseconds. The function knows neither fds nor clients: a client is
//! a number to answer to.

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
    /// Before it became the workload, and not by a stop.
    NeverStarted,
}

/// Where the container is, with what only matters there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waits at its gate.
    Created,
    /// The gate is open; init has not become the workload yet.
    Starting {
        /// Who asked for it, and is answered when it runs.
        client: usize,
    },
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
    /// How long it may run, nanoseconds, where its deadline is to be set when it starts.
    pub timeout: Option<u64>,
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
    /// Init has become the workload.
    Started,
    /// Init is dead and can be reaped.
    InitExited,
    /// [`State::deadline`] has passed. One that comes early changes nothing.
    DeadlinePassed,
    /// The monitor itself was told to end (SIGTERM): a stop in the container's own terms. A service
    /// manager tells so every process of a unit that it stops.
    Terminated,
    /// This client asks for something.
    Asked(usize, Request),
}

/// What to do, in the order given. A failed signal turns the answer that follows it into its errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Let init pass the gate.
    OpenGate,
    /// Note that the workload runs, from now on.
    NoteStart,
    /// Send init this signal.
    Signal(Signal),
    /// Let run what has been frozen, so that a signal is heard.
    Thaw,
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

/// No event has more than three.
pub type Actions = List<Action, 3>;

impl State {
    /// The next instant at which something is due by itself.
    pub fn deadline(&self) -> Option<u64> {
        match self.phase {
            Phase::Created | Phase::Starting { .. } | Phase::Running => self.terms.deadline,
            Phase::Stopping { kill_at, .. } => Some(kill_at),
            Phase::Killing { .. } | Phase::Ended => None,
        }
    }

    /// The phase as clients see it.
    pub fn progress(&self) -> Progress {
        match self.phase {
            Phase::Created | Phase::Starting { .. } => Progress::Created,
            Phase::Running => Progress::Running,
            Phase::Stopping { .. } => Progress::Stopping,
            Phase::Killing { .. } | Phase::Ended => Progress::Killing,
        }
    }

    /// When a stop that begins now ends in a kill: a later stop can only bring that nearer, and
    /// none outlives the container's own deadline by more than the container's own grace.
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
        (Phase::Starting { client }, Event::Started) => {
            let deadline =
                state.terms.timeout.map_or(state.terms.deadline, |timeout| Some(now.saturating_add(timeout)));
            let state = State { phase: Phase::Running, terms: Terms { deadline, ..state.terms } };
            return (state, Actions::of(&[Action::NoteStart, Action::AnswerDone(client)]));
        }
        // It was stopped meanwhile.
        (phase @ (Phase::Stopping { .. } | Phase::Killing { .. }), Event::Started) => (phase, &[Action::NoteStart]),
        (phase, Event::Started) => (phase, &[]),
        (phase, Event::DeadlinePassed) if state.deadline().is_none_or(|deadline| now < deadline) => (phase, &[]),
        (Phase::Created | Phase::Starting { .. }, Event::DeadlinePassed) => {
            (Phase::Killing { cause: Reason::Timeout }, &[Action::KillTree])
        }
        (Phase::Stopping { cause, .. }, Event::DeadlinePassed) => {
            let cause = if cause == Reason::Stopped { Reason::KilledAfterGrace } else { cause };
            (Phase::Killing { cause }, &[Action::KillTree])
        }
        (_, Event::DeadlinePassed) => {
            let kill_at = after(now, state.terms.grace_ms);
            (
                Phase::Stopping { kill_at, cause: Reason::Timeout },
                &[Action::Signal(state.terms.stop_signal), Action::Thaw],
            )
        }
        (_, Event::Asked(client, request)) => return asked(state, now, client, request),
        (_, Event::Terminated) => return stop(state, now, None, None),
    };
    (State { phase, ..state }, Actions::of(actions))
}

/// A stop, whoever asks for it.
fn stop(state: State, now: u64, signal: Option<Signal>, grace_ms: Option<u32>) -> (State, Actions) {
    let (phase, actions): (Phase, &[Action]) = match state.phase {
        Phase::Created | Phase::Starting { .. } => (Phase::Killing { cause: Reason::Stopped }, &[Action::KillTree]),
        // Killed, but not dead: perhaps something was out of reach the first time.
        phase @ (Phase::Killing { .. } | Phase::Ended) => (phase, &[Action::KillTree]),
        phase => {
            let kill_at = state.kill_at(now, grace_ms.unwrap_or(state.terms.grace_ms));
            let cause = if let Phase::Stopping { cause, .. } = phase { cause } else { Reason::Stopped };
            let signal = Action::Signal(signal.unwrap_or(state.terms.stop_signal));
            (Phase::Stopping { kill_at, cause }, &[signal, Action::Thaw])
        }
    };
    (State { phase, ..state }, Actions::of(actions))
}

fn asked(state: State, now: u64, client: usize, request: Request) -> (State, Actions) {
    let done = Action::AnswerDone(client);
    let (phase, actions): (Phase, &[Action]) = match (state.phase, request) {
        (phase, Request::Status) => (phase, &[Action::AnswerStatus(client)]),
        (Phase::Created, Request::Start) => (Phase::Starting { client }, &[Action::OpenGate]),
        (phase, Request::Start) => (phase, &[Action::AnswerErrno(client, EALREADY)]),
        (phase, Request::Signal(Signal::KILL)) => (phase, &[Action::Signal(Signal::KILL), Action::Thaw, done]),
        (phase, Request::Signal(signal)) => (phase, &[Action::Signal(signal), done]),
        (_, Request::Stop { signal, grace_ms }) => {
            let (state, mut actions) = stop(state, now, signal, grace_ms);
            let _ = actions.push(done); // there is room for it
            return (state, actions);
        }
    };
    (State { phase, ..state }, Actions::of(actions))
}

fn reason(phase: Phase) -> Reason {
    match phase {
        Phase::Created | Phase::Starting { .. } => Reason::NeverStarted,
        Phase::Running | Phase::Ended => Reason::Exited,
        Phase::Stopping { cause, .. } | Phase::Killing { cause } => cause,
    }
}

fn after(instant: u64, grace_ms: u32) -> u64 {
    instant.saturating_add(u64::from(grace_ms) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::super::protocol::tests::requests;
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
        let event = prop_oneof![
            3 => Just(Event::Started),
            1 => Just(Event::InitExited),
            6 => Just(Event::DeadlinePassed),
            1 => Just(Event::Terminated),
            8 => (0usize..8, short(requests())).prop_map(|(client, request)| Event::Asked(client, request)),
        ];
        proptest::collection::vec((0..40 * MS, event), 0..24)
    }

    /// Graces in the order of the time between events, so that some pass and some do not.
    fn short(requests: impl Strategy<Value = Request>) -> impl Strategy<Value = Request> {
        (requests, 0u32..90).prop_map(|(request, short)| match request {
            Request::Stop { signal, grace_ms: Some(_) } => Request::Stop { signal, grace_ms: Some(short) },
            other => other,
        })
    }

    fn states() -> impl Strategy<Value = State> {
        let phase = prop_oneof![Just(Phase::Created), Just(Phase::Running)];
        (phase, proptest::option::of(0..400 * MS), 0u32..90).prop_map(|(phase, deadline, grace_ms)| State {
            phase,
            terms: Terms { deadline, timeout: None, stop_signal: Signal::TERM, grace_ms },
        })
    }

    /// Each step of a history: when, what happened, the state before and after, what was done.
    type Step = (u64, Event, State, State, Vec<Action>);

    fn history(mut state: State, events: Vec<(u64, Event)>) -> Vec<Step> {
        let mut now = 0;
        let mut steps = Vec::new();
        for (pause, event) in events {
            now += pause;
            let (next, actions) = step(state, now, event);
            steps.push((now, event, state, next, actions.to_vec()));
            state = next;
        }
        steps
    }

    proptest! {
        #[test]
        fn one_record_is_written_when_init_exits_and_nothing_is_done_afterwards(state in states(), events in events()) {
            let steps = history(state, events);
            let exit = steps.iter().position(|(_, event, ..)| *event == Event::InitExited);
            for (index, (.., actions)) in steps.iter().enumerate() {
                let finishes = actions.iter().any(|action| matches!(action, Action::Finish(_)));
                prop_assert_eq!(finishes, Some(index) == exit);
                if exit.is_some_and(|exit| index > exit) {
                    prop_assert!(actions.is_empty());
                }
            }
        }

        #[test]
        fn each_request_to_a_living_container_has_one_answer_and_it_comes_last(state in states(), events in events()) {
            for (_, event, before, _, actions) in history(state, events) {
                let answered: Vec<_> = actions.iter().enumerate().filter_map(|(index, action)| match action {
                    Action::AnswerDone(client) | Action::AnswerErrno(client, _) | Action::AnswerStatus(client) => Some((index, *client)),
                    _ => None,
                }).collect();
                match event {
                    // Answered when it runs; whoever is waiting when it ends learns it by the end of the connection.
                    Event::Asked(_, Request::Start) if before.phase == Phase::Created => prop_assert!(answered.is_empty()),
                    Event::Asked(client, _) if before.phase != Phase::Ended => prop_assert_eq!(answered, vec![(actions.len() - 1, client)]),
                    Event::Started => match before.phase {
                        Phase::Starting { client } => prop_assert_eq!(answered, vec![(actions.len() - 1, client)]),
                        _ => prop_assert!(answered.is_empty()),
                    },
                    _ => prop_assert!(answered.is_empty()),
                }
            }
        }

        #[test]
        fn the_kill_follows_every_stop_unless_the_exit_comes_first_and_never_comes_early(state in states(), events in events()) {
            for (now, event, before, after, actions) in history(state, events) {
                let kills = actions.contains(&Action::KillTree);
                if let (Phase::Stopping { kill_at, .. }, Event::DeadlinePassed) = (before.phase, event) {
                    prop_assert_eq!(kills, now >= kill_at);
                }
                if kills {
                    prop_assert!(matches!(after.phase, Phase::Killing { .. }), "a kill is final");
                }
                if let Phase::Stopping { kill_at, .. } = before.phase {
                    let kept = matches!(after.phase, Phase::Stopping { kill_at: later, .. } if later <= kill_at);
                    prop_assert!(kept || kills || event == Event::InitExited, "a stop is forgotten or put off");
                }
            }
        }

        #[test]
        fn no_stop_outlives_the_deadline_by_more_than_the_containers_own_grace(state in states(), events in events()) {
            for (now, _, before, after, _) in history(state, events) {
                if let (Phase::Running, Phase::Stopping { kill_at, .. }, Some(deadline)) = (before.phase, after.phase, state.terms.deadline) {
                    prop_assert!(kill_at <= super::after(deadline.max(now), state.terms.grace_ms));
                }
            }
        }

        #[test]
        fn the_phase_only_moves_forward(state in states(), events in events()) {
            let rank = |phase| match phase {
                Phase::Created => 0, Phase::Starting { .. } => 1, Phase::Running => 2,
                Phase::Stopping { .. } => 3, Phase::Killing { .. } => 4, Phase::Ended => 5,
            };
            for (_, _, before, after, actions) in history(state, events) {
                prop_assert!(rank(before.phase) <= rank(after.phase));
                let starts = before.phase == Phase::Created && matches!(after.phase, Phase::Starting { .. });
                prop_assert_eq!(actions.contains(&Action::OpenGate), starts);
            }
        }

        #[test]
        fn what_the_record_says_is_what_happened(state in states(), events in events()) {
            let steps = history(state, events);
            let Some((.., actions)) = steps.iter().find(|(_, event, ..)| *event == Event::InitExited) else { return Ok(()) };
            let [Action::Finish(reason)] = actions[..] else { panic!("{actions:?}") };
            let lived = || steps.iter().take_while(|(_, event, ..)| *event != Event::InitExited);
            // The first thing that began its end.
            let began = lived().find(|(_, _, before, after, _)| before.deadline() == state.terms.deadline
                && matches!(before.phase, Phase::Created | Phase::Starting { .. } | Phase::Running)
                && matches!(after.phase, Phase::Stopping { .. } | Phase::Killing { .. }));
            let killed = lived().any(|(_, event, .., actions)| *event == Event::DeadlinePassed && actions.contains(&Action::KillTree));
            let runs = lived().last().map_or(state.phase, |(_, _, _, after, _)| after.phase) == Phase::Running;
            let expected = match began {
                None if runs => Reason::Exited,
                None => Reason::NeverStarted,
                Some((_, Event::DeadlinePassed, ..)) => Reason::Timeout,
                Some(_) if killed => Reason::KilledAfterGrace,
                Some(_) => Reason::Stopped,
            };
            prop_assert_eq!(reason, expected);
        }
    }

    #[test]
    fn a_container_that_never_started_is_killed_at_once() {
        let terms = Terms { deadline: Some(5), timeout: None, stop_signal: Signal::TERM, grace_ms: 1000 };
        let created = State { phase: Phase::Created, terms };
        let stop = Event::Asked(3, Request::Stop { signal: None, grace_ms: None });
        let (state, actions) = step(created, 1, stop);
        assert_eq!(*actions, [Action::KillTree, Action::AnswerDone(3)]);
        assert_eq!(*step(state, 2, Event::InitExited).1, [Action::Finish(Reason::Stopped)]);
        assert_eq!(*step(created, 5, Event::DeadlinePassed).1, [Action::KillTree]);
        assert_eq!(*step(created, 4, Event::DeadlinePassed).1, []);
    }

    #[test]
    fn a_monitor_that_is_told_to_end_stops_its_container_first() {
        let terms = Terms { deadline: None, timeout: None, stop_signal: Signal::TERM, grace_ms: 2 };
        let (state, actions) = step(State { phase: Phase::Running, terms }, MS, Event::Terminated);
        assert_eq!(*actions, [Action::Signal(Signal::TERM), Action::Thaw]);
        assert_eq!(state.deadline(), Some(3 * MS));
        assert_eq!(*step(state, 3 * MS, Event::DeadlinePassed).1, [Action::KillTree]);
        assert_eq!(*step(state, 2 * MS, Event::InitExited).1, [Action::Finish(Reason::Stopped)]);
    }

    #[test]
    fn whoever_is_to_end_is_thawed_and_nobody_else() {
        let terms = Terms { deadline: Some(MS), timeout: None, stop_signal: Signal::TERM, grace_ms: 2 };
        let running = State { phase: Phase::Running, terms };
        let usr1 = Signal::new(10).unwrap();
        let table = [
            (Event::Terminated, true),
            (Event::DeadlinePassed, true),
            (Event::Asked(0, Request::Stop { signal: Some(usr1), grace_ms: None }), true),
            (Event::Asked(0, Request::Signal(Signal::KILL)), true),
            (Event::Asked(0, Request::Signal(usr1)), false),
            (Event::Asked(0, Request::Status), false),
        ];
        for (event, thaws) in table {
            let (_, actions) = step(running, MS, event);
            assert_eq!(actions.contains(&Action::Thaw), thaws, "{event:?}: {:?}", &*actions);
        }
    }

    #[test]
    fn a_start_is_accepted_once_and_answered_when_it_runs() {
        let terms = Terms { deadline: None, timeout: Some(7), stop_signal: Signal::TERM, grace_ms: 0 };
        let created = State { phase: Phase::Created, terms };
        let start = |client| Event::Asked(client, Request::Start);
        let (starting, actions) = step(created, 0, start(2));
        assert_eq!((&*actions, starting.deadline()), (&[Action::OpenGate][..], None), "its time has not begun");
        assert_eq!(*step(starting, 0, start(3)).1, [Action::AnswerErrno(3, EALREADY)]);
        let (running, actions) = step(starting, 10, Event::Started);
        assert_eq!(*actions, [Action::NoteStart, Action::AnswerDone(2)]);
        assert_eq!((running.phase, running.deadline()), (Phase::Running, Some(17)));
        assert_eq!(*step(running, 11, start(2)).1, [Action::AnswerErrno(2, EALREADY)]);
        assert_eq!(*step(starting, 10, Event::InitExited).1, [Action::Finish(Reason::NeverStarted)]);
        assert_eq!(*step(created, 10, Event::InitExited).1, [Action::Finish(Reason::NeverStarted)]);
    }

    #[test]
    fn what_is_stopped_while_it_starts_is_killed_and_may_have_run() {
        let terms = Terms { deadline: None, timeout: None, stop_signal: Signal::TERM, grace_ms: 1000 };
        let starting = State { phase: Phase::Starting { client: 1 }, terms };
        let (killing, actions) = step(starting, 0, Event::Terminated);
        assert_eq!(*actions, [Action::KillTree]);
        assert_eq!(*step(killing, 0, Event::Started).1, [Action::NoteStart]);
        assert_eq!(*step(killing, 0, Event::InitExited).1, [Action::Finish(Reason::Stopped)]);
    }
}
