//! The command line: sub-commands, how many arguments each takes, and what is checked before it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use squall::request::Identity;
use squall::setuid::Caller;

use crate::config::Config;
use crate::exit::{Code, Failure};
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

/// Runs what the arguments say; the first is the program's name.
pub fn run(caller: &Caller, arguments: &[OsString]) -> Outcome {
    match arguments {
        [_, only] if only == "--checksetup" => check_setup(),
        [_, user, command, rest @ ..] => run_for(caller, &user.to_string_lossy(), command, rest),
        _ => {
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

fn run_for(caller: &Caller, user: &str, name: &OsString, rest: &[OsString]) -> Outcome {
    let config = Config::read()?;
    setup::check_binary(&config)?;
    let user = User::allowed(user, &config)?;
    say!("main : command provided {}", name.display());
    say!("main : user is {}", user.name);
    let Some(command) = COMMANDS.iter().find(|command| name.as_bytes().eq_ignore_ascii_case(command.name.as_bytes()))
    else {
        return Err(Failure::new(Code::UnknownCommand, format!("there is no command '{}'", name.display())));
    };
    if rest.len() != command.arguments.len() {
        let (given, expected) = (rest.len() + 3, command.arguments.len() + 3);
        let text = format!("{}: {given} arguments with program, user and command: expected {expected}", command.name);
        return Err(Failure::new(Code::Arguments, text));
    }
    let supervisor = Identity::new(caller.uid, config.group, [])
        .map_err(|bad| Failure::new(Code::Other, format!("the caller: {}", bad.at("uid"))))?;
    let launcher = Launcher { config, caller: caller.clone(), supervisor, user };
    (command.run)(&launcher, rest)
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
