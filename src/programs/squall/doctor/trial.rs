//! The throw-away launch: one worker under limits, from an image in memory, with a run root of its
//! own.

use std::path::Path;
use std::time::Duration;

use super::finding::Finding;
use crate::demo::trial::{self, Trial};
use squall::Stage;
use squall::child_task::{self, Failure};
use squall::error::{Error, ErrorKind};

/// How long it may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tries a launch; where it comes to no end, what it left is cleared away.
pub(super) fn finding(program: &Path) -> Finding {
    let tag = format!("squall-doctor-{}", std::process::id());
    match child_task::apart(PATIENCE, || trial::run(&tag)) {
        Ok(Ok(trial)) => told(&trial),
        Ok(Err(error)) => refused(&error, program),
        Err(failure @ Failure::NotBegun(_)) => Finding::unknown(NAME, format!("not tried: {failure}")),
        Err(failure) => {
            let cleared = child_task::apart(PATIENCE, || trial::clear(&tag).map_err(|error| error.to_string()));
            let cleared = match cleared {
                Ok(Ok(())) => "what it left was cleared away".to_owned(),
                Ok(Err(error)) => format!("what it left could not be cleared away: {error}"),
                Err(failure) => format!("what it left could not be cleared away: {failure}"),
            };
            Finding::limited(NAME, format!("{failure}; {cleared}"), "run `squall demo`, and look at the kernel's log")
        }
    }
}

const NAME: &str = "trial";

fn told(trial: &Trial) -> Finding {
    let seen = format!(
        "a worker of uid 65534 ran under {} and returned {}; launched in {} µs; left: {}",
        trial.limits, trial.ending, trial.launch_microseconds, trial.left
    );
    match trial.passed {
        true => Finding::ok(NAME, seen),
        false => Finding::limited(NAME, seen, "run `squall demo`, and look at the findings above"),
    }
}

fn refused(error: &Error, program: &Path) -> Finding {
    match error.kind() {
        // Before anything was touched: the message names what is missing.
        ErrorKind::Privilege if error.stage() == Stage::Request => {
            Finding::unknown(NAME, format!("not tried: {error}")).advise(format!("sudo {} doctor", program.display()))
        }
        _ => Finding::missing(NAME, format!("it failed: {error}"), "see the findings above for what the stage needs"),
    }
}
