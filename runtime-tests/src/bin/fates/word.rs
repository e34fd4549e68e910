//! What the embedder tells the keeper: a line of JSON each, written at once into a pipe, so that a
//! word that was said is heard, whatever happens to who said it.
//!
//! An intent is said *before* the deed. What has an intent may have been done; what has none was
//! not.

use std::fmt::Display;
use std::io::Write;

use serde_json::{Value, json};
use squall::record::ExitRecord;

/// A deed that the embedder is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    Launch,
    Start,
    Exec(usize),
    SignalExec(usize),
    Signal,
    Pause,
    Stop,
}

/// Says what it is about to do to a worker.
pub fn intend(worker: u64, deed: Deed) {
    let (deed, place) = match deed {
        Deed::Launch => ("launch", 0),
        Deed::Start => ("start", 0),
        Deed::Exec(place) => ("exec", place),
        Deed::SignalExec(place) => ("signal-exec", place),
        Deed::Signal => ("signal", 0),
        Deed::Pause => ("pause", 0),
        Deed::Stop => ("stop", 0),
    };
    say(&json!({ "worker": worker, "intent": deed, "place": place }));
}

/// Says that a launch or a start was refused.
pub fn refused(worker: u64, error: &squall::Error) {
    let error =
        json!({ "kind": error.kind(), "stage": error.stage(), "errno": error.errno(), "text": error.to_string() });
    say(&json!({ "worker": worker, "refused": error }));
}

/// Says how a worker ended, as one of the ways to learn it tells.
pub fn told(worker: u64, by: &str, exit: &ExitRecord) {
    say(&json!({ "worker": worker, "told": exit, "by": by }));
}

/// Says what must not be.
pub fn problem(worker: Option<u64>, text: impl Display) {
    say(&json!({ "worker": worker, "problem": text.to_string() }));
}

/// Says that all is done, and how many descriptors it had before and has now.
pub fn over(before: usize, after: usize) {
    say(&json!({ "over": true, "descriptors": [before, after] }));
}

/// One write, so that threads do not mix their lines. Without a keeper there is nobody to work for.
fn say(word: &Value) {
    let line = format!("{word}\n");
    if std::io::stdout().lock().write_all(line.as_bytes()).is_err() {
        std::process::exit(1);
    }
}

/// The deed of an intent.
pub fn deed(word: &Value) -> Option<Deed> {
    let place = word["place"].as_u64().unwrap_or_default() as usize;
    Some(match word["intent"].as_str()? {
        "launch" => Deed::Launch,
        "start" => Deed::Start,
        "exec" => Deed::Exec(place),
        "signal-exec" => Deed::SignalExec(place),
        "signal" => Deed::Signal,
        "pause" => Deed::Pause,
        _ => Deed::Stop,
    })
}
