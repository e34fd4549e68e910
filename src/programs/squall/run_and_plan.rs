//! The commands that launch or create a worker, or show what a launch would do.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use serde_json::json;
use squall::record::LaunchRecord;
use squall::request::Identity;
use squall::{
    Container, Ended, Error, OwnUser, Problem, Result, Running, SignalStream, Squall, Stage, Stdio, TerminalEnd,
};

use crate::args::{Plan, Run};
use crate::commands::{absolute, lost_error, report_facts};
use crate::foreground::Outcome;
use crate::image::LaunchImage;
use crate::relay::{DetachKeys, Relay};
use crate::terminal::Terminals;
use crate::{foreground, image, plan_page, print, relay, request};

/// What `/dev/null` is, whatever it is called: character device 1:3
/// (Documentation/admin-guide/devices.txt).
const NULL_DEVICE: u64 = libc::makedev(1, 3);

/// What is asked for, with the streams and the user that go with it.
struct Prepared {
    asked: request::Asked,
    stdio: Stdio,
    /// Our end of the worker's terminal, and the keys to leave it by.
    terminal: Option<(TerminalEnd, DetachKeys)>,
    own_user: Option<OwnUser>,
}

fn prepare(squall: &Squall, arguments: &Run, monitor_cgroup: Option<&str>) -> Result<Prepared> {
    let asked = asked(squall, arguments, monitor_cgroup)?;
    let mut own_user = asked.own_user.then(|| output_paths(arguments)).transpose()?.map(OwnUser::of_files);
    let (stdio, terminal) = if arguments.tty {
        let (stdio, terminal) = relay::terminal(&arguments.detach_keys)?;
        (stdio, Some(terminal))
    } else {
        (streams(arguments, &asked.spec.user, own_user.as_mut())?, None)
    };
    Ok(Prepared { asked, stdio, terminal, own_user })
}

/// What is asked for. What will not be done of it is said.
fn asked(squall: &Squall, arguments: &Run, monitor_cgroup: Option<&str>) -> Result<request::Asked> {
    // What is wrong with the flags is said before an image is pulled.
    if let Some(image) = LaunchImage::stand_in(arguments) {
        request::launch_spec(arguments, monitor_cgroup, Some(&image))?;
    }
    let image = LaunchImage::of(arguments)?;
    let mut asked = request::launch_spec(arguments, monitor_cgroup, image.as_ref())?;
    if let Some((user, field)) = image.as_ref().and_then(|image| image.user_to_find(arguments)) {
        asked.spec = image::with_user(squall, asked.spec, user, field)?;
    }
    warn(&asked);
    Ok(asked)
}

/// The same, without a pull, and without a privilege that the caller may lack.
fn asked_for_plan(squall: &Squall, arguments: &Run, monitor_cgroup: Option<&str>) -> Result<request::Asked> {
    let image = LaunchImage::in_store(arguments)?;
    let mut asked = request::launch_spec(arguments, monitor_cgroup, image.as_ref())?;
    match image.as_ref().and_then(|image| image.user_to_find(arguments)) {
        Some((user, field)) if rustix::process::geteuid().is_root() => {
            asked.spec = image::with_user(squall, asked.spec, user, field)?;
        }
        Some((user, _)) => asked.warnings.push(format!("the image's user '{user}' is found at the launch, by root")),
        None => {}
    }
    warn(&asked);
    Ok(asked)
}

fn warn(asked: &request::Asked) {
    for warning in &asked.warnings {
        tell!("warning: {warning}");
    }
}

/// Makes a container whose worker waits to be started. It has none of the caller's streams.
pub fn create(squall: &Squall, arguments: Run, monitor_cgroup: Option<&str>) -> Result<i32> {
    let arguments = Run { detach: true, ..arguments };
    let Prepared { asked, stdio, terminal, own_user } = prepare(squall, &arguments, monitor_cgroup)?;
    let created = match own_user {
        Some(own_user) => squall.create_as_own_user(&asked.spec, stdio, own_user),
        None => squall.create(&asked.spec, stdio),
    };
    let created = created.map_err(|error| asked.names.rename(error))?;
    report_changes(created.record());
    leave(terminal, &Container::Created(created.clone()))?;
    say!("{}", created.record().id);
    Ok(0)
}

/// Leaves a terminal that nobody sits at to a process that reads it.
fn leave(terminal: Option<(TerminalEnd, DetachKeys)>, container: &Container) -> Result<()> {
    let Some((end, keys)) = terminal else { return Ok(()) };
    Relay::begin(end, false, keys)?.leave(|terminal| container.keep_terminal(terminal))
}

/// Launches a worker; in the foreground its end is waited for. The answer is the exit code.
pub fn run(squall: &Squall, arguments: &Run, monitor_cgroup: Option<&str>) -> Result<i32> {
    let Prepared { asked, stdio, terminal, own_user } = prepare(squall, arguments, monitor_cgroup)?;
    let renamed = |error| asked.names.rename(error);
    let start = |stdio| match own_user {
        Some(own_user) => squall.launch_as_own_user(&asked.spec, stdio, own_user).map_err(renamed),
        None => squall.launch(&asked.spec, stdio).map_err(renamed),
    };
    if arguments.detach {
        let running = start(stdio)?;
        report_changes(running.record());
        leave(terminal, &Container::Running(running.clone()))?;
        say!("{}", running.record().id);
        return Ok(0);
    }
    let signals = foreground::take_signals()?;
    let _terminals = Terminals::remember()?;
    let running = start(stdio)?;
    report_changes(running.record());
    let relay = terminal.map(|(end, keys)| Relay::begin(end, arguments.interactive, keys)).transpose()?;
    let Some((by, ended)) = attended(&running, &signals, relay)? else { return Ok(0) };
    let code = match &ended {
        Ended::Exited(exited) => {
            let exit = exited.exit();
            report_facts(&exited.record().id, exit);
            Ok(foreground::code_by_signal(exit, by).unwrap_or_else(|| print::exit_code(&exit.exit)))
        }
        Ended::Lost(lost) => Err(lost_error(&lost.record().id)),
    };
    if arguments.rm
        && let Err(error) = ended.remove()
    {
        tell!("warning: {error}");
    }
    code
}

/// The worker's end; nothing where whoever sat at its terminal has left it.
fn attended(
    running: &Running,
    signals: &SignalStream,
    mut relay: Option<Relay>,
) -> Result<Option<(Option<i32>, Ended)>> {
    match (foreground::wait(running, signals, relay.as_mut())?, relay) {
        (Outcome::Ended { by }, relay) => {
            drop(relay);
            Ok(Some((by, running.wait()?)))
        }
        (Outcome::Detached, relay) => {
            let keep = |terminal| Container::Running(running.clone()).keep_terminal(terminal);
            relay.map_or(Ok(()), |relay| relay.leave(keep)).map(|()| None)
        }
    }
}

/// Shows what [`run`] would do.
pub fn plan(squall: &Squall, arguments: &Plan, monitor_cgroup: Option<&str>) -> Result<i32> {
    let asked = asked_for_plan(squall, &arguments.run, monitor_cgroup)?;
    let spec = if asked.own_user { squall.with_preview_user(asked.spec)? } else { asked.spec };
    let plan = squall.plan(&spec).map_err(|error| asked.names.rename(error))?;
    if arguments.json {
        say!("{}", json!(plan));
    } else {
        plan_page::show(&plan);
    }
    Ok(0)
}

/// What the kernel made of the limits is said at once, not only in the record.
fn report_changes(record: &LaunchRecord) {
    for adjustment in &record.adjustments {
        tell!("note: {adjustment}");
    }
}

/// Files of the host that will belong to the worker.
fn output_paths(arguments: &Run) -> Result<Vec<PathBuf>> {
    let paths = [("--stdout", &arguments.stdout), ("--stderr", &arguments.stderr)];
    paths.into_iter().filter_map(|(flag, path)| Some(absolute(flag, path.as_ref()?))).collect()
}

/// The worker's streams: the caller's, or files; a detached worker has none of the caller's.
fn streams(arguments: &Run, user: &Identity, mut own_user: Option<&mut OwnUser>) -> Result<Stdio> {
    let mut stdio = if arguments.detach { Stdio::null()? } else { Stdio::inherit()? };
    for (index, path) in [(1, &arguments.stdout), (2, &arguments.stderr)] {
        if let Some(path) = path {
            let (file, is_new) = output_file(path)?;
            match &mut own_user {
                Some(own_user) if is_new => own_user.streams.push(index),
                None if is_new => give(path, &file, user)?,
                _ => {}
            }
            stdio.streams[index] = file;
        }
    }
    Ok(stdio)
}

/// The mode of a new output file: its group may read along.
const OUTPUT_MODE: u32 = 0o640;

/// An output file, and whether it is new: then it is to belong to the worker, which may open it
/// again by /dev/stdout, and has its mode whatever the umask; one that was there keeps owner and
/// mode. A device or FIFO is not written to by accident; the null device is.
fn output_file(path: &Path) -> Result<(OwnedFd, bool)> {
    let object = format!("output file '{}'", path.display());
    let failed = |call: &str, error: std::io::Error| Error::system(Stage::Request, object.clone(), call, error);
    let existed = path.symlink_metadata().is_ok();
    let file = File::options()
        .write(true)
        .create(true)
        .mode(OUTPUT_MODE)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| failed("open", error))?;
    let metadata = file.metadata().map_err(|error| failed("fstat", error))?;
    if metadata.file_type().is_char_device() && metadata.rdev() == NULL_DEVICE {
        return Ok((file.into(), false));
    }
    if !metadata.is_file() {
        let reason = "is neither a regular file nor /dev/null".to_owned();
        return Err(Error::invalid("command line", vec![Problem { field: path.display().to_string(), reason }]));
    }
    file.set_len(0).map_err(|error| failed("ftruncate", error))?;
    let is_new = !existed && metadata.uid() == 0;
    if is_new {
        rustix::fs::fchmod(&file, OUTPUT_MODE.into()).map_err(|errno| failed("fchmod", errno.into()))?;
    }
    rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::APPEND).map_err(|errno| failed("fcntl", errno.into()))?;
    Ok((file.into(), is_new))
}

fn give(path: &Path, file: &OwnedFd, user: &Identity) -> Result<()> {
    let object = || format!("output file '{}'", path.display());
    fchown(file, Some(user.uid()), Some(user.gid()))
        .map_err(|error| Error::system(Stage::Request, object(), "fchown", error))
}
