//! `squall exec`: a further program in a running container.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use squall::record::Exit;
use squall::request::{Door, ExecSpec, Identity, values};
use squall::{Container, Error, ErrorKind, ExecEnd, Phase, Result, Squall, Stage, Stdio};

use crate::args::DETACH_KEYS;
use crate::foreground::Outcome;
use crate::relay::Relay;
use crate::security::Security;
use crate::terminal::Terminals;
use crate::{commands, foreground, print, relay, request};

#[derive(Debug, Args)]
#[command(
    after_help = "Ends with the program's own code, with 128 and the signal's number where one ended it, with 126 where it cannot be \
                        executed, with 127 where there is none, and with 125 where anything else fails."
)]
pub struct Exec {
    /// Keep standard input open
    #[arg(short, long, conflicts_with = "detach")]
    pub interactive: bool,
    /// Allocate a terminal for the program; the caller's is raw meanwhile
    #[arg(short, long, conflicts_with = "detach")]
    pub tty: bool,
    /// Keys to leave the terminal by while the program runs on: characters and ctrl-X, separated by
    /// ','; empty for none
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS)]
    pub detach_keys: String,
    /// Run in the background and print the session's id; `inspect` tells how it ended
    #[arg(short, long)]
    pub detach: bool,
    /// Set an environment variable; without a value, pass on the caller's. Repeatable
    #[arg(short, long, value_name = "K[=V]")]
    pub env: Vec<String>,
    /// Working directory inside the container [default: the worker's]
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Username or UID (format: <name|uid>[:gid]) [default: the worker's]
    #[arg(short, long, value_name = "NAME|UID[:GID]")]
    pub user: Option<String>,
    /// Security options: seccomp=FILE|unconfined|default [default: the worker's]. Repeatable
    #[arg(long = "security-opt", value_name = "OPTION")]
    pub security_options: Vec<String>,
    /// Maximum time in seconds the program may run
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    pub timeout: Option<String>,
    /// Container name
    #[arg(value_name = "ID")]
    pub id: String,
    /// Command and arguments
    #[arg(value_name = "ARGV", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<OsString>,
}

/// What the library calls the fields, as they are typed.
const DOOR: Door<'static> = Door {
    object: "command line",
    names: &[
        ("args", "ARGV"),
        ("env", "--env"),
        ("cwd", "--workdir"),
        ("timeout", "--timeout"),
        ("seccomp", "--security-opt seccomp"),
    ],
};

/// Executes the program; in the foreground its end is waited for. The answer is the exit code.
pub fn exec(squall: &Squall, arguments: &Exec) -> Result<i32> {
    let spec = spec(arguments)?;
    let container = match squall.attach(&arguments.id)? {
        Container::Running(running) => running,
        Container::Launching(_) => return Err(commands::not_launched(&arguments.id)),
        Container::Paused(paused) => return Err(refused(paused.record().id.as_str(), Phase::Paused)),
        other => return Err(refused(other.id(), other.phase())),
    };
    let (stdio, terminal) = if arguments.tty {
        let (stdio, terminal) = relay::terminal(&arguments.detach_keys)?;
        (stdio, Some(terminal))
    } else {
        (streams(arguments)?, None)
    };
    if arguments.detach {
        let session = squall.exec(&container, &spec, stdio).map_err(rename)?;
        say!("{}", session.id());
        return Ok(0);
    }
    let signals = foreground::take_signals()?;
    let _terminals = Terminals::remember()?;
    let session = squall.exec(&container, &spec, stdio).map_err(rename)?;
    let mut relay = terminal.map(|(end, keys)| Relay::begin(end, arguments.interactive, keys)).transpose()?;
    if foreground::wait(&session, &signals, relay.as_mut())? == Outcome::Detached {
        relay.map_or(Ok(()), |relay| relay.leave(|terminal| session.keep_terminal(terminal)))?;
        say!("{}", session.id());
        return Ok(0);
    }
    drop(relay);
    let end = session.wait()?;
    if let Err(error) = session.remove()
        && error.kind() != ErrorKind::NotFound
    {
        tell!("warning: {error}");
    }
    code(&arguments.id, &end)
}

fn spec(arguments: &Exec) -> Result<ExecSpec> {
    let mut flags = request::Flags::default();
    let args = request::arguments(&arguments.rest, &mut flags);
    let mut spec = ExecSpec::new(args).env(request::environment(&arguments.env, &mut flags));
    if let Some(directory) = &arguments.workdir {
        spec = spec.cwd(directory);
    }
    let user = arguments.user.as_deref().map(Identity::parse);
    spec = flags.take("--user", user.transpose()).flatten().into_iter().fold(spec, ExecSpec::user);
    let timeout = arguments.timeout.as_deref().map(values::seconds).transpose();
    spec = flags.value("--timeout", timeout).flatten().into_iter().fold(spec, ExecSpec::timeout);
    if let Some(security) = flags.take("--security-opt", Security::of(&arguments.security_options)) {
        if security.apparmor.is_some() || security.selinux.is_some() {
            let text = "only seccomp can be another than the worker's";
            flags.value::<()>("--security-opt", Err(squall::request::BadValue::new(text)));
        }
        if let Some(asked) = security.seccomp {
            asked.warnings.iter().for_each(|warning| tell!("warning: {warning}"));
            spec = spec.seccomp(asked.seccomp);
        }
    }
    flags.finish(Ok(spec))
}

/// A refusal of the library in the words of the command line.
fn rename(error: Error) -> Error {
    match error.problems() {
        [] => error,
        problems => Error::invalid(DOOR.object, problems.iter().map(|problem| DOOR.rename(problem.clone())).collect()),
    }
}

fn refused(id: &str, found: Phase) -> Error {
    Error::wrong_phase(Stage::Request, format!("container '{id}'"), "exec", found, Phase::Running)
}

/// The program's streams: the caller's, but for standard input where it is not asked for.
fn streams(arguments: &Exec) -> Result<Stdio> {
    if arguments.detach {
        return Stdio::null();
    }
    let mut stdio = Stdio::inherit()?;
    if !arguments.interactive {
        let [stdin, ..] = Stdio::null()?.streams;
        stdio.streams[0] = stdin;
    }
    Ok(stdio)
}

/// The exit code for the end of a session.
pub fn code(id: &str, end: &ExecEnd) -> Result<i32> {
    let known: Option<&Exit> = match end {
        ExecEnd::Exited(exit) => return Ok(print::exit_code(&exit.exit)),
        ExecEnd::Lost(known) => known.as_ref(),
        _ => None,
    };
    if let Some(known) = known {
        tell!("its monitor was killed; the kernel still knew its end: {}", print::exit(known));
    }
    Err(commands::lost_error(id))
}
