//! One thing that was looked at.

use serde::{Deserialize, Serialize};

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As a launch wants it.
    Ok,
    /// Launches succeed, with less.
    Limited,
    /// No launch can succeed.
    Missing,
    /// It could not be found out.
    Unknown,
}

impl State {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Limited => "limited",
            State::Missing => "missing",
            State::Unknown => "unknown",
        }
    }
}

/// What was looked at, how it is, what was seen, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The area that it belongs to.
    #[serde(default)]
    pub area: String,
    /// What it is about, in a word or two.
    pub name: String,
    /// How it is.
    pub state: State,
    /// What was seen.
    pub seen: String,
    /// What to do; absent where nothing has to be done.
    pub advice: Option<String>,
}

impl Finding {
    fn new(name: impl Into<String>, state: State, seen: impl Into<String>, advice: Option<String>) -> Finding {
        Finding { area: String::new(), name: name.into(), state, seen: seen.into(), advice }
    }

    pub(super) fn ok(name: impl Into<String>, seen: impl Into<String>) -> Finding {
        Finding::new(name, State::Ok, seen, None)
    }

    pub(super) fn limited(name: impl Into<String>, seen: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(name, State::Limited, seen, Some(advice.into()))
    }

    pub(super) fn missing(name: impl Into<String>, seen: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(name, State::Missing, seen, Some(advice.into()))
    }

    pub(super) fn unknown(name: impl Into<String>, seen: impl Into<String>) -> Finding {
        Finding::new(name, State::Unknown, seen, None)
    }

    /// The same with something to do, where the state does not demand it.
    pub(super) fn advise(self, advice: impl Into<String>) -> Finding {
        Finding { advice: Some(advice.into()), ..self }
    }
}
