//! `squall attach`: back to a terminal that its caller has left, or that nobody had yet.

use clap::Args;
use squall::{Container, Error, ErrorKind, Phase, Result, Running, Squall, Stage};

use crate::args::DETACH_KEYS;
use crate::foreground::{Outcome, Program};
use crate::relay::{DetachKeys, Relay};
use crate::terminal::Terminals;
use crate::{commands, exec, foreground, print};

#[derive(Debug, Args)]
#[command(
    after_help = "Ends as the worker does: with its code, or 128 and the number of the signal that ended it. Whoever leaves by \
                        the keys leaves the worker running. A container without a terminal has `squall logs`."
)]
pub struct Attach {
    /// Keys to leave the terminal by while the worker runs on: characters and ctrl-X, separated by
    /// ','; empty for none
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS)]
    pub detach_keys: String,
    /// Only show what the worker writes
    #[arg(long)]
    pub no_stdin: bool,
    /// An exec session of the container instead of its worker (see `inspect`)
    #[arg(long, value_name = "SESSION")]
    pub session: Option<String>,
    /// Container name
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Borrows the terminal and waits for the end. The answer is the exit code.
pub fn run(squall: &Squall, arguments: &Attach) -> Result<i32> {
    let container = squall.attach(&arguments.id)?;
    match &arguments.session {
        None => to_worker(squall, arguments, &running(&container)?),
        Some(session) => to_session(arguments, &container, session),
    }
}

fn running(container: &Container) -> Result<Running> {
    match container {
        Container::Running(running) => Ok(running.clone()),
        Container::Launching(_) => Err(commands::not_launched(container.id())),
        other => {
            let object = format!("container '{}'", other.id());
            Err(Error::wrong_phase(Stage::Watch, object, "attach", other.phase(), Phase::Running))
        }
    }
}

fn to_worker(squall: &Squall, arguments: &Attach, running: &Running) -> Result<i32> {
    let container = Container::Running(running.clone());
    let terminal = || container.attach_terminal();
    let Outcome::Ended { by } = sit(arguments, running, terminal)? else { return Ok(0) };
    let id = &arguments.id;
    let exit = commands::end_of(squall, id)?.map_err(|_| commands::lost_error(id))?;
    commands::report_facts(id, &exit);
    Ok(foreground::code_by_signal(&exit, by).unwrap_or_else(|| print::exit_code(&exit.exit)))
}

fn to_session(arguments: &Attach, container: &Container, id: &str) -> Result<i32> {
    let session = container.exec_sessions()?.into_iter().find(|session| session.id() == id).ok_or_else(|| {
        let object = format!("exec session '{id}' of container '{}'", container.id());
        Error::found(ErrorKind::NotFound, Stage::Watch, object, "attach", "there is none")
    })?;
    match sit(arguments, &session, || session.attach_terminal())? {
        Outcome::Detached => Ok(0),
        Outcome::Ended { .. } => exec::code(container.id(), &session.wait()?),
    }
}

/// At the terminal, until the program ends or whoever sits there leaves.
fn sit(
    arguments: &Attach,
    program: &impl Program,
    terminal: impl FnOnce() -> Result<squall::LentTerminal>,
) -> Result<Outcome> {
    let keys = DetachKeys::parse(&arguments.detach_keys)?;
    let signals = foreground::take_signals()?;
    let _terminals = Terminals::remember()?;
    let mut relay = Relay::resume(terminal()?, !arguments.no_stdin, keys)?;
    foreground::wait(program, &signals, Some(&mut relay))
}
