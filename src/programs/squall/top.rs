//! `squall top`: the processes of a container, from the host.

use clap::Args;
use serde_json::json;
use squall::{Container, ContainerProcess, Error, ErrorKind, Result, Squall, Stage};

use crate::print;

#[derive(Debug, Args)]
#[command(
    after_help = "Shown are the pid on the host and inside the container, the effective uid, the kernel's letter for the state (R runs, S and D \
                  wait, T is stopped, Z has ended), threads, processor time, memory in RAM and the command line, with control characters \
                  escaped. A process without a command line is shown by its name in brackets."
)]
pub struct Top {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Container name
    #[arg(value_name = "ID")]
    pub id: String,
}

pub fn run(squall: &Squall, arguments: &Top) -> Result<i32> {
    let container = squall.attach(&arguments.id)?;
    if !matches!(container, Container::Created(_) | Container::Running(_) | Container::Paused(_)) {
        let object = format!("container '{}'", arguments.id);
        return Err(Error::found(ErrorKind::Phase, Stage::Watch, object, "top", "it does not run"));
    }
    let processes = container.processes()?;
    if arguments.json {
        say!("{}", json!(processes));
        return Ok(0);
    }
    let rows: Vec<_> = processes.iter().map(row).collect();
    print::table(["PID", "INSIDE", "UID", "STATE", "THREADS", "CPU", "RSS", "COMMAND"], &rows);
    Ok(0)
}

fn row(process: &ContainerProcess) -> [String; 8] {
    let command = match process.command.as_slice() {
        [] => format!("[{}]", process.name),
        words => words.join(" "),
    };
    [
        process.pid.to_string(),
        process.pid_inside.map_or("-".to_owned(), |pid| pid.to_string()),
        process.uid.to_string(),
        process.state.to_string(),
        process.threads.to_string(),
        format!("{:.2} s", process.cpu_us as f64 / 1e6),
        print::bytes(process.rss_bytes),
        command,
    ]
}
