//! The command file, `oci-config.json`: read once, before anything that the user may change
//! afterwards.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use squall::request::storm::{self, StormCommand};
use squall::{Context, Stage, as_user};

use crate::exit::{Code, Failure, Result, WithCode};
use crate::{Launcher, regular_file};

/// How long a file system may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The smallest and largest length of a container id (Storm's `<port>-<uuid>`).
const ID_LENGTH: std::ops::RangeInclusive<usize> = 36..=42;

/// Reads and checks the command file with the supervisor's ids. It must be a regular file that
/// belongs to the supervisor or root and that nobody else can write to, and be for this user.
pub(crate) fn read(launcher: &Launcher, path: &Path) -> Result<StormCommand> {
    let (supervisor, named) = (launcher.supervisor.uid(), path.to_owned());
    let object = format!("command file '{}'", path.display());
    let read = as_user(&launcher.supervisor, object.clone(), PATIENCE, move || {
        let file = regular_file::open(&named, Code::Configuration, |metadata| check_owner(metadata, supervisor));
        Ok(file.map(|file| storm::read_open(&file, &named)))
    });
    let failed = |error: squall::Error| Failure::new(Code::Configuration, error.to_string());
    let command = read.map_err(failed)??.map_err(failed)?;
    if command.username() != launcher.user.name {
        let text = format!(
            "{object}: it is for user '{}', and the launcher was called for '{}'",
            command.username(),
            launcher.user.name
        );
        return Err(Failure::new(Code::Configuration, text));
    }
    Ok(command)
}

fn check_owner(metadata: &Metadata, supervisor: u32) -> std::result::Result<(), String> {
    match (metadata.uid(), metadata.mode() & 0o7777) {
        (uid, _) if uid != supervisor && uid != 0 => {
            Err(format!("it belongs to uid {uid}: expected the supervisor's ({supervisor}) or root's"))
        }
        (_, mode) if mode & 0o022 != 0 => Err(format!("others than its owner can write to it (mode {mode:04o})")),
        _ => Ok(()),
    }
}

/// Proves that the supervisor can read the worker's script, as Storm's own launcher does.
pub(crate) fn check_script(launcher: &Launcher, command: &StormCommand) -> Result<()> {
    let path = command.container_script_path().as_path().to_owned();
    let object = format!("container script '{}'", path.display());
    let opened = as_user(&launcher.supervisor, object.clone(), PATIENCE, move || {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        openat(CWD, &path, flags, Mode::empty()).map(drop).at(Stage::Request, path.display(), "open")
    });
    opened.code(Code::ContainerScript, object)
}

/// Whether this could be the id of a container of Storm's: hexadecimal digits and dashes, and not
/// what some program would take for an option.
pub fn is_container_id(id: &str) -> bool {
    ID_LENGTH.contains(&id.len())
        && id.starts_with(|first: char| first.is_ascii_hexdigit())
        && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}
