//! `reap-oci-container`: what is left of a worker's container goes, and layers that are too many.

use std::ffi::OsString;
use std::time::Duration;

use squall::{Container, Ended, ErrorKind, Running, Squall, Trim};

use super::command_file::is_container_id;
use super::{settings, v1_view};
use crate::exit::{Code, Failure};
use crate::{Launcher, Outcome};

/// The supervisor reaps when the worker's process is gone, which is a moment before its end is
/// written down.
const MONITORS_TURN: Duration = Duration::from_secs(10);

/// Reaps: `<container id> <layers to keep>`.
pub(crate) fn run(launcher: &Launcher, arguments: &[OsString]) -> Outcome {
    let [id, keep] = arguments else { return Err(Failure::new(Code::Arguments, "two are needed")) };
    let id = id.to_string_lossy();
    if !is_container_id(&id) {
        return Err(failed(&id, "is no container id of Storm's"));
    }
    let squall = settings::existing(launcher)?;
    let removed = remove(launcher, &squall, &id);
    // Whatever became of the container, unless it is somebody else's.
    if !matches!(&removed, Err(Refusal::NotYours(_))) {
        trim(&squall, &keep.to_string_lossy());
    }
    match removed {
        Ok(()) => Ok(0),
        Err(Refusal::NotYours(text) | Refusal::Failed(text)) => Err(failed(&id, text)),
    }
}

enum Refusal {
    /// Nothing may be done for this caller.
    NotYours(String),
    Failed(String),
}

fn failed(id: &str, text: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Arguments, format!("container '{id}': {text}"))
}

fn remove(launcher: &Launcher, squall: &Squall, id: &str) -> std::result::Result<(), Refusal> {
    let container = squall.attach(id).map_err(|error| Refusal::Failed(error.to_string()))?;
    // The id may have come from a file that the user can write to: then it must be the user's own.
    let owner = container.record().and_then(|record| record.uid());
    if container.record().is_some() && owner != Some(launcher.user.identity.uid()) {
        return Err(Refusal::NotYours(format!("it is not of user '{}'", launcher.user.name)));
    }
    let cgroup = container.record().map(|record| record.cgroup.clone());
    let removed = match container {
        Container::Running(running) => ended(&running).map_err(Refusal::Failed)?.remove(),
        Container::Exited(exited) => exited.remove(),
        Container::Lost(lost) => lost.remove(),
        Container::Launching(launching) => launching.abandon(),
        other => return Err(Refusal::Failed(format!("it is {}", other.phase().name()))),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(Refusal::Failed(error.to_string())),
        _ => {}
    }
    if let (Ok(Some(view)), Some(cgroup)) = (settings::v1_view(&launcher.config), cgroup) {
        v1_view::remove(&view, &cgroup);
    }
    Ok(())
}

/// The end of a container whose process is gone. One that runs is left as it is.
fn ended(running: &Running) -> std::result::Result<Ended, String> {
    if running.is_alive() {
        return Err("it runs".to_owned());
    }
    match running.wait_for(MONITORS_TURN) {
        Ok(Some(ended)) => Ok(ended),
        Ok(None) => Err("its end is not written down yet".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Unmounts idle layers that are too many. A failure is said, and no more: the next reap tries again.
fn trim(squall: &Squall, keep: &str) {
    let Some(keep) = count(keep) else { return };
    match squall.reap(keep, Trim::Do) {
        Ok(reaped) => {
            for layer in reaped.iter().filter(|one| one.goes && one.kind == squall::ReapKind::Layer) {
                say!("Unmounted layer {} ({})", layer.name, layer.reason);
            }
        }
        Err(error) => tell!("layers: {error}"),
    }
}

/// Digits after blanks and a sign, as strtol(3) has it: text is 0, and with a negative number
/// nothing is unmounted.
pub fn count(text: &str) -> Option<usize> {
    let text = text.trim_start();
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let end = digits.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    let number = if end == 0 { 0 } else { digits[..end].parse().unwrap_or(usize::MAX) };
    (!negative || number == 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keep_count_is_read_as_storms_own_launcher_reads_it() {
        for (text, expected) in [
            ("100", Some(100)),
            ("0", Some(0)),
            ("text", Some(0)),
            ("", Some(0)),
            ("7 layers", Some(7)),
            (" +3", Some(3)),
            ("-1", None),
            ("99999999999999999999999", Some(usize::MAX)),
        ] {
            assert_eq!(count(text), expected, "{text:?}");
        }
    }
}
