//! What the embedder does with one worker: it looks what there is, and does what is planned and not
//! done yet.

use std::sync::Arc;
use std::time::Duration;

use runtime_tests::{host, until};
use squall::request::ExecSpec;
use squall::{Container, Created, ErrorKind, ExecSession, Launching, Paused, Running, Squall, Stdio};

use crate::Outcome;
use crate::embedder::{Embedder, Place, tell};
use crate::plan::{Exec, Fate, Plan};
use crate::word::{self, Deed};

/// Longer than a launch takes to come to something.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(45);

/// Longer than whatever is about to end takes to be on record.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// The grace of a stop that is heeded, and of one that is not.
const LONG_GRACE: Duration = Duration::from_secs(60);
const SHORT_GRACE: Duration = Duration::from_millis(50);

/// So often what there is may change while somebody looks: earlier launches come to their end.
const LOOKS: usize = 20;

struct Life<'e> {
    embedder: &'e Embedder,
    plan: &'e Plan,
    id: String,
    place: Arc<Place>,
}

/// Does what is planned with a worker, and leaves it with a wait in the runtime.
pub fn live(embedder: &Embedder, plan: &Plan, place: Arc<Place>) -> Outcome<()> {
    let life = Life { embedder, plan, id: plan.id(), place };
    for _ in 0..LOOKS {
        match life.squall().attach(&life.id) {
            Ok(Container::Launching(launching)) => life.settle(launching)?,
            Ok(Container::Created(created)) => life.start(&created)?,
            Ok(Container::Running(running)) => return life.carry_out(running, &plan.execs),
            // Its programs were executed before, and what is frozen takes no signal.
            Ok(Container::Paused(paused)) => return life.carry_out(paused.into_running(), &[]),
            // Its end was told by those who waited, or will be by its record.
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if life.launch()? {
                    return Ok(());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(format!("looked at {LOOKS} times, and it comes to nothing").into())
}

impl Life<'_> {
    fn squall(&self) -> &Squall {
        &self.embedder.squall
    }

    fn intend(&self, deed: Deed) {
        word::intend(self.plan.number, deed);
    }

    /// Whether it was refused, as planned.
    fn launch(&self) -> Outcome<bool> {
        let spec = self.embedder.ground.spec(self.plan)?;
        self.intend(Deed::Launch);
        let launched = if self.plan.created {
            self.squall().create(&spec, Stdio::null()?).map(drop)
        } else {
            self.squall().launch(&spec, Stdio::null()?).map(drop)
        };
        match launched {
            Ok(()) => Ok(false),
            // One that was killed has begun it, and its launch process goes on.
            Err(error) if error.kind() == ErrorKind::Exists => Ok(false),
            Err(error) if self.plan.leaves_no_record() => {
                word::refused(self.plan.number, &error);
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Of a launch that somebody else has begun, who was killed perhaps.
    fn settle(&self, launching: Launching) -> Outcome<()> {
        let settled = launching.settle(LAUNCH_PATIENCE);
        let abandoned = match settled {
            Ok(Container::Launching(launching)) => launching.abandon(),
            other => other.map(drop),
        };
        match abandoned {
            // It was taken back, or is a container by now.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Phase) => Ok(()),
            other => Ok(other?),
        }
    }

    fn start(&self, created: &Created) -> Outcome<()> {
        self.intend(Deed::Start);
        match created.start() {
            Ok(_) => Ok(()),
            Err(error) if self.plan.fate == Fate::Foreign && error.kind() == ErrorKind::ProgramNotExecutable => {
                word::refused(self.plan.number, &error);
                Ok(())
            }
            // One that was killed has started it.
            Err(error) if error.kind() == ErrorKind::Phase => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Does with it what is to be done while it runs. Where that fails it is ended in another way:
    /// what is wrong is known then, and the others go on.
    fn carry_out(&self, running: Running, execs: &[Exec]) -> Outcome<()> {
        self.embedder.watch(self.plan, running.clone(), Arc::clone(&self.place));
        let done = self.do_all(&running, execs);
        if done.is_err() {
            let _ = running.kill_tree();
        }
        done
    }

    /// The last deed is what ends it.
    fn do_all(&self, running: &Running, execs: &[Exec]) -> Outcome<()> {
        for (place, exec) in execs.iter().enumerate() {
            let executed = self.exec(running, place, *exec);
            self.unless_over(running, executed)?;
        }
        let done = self.bring_about_the_end(running);
        self.unless_over(running, done)
    }

    /// A deed fails where an earlier embedder has brought about the end, and was killed then. That
    /// has to come.
    fn unless_over(&self, running: &Running, done: Outcome<()>) -> Outcome<()> {
        let Err(error) = done else { return Ok(()) };
        let kind = error.downcast_ref::<squall::Error>().map(squall::Error::kind);
        let may_be_over = matches!(kind, Some(ErrorKind::Phase | ErrorKind::NotFound));
        if may_be_over && running.wait_for(END_PATIENCE)?.is_some() { Ok(()) } else { Err(error) }
    }

    fn bring_about_the_end(&self, running: &Running) -> Outcome<()> {
        match self.plan.fate {
            Fate::Killed => self.signal(running, libc::SIGKILL),
            Fate::Handles { signal } => {
                wait_for_handlers(running);
                self.signal(running, signal.into())
            }
            Fate::Heeds => {
                wait_for_handlers(running);
                self.stop(running, LONG_GRACE)
            }
            Fate::Ignores => self.stop(running, SHORT_GRACE),
            Fate::StoppedPaused => {
                wait_for_handlers(running);
                self.pause(running)?;
                self.stop(running, LONG_GRACE)
            }
            Fate::KilledPaused => {
                let paused = self.pause(running)?;
                self.intend(Deed::Signal);
                Ok(paused.signal(libc::SIGKILL)?)
            }
            // By itself. A part of the threads waits, beside the runtime.
            _ if self.plan.number.is_multiple_of(4) => {
                tell(self.plan.number, "thread", &running.wait()?);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn signal(&self, running: &Running, signal: i32) -> Outcome<()> {
        self.intend(Deed::Signal);
        Ok(running.signal(signal)?)
    }

    fn stop(&self, running: &Running, grace: Duration) -> Outcome<()> {
        self.intend(Deed::Stop);
        tell(self.plan.number, "stop", &running.stop(libc::SIGTERM, grace)?);
        Ok(())
    }

    /// A paused worker takes no program, unless somebody has let it go on.
    fn pause(&self, running: &Running) -> Outcome<Paused> {
        self.intend(Deed::Pause);
        let paused = running.pause()?;
        match self.squall().exec(running, &ExecSpec::new([crate::plan::PROBE, "exit", "0"]), Stdio::null()?) {
            Err(error) if error.kind() == ErrorKind::Phase => Ok(paused),
            Err(error) => Err(error.into()),
            Ok(session) => Err(format!("paused, and it took a program: {session:?}").into()),
        }
    }

    /// Has a program executed, unless it was, and brings about its end.
    fn exec(&self, running: &Running, place: usize, exec: Exec) -> Outcome<()> {
        let mut sessions = sessions_of(&self.squall().attach(&self.id)?, place)?;
        if sessions.is_empty() {
            self.intend(Deed::Exec(place));
            sessions.push(self.squall().exec(running, &ExecSpec::new(exec.argv(place)), Stdio::null()?)?);
        }
        for session in sessions {
            match exec {
                Exec::Left => continue,
                Exec::Killed { signal } if session.is_alive() => {
                    self.intend(Deed::SignalExec(place));
                    match session.signal(signal.into()) {
                        // One that was killed has sent it.
                        Err(error) if error.kind() == ErrorKind::Phase && !session.is_alive() => {}
                        other => other?,
                    }
                }
                _ => {}
            }
            if session.wait_for(END_PATIENCE)?.is_none() {
                return Err(format!("program {place} in it does not end: {session:?}").into());
            }
        }
        Ok(())
    }
}

/// The sessions of a worker's program of this place: more than one where an embedder was killed
/// while it was executed.
pub fn sessions_of(container: &Container, place: usize) -> Outcome<Vec<ExecSession>> {
    let mark = Exec::mark(place);
    let mut sessions = container.exec_sessions()?;
    sessions.retain(|session| {
        let args = session.record().spec["args"].as_array();
        args.and_then(|args| args.last()).is_some_and(|last| *last == mark.as_str())
    });
    Ok(sessions)
}

/// Whoever sees that TERM is caught knows that all are.
fn wait_for_handlers(running: &Running) {
    let pid = running.record().init.pid.unsigned_abs();
    until("it handles its signals", || (host::catches(pid, libc::SIGTERM) || !running.is_alive()).then_some(()));
}
