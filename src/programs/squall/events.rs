//! `squall events`: what happens to the containers of a run root.

use clap::Args;
use serde_json::{Value, json};
use squall::log::rfc3339;
use squall::{Change, Error, Event, Problem, Result, Squall};

use crate::print;

#[derive(Debug, Args)]
#[command(
    after_help = "Tells how each container stands (marked as snapshot), then what happens: launching, created, started, paused, resumed, \
                        oom, exited, lost, removed; lagged when it was too slow for the kernel's queue. Ends with Ctrl-C."
)]
pub struct Events {
    /// Print JSON, one object per line
    #[arg(long)]
    pub json: bool,
    /// Only print what happens from now on
    #[arg(long, visible_alias = "since-now")]
    pub no_snapshot: bool,
    /// Only print events that match: event=NAME or container=ID. Repeatable: one of each key has to
    /// match
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
}

pub fn run(squall: &Squall, arguments: &Events) -> Result<i32> {
    let filter = Filter::of(&arguments.filters)?;
    let mut lagged = false;
    for event in squall.events()? {
        let event = event?;
        lagged |= matches!(event.change, Change::Lagged { .. });
        // After it lagged, a snapshot is what happened meanwhile.
        let hidden = event.snapshot && arguments.no_snapshot && !lagged;
        if hidden || !filter.passes(&event) {
            continue;
        }
        match arguments.json {
            true => say!("{}", document(&event)),
            false => say!("{}", line(&event)),
        }
    }
    Ok(0)
}

/// What `--filter` asks for.
#[derive(Debug, Default)]
struct Filter {
    events: Vec<String>,
    containers: Vec<String>,
}

/// The names of [`Change::name`].
const NAMES: [&str; 11] = [
    "launching",
    "created",
    "started",
    "paused",
    "resumed",
    "oom",
    "exited",
    "lost",
    "removed",
    "unreadable",
    "lagged",
];

impl Filter {
    fn of(filters: &[String]) -> Result<Filter> {
        let mut filter = Filter::default();
        for text in filters {
            match text.split_once('=') {
                Some(("event", name)) if NAMES.contains(&name) => filter.events.push(name.to_owned()),
                Some(("event", name)) => {
                    return Err(refused(format!("'{name}' is no event: expected one of {}", NAMES.join(", "))));
                }
                Some(("container", id)) => filter.containers.push(id.to_owned()),
                _ => return Err(refused(format!("'{text}' is no filter: expected event=NAME or container=ID"))),
            }
        }
        Ok(filter)
    }

    /// That it lagged is about every container.
    fn passes(&self, event: &Event) -> bool {
        let among = |asked: &[String], given: &str| asked.is_empty() || asked.iter().any(|one| one == given);
        matches!(event.change, Change::Lagged { .. })
            || (among(&self.events, event.change.name()) && among(&self.containers, &event.id))
    }
}

fn refused(reason: String) -> Error {
    Error::invalid("command line", vec![Problem { field: "--filter".to_owned(), reason }])
}

fn document(event: &Event) -> Value {
    let mut document = json!({
        "time": rfc3339(event.time_unix_ns),
        "time_unix_ns": event.time_unix_ns,
        "id": event.id,
        "event": event.change.name(),
        "snapshot": event.snapshot,
    });
    let fields = match &event.change {
        Change::Exited(exit) => vec![("code", json!(print::exit_code(&exit.exit))), ("exit", json!(exit))],
        Change::Lost(lost) => vec![("known", json!(lost.known()))],
        Change::OutOfMemory { kills } => vec![("oom_kills", json!(kills))],
        Change::Unreadable(error) => vec![("error", json!(error.to_string()))],
        Change::Lagged { missed } => vec![("missed", json!(missed))],
        other => vec![("pid", json!(pid(other)))],
    };
    for (key, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
        document[key] = value;
    }
    document
}

fn line(event: &Event) -> String {
    let facts = match &event.change {
        Change::Exited(exit) => {
            let reason = json!(exit.reason);
            format!(" {} ({})", print::exit(&exit.exit), reason.as_str().unwrap_or_default())
        }
        Change::Lost(lost) => lost.known().map_or(String::new(), |exit| format!(" {}", print::exit(exit))),
        Change::OutOfMemory { kills } => format!(" {kills} killed"),
        Change::Unreadable(error) => format!(" {error}"),
        Change::Lagged { missed } => format!(" {missed} missed at least"),
        other => pid(other).map_or(String::new(), |pid| format!(" pid {pid}")),
    };
    let id = if event.id.is_empty() { "-" } else { &event.id };
    let snapshot = if event.snapshot { " (snapshot)" } else { "" };
    format!("{} {id} {}{facts}{snapshot}", rfc3339(event.time_unix_ns), event.change.name())
}

/// Init's, as the host sees it.
fn pid(change: &Change) -> Option<i32> {
    match change {
        Change::Created(created) => Some(created.record().init.pid),
        Change::Started(running) => running.as_ref().map(|running| running.record().init.pid),
        Change::Paused(paused) => Some(paused.record().init.pid),
        Change::Resumed(running) => Some(running.record().init.pid),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_what_it_does_not_know() {
        let of = |texts: &[&str]| Filter::of(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        for (text, word) in [("event=born", "launching, created"), ("image=x", "expected event=NAME"), ("x", "filter")]
        {
            let error = of(&[text]).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("--filter"), "{error}");
        }
        let filter = of(&["event=oom", "event=lost", "container=a"]).unwrap();
        assert_eq!((filter.events.len(), filter.containers.len()), (2, 1));
    }
}
