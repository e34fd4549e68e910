//! A program that embeds Squall and may be killed, its spawner and keeper too: this same file, told
//! so by its environment.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio as ProcessStdio};
use std::time::Duration;

use runtime_tests::call::wait_for_end;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use squall::request::LaunchSpec;
use squall::{ErrorKind, Spawner, Squall, Stdio};

use crate::ground::Ground;
use crate::plan::Door;
use crate::processes::{Known, MARK, look};
use crate::{Outcome, door::Answer};

/// Tells a process that it is the embedder, and which spawner it has.
const KIND: &str = "SQUALL_SOAK_EMBEDDER";
const FORKED: &str = "forked";
const PROGRAM: &str = "program";

/// How long an answer may take: longer than a launch waits for its init.
const PATIENCE: Timespec = Timespec { tv_sec: 45, tv_nsec: 0 };

/// The program, as the soak has it.
#[derive(Debug)]
pub struct Embedder {
    pub child: Child,
    answers: BufReader<ChildStdout>,
    pub spawner: Known,
    pub keeper: Option<Known>,
    /// What the spawner program is started by.
    name: PathBuf,
}

impl Embedder {
    /// Starts it and waits until its spawner is there.
    pub fn start(ground: &Ground, door: Door, id: &str) -> Outcome<Embedder> {
        let kind = if door == Door::Forked { FORKED } else { PROGRAM };
        let name = ground.spawner_name(id);
        std::os::unix::fs::symlink(ground.bed.program(), &name)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.env(KIND, kind).env(MARK, ground.mark(id));
        command.args([ground.bed.run_root(), ground.bed.monitors().into(), name.clone()]);
        command
            .stdin(ProcessStdio::piped())
            .stdout(ProcessStdio::piped())
            .stderr(ProcessStdio::null())
            .process_group(0);
        let mut child = command.spawn()?;
        let mut answers = BufReader::new(child.stdout.take().ok_or("its answers are a pipe")?);
        if next_answer(&mut answers)? != Some(json!("ready")) {
            return Err("the embedder cannot make its spawner".into());
        }
        let patience = Duration::from_secs(10);
        let first = look(patience, || Known::child_of(child.id())).ok_or("the embedder has no spawner")?;
        let (keeper, spawner) = match door {
            Door::Forked => {
                let spawner = look(patience, || Known::child_of(first.pid)).ok_or("the keeper has no spawner")?;
                (Some(first), spawner)
            }
            _ => (None, first),
        };
        Ok(Embedder { child, answers, spawner, keeper, name })
    }

    /// Orders a launch.
    pub fn order(&mut self, spec: &LaunchSpec) -> Outcome<()> {
        let mut line = spec.to_json();
        line.retain(|byte| *byte != b'\n');
        line.push(b'\n');
        // One that has been killed takes no orders; its silence is the answer.
        let _ = self.child.stdin.as_mut().ok_or("it takes orders no more")?.write_all(&line);
        Ok(())
    }

    /// What came of the order; one that has been killed says nothing.
    pub fn answer(&mut self) -> Outcome<Answer> {
        Ok(match next_answer(&mut self.answers)? {
            None => Answer::Silence,
            Some(answer) if answer["failed"].is_null() => Answer::Launched,
            Some(answer) => Answer::Failed {
                missing: answer["missing"] == true,
                text: answer["failed"].as_str().unwrap_or_default().to_owned(),
            },
        })
    }

    /// Has it end, and its spawner with it.
    pub fn close(&mut self) -> Outcome<()> {
        drop(self.child.stdin.take());
        let _ = std::fs::remove_file(&self.name);
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        match wait_for_end(&mut self.child, Duration::from_secs(30))? {
            Some(_) => Ok(()),
            None => Err("the embedder does not end".into()),
        }
    }
}

fn next_answer(answers: &mut BufReader<ChildStdout>) -> Outcome<Option<Value>> {
    if answers.buffer().is_empty() {
        let pipe = answers.get_ref().as_fd();
        if poll(&mut [PollFd::from_borrowed_fd(pipe, PollFlags::IN)], Some(&PATIENCE))? == 0 {
            return Err("the embedder does not answer".into());
        }
    }
    let mut line = String::new();
    answers.read_line(&mut line)?;
    Ok(if line.is_empty() { None } else { Some(serde_json::from_str(&line)?) })
}

/// Becomes the embedder, if this process was started as one; then this does not return.
pub fn become_one() {
    let Ok(kind) = std::env::var(KIND) else { return };
    let code = i32::from(embed(&kind).is_err());
    std::process::exit(code)
}

fn embed(kind: &str) -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [run_root, monitors, program] = args.as_slice() else { return Err("three arguments".into()) };
    let spawner = if kind == PROGRAM { Spawner::program(program) } else { Spawner::fork() };
    let squall = Squall::builder().run_root(run_root).monitors(monitors).spawner(spawner?).build()?;
    say(&json!("ready"));
    for order in std::io::stdin().lines() {
        let answer = match launch(&squall, order?.as_bytes()) {
            Ok(()) => json!({ "failed": null }),
            Err(error) => {
                json!({ "failed": error.to_string(), "missing": error.kind() == ErrorKind::ProgramNotFound })
            }
        };
        say(&answer);
    }
    Ok(())
}

fn launch(squall: &Squall, order: &[u8]) -> squall::Result<()> {
    squall.launch(&LaunchSpec::from_json(order)?, Stdio::null()?).map(drop)
}

fn say(answer: &Value) {
    println!("{answer}");
}
