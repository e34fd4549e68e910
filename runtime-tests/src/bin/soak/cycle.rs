//! The whole life of one container.

use std::os::fd::AsFd;
use std::time::Duration;

use runtime_tests::host;
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use squall::record::{ExitRecord, LaunchRecord};
use squall::{Container, ErrorKind};

use crate::door::{Answer, Launching};
use crate::ground::Ground;
use crate::judge::{self, Told};
use crate::plan::{Door, End, Fate, Moment, Plan, Victim, Visit};
use crate::processes::{self, look, marked};
use crate::tally::{Problem, Report};
use crate::{Outcome, plan};

/// How long a launch may take to come to something: longer than it waits for its init.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(45);

/// What a launch came to.
#[derive(Debug)]
pub enum Place {
    /// No container.
    Absent,
    /// A launch that died half way.
    HalfWay,
    Present(Box<LaunchRecord>),
}

struct Cycle<'g> {
    ground: &'g Ground,
    plan: Plan,
    id: String,
    /// Who was killed.
    struck: Option<Victim>,
    problems: Vec<Problem>,
}

/// Lives a container's life; nothing that goes wrong in it ends the soak.
pub fn run(ground: &Ground, plan: Plan) -> Report {
    let id = format!("c{}", plan.number);
    let mut cycle = Cycle { ground, plan, id, struck: None, problems: Vec::new() };
    let lost = cycle.live().unwrap_or_else(|error| {
        cycle.problem(Problem::Broken(error.to_string()));
        false
    });
    Report { plan, struck: cycle.struck, lost, problems: cycle.problems }
}

impl Cycle<'_> {
    fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Whether the end was lost.
    fn live(&mut self) -> Outcome<bool> {
        let mut launching = Launching::begin(self.ground, &self.plan, &self.id)?;
        self.strike_while_launching(&mut launching)?;
        let detached = self.plan.door == Door::Detached;
        let record = self.record_path();
        let answer = launching.answer(|| record.exists(), detached)?;
        let in_foreground = matches!(launching, Launching::Program(_)) && !detached;
        if matches!(launching, Launching::Embedder(_)) && !self.strikes_later() {
            self.follow_up(&mut launching)?;
            launching.close()?;
        }
        let place = self.settle(&answer)?;
        if let Place::Present(record) = &place {
            self.ground.remember(record);
            self.strike_while_running(&mut launching, record)?;
            self.visit()?;
            self.bring_about_the_end(record)?;
        }
        let code = if in_foreground { launching.code()? } else { None };
        self.follow_up(&mut launching)?;
        launching.close()?;
        let told = match place {
            Place::Present(_) => self.told()?,
            Place::HalfWay => Told::HalfWay,
            Place::Absent => Told::Absent,
        };
        let verdict = judge::judge(&self.plan, self.struck, &answer, code, &told);
        self.problems.extend(verdict);
        self.remove(&told)?;
        Ok(matches!(told, Told::Lost(_)))
    }

    fn record_path(&self) -> std::path::PathBuf {
        self.directory().join("record.json")
    }

    fn directory(&self) -> std::path::PathBuf {
        self.ground.bed.run_root().join("containers").join(&self.id)
    }

    fn strikes_later(&self) -> bool {
        self.plan.strike.is_some_and(|strike| matches!(strike.moment, Moment::Running(_)))
    }

    fn strike_while_launching(&mut self, launching: &mut Launching) -> Outcome<()> {
        let Some(plan::Strike { victim, moment: Moment::Launching(span) }) = self.plan.strike else { return Ok(()) };
        std::thread::sleep(span);
        if launching.strike(victim)? {
            self.struck = Some(victim);
        }
        Ok(())
    }

    fn strike_while_running(&mut self, launching: &mut Launching, record: &LaunchRecord) -> Outcome<()> {
        let Some(plan::Strike { victim, moment: Moment::Running(span) }) = self.plan.strike else { return Ok(()) };
        std::thread::sleep(span);
        let by_record = |process: squall::record::ProcessId| process.open().is_some_and(|it| processes::kill(&it));
        let hit = match victim {
            Victim::Init => by_record(record.init),
            Victim::Monitor => by_record(record.monitor),
            Victim::Caller => launching.kill_caller()?,
            other => launching.strike(other)?,
        };
        self.struck = self.struck.or(hit.then_some(victim));
        Ok(())
    }

    /// What the launch came to, once nobody works at it any more.
    fn settle(&mut self, answer: &Answer) -> Outcome<Place> {
        let mark = self.ground.mark(&self.id);
        let mut failure = None;
        let settled = look(LAUNCH_PATIENCE, || match self.ground.forked.attach(&self.id) {
            Ok(Container::Launching(_)) if self.is_held() => None,
            // Between the two looks its record may have been written.
            Ok(Container::Launching(_)) if !self.record_path().exists() && self.directory().exists() => {
                Some(Place::HalfWay)
            }
            Ok(Container::Launching(_)) => None,
            Ok(container) => container.record().map(|record| Place::Present(Box::new(record.clone()))),
            // A caller may have been killed between its fork and the launch's first step.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Twice: between the list of processes and the look at it, a spawner may fork the
                // launch and end.
                let over = *answer != Answer::Silence || (0..2).all(|_| marked(&mark).is_empty());
                (over && !self.directory().exists()).then_some(Place::Absent)
            }
            Err(error) => {
                failure = Some(error.to_string());
                Some(Place::Absent)
            }
        });
        self.problems.extend(failure.map(Problem::Command));
        settled.ok_or_else(|| format!("the launch is not over after {LAUNCH_PATIENCE:?}").into())
    }

    /// Whether a launch process or a monitor holds the container's directory.
    fn is_held(&self) -> bool {
        let Ok(directory) = std::fs::File::open(self.directory()) else { return false };
        flock(directory.as_fd(), FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
    }

    /// Does with it what can be done with a running container.
    fn visit(&mut self) -> Outcome<()> {
        let (id, plan) = (self.id.clone(), self.plan);
        for visit in plan.visits.into_iter().flatten().filter(|_| plan.lasts()) {
            match visit {
                Visit::Exec(code) => self.exec(code)?,
                Visit::Leave => self.command(&["exec", "-d", &id, "/bin/probe", "sleep", "600000"])?,
                Visit::Update => self.command(&["update", "--pids-limit", "100", &id])?,
                Visit::Read if plan.logs => self.command(&["logs", &id])?,
                Visit::Read => {}
                Visit::Pause => {
                    self.command(&["pause", &id])?;
                    self.command(&["resume", &id])?;
                }
            }
        }
        Ok(())
    }

    fn exec(&mut self, code: u8) -> Outcome<()> {
        let output = self.ground.squall(&["exec", &self.id, "/bin/probe", "exit", &code.to_string()]).attempt()?;
        // Whoever was killed, the container may have ended by it.
        if output.code() != i32::from(code) && !(self.struck.is_some() && output.code() == 125) {
            self.problem(Problem::False(format!("{code} is the code of what was executed, and not as here: {output}")));
        }
        Ok(())
    }

    /// Does what ends the container, where it does not end by itself.
    fn bring_about_the_end(&mut self, record: &LaunchRecord) -> Outcome<()> {
        let id = self.id.clone();
        let unwatched = matches!(self.struck, Some(Victim::Monitor | Victim::Launch));
        match self.plan.end {
            End::Heeded => {
                self.wait_for_its_handlers(record);
                self.command(&["stop", "--time", "30", &id])
            }
            End::Ignored => self.command(&["stop", "--time", "0.1", &id]),
            End::Killed => self.command(&["kill", &id]),
            // Nobody keeps its time any more.
            End::Timeout if unwatched => self.command(&["kill", &id]),
            _ => Ok(()),
        }
    }

    fn wait_for_its_handlers(&self, record: &LaunchRecord) {
        let pid = record.init.pid.unsigned_abs();
        let handles = || host::catches(pid, libc::SIGTERM);
        look(Duration::from_secs(20), || (handles() || !record.init.is_alive()).then_some(()));
    }

    /// A command that has to succeed, unless somebody was killed or the container goes away at its
    /// end.
    fn command(&mut self, args: &[&str]) -> Outcome<()> {
        let output = self.ground.squall(args).attempt()?;
        if output.code() != 0 && self.struck.is_none() && self.plan.door != Door::Remove {
            self.problem(Problem::Command(output.to_string()));
        }
        Ok(())
    }

    /// What is told of the end, by `wait` and by `inspect`.
    fn told(&mut self) -> Outcome<Told> {
        let waited = self.ground.squall(&["wait", "--json", &self.id]).attempt()?;
        if waited.code() != 0 {
            return Ok(if self.directory().exists() { Told::Refused(waited.to_string()) } else { Told::Absent });
        }
        let waited: Value = serde_json::from_slice(&waited.stdout)?;
        if waited["phase"] == "lost" {
            let known = serde_json::from_value::<Option<squall::record::Exit>>(waited["known"].clone())?;
            return Ok(Told::Lost(known.as_ref().map(Fate::of)));
        }
        let exit: ExitRecord = serde_json::from_value(waited["exit"].clone())?;
        let inspected = self.ground.squall(&["inspect", "--json", &self.id]).attempt()?;
        let agrees = serde_json::from_slice::<Value>(&inspected.stdout).is_ok_and(|it| it["exit"] == waited["exit"]);
        // A program with --rm removes it meanwhile.
        if !agrees && self.plan.door != Door::Remove {
            self.problem(Problem::False(format!("wait says {waited}, and then: {inspected}")));
        }
        Ok(Told::Exited(Box::new(exit)))
    }

    /// After its spawner or keeper was killed, a program can launch as before.
    fn follow_up(&mut self, launching: &mut Launching) -> Outcome<()> {
        let (Launching::Embedder(embedder), Some(Victim::Spawner | Victim::Keeper)) = (launching, self.struck) else {
            return Ok(());
        };
        if embedder.child.stdin.is_none() {
            return Ok(());
        }
        let id = format!("{}-again", self.id);
        let plan = Plan { end: End::Code(9), linger_ms: 0, ..self.plan };
        embedder.order(&self.ground.spec(&plan, &id)?)?;
        let answer = embedder.answer()?;
        if answer != Answer::Launched {
            self.problem(Problem::Launch(format!("after the {:?} was killed: {answer:?}", self.struck)));
            return Ok(());
        }
        let waited = self.ground.squall(&["wait", &id]).attempt()?;
        if waited.text() != "9" {
            self.problem(Problem::False(format!("9 is the code, and not as here: {waited}")));
        }
        self.clear(&id, "rm")
    }

    fn clear(&mut self, id: &str, command: &str) -> Outcome<()> {
        let removed = self.ground.squall(&[command, id]).attempt()?;
        if removed.code() != 0 {
            self.problem(Problem::Command(removed.to_string()));
        }
        Ok(())
    }

    /// Removes what is kept of it. Whoever reaps at the same time may be first, where it was lost.
    fn remove(&mut self, told: &Told) -> Outcome<()> {
        let id = self.id.clone();
        match told {
            Told::Exited(_) if self.plan.door == Door::Remove => {
                let _ = self.ground.squall(&["rm", &id]).attempt()?;
            }
            Told::Exited(_) => return self.clear(&id, "rm"),
            Told::HalfWay if self.plan.left_to_reaper => return Ok(()),
            _ => {
                let gone = look(Duration::from_secs(20), || {
                    let _ = self.directory().exists().then(|| self.ground.squall(&["rm", "--force", &id]).attempt());
                    (!self.directory().exists()).then_some(())
                });
                if gone.is_none() {
                    let output = self.ground.squall(&["rm", "--force", &id]).attempt()?;
                    self.problem(Problem::Command(format!("it cannot be removed: {output}")));
                }
            }
        }
        Ok(())
    }
}
