//! The command line: sub-commands, how many arguments each takes, and what is checked before it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use squall::request::Identity;
use squall::setuid::Caller;

use crate::config::Config;
use crate::exit::{Code, Failure, Result};
use crate::user::User;
use crate::{Launcher, Outcome, docker, oci, script, setup, signal, tree};

/// A sub-command with what it is called by and what comes after that.
struct Command {
    name: &'static str,
    arguments: &'static [&'static str],
    run: fn(&Launcher, &[OsString]) -> Outcome,
}

/// In the order of the help text. The original's numbers of arguments count the program itself, the
/// user and the command as well.
const COMMANDS: [Command; 13] = [
    Command { name: "code-dir", arguments: &["directory"], run: tree::read_only },
    Command { name: "blob", arguments: &["directory or file"], run: tree::read_only },
    Command { name: "artifacts-dir", arguments: &["directory"], run: tree::writable },
    Command { name: "rmr", arguments: &["path"], run: tree::rmr },
    Command { name: "worker", arguments: &["work directory", "script"], run: script::worker },
    Command { name: "profiler", arguments: &["work directory", "script"], run: script::profiler },
    Command { name: "signal", arguments: &["pid", "signal"], run: signal::signal },
    Command {
        name: "run-oci-container",
        arguments: &["work directory", "command file", "artifacts directory"],
        run: oci::run::run,
    },
    Command { name: "reap-oci-container", arguments: &["container id", "layers to keep"], run: oci::reap::run },
    Command { name: "profile-oci-container", arguments: &["pid", "arguments file"], run: oci::profile::run },
    Command { name: "launch-docker-container", arguments: &["work directory", "command file"], run: docker::launch },
    Command { name: "run-docker-cmd", arguments: &["work directory", "command file"], run: docker::run },
    Command { name: "profile-docker-container", arguments: &["worker id", "arguments file"], run: docker::profile },
];

/// A command line, as far as its words are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// Too few words.
    Usage,
    /// `--checksetup` alone.
    CheckSetup,
    /// For a user: a sub-command with its arguments.
    For(&'a OsStr, &'a OsStr, &'a [OsString]),
}

impl Line<'_> {
    /// Of these words, of which the first is the program's name. There are no options: with three
    /// words and more, `--checksetup` is a user like any other.
    pub fn of(words: &[OsString]) -> Line<'_> {
        match words {
            [_, only] if only == "--checksetup" => Line::CheckSetup,
            [_, user, command, arguments @ ..] => Line::For(user, command, arguments),
            _ => Line::Usage,
        }
    }
}

/// Runs what the words say.
pub(crate) fn run(caller: &Caller, words: &[OsString]) -> Outcome {
    match Line::of(words) {
        Line::CheckSetup => check_setup(),
        Line::For(user, command, arguments) => run_for(caller, &user.to_string_lossy(), command, arguments),
        Line::Usage => {
            usage();
            Ok(Code::Arguments as i32)
        }
    }
}

fn check_setup() -> Outcome {
    let config = Config::read()?;
    setup::check_binary(&config)?;
    say!("Using configuration file {} ", config.path.display());
    Ok(0)
}

fn run_for(caller: &Caller, user: &str, name: &OsStr, rest: &[OsString]) -> Outcome {
    let config = Config::read()?;
    setup::check_binary(&config)?;
    let user = User::allowed(user, &config)?;
    say!("main : command provided {}", name.display());
    say!("main : user is {}", user.name);
    let command = find(name, rest.len())?;
    let supervisor = Identity::new(caller.uid, config.group, [])
        .map_err(|bad| Failure::new(Code::Other, format!("the caller: {}", bad.at("uid"))))?;
    let launcher = Launcher { config, caller: caller.clone(), supervisor, user };
    (command.run)(&launcher, rest)
}

/// The sub-command of this name, whatever the case of its letters, for so many arguments.
fn find(name: &OsStr, given: usize) -> Result<&'static Command> {
    let Some(command) = COMMANDS.iter().find(|command| name.as_bytes().eq_ignore_ascii_case(command.name.as_bytes()))
    else {
        return Err(Failure::new(Code::UnknownCommand, format!("there is no command '{}'", name.display())));
    };
    if given != command.arguments.len() {
        let (given, expected) = (given + 3, command.arguments.len() + 3);
        let text = format!("{}: {given} arguments with program, user and command: expected {expected}", command.name);
        return Err(Failure::new(Code::Arguments, text));
    }
    Ok(command)
}

/// What a sub-command is called in the table, for a name of the command line and so many arguments.
pub fn name_of(name: &OsStr, arguments: usize) -> Result<&'static str> {
    find(name, arguments).map(|command| command.name)
}

fn usage() {
    say!("Usage: worker-launcher --checksetup");
    say!("       worker-launcher USER COMMAND ARGUMENTS");
    say!("Commands:");
    for command in &COMMANDS {
        let arguments: Vec<String> = command.arguments.iter().map(|name| format!("<{name}>")).collect();
        say!("   {} {}", command.name, arguments.join(" "));
    }
}
