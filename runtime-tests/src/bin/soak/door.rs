//! A launch under way, by whichever door.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio as ProcessStdio};
use std::time::Duration;

use runtime_tests::call::{memory_file, wait_for_end};
use squall::{ErrorKind, Stdio};

use crate::Outcome;
use crate::embedder::Embedder;
use crate::ground::Ground;
use crate::plan::{Door, Plan, Victim};
use crate::processes::{Known, look};

/// How long a program may take to its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a process that is to be killed may take to appear.
const APPEARANCE: Duration = Duration::from_millis(200);

/// What the caller says of its launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Launched,
    Failed {
        /// Because there is no such program.
        missing: bool,
        text: String,
    },
    /// Nothing: it was killed.
    Silence,
}

/// A launch under way.
#[derive(Debug)]
pub enum Launching {
    /// By the command line.
    Program(Program),
    /// By a program that embeds the library, for this cycle alone.
    Embedder(Embedder),
    /// By this program; the launch is over.
    Library(Answer),
}

/// `squall run`.
#[derive(Debug)]
pub struct Program {
    child: Child,
    stderr: File,
    status: Option<ExitStatus>,
    killed: bool,
}

impl Launching {
    /// Begins the launch of a plan.
    pub fn begin(ground: &Ground, plan: &Plan, id: &str) -> Outcome<Launching> {
        match plan.door {
            Door::Foreground | Door::Remove | Door::Detached => {
                Ok(Launching::Program(Program::start(ground, plan, id)?))
            }
            Door::Forked | Door::Program if plan.needs_embedder() => {
                let mut embedder = Embedder::start(ground, plan.door, id)?;
                embedder.order(&ground.spec(plan, id)?)?;
                Ok(Launching::Embedder(embedder))
            }
            Door::Forked | Door::Program => {
                let launched = ground.library(plan.door).launch(&ground.spec(plan, id)?, Stdio::null()?);
                Ok(Launching::Library(match launched {
                    Ok(_) => Answer::Launched,
                    Err(error) => {
                        Answer::Failed { missing: error.kind() == ErrorKind::ProgramNotFound, text: error.to_string() }
                    }
                }))
            }
        }
    }

    /// Kills the victim while it launches; false if it was not there, or dead already.
    pub fn strike(&mut self, victim: Victim) -> Outcome<bool> {
        let parent_of_launch = match self {
            Launching::Program(program) => program.child.id(),
            Launching::Embedder(embedder) => embedder.spawner.pid,
            Launching::Library(_) => return Ok(false),
        };
        let launch = || Known::child_of(parent_of_launch);
        let victim = match (victim, &mut *self) {
            (Victim::Caller, _) => return self.kill_caller(),
            (Victim::Launch, _) => look(APPEARANCE, launch),
            (Victim::Init, _) => look(APPEARANCE, || Known::child_of(launch()?.pid)),
            (Victim::Spawner, Launching::Embedder(embedder)) => return Ok(embedder.spawner.kill()),
            (Victim::Keeper, Launching::Embedder(embedder)) => {
                return Ok(embedder.keeper.as_ref().is_some_and(Known::kill));
            }
            _ => None,
        };
        Ok(victim.is_some_and(|victim| victim.kill()))
    }

    /// Kills the caller; false if it has ended.
    pub fn kill_caller(&mut self) -> Outcome<bool> {
        match self {
            Launching::Program(program) => program.kill(),
            Launching::Embedder(embedder) => {
                embedder.child.kill()?;
                embedder.child.wait()?;
                Ok(true)
            }
            Launching::Library(_) => Ok(false),
        }
    }

    /// What the caller says. A program in the foreground says nothing until the end: there the
    /// record counts.
    pub fn answer(&mut self, has_record: impl Fn() -> bool, detached: bool) -> Outcome<Answer> {
        match self {
            Launching::Library(answer) => Ok(answer.clone()),
            Launching::Embedder(embedder) => embedder.answer(),
            Launching::Program(program) if detached => program.launch_answer(),
            Launching::Program(program) => {
                let mut ended = false;
                let settled = look(PATIENCE, || {
                    ended = program.has_ended().unwrap_or(true);
                    (ended || has_record()).then_some(())
                });
                match settled {
                    Some(()) if ended => program.launch_answer(),
                    Some(()) => Ok(Answer::Launched),
                    None => Err("a launch that comes to nothing".into()),
                }
            }
        }
    }

    /// The exit code of a program in the foreground, unless it was killed.
    pub fn code(&mut self) -> Outcome<Option<i32>> {
        match self {
            Launching::Program(program) => {
                let status = program.end()?;
                Ok(if program.killed { None } else { Some(code(status)) })
            }
            _ => Ok(None),
        }
    }

    /// Ends what was started for this cycle alone.
    pub fn close(&mut self) -> Outcome<()> {
        match self {
            Launching::Program(program) => program.end().map(drop),
            Launching::Embedder(embedder) => embedder.close(),
            Launching::Library(_) => Ok(()),
        }
    }
}

impl Program {
    fn start(ground: &Ground, plan: &Plan, id: &str) -> Outcome<Program> {
        let stderr = memory_file("stderr")?;
        let mut command = ground.run(plan, id).into_command();
        command.stdin(ProcessStdio::null()).stdout(ProcessStdio::null()).stderr(stderr.try_clone()?);
        // What a terminal sends to this program is not for the worker.
        command.process_group(0);
        Ok(Program { child: command.spawn()?, stderr, status: None, killed: false })
    }

    fn has_ended(&mut self) -> Outcome<bool> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status.is_some())
    }

    fn end(&mut self) -> Outcome<ExitStatus> {
        if self.status.is_none() {
            self.status = wait_for_end(&mut self.child, PATIENCE)?;
        }
        self.status.ok_or_else(|| format!("squall run did not end within {PATIENCE:?}").into())
    }

    fn kill(&mut self) -> Outcome<bool> {
        if self.has_ended()? {
            return Ok(false);
        }
        self.child.kill()?;
        self.killed = self.end()?.signal() == Some(libc::SIGKILL);
        Ok(self.killed)
    }

    /// What it says of the launch, now that it has ended or will.
    fn launch_answer(&mut self) -> Outcome<Answer> {
        let status = self.end()?;
        if self.killed {
            return Ok(Answer::Silence);
        }
        let error = self.error()?;
        // An end that is lost is no failed launch.
        let failed = error.filter(|text| matches!(code(status), 125..=127) && !text.contains("lost: "));
        Ok(match failed {
            Some(text) => Answer::Failed { missing: code(status) == 127, text },
            None => Answer::Launched,
        })
    }

    /// The line of its own error, if it had one.
    fn error(&mut self) -> Outcome<Option<String>> {
        let mut text = String::new();
        self.stderr.rewind()?;
        self.stderr.read_to_string(&mut text)?;
        let is_error = |line: &&str| {
            let told = line.strip_prefix("squall: ");
            told.is_some_and(|told| !told.starts_with("warning: ") && !told.starts_with("note: "))
        };
        Ok(text.lines().find(is_error).map(str::to_owned))
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
