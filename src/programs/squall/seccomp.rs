//! `squall seccomp`: profiles checked and explained. It reads one file, touches nothing and needs
//! no privilege.

use clap::{Args, Subcommand};
use serde_json::json;
use squall::seccomp::{Profile, parse_number};
use squall::{Error, ErrorKind, Problem, Result};

use crate::print;

/// Most arguments of a system call.
const MAX_ARGS: usize = 6;

#[derive(Debug, Args)]
pub struct Seccomp {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a profile: everything that is wrong with it, names unknown here, the program's length
    Check(Check),
    /// Show what a profile does with a system call, and by which rule
    Explain(Explain),
}

#[derive(Debug, Args)]
struct Check {
    /// An OCI seccomp profile, or docker's or podman's
    #[arg(value_name = "FILE")]
    file: std::path::PathBuf,
    /// Show what is done with each call
    #[arg(long)]
    list: bool,
    /// For a machine
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Explain {
    /// The profile
    #[arg(value_name = "FILE")]
    file: std::path::PathBuf,
    /// The call's name or number
    #[arg(value_name = "SYSCALL")]
    call: String,
    /// Its arguments, decimal or with 0x; those left out are 0
    #[arg(value_name = "ARG")]
    args: Vec<String>,
    /// For a machine
    #[arg(long)]
    json: bool,
}

/// Runs the command; the answer is the exit code.
pub fn run(arguments: &Seccomp) -> Result<i32> {
    match &arguments.command {
        Command::Check(arguments) => check(arguments),
        Command::Explain(arguments) => explain(arguments),
    }
}

fn check(arguments: &Check) -> Result<i32> {
    let checked = Profile::read(&arguments.file).and_then(|profile| Ok((profile.compile()?, profile)));
    let (filter, profile) = match checked {
        Err(error) if error.kind() == ErrorKind::Invalid => return Ok(report_invalid(arguments, &error)),
        checked => checked?,
    };
    let unusable = profile.lets_execute().err();
    let code = if unusable.is_some() { crate::OWN_ERROR } else { 0 };
    if arguments.json {
        let mut document = json!({
            "valid": unusable.is_none(),
            "problems": unusable.iter().collect::<Vec<_>>(),
            "warnings": profile.warnings(),
            "instructions": filter.program().len(),
        });
        if arguments.list {
            document["listing"] = json!(profile.listing());
        }
        say!("{document}");
        return Ok(code);
    }
    for warning in profile.warnings() {
        say!("warning  {warning}");
    }
    match unusable {
        Some(problem) => say!("wrong    {problem}"),
        None => say!("valid    {} instructions", filter.program().len()),
    }
    if arguments.list {
        say!("");
        print::lines(profile.listing());
    }
    Ok(code)
}

fn report_invalid(arguments: &Check, error: &Error) -> i32 {
    if arguments.json {
        say!("{}", json!({ "valid": false, "problems": error.problems() }));
    } else {
        for problem in error.problems() {
            say!("wrong    {problem}");
        }
    }
    crate::OWN_ERROR
}

fn explain(arguments: &Explain) -> Result<i32> {
    let number = Profile::call_number(&arguments.call).ok_or_else(|| {
        wrong("SYSCALL", format!("'{}' is no system call here: expected a name or a number", arguments.call))
    })?;
    let args = args(&arguments.args)?;
    let profile = Profile::read(&arguments.file)?;
    let explanation = profile.explain(number, &args);
    if arguments.json {
        say!("{}", json!(explanation));
    } else {
        print::lines(explanation);
    }
    Ok(0)
}

fn args(texts: &[String]) -> Result<[u64; MAX_ARGS]> {
    if texts.len() > MAX_ARGS {
        return Err(wrong("ARG", format!("{} are given: a system call has at most {MAX_ARGS}", texts.len())));
    }
    let mut args = [0; MAX_ARGS];
    for (arg, text) in args.iter_mut().zip(texts) {
        *arg = parse_number(text).ok_or_else(|| {
            wrong("ARG", format!("'{text}' is no argument: expected a number of 64 bits, decimal or with 0x"))
        })?;
    }
    Ok(args)
}

fn wrong(field: &str, reason: String) -> Error {
    Error::invalid("command line", vec![Problem { field: field.to_owned(), reason }])
}
